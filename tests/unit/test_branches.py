# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories of commits, backups, recoveries and lost segments, against a replay that is simulated step by step.

The oracle knows nothing of windows: it reads segment after segment as PostgreSQL does and stops at the first commit later
than the target, or at the first segment that is missing. SEED and ROUNDS come from the environment; the seed is printed.
"""
from __future__ import annotations

import importlib.util
import os
import random
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._archive import Archive
from ansible_collections.pgrescue.barman.plugins.module_utils._catalog import _wal as wal_of
from ansible_collections.pgrescue.barman.plugins.module_utils._reach import choose_backup, reachable, required_wal
from ansible_collections.pgrescue.barman.plugins.module_utils._timeline import Tree, by_timeline
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import End, format_lsn, parse_lsn, segment_name
from ansible_collections.pgrescue.barman.plugins.module_utils._windows import read_windows

SEED = int(os.environ.get("SEED", "20261123"))
ROUNDS = int(os.environ.get("ROUNDS", "150"))
SIZE = 1 << 20
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class History:
    """A cluster that lives, is backed up, and is recovered to earlier commits of any branch."""

    def __init__(self, chance):
        self.chance = chance
        self.clock, self.lsn, self.timeline = 0, 3 * SIZE, 1
        self.parents, self.began = {1: None}, {1: None}          # timeline -> (parent, switch)
        self.commits = {1: []}                                   # timeline -> [(lsn, clock)]
        self.records = {1: []}                                   # timeline -> [lsn] at which a record begins, none longer than half a segment
        self.ends = {}                                           # timeline -> LSN up to which it was written
        self.written = {}                                        # (timeline, segment) -> clock of the last write
        self.backups = []
        for _event in range(chance.randint(5, 60)):
            chance.choices((self.commit, self.switch, self.backup, self.recover), (12, 3, 3, 1))[0]()
        self.ends[self.timeline] = self.lsn
        whole = [key for key in self.written if (key[1] + 1) * SIZE <= self.ends[key[0]]]
        self.lost = set(chance.sample(whole, min(len(whole), chance.choice((0, 0, 1, 2)))))
        self.archived = sorted(set(whole) - self.lost)

    def tick(self):
        self.clock += self.chance.randint(1, 5)

    def write(self, length):
        for segment in range(self.lsn // SIZE, (self.lsn + length - 1) // SIZE + 1):
            self.written[self.timeline, segment] = self.clock
        self.records[self.timeline] += range(self.lsn, self.lsn + length, SIZE // 2)
        self.lsn += length

    def commit(self):
        self.tick()
        self.write(self.chance.choice((100, 1000, SIZE // 3, SIZE, 2 * SIZE)))
        self.commits[self.timeline].append((self.lsn, self.clock))
        self.write(50)

    def switch(self):
        self.tick()
        if self.lsn % SIZE:
            self.write(SIZE - self.lsn % SIZE)

    def backup(self):
        self.tick()
        begin = self.lsn
        self.write(200)
        while self.chance.random() < 0.5:
            self.commit()
        end, self.clock = self.lsn, self.clock + 1
        self.backups.append((self.timeline, begin, end, self.clock, self.chance.random() < 0.9))
        self.switch()

    def recover(self):
        """Go back to just before some commit of some branch: a new timeline begins where that commit began."""
        branch = self.chance.choice(sorted(self.commits))
        past = [commit for commit in self.line(branch) if commit[0] > 3 * SIZE]
        if not past:
            return
        stop = self.chance.choice(past)
        ascending = self.chance.random() < 0.5                   # else along the branch that was asked for, though the stop is before its beginning
        while ascending and self.parents[branch] and stop[0] < self.parents[branch][1]:
            branch = self.parents[branch][0]
        self.ends[self.timeline] = self.lsn
        self.tick()
        self.timeline = max(self.commits) + 1
        self.parents[self.timeline], self.commits[self.timeline] = (branch, stop[0]), []
        self.records[self.timeline] = []
        self.began[self.timeline], self.lsn = self.clock, stop[0]
        self.write(80)

    def line(self, timeline):
        """All commits that the history of a timeline holds, in order."""
        if not self.parents[timeline]:
            return list(self.commits[timeline])
        parent, switch = self.parents[timeline]
        return [commit for commit in self.line(parent) if commit[0] < switch] + self.commits[timeline]

    def kept(self, timeline, position, exclusive):
        """The commits that a replay towards a timeline holds when its target is an LSN: recoveryStopsBefore() and recoveryStopsAfter()."""
        begins, leave = [], float("inf")
        while timeline:
            begins += [(lsn, timeline) for lsn in self.records[timeline] if lsn < leave]
            timeline, leave = (self.parents[timeline][0], min(leave, self.parents[timeline][1])) if self.parents[timeline] else (None, leave)
        commits = {(lsn, number) for number, found in self.commits.items() for lsn, _clock in found}
        stop = min((lsn for lsn, _timeline in begins if lsn >= position), default=float("inf"))
        return sorted(one for one in begins if one in commits and (one[0] < stop or one[0] == stop and not exclusive))

    def live(self, clock):
        """The timeline that was live at a clock, and what it held then."""
        timeline = max((number for number, began in self.began.items() if began is None or began <= clock))
        return timeline, [commit for commit in self.line(timeline) if commit[1] <= clock]

    def source(self, timeline, segment):
        """The timeline whose file PostgreSQL reads for a segment on the way to a timeline."""
        while self.parents[timeline] and segment < self.parents[timeline][1] // SIZE:
            timeline = self.parents[timeline][0]
        return timeline

    def follows(self, backup, timeline):
        """Whether a backup lies on the line of a timeline."""
        while timeline != backup[0]:
            if not self.parents[timeline] or backup[2] > self.parents[timeline][1]:
                return False
            timeline = self.parents[timeline][0]
        return True

    def replay(self, backup, timeline, clock, exclusive=False):
        """What a restore of a backup holds that replays a timeline's line to a clock; None when PostgreSQL ends with FATAL."""
        if not self.follows(backup, timeline) or backup[3] > clock:
            return None
        archived, segment = set(self.archived), backup[1] // SIZE
        line = self.line(timeline)
        stop = next((commit for commit in line if commit[1] > clock - exclusive and commit[0] >= backup[2]), None)
        if stop is None:
            return None
        while segment <= stop[0] // SIZE:
            if (self.source(timeline, segment), segment) not in archived:
                return None
            segment += 1
        return [commit for commit in line if commit[0] < stop[0]]


class Ends:
    """Reads ends of WAL from the history, in the place of pg_waldump."""

    def __init__(self, history):
        self.history = history

    def end(self, timeline, first, last, after):
        found = [commit for commit in self.history.commits[timeline] if first <= commit[0] // SIZE <= last and commit[0] >= parse_lsn(after)]
        lsn = max([commit[0] for commit in found], default=first * SIZE)
        return End(format_lsn(lsn), format_lsn(found[-1][0]), instant(found[-1][1])) if found else End(format_lsn(lsn), reason="no commit")

    def began(self, timeline, first, last, switch_lsn):
        return instant(self.history.began[timeline])

    def resumed(self, timeline, fork, moment):
        return next((instant(commit[1]) for commit in self.history.commits[timeline] if instant(commit[1]) > moment), None)


def instant(clock):
    return START + timedelta(seconds=clock)


def catalogue(history):
    """The history as read_catalog() would give it."""
    backups = [
        dict(
            backup_id=f"2026010{index // 1000}T{index:06d}", status="DONE", good=good, timeline=timeline, begin_lsn=format_lsn(begin),
            end_lsn=format_lsn(end), begin_wal=segment_name(timeline, begin // SIZE, SIZE), end_time=instant(clock).isoformat(),
        )
        for index, (timeline, begin, end, clock, good) in enumerate(history.backups)
    ]
    timelines = [
        dict(timeline=number, parent=origin and origin[0], switch_lsn=origin and format_lsn(origin[1]), current=number == history.timeline,
             begin_time=None, resumed=[])
        for number, origin in sorted(history.parents.items())
    ]
    names = {segment_name(*key, SIZE): (SIZE, instant(history.written[key]).timestamp(), None) for key in history.archived}
    archive = Archive("/nonexistent", names)
    tree = Tree(timelines, SIZE, by_timeline(archive.available, SIZE))
    windows = read_windows(timelines, backups, tree, Ends(history))
    return dict(name="x", backups=backups, timelines=timelines, windows=windows, wal=wal_of(archive, backups, tree, True))


def drawn(number):
    """One random history: the chance that goes on from there, the history, its catalogue, and its backups by their ids."""
    seed = SEED + number
    print("SEED", seed)
    chance = random.Random(seed)
    history = History(chance)
    server = catalogue(history)
    return chance, history, server, dict(zip((backup["backup_id"] for backup in server["backups"]), history.backups))


@pytest.mark.parametrize("number", range(ROUNDS))
def test_the_verdict_is_what_a_replay_does(number):
    chance, history, server, backups = drawn(number)
    for clock in sorted({chance.randint(0, history.clock + 3) for _moment in range(60)} | {clock for *_rest, clock, _good in history.backups}):
        verdict = reachable(server, instant(clock))
        live, rows = history.live(clock)
        possible = [backup for backup in history.backups if backup[4] and history.replay(backup, live, clock) is not None]
        assert verdict["reachable"] == bool(possible), (clock, verdict)
        if possible:
            assert verdict["timeline"] == live
            assert history.replay(backups[verdict["backup_id"]], live, clock) == rows
            assert backups[verdict["backup_id"]][3] == max(backup[3] for backup in possible)
            target = SimpleNamespace(type="time", utc=instant(clock), value=None, timeline=None, exclusive=False)
            backup, timeline, _why = choose_backup(server, target)
            assert required_wal(server, backup, target, timeline)["missing"] == []


@pytest.mark.parametrize("number", range(ROUNDS // 3))
def test_every_branch_on_request(number):
    chance, history, server, backups = drawn(number)
    for timeline in history.parents:
        for clock in range(0, history.clock + 2):
            exclusive = chance.random() < 0.5
            target = SimpleNamespace(type="time", utc=instant(clock), value=None, timeline=timeline, exclusive=exclusive)
            backup, found, why = choose_backup(server, target)
            possible = [one for one in history.backups if one[4] and history.replay(one, timeline, clock, exclusive) is not None]
            # The part before a branch is only promised where all WAL leads into the branch, and a commit on it proves that replay can stop.
            assert bool(backup) == bool(possible) or not backup and "leave target_timeline out" in why, (clock, timeline, exclusive, why)
            if backup:
                assert found == timeline and history.replay(backups[backup["backup_id"]], timeline, clock, exclusive) is not None, (clock, why)
        lsn = chance.randrange(3 * SIZE, history.lsn + 1)
        target = SimpleNamespace(type="lsn", value=format_lsn(lsn), utc=None, timeline=timeline, exclusive=False)
        backup, found, _why = choose_backup(server, target)
        if backup:
            assert parse_lsn(backup["end_lsn"]) <= lsn and history.follows(backups[backup["backup_id"]], found)
            assert required_wal(server, backup, target, found)["missing"] == []


@pytest.mark.parametrize("number", range(ROUNDS // 3))
def test_what_only_an_heir_holds_is_said_to_be_there(number):
    _chance, history, server, backups = drawn(number)
    for clock in range(history.clock + 2):
        verdict = reachable(server, instant(clock))
        told = re.search(r"What timeline (\d+) wrote later is archived up to (\S+) only, .* type target_timeline=(\d+) too", verdict["why"])
        if told:
            branch, leave, heir = int(told[1]), parse_lsn(told[2]), int(told[3])
            found = reachable(server, instant(clock), heir)
            held = history.replay(backups[found["backup_id"]], heir, clock)
            assert held == [commit for commit in history.line(branch) if commit[1] <= clock and commit[0] < leave], (clock, verdict)


@pytest.mark.parametrize("end_time", ["2026-01-01T00:00:50.000000+00:00", None])
def test_the_tail_of_a_dead_server_that_was_recovered(end_time):
    """Its last segment was not archived, and is the beginning of timeline 2's first one."""
    server = dict(
        name="x", wal=dict(missing=[], segment_bytes=SIZE), backups=[dict(backup_id="a", timeline=1, end_lsn="0/3000C8", end_time=instant(5).isoformat())],
        timelines=[dict(timeline=1, parent=None, switch_lsn=None, current=False, begin_time=None, resumed=[]),
                   dict(timeline=2, parent=1, switch_lsn="0/680000", current=True, begin_time=instant(100).isoformat(), resumed=[])],
        windows=[dict(timeline=1, begin_time=instant(5).isoformat(), begin_lsn="0/3000C8", end_time=end_time, end_lsn="0/580000", note=None, backup_ids=["a"]),
                 dict(timeline=2, begin_time=instant(100).isoformat(), begin_lsn="0/680000", end_time=instant(130).isoformat(), end_lsn="0/800000", note=None,
                      backup_ids=["a"])],
    )
    for timeline in (None, 1):
        verdict = reachable(server, instant(60), timeline)
        assert not verdict["reachable"] and "target_latest" not in verdict["why"]
        assert "What timeline 1 wrote later is archived up to 0/680000 only, at the beginning of timeline 2: type target_timeline=2 too" in verdict["why"]
    assert reachable(server, instant(60), 2)["reachable"]
    server["windows"][0]["end_lsn"] = "0/600028"                # the segment is archived, and holds no later commit
    why = reachable(server, instant(60))["why"]
    assert "What timeline 1 wrote later" not in why and "Timeline 2 began after it: type target_timeline=2 for what was there then." in why


@pytest.mark.parametrize("number", range(ROUNDS))
def test_an_lsn_holds_what_its_line_does(number):
    _chance, history, server, _backups = drawn(number)
    forks = [origin[1] for origin in history.parents.values() if origin]
    places = {lsn + step for lsn in forks + [commit[0] for commits in history.commits.values() for commit in commits] for step in (-SIZE, -60, -1, 0, 1)}
    for timeline in (None, *history.parents):
        for position in places:
            for exclusive in (False, True):
                target = SimpleNamespace(type="lsn", value=format_lsn(position), utc=None, timeline=timeline, exclusive=exclusive)
                backup, found, why = choose_backup(server, target)
                line = timeline or history.timeline
                if backup:
                    assert history.kept(found, position, exclusive) == history.kept(line, position, exclusive), (timeline, position, exclusive, why)
                elif "abandoned" in why:                       # then what it says to type works
                    assert not exclusive and choose_backup(server, SimpleNamespace(**dict(vars(target), exclusive=True)))[0]


@pytest.mark.parametrize("number", range(ROUNDS // 3))
def test_latest_needs_everything_to_the_end(number):
    seed = SEED + number
    print("SEED", seed)
    history = History(random.Random(seed))
    server = catalogue(history)
    target = SimpleNamespace(type="latest", value=None, utc=None, timeline=None, exclusive=False)
    backup, timeline, why = choose_backup(server, target)
    assert why
    if backup:
        assert timeline == history.timeline and required_wal(server, backup, target, timeline)["missing"] == []
        assert not [key for key in history.lost if key[0] == timeline and parse_lsn(backup["begin_lsn"]) // SIZE <= key[1] <= max(history.archived)[1]]


def test_a_branch_that_was_recovered_to_before_its_beginning():
    """00000003.history is '1 0/A00070', '2 0/900070', and PostgreSQL reads it so: timeline 1 up to 0/900070, then timeline 3."""
    origins = {1: (None, None), 2: (1, "0/A00070"), 3: (2, "0/900070"), 4: (3, "0/980000")}
    tree = Tree([dict(timeline=number, parent=parent, switch_lsn=lsn) for number, (parent, lsn) in origins.items()], SIZE)
    assert tree.leaves(3) == [(3, None), (2, 0x900070), (1, 0x900070)]
    assert tree.leaves(4) == [(4, None), (3, 0x980000), (2, 0x900070), (1, 0x900070)]
    assert tree.pieces(3) == [(1, 0, 8), (2, 10, 8), (3, 9, None)]
    between, before = dict(timeline=1, end_lsn="0/980000"), dict(timeline=1, end_lsn="0/900070")
    assert [tree.can_follow(between, number) for number in (1, 2, 3, 4)] == [True, True, False, False]
    assert [tree.can_follow(before, number) for number in (1, 2, 3, 4)] == [True] * 4


def test_the_ledger_of_the_soak_leaves_timelines_where_the_tree_does():
    spec = importlib.util.spec_from_file_location("model", Path(__file__).parents[1] / "soak" / "model.py")
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    for seed in range(SEED, SEED + ROUNDS):
        history = History(random.Random(seed))
        ledger = model.Ledger(history.timeline)
        ledger.branches = {number: dict(parent=origin and origin[0], switch=origin and origin[1]) for number, origin in history.parents.items()}
        timelines = [dict(timeline=number, parent=origin and origin[0], switch_lsn=origin and format_lsn(origin[1]))
                     for number, origin in history.parents.items()]
        for number in history.parents:
            assert ledger.line(number) == Tree(timelines, SIZE).leaves(number)[::-1], (seed, number)
