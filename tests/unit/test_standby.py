# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a standby follows, by what it says of itself."""
from __future__ import annotations

import pytest
from ansible_collections.pgrescue.barman.plugins.filter.standby_way import FilterModule
from ansible_collections.pgrescue.barman.plugins.module_utils._standby import SILENT, believed, delayed, follows, is_beside, lag, obstacle

# As PostgreSQL 17 answers the module's query on a standby that streams.
STREAMS = dict(
    in_recovery=True, replay_lsn="0/9000148", reached_lsn="0/9000148", status="streaming", timeline=3, sender_host="bd-principal", slot_name=None,
    receiver_pid=4711, waits="RecoveryWalStream",
)
# As PostgreSQL 15 answers after a restart with recovery_min_apply_delay, while it has WAL to replay.
WAITS = dict(SILENT, in_recovery=True, replay_lsn="0/9000148", waits="RecoveryApplyDelay")


@pytest.mark.parametrize("changes, timeline, lsn, says", [
    ({}, 3, "0/9000148", None),
    ({}, 3, "0/8000000", None),
    ({}, 3, "0/9000150", "8 bytes behind"),
    (dict(replay_lsn="0/7000000"), 3, "0/9000148", None),                # delayed: it has received it
    ({}, 4, "0/9000148", "receives timeline 3 from bd-principal, and the primary writes on 4"),
    (dict(status=None, timeline=None), 3, "0/9000148", "receives nothing"),
    (dict(status="waiting"), 3, "0/9000148", "receiver is waiting"),
    (dict(in_recovery=False, replay_lsn=None, reached_lsn=None, status=None, timeline=None), 3, "0/9000148", "no standby"),
])
def test_whether_it_follows(changes, timeline, lsn, says):
    seen = dict(STREAMS, **changes)
    assert follows(seen, timeline, lsn) is (says is None)
    if says:
        assert says in obstacle(seen, timeline, lsn)


@pytest.mark.parametrize("changes, timeline, lsn, beside", [
    ({}, 4, "0/9000148", True), ({}, 4, "0/9000150", False), ({}, 3, "0/8000000", False), (dict(status=None, timeline=None), 4, "0/8000000", False),
])
def test_one_that_went_past_its_primary_on_another_timeline_never_follows(changes, timeline, lsn, beside):
    assert is_beside(dict(STREAMS, **changes), timeline, lsn) is beside


def test_lag_is_of_bytes_and_never_negative():
    assert lag(STREAMS, "1/0") == 2**32 - 0x9000148
    assert lag(STREAMS, "0/1") == 0
    assert lag(dict(STREAMS, reached_lsn=None), "0/1") is None


@pytest.mark.parametrize("before, follows_now", [
    (STREAMS, True), (dict(STREAMS, waits=None), True),
    (SILENT, False), (dict(STREAMS, receiver_pid=4700), False),          # an attempt that the primary refuses at once, then the next one
])
def test_a_receiver_is_believed_when_it_is_still_there(before, follows_now):
    seen = believed(before, STREAMS)
    assert follows(seen, 3, "0/9000148") is follows_now
    assert (seen["status"] is None) is not follows_now and seen["replay_lsn"] == "0/9000148"


@pytest.mark.parametrize("before, seen, waits", [
    (WAITS, WAITS, True), (SILENT, WAITS, False), (WAITS, dict(WAITS, waits=None), False),
    (WAITS, dict(STREAMS, waits="RecoveryApplyDelay"), False),           # it has just begun to receive
    (dict(STREAMS, waits="RecoveryApplyDelay"), dict(STREAMS, waits="RecoveryApplyDelay"), False),
])
def test_one_that_replays_later_receives_only_after_that(before, seen, waits):
    assert delayed(believed(before, seen)) is waits
    assert not (waits and follows(believed(before, seen), 3, "0/9000148"))


@pytest.mark.parametrize("changes, chosen", [
    ({}, "none"),
    (dict(timeline=2), "none"),                                          # pg_control is behind what it receives
    (dict(histories=["/pg_wal/00000004.history"]), "none"),
    (dict(rebuild=True), "rebuild"),
    (dict(primary=4), "rebuild"),
    (dict(following=dict(STREAMS, timeline=4)), "rebuild"),
    (dict(following=dict(msg="PostgreSQL does not run")), "start"),
    (dict(following=SILENT), "start"),
    (dict(following=dict(WAITS, delayed=True)), "none"),
    (dict(following=SILENT, timeline=2), "rebuild"),
    # It had followed a recovery that was taken back, and has written no checkpoint of it: only the history tells.
    (dict(following=SILENT, histories=["/pg_wal/00000003.history", "/pg_wal/00000004.history"]), "rebuild"),
    (dict(following=SILENT, histories=["/pg_wal/00000003.history"]), "start"),
    (dict(following=SILENT, histories=["/pg_wal/0000000A.history"], primary=9, timeline=9), "rebuild"),
])
def test_how_it_comes_to_follow(changes, chosen):
    facts = dict(dict(primary=3, timeline=3, following=STREAMS, histories=[], rebuild=False), **changes)
    assert FilterModule().filters()["standby_way"](facts) == chosen
