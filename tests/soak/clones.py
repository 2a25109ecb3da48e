# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts a recovery elsewhere off, as cuts.py does one in place, then runs it again or undoes it: the server is never touched, a finished clone has the
rows of its moment and does not archive, and of one that was taken back nothing stays.

    python tests/soak/clones.py               every boundary of recover.yml, in one recovery after the other, and each with undo.yml; and of that
    START=5 SEED=7 python tests/soak/clones.py
"""
from __future__ import annotations

import os
import sys

from cuts import ROWS, Vacant
from lab import SERVER, Stopped

NAME, PORT = f"{SERVER}_clone", 5499


class Clones(Vacant):
    """The clone is made on the Barman host, which was never backed up."""

    def play(self, playbook, variables=None, **words):
        place = dict(destination_host=self.lab.barman, destination_port=PORT)
        return super().play(playbook, dict(place, **(variables or {})), **words)

    def life(self):
        super().life()
        self.lab.archive()      # nobody asks the server for it when a clone is made

    def look(self):
        traces = self.lab.ssh(self.lab.barman, f"""
            echo "clone $(ls -d /var/lib/postgresql/*/{NAME}* /etc/postgresql/*/{NAME}* 2>/dev/null | xargs)"
            echo "serving $(pgrep -u postgres -fc -- '/postgres -D' || true)"
            echo "keys $(grep -sc 'clone of {SERVER}' /var/lib/postgresql/.ssh/authorized_keys /var/lib/barman/.ssh/known_hosts | grep -v ':0$' | xargs)"
            echo "markers $(ls -A /var/lib/barman/.pgrescue 2>/dev/null | grep -E 'recovery.json|clone-|draft' | xargs)"
            """)
        return dict(super().look(), **dict(line.partition(" ")[::2] for line in traces.splitlines()))

    @staticmethod
    def is_over(playbook, report):
        """Whether a cut came when all was done: the record of a clone ends with its undo, so nothing is left that could say 'already'."""
        ended = playbook == "undo" and report.get("outcome") == "REFUSED" and "there is nothing to undo" in report.get("message", "")
        return ended or Vacant.is_over(playbook, report)

    def one(self, *cut):
        state, wrong, over = super().one(*cut)
        # No marker is left of one that was finished before the cut either.
        return state, wrong, "done" if over == "nothing to undo" and self.settled()["clone"] else over

    def remove(self, names):
        """What its owner removes: a clone that serves, or one that was promoted before it was taken back."""
        self.lab.ssh(self.lab.barman, f"""
            [ ! -e /etc/postgresql/{self.lab.major}/{NAME} ] || pg_dropcluster --stop {self.lab.major} {NAME}
            rm -rf {' '.join(names)} /var/lib/postgresql/{self.lab.major}/{NAME}.pgrescue-*
            """)

    def afterwards(self, undone, keep=False):
        lab, wrong, undone = self.lab, [], self.was_undone(undone)
        if not undone:
            clone = lab.ssh(lab.barman, f"psql -XAtq -p {PORT} -c '{ROWS}' -c 'SHOW archive_mode'", "postgres", check=False).split()
            if clone != [str(row) for row in self.before] + ["off"]:
                wrong.append(f"the clone has {clone} instead of {self.before}")
            self.remove([])
        seen = self.settled()
        kept = [name for name in seen["clone"].split() if ".failed-" in name]
        if undone and kept:
            self.remove(kept)
            seen = self.settled()
        wrong += self.differences(seen, set(self.found) - {"inode", "temporary", "temporary_barman"})
        if lab.ssh(lab.postgres, f"stat -c %i {lab.data}") != self.found["inode"] or lab.sql(ROWS).split() != [str(row) for row in self.rows]:
            wrong.append("the server was touched")
        return wrong

    def begin(self, runs):
        """Some life, and clones that are begun and cut off."""
        self.life()
        for playbook, place in runs:
            self.play(playbook, place=place)

    def boundaries(self):
        self.life()
        found = {"recover": ([], self.listed("recover"))}
        wrong = self.afterwards(undone=False)
        begun = [("recover", "replay+4")]
        self.begin(begun)
        found["undo"] = (begun, self.listed("undo"))
        wrong += self.afterwards(undone=True)
        if wrong:
            raise Stopped(f"uncut runs left: {wrong}")
        return found

    def cuts(self, playbook, places, kinds, chosen):
        return [(*cut[:3], self.lab.barman, cut[4]) for cut in super().cuts(playbook, places, kinds, chosen)]


if __name__ == "__main__":
    os.environ.pop("SAMPLE", None)
    sys.exit(Clones().run())
