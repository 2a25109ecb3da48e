# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a standby follows, by what it says of itself."""
from __future__ import annotations

import pytest
from ansible_collections.pgrescue.barman.plugins.module_utils._standby import follows, is_beside, lag, obstacle

# As PostgreSQL 17 answers the module's query on a standby that streams.
STREAMS = dict(in_recovery=True, replay_lsn="0/9000148", reached_lsn="0/9000148", status="streaming", timeline=3, sender_host="bd-principal", slot_name=None)


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
