# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Timeline 2 was promoted and taken back, and the server went on on timeline 1: which branch is a moment sought on?"""
from __future__ import annotations

from datetime import datetime

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._reach import reachable


def at(clock):
    return f"2026-09-15T{clock}:00+00:00"


SERVER = dict(
    timelines=[
        dict(timeline=1, parent=None, begin_time=None, switch_lsn=None, current=True, resumed=[]),
        dict(timeline=2, parent=1, begin_time=at("10:00"), switch_lsn="0/5000000", current=False, resumed=[]),
    ],
    backups=[
        dict(backup_id="20260915T085500", end_time=at("09:00"), timeline=1), dict(backup_id="20260915T100400", end_time=at("10:05"), timeline=2),
    ],
    windows=[
        dict(timeline=1, begin_time=at("09:00"), end_time=at("11:00"), begin_lsn="0/2000028", end_lsn="0/9000000", note=None, backup_ids=["20260915T085500"]),
        dict(timeline=2, begin_time=at("10:00"), end_time=at("10:10"), begin_lsn="0/5000000", end_lsn="0/7000000", note=None,
             backup_ids=["20260915T085500", "20260915T100400"]),
    ],
    wal=dict(missing=[], segment_bytes=16 << 20),
)


@pytest.mark.parametrize("clock, timeline", [("09:30", 1), ("10:07", 2), ("10:30", 1)])
def test_a_moment_is_sought_where_the_server_was(clock, timeline):
    found = reachable(SERVER, datetime.fromisoformat(at(clock)))
    assert (found["reachable"], found["timeline"]) == (True, timeline)


def test_what_is_later_than_everything_is_told_of_the_branch_that_lives():
    found = reachable(SERVER, datetime.fromisoformat(at("12:00")))
    assert not found["reachable"] and "timeline 1 was at 2026-09-15T11:00" in found["why"]


def test_a_branch_lives_again_from_its_first_commit_after_a_recovery_was_taken_back():
    """Timeline 3 has left it since, so that it is not the current one either."""
    later = dict(timeline=3, parent=1, begin_time=at("11:30"), switch_lsn="0/9000000", current=True, resumed=[])
    first = dict(SERVER["timelines"][0], current=False)
    for resumed, timeline in (([at("10:20")], 1), ([], 2), ([at("10:50")], 2)):
        server = dict(SERVER, timelines=[dict(first, resumed=resumed), SERVER["timelines"][1], later])
        assert reachable(server, datetime.fromisoformat(at("10:30")))["timeline"] == (timeline if timeline == 1 else None)
        assert reachable(server, datetime.fromisoformat(at("10:07")))["timeline"] == 2


def branches(second, *more):
    """Timeline 1 up to 10:00, and one that left it."""
    first = dict(SERVER["windows"][0], end_time=at("10:00"))
    return dict(SERVER, name="main", backups=SERVER["backups"][:1], timelines=[dict(SERVER["timelines"][0], current=False), second], windows=[first, *more])


def test_a_moment_before_the_first_commit_of_a_new_branch_names_that_branch():
    """Promoted without a record that tells when: nobody was there between."""
    second = dict(SERVER["timelines"][1], begin_time=at("10:30"), current=True)
    server = branches(second, dict(SERVER["windows"][1], begin_time=at("10:30"), end_time=at("11:00"), backup_ids=["20260915T085500"]))
    found = reachable(server, datetime.fromisoformat(at("10:15")))
    assert not found["reachable"] and "Timeline 2 began after it: type target_timeline=2 for what was there then." in found["why"]
    assert reachable(server, datetime.fromisoformat(at("10:15")), 2)["backup_id"] == "20260915T085500"


def test_a_branch_without_its_history_file_says_so():
    server = branches(dict(SERVER["timelines"][1], parent=None, switch_lsn=None, begin_time=None, current=True))
    for timeline in (None, 2):
        why = reachable(server, datetime.fromisoformat(at("10:15")), timeline)["why"]
        assert "Where timeline 2 began is not known, since 00000002.history is not in the archive." in why and "barman rebuild-xlogdb main" in why


def test_another_branch_that_went_on_is_named():
    """A clone on timeline 2 archived under the server's name for a while and was seen last; the server was recovered to timeline 3 later."""
    third = dict(timeline=3, parent=1, begin_time=at("11:30"), switch_lsn="0/9000000", current=True, resumed=[])
    server = dict(SERVER, timelines=[dict(SERVER["timelines"][0], current=False), SERVER["timelines"][1], third])
    why = reachable(server, datetime.fromisoformat(at("10:30")))["why"]
    assert why.endswith("Timeline 1 was written to before and after that moment: if its data is meant, type target_timeline=1.")


def test_a_backup_without_a_commit_behind_it_can_be_had_itself():
    server = dict(SERVER, windows=[dict(SERVER["windows"][0], end_time=None, note="no commit")], timelines=SERVER["timelines"][:1])
    assert "type target_immediate=true backup_id=20260915T085500" in reachable(server, datetime.fromisoformat(at("09:30")))["why"]
