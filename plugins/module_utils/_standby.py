# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a standby's own view of its replication means. Pure."""
from __future__ import annotations

from ._wal import parse_lsn

# reached_lsn: what a standby that waits before it replays (recovery_min_apply_delay) has received, else what it has replayed.
# status and received_tli: what the WAL receiver is told by the primary, null without one (PostgreSQL's view pg_stat_wal_receiver).
STATE = """
SELECT pg_is_in_recovery() AS in_recovery, pg_last_wal_replay_lsn()::text AS replay_lsn,
       (CASE WHEN current_setting('recovery_min_apply_delay') = '0' THEN pg_last_wal_replay_lsn() ELSE pg_last_wal_receive_lsn() END)::text AS reached_lsn,
       receiver.status, receiver.received_tli AS timeline,
       receiver.sender_host, receiver.slot_name
FROM (SELECT) AS one LEFT JOIN pg_stat_wal_receiver AS receiver ON true
"""


def lag(seen, lsn):
    """The bytes of WAL between what it has reached and the primary's LSN, never negative; null if one of them is not known."""
    return max(0, parse_lsn(lsn) - parse_lsn(seen["reached_lsn"])) if lsn and seen["reached_lsn"] else None


def follows(seen, timeline, lsn):
    """Whether it receives WAL of the primary's timeline, and has reached the primary's LSN."""
    return bool(seen["in_recovery"] and seen["status"] == "streaming" and seen["timeline"] == timeline and lag(seen, lsn) == 0)


def is_beside(seen, timeline, lsn):
    """Whether it replays past the primary's LSN along another timeline, so that it will never follow however far it goes."""
    return bool(seen["status"] == "streaming" and seen["timeline"] != timeline and lag(seen, lsn) == 0)


def obstacle(seen, timeline, lsn):
    """Why it does not follow, a sentence."""
    if not seen["in_recovery"]:
        return "It is no standby: it takes writes."
    if seen["status"] is None:
        return (
            f"It has replayed up to {seen['replay_lsn']} and receives nothing. Its log says why: a primary_conninfo, password or pg_hba.conf that does not "
            f"let it in, WAL that its primary no longer has, or a timeline that is not a continuation of its own."
        )
    if seen["timeline"] != timeline:
        return f"It receives timeline {seen['timeline']} from {seen['sender_host']}, and the primary writes on {timeline}: it follows another server."
    if seen["status"] != "streaming":
        return f"Its receiver is {seen['status']}, at {seen['replay_lsn']}."
    return f"It streams and has replayed up to {seen['replay_lsn']} of {lsn}: {lag(seen, lsn)} bytes behind."
