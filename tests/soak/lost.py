# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts the recovery of a host that has lost its data off, as cuts.py does one that sets data aside, then runs it again or undoes it: the rows of its
moment are there, or the place is as empty as it was found. Then the host is recovered, and loses its data once more.

    python tests/soak/lost.py                 every boundary of recover.yml, in one recovery after the other, and each with undo.yml; and of that
    START=5 SEED=7 python tests/soak/lost.py
"""
from __future__ import annotations

import os
import sys

from cuts import ROWS, Vacant
from lab import Stopped


class Lost(Vacant):
    """There is no old cluster, so at every point there is at most one."""

    def life(self):
        super().life()
        self.lab.archive()
        self.lab.ssh(self.lab.postgres, f"systemctl stop 'postgresql@*.service'; find {self.lab.data} -mindepth 1 -delete")
        self.found = self.settled()

    def in_the_middle(self):
        data = self.lab.data
        others = set(self.found["beside"].split()) - {os.path.basename(data)}
        clusters = {path: state for path, (_inode, state, _pid) in self.clusters(".*-2*").items() if state and os.path.basename(path) not in others}
        seen, place = self.look(), clusters.get(data, "empty")
        wrong = [f"{len(clusters)} clusters: {clusters}"] if len(clusters) > 1 else []
        if clusters and seen["start"] != "disabled" and place not in ("in production", "shut down"):
            wrong.append(f"{data} is {place}, and start.conf lets it start: {seen['start']}")
        if int(seen["postmasters"]) > 1:
            wrong.append(f"{seen['postmasters']} postmasters")
        # "In place" is what cuts.py calls a host that needs no undo.
        return f"old data {'was lost' if clusters else 'in place'}: {place}; start.conf {seen['start']}, {seen['postmasters']} postmaster", wrong

    def one(self, *cut):
        state, wrong, over = super().one(*cut)
        # No marker is left of one that was finished before the cut.
        return state, wrong, over if self.look()["markers"] or state.partition(": ")[2].startswith("old data in place") else "done"

    def afterwards(self, undone, keep=False):
        lab, wrong, seen, undone = self.lab, [], self.settled(), self.was_undone(undone)
        failed = [name for name in seen["beside"].split() if ".failed-" in name]
        lab.ssh(lab.postgres, f"cd {os.path.dirname(lab.data)} && rm -rf {' '.join(failed)}")
        seen["beside"] = " ".join(name for name in seen["beside"].split() if name not in failed)
        wrong += self.differences(seen, ("start", "unit", "beside", "inside", "processes", "markers", "keep") + (("postmasters",) if undone else ()))
        if not undone and seen["stale"] != "0":
            wrong.append("settings of the recovery are left")
        if undone:
            there = lab.ssh(lab.postgres, f"ls -A {lab.data}")
            if there:
                wrong.append(f"the place is not empty: {there.split()[:5]}")
            code, report = self.play("recover")
            if code:
                raise Stopped(f"{wrong}: the lost host is not recovered: {report.get('message')}")
        self.rows = [int(row) for row in lab.sql(ROWS).split()]
        if self.rows != self.before:
            wrong.append(f"rows: {self.rows} instead of {self.before}")
        lab.archive()
        return wrong

    def boundaries(self):
        self.life()
        found = {"recover": ([], self.listed("recover"))}
        wrong = self.afterwards(undone=False)
        if wrong:
            raise Stopped(f"uncut runs left: {wrong}")
        return found


if __name__ == "__main__":
    os.environ.pop("SAMPLE", None)
    sys.exit(Lost().run())
