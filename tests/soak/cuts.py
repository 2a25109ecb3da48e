# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts recover.yml off at task boundaries, then runs it again or undoes it: at every point exactly one intact cluster.

    python tests/soak/cuts.py                     every boundary, then the reboots, then the cuts of the network
    START=40 python tests/soak/cuts.py            the same from line 40 of the printed plan on
    PLACES=74,52 python tests/soak/cuts.py        one recovery, cut at task 74, and the run that takes it up at its task 52
    SAMPLE=6 SEED=7 python tests/soak/cuts.py     six cuts in a row into one recovery that is begun again each time, then undone or finished

A cut is SIGKILL to the whole process group of ansible-playbook when a certain task begins (callback_plugins/cut.py). Between
two boundaries with no task on a host in between, the hosts are the same, so only the last of them is cut. After each
cut the hosts are looked at, then recover.yml runs again, or undo.yml takes it back, then they are looked at again: rows as the
ledger says, no marker, pin, lock, process or temporary file left over, Barman content, archiving armed.
"""
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

from lab import SERVER, TREE, Lab, Stopped

HERE = os.path.dirname(os.path.realpath(__file__))
ROWS = "SELECT id FROM soak_cut ORDER BY id"
LEFT_IN_DATA = "recovery.signal standby.signal backup_label tablespace_map barman_wal pgrescue-replay.log .pgrescue-aside.json .pgrescue-aside.json.tmp"
# What belongs to a run that is under way, on either host; what archives or sweeps by itself does not.
PROCESSES = r"""echo "processes $(ps -eo args= | grep -E 'rsync|pg_ctl|pg_basebackup|AnsiballZ|async_wrapper|barman (recover|restore|backup)' |
    grep -vE 'grep -E|ps -eo|bash -s' | head -n 5 | tr '\n' ';')" """
ENGINE = os.path.join(TREE, "molecule", "engine")


class Cuts:
    """The ledger, and how the hosts look when nothing is under way."""

    def __init__(self):
        self.lab = Lab()
        self.rows, self.next, self.wrong, self.done = [], 1, [], 0
        self.lab.sql("DROP TABLE IF EXISTS soak_cut; CREATE TABLE soak_cut (id int PRIMARY KEY)")
        self.can_undo = os.path.exists(os.path.join(TREE, "playbooks", "undo.yml"))
        self.ways = ["again", "undo"] if self.can_undo else ["again"]

    # ---- the story

    def insert(self, count):
        """Some rows, each in its transaction."""
        new = list(range(self.next, self.next + count))
        self.next += count
        self.lab.sql(";".join(f"INSERT INTO soak_cut VALUES ({row})" for row in new))
        return new

    def life(self):
        """Rows, a moment, more rows."""
        self.rows += self.insert(3)
        self.before = list(self.rows)
        self.moment = self.lab.sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM pg_sleep(0.2)")
        self.lab.sql("SELECT FROM pg_sleep(0.3)")
        self.rows += self.insert(3)
        self.found = self.look()
        self.found["inode"] = self.lab.ssh(self.lab.postgres, f"stat -c %i {self.lab.data}")

    def recover(self, cut_at=0, do=None, listing=None, holder=None, wait=True):
        """recover.yml to the moment; the exit code and the report."""
        environment = dict(ANSIBLE_CALLBACK_PLUGINS=os.path.join(HERE, "callback_plugins"), ANSIBLE_CALLBACKS_ENABLED="cut", SOAK_CUT_AT=str(cut_at),
                           SOAK_CUT_DO=do or "", SOAK_CUT_LIST=listing or "")
        if holder:
            environment["SUDO_USER"] = holder
        return self.lab.play("recover", {"target_time": self.moment}, environment, wait=wait, session=True)

    # ---- what is there

    def look(self):
        """What a run must leave as it was, or take away."""
        lab, data = self.lab, self.lab.data
        here = lab.ssh(lab.postgres, f"""
            echo "start $(grep -hoE '^(auto|manual|disabled)' /etc/postgresql/*/*/start.conf | xargs)"
            echo "unit $(systemctl show -p UnitFileState --value 'postgresql@{lab.major}-main')"
            echo "postmasters $(pgrep -u postgres -fc -- '/postgres -D' || true)"
            echo "beside $(cd {os.path.dirname(data)}; ls | grep -v -- -restore.json | xargs)"
            echo "inside $(cd {data} 2>/dev/null && ls -d {LEFT_IN_DATA} 2>/dev/null | xargs)"
            echo "stale $(grep -cE '^ *(restore_command|recovery_)' {data}/postgresql.auto.conf 2>/dev/null || true)"
            echo "temporary $(ls -d /tmp/pgrescue* /tmp/barman* /tmp/ansible* 2>/dev/null | xargs)"
            {PROCESSES}
            """)
        there = lab.ssh(lab.barman, f"""
            echo "markers $(ls -A /var/lib/barman/.pgrescue 2>/dev/null | grep -E 'recovery.json|draft' | xargs)"
            echo "keep $(cd /var/lib/barman/{SERVER}/base; grep -H . */annotations/* 2>/dev/null | xargs)"
            echo "temporary_barman $(ls -d /tmp/pgrescue* /tmp/barman* /tmp/ansible* 2>/dev/null | xargs)"
            {PROCESSES}
            """)
        found = dict(line.partition(" ")[::2] for line in here.splitlines())
        for line in there.splitlines():
            name, _space, value = line.partition(" ")
            found[name] = f"{found['processes']}{value}" if name == "processes" else value
        return found

    def in_the_middle(self):
        """What is wrong right after a cut: the old cluster must be there, whole, and nothing but a whole cluster may be startable."""
        lab, data = self.lab, self.lab.data
        script = f"""
            for d in {data} {data}.aside-*; do [ -d $d ] || continue; case $d in *.json*) continue;; esac
              s=$({lab.binaries}/pg_controldata $d 2>/dev/null | sed -n 's/^Database cluster state: *//p')
              [ -e $d/recovery.signal ] || [ -e $d/backup_label ] && s="$s, to be recovered"
              echo "cluster|$d|$(stat -c %i $d)|$s|$(head -n 1 $d/postmaster.pid 2>/dev/null)"; done
            echo "start|$(grep -hoE '^(auto|manual|disabled)' /etc/postgresql/*/*/start.conf | xargs)"
            echo "postmasters|$(pgrep -u postgres -f -- '/postgres -D' | wc -l)"
            """
        lines = [line.split("|") for line in lab.ssh(lab.postgres, script).splitlines()]
        clusters = {line[1]: line[2:] for line in lines if line[0] == "cluster"}
        rest = {line[0]: line[1] for line in lines if line[0] != "cluster"}
        old = [place for place, (inode, *_rest) in clusters.items() if inode == self.found["inode"]]
        wrong = []
        if len(old) != 1:
            return clusters, [f"the old cluster is in {old}"]
        if clusters[old[0]][1] not in ("in production", "shut down"):
            wrong.append(f"the old cluster is {clusters[old[0]][1]}")
        if old[0] != data:
            place = clusters.get(data, ["", "absent", ""])
            if rest["start"] != "disabled" and place[1] not in ("in production", "shut down"):
                wrong.append(f"{data} is {place[1]}, and start.conf lets it start: {rest['start']}")
            if clusters[old[0]][2]:
                wrong.append("PostgreSQL runs on the data that was set aside")
        if int(rest["postmasters"]) > 1:
            wrong.append(f"{rest['postmasters']} postmasters")
        state = "in place" if old[0] == data else f"aside, in its place: {clusters.get(data, ['', 'nothing'])[1] or 'an unfinished copy'}"
        return f"old data {state}; start.conf {rest['start']}, {rest['postmasters']} postmaster", wrong

    def afterwards(self, undone):
        """What is wrong when it is over."""
        lab = self.lab
        wrong, seen = [], self.look()
        for _attempt in range(10):
            if not seen["processes"]:
                break
            time.sleep(3)
            seen = self.look()
        new = set(seen["beside"].split()) - set(self.found["beside"].split())
        aside = {name for name in new if ".aside-" in name}
        if undone:
            aside = {name for name in new if ".failed-" in name or ".undone-" in name}
        elif not aside:
            wrong.append("nothing was set aside")
        if new - aside:
            wrong.append(f"left beside the data: {sorted(new - aside)}")
        for name in ("start", "unit", "postmasters", "inside", "stale", "temporary", "processes", "markers", "keep", "temporary_barman"):
            if seen[name] != self.found[name]:
                wrong.append(f"{name}: {seen[name]!r} instead of {self.found[name]!r}")
        rows = [int(row) for row in lab.sql(ROWS).split()]
        wanted = self.rows if undone else self.before
        if rows != wanted:
            wrong.append(f"rows: missing {sorted(set(wanted) - set(rows))}, surplus {sorted(set(rows) - set(wanted))}")
        self.rows = rows
        inode = lab.ssh(lab.postgres, f"stat -c %i {lab.data}")
        if (inode == self.found["inode"]) != undone:
            wrong.append("the data directory is " + ("still the old one" if not undone else "not the old one"))
        try:
            lab.archive()
        except Stopped as error:
            wrong.append(str(error))
        for _attempt in range(12):
            checks = json.loads(lab.ssh(lab.barman, f"barman cron >/dev/null 2>&1; sleep 1; barman -f json check {SERVER} || true", "barman"))[SERVER]
            failed = [name for name, one in checks.items() if one["status"] != "OK"]
            if not failed:
                break
            time.sleep(5)
        if failed:
            wrong.append(f"barman check: {failed}")
        for name in aside:
            lab.ssh(lab.postgres, f"rm -rf {os.path.dirname(lab.data)}/{name} {os.path.dirname(lab.data)}/{name}.pgrescue-restore.json")
        return wrong

    # ---- one cut

    def finish(self, way):
        """Run again or undo; what is wrong with how it ended."""
        code, report = self.recover() if way == "again" else self.lab.play("undo", {"confirm": SERVER})
        return [] if code == 0 and report.get("outcome") == "DONE" else [f"{way} ended with {code}, {report.get('outcome')}: {report.get('message')}"]

    def cut(self, label, places, way, do=None, heal=None):
        """One recovery that is cut at places (one after the other), and how it came out."""
        begin = time.monotonic()
        self.life()
        states, wrong = [], []
        for place in places:
            code, report = self.recover(place, do)
            if do is None and code != -signal.SIGKILL:
                states.append(f"not cut, it ended with {code} {report.get('outcome')}: {report.get('message')}")
                if code or report.get("outcome") != "DONE":
                    wrong.append(states[-1])
                break
            if heal:
                heal()
            state, found = self.in_the_middle()
            states.append(f"{place}: {state}")
            print(f"cuts: {label}, cut at {place}: {state} {found or ''}", flush=True)
            wrong += [f"after the cut at {place}: {one}" for one in found]
        over = bool(states) and states[-1].startswith("not cut")
        ended = do is not None and code == 0
        if not over and not ended:
            wrong += self.finish(way)
        wrong += self.afterwards(undone=way == "undo" and not over and not ended)
        self.done += 1
        line = dict(line=label, cut=places, way=way, states=states, right=not wrong, seconds=round(time.monotonic() - begin, 1))
        if wrong:
            line["wrong"] = wrong
            self.wrong.append(line)
        print(json.dumps(line), flush=True)
        if wrong and not self.lab.sql("SELECT 1", check=False):
            raise Stopped("the server does not answer any more")

    # ---- all of them

    def boundaries(self):
        """An uncut run; the numbers of the tasks at whose beginning the hosts differ from the boundary before, and their names."""
        listing = os.path.join(self.lab.work, "tasks.jsonl")
        if os.path.exists(listing):
            os.unlink(listing)
        self.life()
        code, report = self.recover(listing=listing)
        if code:
            raise Stopped(f"an uncut run ended with {code}: {report.get('message')}")
        wrong = self.afterwards(undone=False)
        if wrong:
            raise Stopped(f"an uncut run left: {wrong}")
        with open(listing, encoding="utf-8") as file:
            notes = [json.loads(line) for line in file]
        names = {note["number"]: note["name"] for note in notes if "name" in note}
        touched = {note["number"] for note in notes if note.get("touched")}
        return [number + 1 for number in sorted(touched) if number + 1 in names], names

    def reboot(self):
        """The command that takes the PostgreSQL host's power away and lets it boot."""
        return f"{ENGINE} exec {self.lab_name()}-{self.lab.postgres} sh -c 'kill -KILL -1'; {ENGINE} restart --time 0 {self.lab_name()}-{self.lab.postgres}"

    @staticmethod
    def lab_name():
        """Whose hosts these are."""
        return os.environ.get("LAB", "pgrescue")

    def booted(self):
        """Wait until the PostgreSQL host has booted and lets us in."""
        for _attempt in range(120):
            try:
                if self.lab.ssh(self.lab.postgres, "systemctl is-system-running || true") in ("running", "degraded"):
                    return
            except Stopped:
                pass
            time.sleep(1)
        raise Stopped(f"{self.lab.postgres} does not boot")

    def network(self, host, cut):
        """Take the controller's way to a host away, or give it back."""
        word = "add" if cut else "del"
        return (f"{ENGINE} exec {self.lab_name()}-{host} sh -c 'ip route {word} blackhole $(ip route show default | cut -d\" \" -f3)'"
                + (f"; {ENGINE} exec {self.lab_name()}-{host} pkill -KILL -u admin sshd || true" if cut else ""))

    def plan(self, numbers, seed):
        """Every line of the soak: label, places, way, variant."""
        lines = [([number], self.ways[(index + seed) % len(self.ways)], "kill") for index, number in enumerate(numbers)]
        chosen = random.Random(seed)
        lines += [([chosen.choice(numbers)], "again", "reboot") for _one in range(4)]
        lines += [([chosen.choice(numbers)], "again", "network") for _one in range(4)]
        return lines

    def run(self):
        """All, or a sample; the exit code."""
        seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
        sample, start, stop = (int(os.environ.get(name) or 0) for name in ("SAMPLE", "START", "STOP"))
        print(f"cuts: SEED={seed}{f' SAMPLE={sample}' if sample else ''}{f' START={start}' if start else ''}, afterwards: {' or '.join(self.ways)}", flush=True)
        places = [int(place) for place in os.environ.get("PLACES", "").split(",") if place]
        if places:
            self.cut(f"PLACES={os.environ['PLACES']}", places, self.ways[seed % len(self.ways)])
        elif sample:
            self.sample(sample, random.Random(seed))
        else:
            numbers, names = self.boundaries()
            lines = self.plan(numbers, seed)
            print(f"cuts: {len(names)} tasks, {len(numbers)} boundaries at which the hosts differ, {len(lines)} lines", flush=True)
            for index, (places, way, variant) in list(enumerate(lines, 1))[max(0, start - 1):stop or None]:
                label = f"{index}/{len(lines)} {variant} before {names[places[0]]!r}"
                if variant == "kill":
                    self.cut(label, places, way)
                elif variant == "reboot":
                    self.cut(label, places, way, self.reboot(), self.booted)
                else:
                    host = self.lab.postgres
                    self.cut(label, places, way, self.network(host, True),
                             lambda host=host: subprocess.run(self.network(host, False), shell=True, check=False))
        print(f"cuts: SEED={seed}: {self.done} lines done, {len(self.wrong)} wrong", flush=True)
        return 1 if self.wrong else 0

    def sample(self, count, chosen):
        """Cuts in a row, each into the run that takes up the one before; the last one is taken up or taken back."""
        # The first tasks only read; and a run that takes up another one has fewer tasks left.
        places = [chosen.randrange(30, 115), *(chosen.randrange(30, 90) for _one in range(count - 1))]
        self.cut(f"{count} cuts in a row", places, chosen.choice(self.ways))


if __name__ == "__main__":
    sys.exit(Cuts().run())
