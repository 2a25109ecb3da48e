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
