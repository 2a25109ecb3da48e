# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a standby's own view of its replication means. Pure."""
from __future__ import annotations

import os

from ._wal import parse_lsn

# reached_lsn: what a standby that waits before it replays (recovery_min_apply_delay) has received, else what it has replayed.
# status and received_tli: what the WAL receiver is told by the primary, null without one (PostgreSQL's view pg_stat_wal_receiver).
# waits: what the process that replays waits for.
STATE = """
SELECT pg_is_in_recovery() AS in_recovery, pg_last_wal_replay_lsn()::text AS replay_lsn,
       (CASE WHEN current_setting('recovery_min_apply_delay') = '0' THEN pg_last_wal_replay_lsn() ELSE pg_last_wal_receive_lsn() END)::text AS reached_lsn,
       receiver.status, receiver.received_tli AS timeline,
       receiver.sender_host, receiver.slot_name, receiver.pid AS receiver_pid,
       (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup') AS waits
FROM (SELECT) AS one LEFT JOIN pg_stat_wal_receiver AS receiver ON true
"""
SILENT = dict(
    in_recovery=None, replay_lsn=None, reached_lsn=None, status=None, timeline=None, sender_host=None, slot_name=None, receiver_pid=None, waits=None,
)
RECEIVER = ("status", "timeline", "sender_host", "slot_name", "receiver_pid")


def believed(before, seen):
    """What two looks in a row, a second apart, agree on. For a moment "streaming" is also said of a receiver that the primary is about to refuse
    (its slot or WAL is gone); the next one is another process."""
    other = before["receiver_pid"] != seen["receiver_pid"]
    passing = (*RECEIVER, "waits") if other else ("waits",) * (before["waits"] != seen["waits"])
    return dict(seen, **dict.fromkeys(passing))


def delayed(seen):
    """Whether it replays WAL that it has by a setting of its own (recovery_min_apply_delay). PostgreSQL receives more only when that is done."""
    return bool(seen["in_recovery"] and seen["status"] is None and seen["waits"] == "RecoveryApplyDelay")


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
            f"let it in, a slot or WAL that its primary no longer has (then -e rebuild=true), or a timeline that is not a continuation of its own."
        )
    if seen["timeline"] != timeline:
        return f"It receives timeline {seen['timeline']} from {seen['sender_host']}, and the primary writes on {timeline}: it follows another server."
    if seen["status"] != "streaming":
        return f"Its receiver is {seen['status']}, at {seen['replay_lsn']}."
    return f"It streams and has replayed up to {seen['replay_lsn']} of {lsn}: {lag(seen, lsn)} bytes behind."


def way(facts):
    """How it comes to follow: none (as it is), start, or rebuild, since its data is of a branch that its primary has left.

    A standby goes to the newest timeline whose history it has. pg_control says so only when a checkpoint of that timeline has been replayed and written.
    """
    # ansible-core before 2.19 hands over numbers as texts.
    seen, primary, own = facts["following"], int(facts["primary"]), int(facts["timeline"] or 0)
    receives = seen.get("status") == "streaming"
    later = not receives and any(os.path.basename(path) > f"{primary:08X}.history" for path in facts["histories"])
    if facts["rebuild"] or later or (seen.get("timeline") or own) != primary:
        return "rebuild"
    return "none" if receives or seen.get("delayed") else "start"
