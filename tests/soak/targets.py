# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random targets on random trees of branches: the verdict said beforehand must equal what a real recovery then holds.

    SEED=7 ROUNDS=12 RECOVERIES=2 python tests/soak/targets.py      on a lab that site.yml has converged

A workload runs, is archived, backed up; ROUNDS random targets are restored to a scratch directory and replayed by a private
PostgreSQL; then a whole recover.yml to a random target makes the next branch, and so on, RECOVERIES times. One JSON line a
round, a summary at the end, exit code 1 if any answer was wrong. The same SEED makes the same choices.
"""
from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from datetime import timedelta

from lab import Lab, Stopped, text
from model import EITHER, REFUSED, Ledger, expect

QUERY = "SELECT key || ':' || value FROM soak_ledger ORDER BY key"
SCRATCH = "/var/lib/postgresql/soak-scratch"


class Targets:
    """One seed."""

    def __init__(self, seed, rounds, recoveries):
        self.random, self.seed, self.rounds, self.recoveries = random.Random(seed), seed, rounds, recoveries
        self.lab = Lab()
        self.keys, self.alive, self.points, self.done, self.wrong = 0, [], 0, 0, []
        self.ledger = Ledger(self.lab.timeline())
        self.read_to = 0

    # ---- the workload

    def begin(self):
        """An empty ledger on a server that commits nothing by itself."""
        lab = self.lab
        self.configuration = lab.sql("SHOW config_file")
        lab.ssh(lab.postgres, f"printf '%s\\n' 'autovacuum = off' 'wal_keep_size = 512MB' > {os.path.dirname(self.configuration)}/conf.d/90-soak.conf; "
                              f"install -d -m 0700 -o postgres -g postgres {SCRATCH}")
        lab.sql("SELECT pg_reload_conf()")
        self.reach = lab.ssh(lab.barman, "barman show-servers main | sed -n 's/^\\s*ssh_command: //p'", "barman")
        current = self.ledger.current
        ancestors, begun = lab.history(current) if current > 1 else ([], None)
        line = [parent for parent, _switch in ancestors] + [current]
        for timeline, (parent, switch) in zip(line, [(None, None), *ancestors]):
            self.ledger.branches[timeline] = dict(parent=parent, switch=switch, begun=begun if timeline == current else None)
        lab.sql("DROP TABLE IF EXISTS soak_ledger; CREATE TABLE soak_ledger (key int PRIMARY KEY, value int NOT NULL)")
        self.read_to = int(lab.sql("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
        self.alive = []
        self.started = lab.now()
        self.known = {backup["id"] for backup in lab.backups()}

    def burst(self, size):
        """Transactions of all kinds, one after the other, with pauses between some of them."""
        statements, effects = [], []
        for _one in range(size):
            choice, effect = self.random.random(), {}
            if choice < 0.08:
                self.points += 1
                statements.append(f"SELECT pg_create_restore_point('soak_{self.seed}_{self.points}') IS NULL;")
                continue
            if choice < 0.6 or not self.alive:
                for _row in range(self.random.choice((1, 1, 1, 3))):
                    self.keys += 1
                    effect[self.keys] = self.random.randrange(10**6)
                words = f"INSERT INTO soak_ledger VALUES {', '.join(map(str, effect.items()))}"
            elif choice < 0.8:
                key = self.random.choice(self.alive)
                effect[key] = self.random.randrange(10**6)
                words = f"UPDATE soak_ledger SET value = {effect[key]} WHERE key = {key}"
            else:
                key = self.random.choice(self.alive)
                effect[key] = None
                words = f"DELETE FROM soak_ledger WHERE key = {key}"
            aborted = self.random.random() < 0.1
            statements.append(f"BEGIN; {words}; SELECT 'xid ' || pg_current_xact_id(); {'ROLLBACK' if aborted else 'COMMIT'};")
            effects.append({} if aborted else effect)
            if not aborted:
                self.alive = sorted((set(self.alive) | set(effect)) - {key for key, value in effect.items() if value is None})
            if self.random.random() < 0.3:
                statements.append(f"SELECT FROM pg_sleep({self.random.choice((0.01, 0.2, 1))});")
        xids = [int(line[4:]) for line in self.lab.sql("\n".join(statements)).splitlines() if line.startswith("xid ")]
        self.ledger.effects.update({(self.ledger.current, xid): effect for xid, effect in zip(xids, effects)})

    def read(self, directory=None):
        """Take into the ledger what the WAL of the current branch says since the last time."""
        timeline = self.ledger.current
        known = self.ledger.events.setdefault(timeline, [])
        last = known[-1]["lsn"] if known else 0
        known += [event for event in self.lab.events(timeline, self.read_to, directory) if event["lsn"] > max(last, self.read_to - 1)]
        if known:
            self.read_to = known[-1]["lsn"]

    def live(self):
        """Some life: bursts, a backup now and then with a burst running through it, all archived."""
        self.burst(self.random.randrange(4, 12))
        if self.random.random() < 0.6 or not self.ledger.archived:
            through = threading.Thread(target=self.lab.backup)
            through.start()
            self.burst(self.random.randrange(2, 6))
            through.join()
        self.burst(self.random.randrange(3, 10))
        self.ledger.archived[self.ledger.current] = self.lab.archive()
        self.read()
        self.backups = self.lab.backups()

    # ---- targets

    def target(self):
        """A random target that this tree makes interesting."""
        roll, ledger = self.random, self.ledger
        kind = roll.choices(["time", "lsn", "xid", "name", "immediate", "latest"], [10, 5, 4, 3, 1, 2])[0]
        branch = roll.choice(sorted(ledger.events))
        ends = [event for event in ledger.events[branch] if event["kind"] != "point"]
        target = dict(type=kind)
        if kind == "time":
            target["value"] = self._moment(roll, ends)
        elif kind == "lsn":
            target["value"] = roll.choice(ends)["lsn"] + roll.choice((0, 0, 1))
            if roll.random() < 0.07:
                target["value"] = roll.choice((1 << 24, max(ledger.archived.values()) + (1 << 26)))
        elif kind == "xid":
            target["value"] = roll.choice(ends)["xid"] if roll.random() < 0.93 else ends[-1]["xid"] + 100000
        elif kind == "name":
            points = [event["name"] for event in ledger.events[branch] if event["kind"] == "point" and event["name"].startswith(f"soak_{self.seed}_")]
            target["value"] = roll.choice(points) if points and roll.random() < 0.9 else "soak_nobody_made_it"
        if roll.random() < 0.4 or kind != "time" and roll.random() < 0.4:
            target["timeline"] = branch if roll.random() < 0.7 else roll.choice(sorted(ledger.archived) + [max(ledger.branches) + 5])
        if kind in ("time", "lsn", "xid") and roll.random() < 0.35:
            target["exclusive"] = True
        mine = [backup["id"] for backup in self.backups if backup["id"] not in self.known]
        if roll.random() < 0.2 and mine:
            target["backup_id"] = roll.choice(mine)
        elif kind == "immediate" and not mine:
            return self.target()
        return target

    def _moment(self, roll, ends):
        choice, index = roll.random(), roll.randrange(len(ends))
        here, after = ends[index]["time"], ends[min(index + 1, len(ends) - 1)]["time"]
        if choice < 0.35:
            return here
        if choice < 0.45:
            return here + timedelta(microseconds=roll.choice((-1, 1)))
        if choice < 0.9:
            return here + (after - here) / 2
        return roll.choice((self.started - timedelta(days=2000), self.started, ends[-1]["time"], ends[-1]["time"] + timedelta(milliseconds=1)))

    @staticmethod
    def options(target):
        """The target in the collection's words."""
        value = target.get("value")
        words = dict(time=lambda: value.isoformat(timespec="microseconds"), lsn=lambda: text(value), xid=lambda: str(value), name=lambda: value,
                     immediate=lambda: True, latest=lambda: True)[target["type"]]()
        given = {f"target_{target['type']}": words}
        for name, option in (("timeline", "target_timeline"), ("exclusive", "target_exclusive"), ("backup_id", "backup_id")):
            if target.get(name) is not None:
                given[option] = str(target[name]) if name == "timeline" else target[name]
        return given

    # ---- rounds

    def scratch_round(self):
        """One target, restored beside the living server."""
        target = self.target()
        wanted, rows = expect(self.ledger, self.backups, target)
        given = dict(self.options(target), scratch=SCRATCH, ssh=self.reach, binaries=self.lab.binaries, config_file=self.configuration, query=QUERY)
        begin = time.monotonic()
        path = os.path.join(os.path.dirname(__file__), "round.yml")
        code, found = self.lab.play(path, {"soak": given}, {"ANSIBLE_PIPELINING": "true"})
        if code:
            raise Stopped(f"round.yml ended with {code}, see {self.lab.work}")
        self.judge("scratch", target, wanted, rows, found["verdict"], found["rows"] if found["reached"] else None, time.monotonic() - begin,
                   found["said"] or found["replay"] or (found["plan"] or {}).get("why"), found["log"])

    def recovery(self):
        """One whole recover.yml, which makes a branch."""
        while True:
            target = self.target()
            target.pop("backup_id", None)
            wanted, rows = expect(self.ledger, self.backups, target, alive=self.lab.now())
            if wanted == "rows" and target["type"] != "immediate" and self.has_table(target, rows):
                break
        old, begin = self.ledger.current, time.monotonic()
        before = set(self.asides())
        code, report = self.lab.play("recover", self.options(target))
        aside = sorted(set(self.asides()) - before)
        held = self.lab.sql(QUERY).splitlines() if report.get("outcome") == "DONE" else None
        self.judge("recover.yml", target, wanted, rows, code == 0, held, time.monotonic() - begin, report.get("message"), [])
        if code or len(aside) != 1:
            raise Stopped(f"recover.yml ended with {code}: {report.get('message')}; set aside: {aside}")
        self.read(aside[0])
        self.ledger.archived[old] = max(event["lsn"] for event in self.ledger.events[old]) + 1
        new = self.lab.timeline()
        ancestors, begun = self.lab.history(new)
        parent, switch = ancestors[-1]
        if new in self.ledger.branches or parent not in self.ledger.branches:
            raise Stopped(f"the new timeline {new} with parent {parent} does not fit the branches {self.ledger.branches}")
        self.ledger.branches[new] = dict(parent=parent, switch=switch, begun=begun)
        self.ledger.current, self.read_to = new, switch
        self.alive = [int(row.split(":")[0]) for row in held]
        self.lab.ssh(self.lab.postgres, f"rm -rf {aside[0]}", "postgres")

    def has_table(self, target, rows):
        """Whether the ledger itself is there at a target: a recovery to before its creation would end the test."""
        return bool(rows) or target["type"] == "latest"

    def asides(self):
        """What is set aside on the PostgreSQL host."""
        return self.lab.ssh(self.lab.postgres, f"ls -d {self.lab.data}.aside-* 2>/dev/null | grep -v json || true").split()

    def judge(self, how, target, wanted, rows, verdict, held, seconds, said, log):
        """Compare, and print the round."""
        if wanted == REFUSED:
            right = not verdict
        elif wanted == EITHER:
            right = not verdict or held == rows
        else:
            right = bool(verdict) and held == rows
        self.done += 1
        line = dict(seed=self.seed, round=self.done, how=how, target=self.options(target), branches=len(self.ledger.branches), expected=wanted,
                    expected_rows=rows if wanted == REFUSED else len(rows), feasible=bool(verdict), rows=None if held is None else len(held), right=right,
                    seconds=round(seconds, 1))
        if not right:
            difference = None if held is None or wanted == REFUSED else dict(missing=sorted(set(rows) - set(held)), surplus=sorted(set(held) - set(rows)))
            line.update(said=said, difference=difference, log=log[-8:])
            self.wrong.append(line)
        print(json.dumps(line), flush=True)

    def run(self):
        """Everything; the exit code."""
        print(f"targets: SEED={self.seed} ROUNDS={self.rounds} RECOVERIES={self.recoveries}", flush=True)
        self.begin()
        try:
            for recovery in range(self.recoveries + 1):
                self.live()
                here = self.rounds * (recovery + 1) // (self.recoveries + 1) - self.rounds * recovery // (self.recoveries + 1)
                for _one in range(here):
                    self.scratch_round()
                if recovery < self.recoveries:
                    self.recovery()
        finally:
            self.lab.ssh(self.lab.postgres, f"rm -rf {os.path.dirname(self.configuration)}/conf.d/90-soak.conf {SCRATCH}")
            with open(os.path.join(self.lab.work, "ledger.json"), "w", encoding="utf-8") as file:
                json.dump(dict(branches=self.ledger.branches, events=self.ledger.events, archived=self.ledger.archived, backups=getattr(self, "backups", None)),
                          file, default=str, indent=1)
            print(f"targets: SEED={self.seed}: {self.done} rounds on {len(self.ledger.branches)} branches, {len(self.wrong)} wrong", flush=True)
        return 1 if self.wrong else 0


if __name__ == "__main__":
    sys.exit(Targets(int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6)), int(os.environ.get("ROUNDS") or 12),
                     int(os.environ.get("RECOVERIES") or 2)).run())
