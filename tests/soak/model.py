# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: what was committed, where and when, on which branch; and what a recovery to a target must therefore hold.

It is written from PostgreSQL's own evidence (pg_waldump of the living pg_wal, history files) and from Barman's list of
backups. It knows PostgreSQL's rules of stopping, and nothing of the collection.
"""
from __future__ import annotations

from datetime import timedelta

REFUSED, EITHER = "refused", "either"
# A promotion takes a moment, and so does the end of a backup: close to them either answer is right, if it is kept.
BLUR = timedelta(seconds=3)


class Ledger:
    """A tree of branches with their events, in the order of WAL."""

    def __init__(self, timeline):
        self.current = timeline
        self.branches = {}        # timeline -> dict parent, switch, begun
        self.events = {}          # timeline -> events: timeline, lsn, prev (LSN of the record before), xid, kind (commit, abort, point), time, name, effects
        self.archived = {}        # timeline -> LSN up to which WAL is in the archive
        self.effects = {}         # (timeline, xid) -> {key: value or None}

    def line(self, timeline):
        """A timeline and its ancestors, the oldest first, each with the LSN at which the line leaves it (None: never)."""
        line, leaves = [], None
        while timeline is not None:
            line.append((timeline, leaves))
            branch = self.branches.get(timeline, {})
            # Switches need not ascend: a branch may have been recovered to before its own beginning.
            timeline, leaves = branch.get("parent"), min((lsn for lsn in (leaves, branch.get("switch")) if lsn is not None), default=None)
        return line[::-1]

    def on_line(self, timeline, all_of_it=False):
        """The events that a replay towards a timeline meets; only what is archived, unless all_of_it."""
        return [
            event for number, leaves in self.line(timeline) for event in self.events.get(number, [])
            if (leaves is None or event["lsn"] < leaves) and (all_of_it or event["lsn"] < self.archived.get(number, 0))
        ]

    def live_at(self, moment):
        """The branch that was written to at a moment."""
        begun = [(branch["begun"], timeline) for timeline, branch in self.branches.items() if branch["begun"] and branch["begun"] <= moment]
        root = min(self.branches)
        return max(begun)[1] if begun else root

    def rows(self, events):
        """The rows after some events, as the query prints them."""
        rows = {}
        for event in events:
            if event["kind"] == "commit":
                for key, value in self.effects.get((event["timeline"], event["xid"]), {}).items():
                    rows[key] = value
        return [f"{key}:{value}" for key, value in sorted(rows.items()) if value is not None]

    def usable(self, backups, timeline, backup_id=None):
        """The backups from which replay can follow a timeline's line."""
        leaves = dict(self.line(timeline))
        return [
            backup for backup in backups
            if backup["timeline"] in leaves and (leaves[backup["timeline"]] is None or backup["end"] <= leaves[backup["timeline"]])
            and backup_id in (None, backup["id"])
        ]


def expect(ledger, backups, target, alive=None):
    """What must come of a target: (REFUSED, reason), (EITHER, rows) or ('rows', rows).

    alive: the time, when the living server may archive what it has before it is stopped.
    """
    kind, timeline = target["type"], target.get("timeline")
    blurred = False
    if timeline is not None and timeline not in ledger.branches:
        return REFUSED, "no such timeline"
    if timeline is None and kind == "time":
        timeline = ledger.live_at(target["value"])
        blurred = any(branch["begun"] and abs(branch["begun"] - target["value"]) < BLUR for branch in ledger.branches.values())
    if timeline is None and kind == "immediate":
        known = [backup for backup in backups if target.get("backup_id") in (None, backup["id"]) and backup["timeline"] in ledger.branches]
        good = ledger.usable(known, ledger.current) or known
        if not good:
            return REFUSED, "no such backup"
        timeline, target = good[-1]["timeline"], dict(target, backup_id=good[-1]["id"])
    timeline = ledger.current if timeline is None else timeline
    usable = ledger.usable(backups, timeline, target.get("backup_id"))
    if not usable:
        return REFUSED, "no backup leads there"
    # Another branch may go further.
    if kind == "lsn" and target["value"] > ledger.archived[timeline]:
        return REFUSED, "after the archive's end"
    events = ledger.on_line(timeline, all_of_it=alive is not None and timeline == ledger.current)
    answer = _KINDS[kind](ledger, events, usable, target, alive if timeline == ledger.current else None)
    return (EITHER, answer[1] if answer[0] != REFUSED else []) if blurred and answer[0] != EITHER else answer


def _time(ledger, events, usable, target, alive):
    moment, exclusive = target["value"], target.get("exclusive")
    ends = [event for event in events if event["kind"] in ("commit", "abort")]
    stop = next((event for event in ends if event["time"] > moment or exclusive and event["time"] == moment), None)
    if stop is None and alive is None:
        return REFUSED, "no commit after it is archived"
    before = [event for event in events if stop is None or event["lsn"] < stop["lsn"]]
    if any(backup["end_time"] <= moment and (stop is None or backup["end"] <= stop["lsn"]) for backup in usable):
        return "rows", ledger.rows(before)
    if any(backup["end"] <= stop["lsn"] and backup["begin_time"] <= moment for backup in usable) if stop else False:
        return EITHER, ledger.rows(before)
    if stop and any(backup["end"] <= stop["lsn"] for backup in usable):
        return EITHER, ledger.rows(before)
    return REFUSED, "before the first backup's end"


def _lsn(ledger, events, usable, target, _alive):
    if not any(backup["end"] <= target["value"] for backup in usable):
        return REFUSED, "before the first backup's end"
    # Inclusive, PostgreSQL stops after the first record that begins at or after the LSN, and that can be a commit; exclusive, before it.
    begins = "lsn" if target.get("exclusive") else "prev"
    return "rows", ledger.rows(event for event in events if event[begins] < target["value"])


def _event(ledger, events, usable, target, _alive):
    """A transaction or a restore point."""
    if target["type"] == "name":
        found = next((event for event in events if event["kind"] == "point" and event["name"] == target["value"]), None)
    else:
        found = next((event for event in events if event["kind"] != "point" and event["xid"] == target["value"]), None)
    if found is None:
        return REFUSED, "it is not on this line"
    if not any(backup["end"] <= found["lsn"] for backup in usable):
        return REFUSED, "before the first backup's end"
    return "rows", ledger.rows(event for event in events if event["lsn"] < found["lsn"] + (0 if target.get("exclusive") else 1))


def _immediate(ledger, events, usable, _target, _alive):
    return "rows", ledger.rows(event for event in events if event["lsn"] < usable[-1]["end"])


def _latest(ledger, events, _usable, _target, _alive):
    return "rows", ledger.rows(events)


_KINDS = dict(time=_time, lsn=_lsn, xid=_event, name=_event, immediate=_immediate, latest=_latest)
