# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL that only the PostgreSQL host has: whether it continues the archive, and what is lost without it."""
from __future__ import annotations

import copy

import pytest

from ansible_collections.pgrescue.barman.plugins.filter.host_wal import FilterModule
from ansible_collections.pgrescue.barman.plugins.module_utils._hostwal import reads_to

from test_findings import FACTS, judge

# In the shape of the answers after `kill -9` of a postmaster; pg_wal holds segments more for later use.
SEARCH = dict(
    found=7, transactions=[], unnamed=0,
    searched=[dict(
        timeline=1, first="00000001000000000000000A", last="00000001000000000000000F", last_lsn="0/0C0A3B58", last_time="2026-11-23T04:19:30.123456+00:00",
        note="timeline 1 could not be read after 0/0C0A3B58",
    )],
)
ANSWERS = dict(
    catalogue=dict(FACTS["catalogue"], wal=dict(segment_bytes=16 << 20), timelines=[
        dict(timeline=1, current=True, last_wal="00000001000000000000000A", switch_lsn=None),
        dict(timeline=2, current=False, last_wal="00000002000000000000000C", switch_lsn="0/C000000"),
    ]), cluster=FACTS["cluster"], search=SEARCH,
)


def ask(**changes):
    answers = copy.deepcopy(ANSWERS)
    for part, inner in (
        ("wal", answers["catalogue"]["timelines"][0]), ("cluster", answers["cluster"]),
        ("search", answers["search"]), ("read", answers["search"]["searched"][0]),
    ):
        inner.update(changes.pop(part, {}))
    return FilterModule().filters()["host_wal"](answers)


def test_what_continues_the_archive():
    assert ask() == dict(
        wal=dict(timeline=1, end_lsn="0/C0A3B58", end_time="2026-11-23T04:19:30.123456+00:00"),
        segments=["00000001000000000000000B", "00000001000000000000000C"], transactions=7,
    )


@pytest.mark.parametrize("lsn, shown, points", [("0/0C0A3000", "0/C0A3000", ["before"]), (None, None, [])])
def test_what_it_says_of_the_target(lsn, shown, points):
    found = ask(search=dict(target_lsn=lsn, restore_points=[dict(name=name, lsn="0/C0A3000", timeline=1) for name in points]))
    assert found["wal"]["target"] == dict(lsn=shown, restore_points=points)


@pytest.mark.parametrize("changes", [
    dict(wal=dict(last_wal="000000010000000000000008")),                                     # a hole between archive and host
    dict(wal=dict(last_wal="000000010000000000000010")),                                     # the archive is ahead: this host fell behind long ago
    dict(wal=dict(timeline=3)),                                                              # its branch is not in the archive
    dict(wal=dict(last_wal=None)),
    dict(cluster=dict(system_identifier="9")),                                           # another cluster's WAL has the same names
    dict(cluster=dict(system_identifier=None)),
    dict(read=dict(last_lsn=None)),
    dict(search=dict(searched=[])),
])
def test_what_does_not(changes):
    assert ask(**changes) == {}


def test_a_branch_of_which_nothing_is_archived_begins_with_its_first_segment():
    found = ask(wal=dict(last_wal=None, switch_lsn="0/B000148"))
    assert found["segments"] == ["00000001000000000000000B", "00000001000000000000000C"]


def test_what_somebody_else_archives_is_another_branch():
    """A clone that was made by hand: the host's own WAL continues the branch that it was on."""
    assert ask(wal=dict(current=False)) == ask()


def test_a_failed_search_is_nothing():
    assert FilterModule().filters()["host_wal"](dict(ANSWERS, search=dict(failed=True, msg="no"))) == {}


def test_all_is_archived():
    found = ask(read=dict(last_lsn="0/0AFFFFD8"))
    assert found == dict(wal={}, segments=[], transactions=0)
    plan = judge(cluster=dict(running=None), host_wal=found)["plan"]
    assert plan["loss"] == dict(since=None, seconds=0, transactions=0)
    assert plan["host_wal"] == {}


@pytest.mark.parametrize("changes, loss, used, words", [
    (dict(host_wal=ask()), dict(since=None, seconds=0, transactions=0), False, "7 transactions"),
    (dict(host_wal=ask(), cluster=dict(running=None)), dict(since=None, seconds=0, transactions=0), True, "7 transactions up to 2026-11-23T04:19:30"),
    (dict(host_wal=ask(), cluster=dict(running=None), plan=dict(target_timeline=2)), dict(since=None, seconds=0, transactions=0), False, "7 transactions"),
    (dict(cluster=dict(running=None, exists=False, empty=True)), dict(since="2026-11-23T04:10:00.5+00:00", seconds=600, transactions=None), False, "no WAL"),
])
def test_the_plan_says_what_is_lost(changes, loss, used, words):
    plan = judge(**changes)["plan"]
    assert plan["loss"] == loss
    assert (plan["host_wal"] != {}) is used
    said = next(one for one in plan["findings"] if one["check"] == "not_archived_yet")
    assert words in said["found"]
    assert said["ok"]
    assert ("at most 600 seconds" in said["meaning"]) is (loss["seconds"] == 600)


@pytest.mark.parametrize("cluster, told", [
    (dict(running=None, timeline=2), True), (dict(running=None, timeline=1), False), (dict(running=None, timeline=2, system_identifier="9"), False),
    (dict(timeline=2), False),                                                               # it answers, so the fence archives what it has
])
def test_a_dead_server_on_a_branch_that_was_never_archived(cluster, told):
    said = next(one for one in judge(cluster=cluster)["plan"]["findings"] if one["check"] == "not_archived_yet")
    assert said["ok"] and ("timeline 2, of which Barman has nothing" in said["found"]) is told
    assert not told or "start PostgreSQL" in said["meaning"]


@pytest.mark.parametrize("note, whole", [(None, True), ("timeline 1 could not be read after 0/0B000100: it is damaged. Reading went on", False)])
def test_a_damaged_stretch_is_not_read_as_a_whole(note, whole):
    searched = [
        dict(first="00000001000000000000000A", last="00000001000000000000000B", last_lsn="0/0B000100", note=note),
        dict(first="00000001000000000000000C", last="00000001000000000000000F", last_lsn="0/0C000100", note="segments for later use"),
    ]
    assert reads_to(dict(searched=searched), 10 << 24, (12 << 24) + 0x200, 1 << 24) == whole
