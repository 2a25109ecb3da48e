# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts recover.yml, commit.yml and undo.yml off, then runs them again or undoes: at every point exactly one intact cluster.

    python tests/soak/cuts.py                     every boundary of every playbook, once for each way to go on
    START=40 python tests/soak/cuts.py            the same from line 40 of the printed plan on
    START=20 STOP=40 python tests/soak/cuts.py    lines 20 to 40 of it, for a soak shared out among several labs; clones.py and lost.py know both too
    BREADTH=1 SEED=7 python tests/soak/cuts.py    one boundary of each phase, for each kind of cut and each way to go on
    SAMPLE=6 SEED=7 python tests/soak/cuts.py     six cuts in a row into one recovery, then it is finished or undone

Kinds of cut, when a certain task begins (callback_plugins/cut.py) or some seconds later: SIGKILL to the whole process group of
ansible-playbook; the controller's way to a host is gone; a host loses its power and boots. The kind changes from cut to cut, so
that three seeds in a row meet every boundary with each. Between two boundaries with no task in between that may have changed a
host, the hosts are the same, so only the last of them is cut. Through every second line Barman's schedule takes a backup every
minute. After each cut the hosts are looked at, and what the report says of them; then the playbook runs again (into the next
cut, where a line has several), or undo.yml takes the recovery back. In the end they are looked at again: rows as the ledger says,
no marker, pin, lock, process or temporary file left over, Barman content, archiving armed.
"""
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from itertools import cycle, groupby, islice, repeat

from lab import SERVER, TREE, Lab, Stopped

HERE = os.path.dirname(os.path.realpath(__file__))
ROWS = "SELECT id FROM soak_cut ORDER BY id"
LEFT_IN_DATA = "recovery.signal standby.signal backup_label tablespace_map barman_wal pgrescue-replay.log .pgrescue-aside.json .pgrescue-aside.json.tmp"
# A module that is killed with its session leaves ansible-core's own /tmp/ansible_*_payload_*, and /tmp/barman belongs to Barman 3.20 itself.
TEMPORARY = "ls -d /tmp/pgrescue* /tmp/barman[-_]* /tmp/ansible* 2>/dev/null | grep -v /tmp/ansible_.*_payload_ | xargs"
# What belongs to a run that is under way, on either host; what archives or sweeps by itself does not.
PROCESSES = r"""echo "processes $(ps -eo args= | grep -E 'rsync|pg_ctl|pg_basebackup|AnsiballZ|async_wrapper|barman (-q )?(recover|restore|backup)' |
    grep -vE 'grep -E|ps -eo|bash -s' | head -n 5 | tr '\n' ';')" """
ENGINE = os.path.join(TREE, "molecule", "engine")
KINDS, WAYS = ("kill", "network", "reboot"), ("again", "undo")
# The phases of a recovery, each with a number of tasks into which a sample cuts.
PHASES = dict(plan=50, fence=30, aside=8, restore=8, replay=12, commit=14, serve=20)
# What an answer of this kind promises about the hosts.
UNTOUCHED = ("start", "unit", "beside", "inside", "stale", "markers", "keep")


def phase_of(place):
    """The phase in which a place is."""
    return place.partition("+")[0]


class Cuts:
    """The ledger, and how the hosts look when nothing is under way."""

    def __init__(self):
        self.lab = Lab()
        self.rows, self.next, self.wrong, self.done = [], 1, [], 0
        self.settle_addresses()
        self.lab.sql("DROP TABLE IF EXISTS soak_cut; CREATE TABLE soak_cut (id int PRIMARY KEY)")

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
        self.found = self.settled()
        self.found["inode"] = self.lab.ssh(self.lab.postgres, f"stat -c %i {self.lab.data}")

    def recover(self, **words):
        """recover.yml to the moment; the exit code and the report."""
        return self.play("recover", **words)

    def play(self, playbook, variables=None, place="", do="", later=0, listing="", holder=None, wait=True):
        """A playbook, perhaps cut off at a place; the exit code and the report."""
        environment = dict(ANSIBLE_CALLBACK_PLUGINS=os.path.join(HERE, "callback_plugins"), ANSIBLE_CALLBACKS_ENABLED="cut", SOAK_CUT_AT=place,
                           SOAK_CUT_DO=do, SOAK_CUT_LATER=str(later), SOAK_CUT_LIST=listing)
        if holder:
            environment["SUDO_USER"] = holder
        given = dict({"target_time": self.moment} if playbook == "recover" else {}, **(variables or {}))
        return self.lab.play(playbook, given, environment, wait=wait, session=True)

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
            echo "temporary $({TEMPORARY})"
            {PROCESSES}
            """)
        there = lab.ssh(lab.barman, f"""
            echo "markers $(ls -A /var/lib/barman/.pgrescue 2>/dev/null | grep -E 'recovery.json|draft' | xargs)"
            echo "keep $(cd /var/lib/barman/{SERVER}/base; grep -H . */annotations/* 2>/dev/null | xargs)"
            echo "temporary_barman $({TEMPORARY})"
            {PROCESSES}
            """)
        found = dict(line.partition(" ")[::2] for line in here.splitlines())
        for line in there.splitlines():
            name, _space, value = line.partition(" ")
            found[name] = f"{found['processes']}{value}" if name == "processes" else value
        return found

    def settled(self):
        """The same, when what runs by itself has ended: a scheduled backup, a module whose run was killed."""
        for _attempt in range(15):
            seen = self.look()
            if not seen["processes"]:
                break
            time.sleep(2)
        return seen

    def clusters(self, beside):
        """What lies where the data is, and beside it under such names: from path to inode, state (empty without a cluster) and the process noted there."""
        lab, data = self.lab, self.lab.data
        lines = lab.ssh(lab.postgres, f"""
            for d in {data} {data}{beside}; do [ -d $d ] || continue
              s=$({lab.binaries}/pg_controldata $d 2>/dev/null | sed -n 's/^Database cluster state: *//p')
              [ "$s" ] || [ ! -e $d/PG_VERSION ] || s=unfinished
              [ -e $d/recovery.signal ] || [ -e $d/backup_label ] && s="$s, to be recovered"
              echo "$d|$(stat -c %i $d)|$s|$(head -n 1 $d/postmaster.pid 2>/dev/null)"; done
            """).splitlines()
        return {path: rest for path, *rest in (line.split("|") for line in lines)}

    def in_the_middle(self):
        """What is wrong right after a cut: the old cluster must be there, whole, and nothing but a whole cluster may be startable."""
        data, clusters, rest = self.lab.data, self.clusters(".aside-*"), self.look()
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

    def afterwards(self, undone, keep=False):
        """What is wrong when it is over. What was set aside is removed, unless it is to be kept."""
        lab = self.lab
        wrong, seen = [], self.settled()
        new = set(seen["beside"].split()) - set(self.found["beside"].split())
        aside = {name for name in new if ".aside-" in name}
        if undone:
            aside = {name for name in new if ".failed-" in name or ".undone-" in name}
        elif not aside:
            wrong.append("nothing was set aside")
        if new - aside:
            wrong.append(f"left beside the data: {sorted(new - aside)}")
        wrong += self.differences(seen, ("start", "unit", "postmasters", "inside", "stale", "processes", "markers", "keep"))
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
            # A backup that a cut or the fence has ended early is on Barman's record as failed, and rightly so.
            failed = [name for name, one in checks.items() if one["status"] != "OK" and name != "failed_backups"]
            if not failed:
                break
            time.sleep(5)
        if failed:
            wrong.append(f"barman check: {failed}")
        for name in aside if not keep else ():
            lab.ssh(lab.postgres, f"rm -rf {os.path.dirname(lab.data)}/{name} {os.path.dirname(lab.data)}/{name}.pgrescue-restore.json")
        return wrong

    def differences(self, seen, names):
        """What is not as it was found: of these, and of what is left in /tmp."""
        wrong = [f"{name}: {seen[name]!r} instead of {self.found[name]!r}" for name in names if seen[name] != self.found[name]]
        # What a test before this one has left in /tmp goes with a reboot.
        for name in ("temporary", "temporary_barman"):
            left = set(seen[name].split()) - set(self.found[name].split())
            if left:
                wrong.append(f"{name}: {sorted(left)}")
        return wrong

    @contextmanager
    def every_minute(self):
        """Barman takes a backup every minute by itself."""
        schedule = "/etc/cron.d/soak-every-minute"
        self.lab.ssh(self.lab.barman, f"echo '* * * * * barman /usr/local/lib/pgrescue/scheduled-backup {SERVER}' > {schedule}")
        try:
            yield
        finally:
            self.lab.ssh(self.lab.barman, f"rm -f {schedule}")

    # ---- cuts

    def settle_addresses(self):
        """A container that is started again gets another address, unless it was connected with one; a host keeps its own."""
        for host in (self.lab.barman, self.lab.postgres):
            name, address = f"{self.lab_name()}-{host}", self.lab.hosts[host]["ansible_host"]
            subprocess.run(f"card=$({ENGINE} exec {name} cat /sys/class/net/eth0/address); {ENGINE} network disconnect {self.lab_name()} {name}; "
                           f"{ENGINE} network connect --ip {address} --mac-address $card --alias {host} {self.lab_name()} {name}", shell=True, check=False)

    def power(self, host):
        """Shell commands: the host loses its power, and boots."""
        name = f"{self.lab_name()}-{host}"
        return f"{ENGINE} exec {name} sh -c 'kill -KILL -1'; {ENGINE} restart --time 0 {name}"

    def way(self, host, gone):
        """Shell commands: the controller's way to a host is gone, or back. Its sessions end first, which TCP would see a quarter of an hour later."""
        word, name = "add" if gone else "del", f"{self.lab_name()}-{host}"
        route = f"{ENGINE} exec {name} sh -c 'ip route {word} blackhole $(ip route show default | cut -d\" \" -f3)'"
        return f"{ENGINE} exec {name} pkill -KILL -u admin sshd; sleep 0.5; {route}" if gone else route

    @staticmethod
    def lab_name():
        """Whose hosts these are."""
        return os.environ.get("LAB", "pgrescue")

    def heal(self, kind, host):
        """After a cut the host is there again."""
        if kind == "network":
            time.sleep(2)       # a cut that came as the run ended is still on its way
            subprocess.run(self.way(host, gone=False), shell=True, check=False)
        for _attempt in range(120 if kind != "kill" else 0):
            try:
                if self.lab.ssh(host, "systemctl is-system-running || true") in ("running", "degraded"):
                    return
            except Stopped:
                pass
            time.sleep(1)
        if kind != "kill":
            raise Stopped(f"{host} does not come back")

    def one(self, playbook, place, kind, host, later):
        """One cut: how it left the hosts, what is wrong with that, and whether the run has come to an end nevertheless."""
        before = self.look()
        do = {"kill": "", "network": self.way(host, gone=True), "reboot": self.power(host)}[kind]
        code, report = self.play(playbook, place=place, do=do, later=later)
        self.heal(kind, host)
        said = f"{report.get('outcome')}: {report.get('message')}"
        if code == 0 or self.is_over(playbook, report):
            return f"{place} {kind}: the run came to its end all the same", [], "done"
        wrong = [f"not cut: {said}"] if kind == "kill" and code != -signal.SIGKILL else []
        for _attempt in range(5):
            state, found = self.in_the_middle()
            if not found:
                break
            time.sleep(2)
        wrong += found
        after = self.look()
        changed = {name: value for name, value in after.items() if name in UNTOUCHED and value != before[name]}
        if report.get("outcome") == "REFUSED" and changed:
            wrong.append(f"it said {said}, and changed {changed}")
        back = playbook == "recover" and state.startswith("old data in place") and not after["markers"]
        print(f"cuts: {playbook} cut at {place} by {kind}{f' of {host}' if kind != 'kill' else ''}{f', {later} s later' if later else ''}: {state}; "
              f"{said[:1000]} {wrong or ''}", flush=True)
        return f"{place} {kind}: {state}", [f"after the cut at {place}: {one}" for one in wrong], "nothing to undo" if back else None

    def finish(self, playbook):
        """Run it to its end; what is wrong with that."""
        code, report = self.play(playbook)
        done = code == 0 and report.get("outcome") == "DONE" or self.is_over(playbook, report)
        return [] if done else [f"{playbook} ended with {code}, {report.get('outcome')}: {report.get('message')}"]

    @staticmethod
    def is_over(playbook, report):
        """Whether a cut before this run came when all was done, and before it could be said."""
        return playbook != "recover" and report.get("outcome") == "REFUSED" and " already" in report.get("message", "")

    def begin(self, runs):
        """Some life, and the hosts come to where the cuts begin."""
        self.life()
        for playbook, variables in runs:
            code, report = self.play(playbook, variables)
            if code:
                raise Stopped(f"{playbook} {variables} ended with {code}: {report.get('message')}")

    def line(self, label, begin, cuts, way):
        """One recovery that is cut (one cut after the other), and how it came out."""
        started = time.monotonic()
        states, wrong, over, last = [], [], "done", cuts[-1][0]
        for cut in cuts:
            if over == "done":      # at the beginning, and when a run has outlived its cut
                wrong += self.afterwards(last == "undo") if states else []
                self.begin(begin)
            state, found, over = self.one(*cut)
            states.append(state)
            wrong += found
        if over != "done" and not (over and way == "undo"):
            wrong += self.finish("undo" if way == "undo" else last)
        wrong += self.afterwards(last == "undo" or way == "undo" and over != "done")
        self.done += 1
        line = dict(line=label, way=way, states=states, right=not wrong, seconds=round(time.monotonic() - started, 1))
        if wrong:
            line["wrong"] = wrong
            self.wrong.append(line)
        print(json.dumps(line), flush=True)
        if wrong and not self.lab.sql("SELECT 1", check=False):
            raise Stopped("the server does not answer any more")

    # ---- all of them

    def listed(self, playbook, variables=None):
        """An uncut run; the places at whose beginning the hosts differ from the place before."""
        listing = os.path.join(self.lab.work, f"{playbook}.jsonl")
        if os.path.exists(listing):
            os.unlink(listing)
        code, report = self.play(playbook, variables, listing=listing)
        if code:
            raise Stopped(f"an uncut run of {playbook} ended with {code}: {report.get('message')}")
        with open(listing, encoding="utf-8") as file:
            notes = [json.loads(line) for line in file]
        order = [note["place"] for note in notes if "name" in note]
        touched = {note["place"] for note in notes if note.get("touched")}
        return [after for place, after in zip(order, order[1:]) if place in touched]

    def boundaries(self):
        """For each playbook, how the hosts come to where it begins, and its places; from uncut runs, which must leave nothing either.

        Who goes on from a certain line has them from the run before.
        """
        paused, known = [("recover", {"pause": True})], os.path.join(self.lab.work, "boundaries.json")
        if os.environ.get("START") and os.path.exists(known):
            with open(known, encoding="utf-8") as file:
                return json.load(file)
        self.life()
        found = {"recover": ([], self.listed("recover"))}
        rows, wrong = self.rows, self.afterwards(False, keep=True)
        self.rows = rows
        # What undo.yml brings back.
        found["undo"] = ([("recover", {})], self.listed("undo"))
        wrong += self.afterwards(True)
        self.life()
        self.listed(*paused[0])
        found["commit"] = (paused, self.listed("commit"))
        wrong += self.afterwards(False)
        if wrong:
            raise Stopped(f"uncut runs left: {wrong}")
        with open(known, "w", encoding="utf-8") as file:
            json.dump(found, file)
        return found

    def cuts(self, playbook, places, kinds, chosen):
        """Cuts at places of a playbook, of one kind after the other; a sixth of them in the middle of something."""
        hosts, times = (self.lab.postgres, self.lab.postgres, self.lab.barman), (0, 0, 0, 0, 0, round(chosen.uniform(0.1, 5), 1))
        return [(playbook, place, kind, chosen.choice(hosts), chosen.choice(times)) for place, kind in zip(places, kinds)]

    def every(self, seed, chosen):
        """Every boundary, the kinds in turn: the cuts of a phase in a row into one recovery, which is finished; and each into one that is undone."""
        lines, kinds = [], islice(cycle(KINDS), seed % 3, None)
        for playbook, (begin, places) in self.boundaries().items():
            for phase, some in groupby(places, phase_of):
                some = list(some)
                lines.append((f"{playbook} everywhere in {phase}", begin, self.cuts(playbook, some, kinds, chosen), "again"))
                if playbook != "undo":
                    lines += [(f"{playbook} {place}", begin, self.cuts(playbook, [place], kinds, chosen), "undo") for place in some]
        return lines

    def broad(self, count, chosen):
        """For each kind of cut: some recoveries cut in every phase and finished, some cut in one phase and undone, and the same of commit and undo."""
        found, lines = self.boundaries(), []
        phases = {playbook: [list(some) for _phase, some in groupby(places, phase_of)] for playbook, (_begin, places) in found.items()}
        for _one in range(count):
            for playbook, ways in (("recover", ["again"]), ("commit", WAYS), ("undo", ["again"])):
                for kind in KINDS:
                    for way in ways:
                        places = [chosen.choice(some) for some in phases[playbook]]
                        lines.append((f"{playbook} in every phase", found[playbook][0], self.cuts(playbook, places, repeat(kind), chosen), way))
            for some in phases["recover"]:
                for kind in KINDS:
                    place = chosen.choice(some)
                    lines.append((f"recover {place}", [], self.cuts("recover", [place], repeat(kind), chosen), "undo"))
        return lines

    def sample(self, count, chosen):
        """Cuts in a row, each into the run that takes up the one before; the last one is taken up or taken back."""
        phases = sorted((chosen.choice(list(PHASES)) for _one in range(count)), key=list(PHASES).index)
        places = [f"{phase}+{chosen.randint(1, PHASES[phase])}" for phase in phases]
        cuts = self.cuts("recover", places, chosen.choices(KINDS, (4, 1, 1), k=count), chosen)
        return [(f"{count} cuts in a row", [], cuts, chosen.choice(WAYS))]

    def run(self):
        """All, or a sample; the exit code."""
        seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
        sample, breadth, start, stop = (int(os.environ.get(name) or 0) for name in ("SAMPLE", "BREADTH", "START", "STOP"))
        chosen = random.Random(seed)
        print(f"cuts: SEED={seed} SAMPLE={sample} BREADTH={breadth} START={start}", flush=True)
        lines = self.sample(sample, chosen) if sample else self.broad(breadth, chosen) if breadth else self.every(seed, chosen)
        print(f"cuts: {len(lines)} lines with {sum(len(line[2]) for line in lines)} cuts", flush=True)
        for index, (label, *line) in list(enumerate(lines, 1))[max(0, start - 1):stop or None]:
            with nullcontext() if index % 2 else self.every_minute():
                self.line(f"{index}/{len(lines)} {label}", *line)
        print(f"cuts: SEED={seed}: {self.done} lines done, {len(self.wrong)} wrong", flush=True)
        return 1 if self.wrong else 0


class Vacant(Cuts):
    """Where nothing was before: undo.yml brings nothing back once the recovery is finished, and says so."""

    finished = False

    def finish(self, playbook):
        wrong = super().finish(playbook)
        self.finished = playbook == "undo" and "is finished, and was cut off before it could say so" in "".join(wrong)
        return super().finish("recover") if self.finished else wrong

    def was_undone(self, undone):
        """Whether it was, in a line that was to undo it."""
        undone, self.finished = undone and not self.finished, False
        return undone


if __name__ == "__main__":
    sys.exit(Cuts().run())
