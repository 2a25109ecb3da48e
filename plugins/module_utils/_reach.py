# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions on a server of the catalogue: can a target be reached, from which backup, on which branch, with which WAL.

Pure functions of the dict that read_catalog() gives. Barman's own choice of a backup knows no ancestry of timelines; this
one does. A moment belongs to the branch that the live server was on at that moment: the one that was promoted last before
it. So a moment after a first recovery's fork but before its promotion is sought on the abandoned branch, where its rows are.
"""
from __future__ import annotations

import bisect
import operator
from datetime import datetime, timezone

from ._archive import NOT_ARCHIVED
from ._plan import bring_history
from ._timeline import Tree, by_timeline, gap
from ._wal import format_lsn, parse_lsn, segment_name, segment_number, segment_timeline

NO_BACKUP = "there is no good backup whose WAL is in the archive: take one with playbooks/backup.yml"
EVER = datetime.min.replace(tzinfo=timezone.utc)


def extend(server, more):
    """Count WAL as reachable that is in no archive: more says on which timeline (timeline) and how far (end_lsn, end_time)."""
    windows = [window for window in server["windows"] if window["timeline"] == more["timeline"]]
    if windows:
        end = windows[-1]
        if end["end_lsn"] is None or parse_lsn(more["end_lsn"]) > parse_lsn(end["end_lsn"]):
            end.update(end_lsn=more["end_lsn"], end_time=more["end_time"] or end["end_time"])


def reachable(server, moment, timeline=None, backup_id=None):
    """Whether an instant (a datetime with a zone) can be reached: dict of reachable, backup_id, timeline, why.

    timeline: an integer to insist on a branch; not given, the branch that was live at that instant.
    """
    backup, found, why = _by_time(server, moment, timeline, backup_id)
    return dict(reachable=backup is not None, backup_id=backup["backup_id"] if backup else None, timeline=found, why=why)


def choose_backup(server, target, backup_id=None, place=None):
    """The backup to restore for a target: triple backup (None when the target cannot be reached), timeline, why.

    target has type (time, lsn, xid, name, immediate, latest), value, utc (datetime, for time) and timeline (an integer,
    'latest' for the highest one, or nothing). backup_id insists on one backup. place: the LSN at which a transaction ended or
    a restore point lies, if that is known.
    """
    timeline = _asked_timeline(server, target.timeline)
    known = [entry["timeline"] for entry in server["timelines"]]
    if timeline is not None and timeline not in known:
        return None, timeline, f"there is no timeline {timeline} in the archive; there are: {', '.join(map(str, known)) or 'none'}"
    if target.type == "time":
        return _by_time(server, target.utc, timeline, backup_id, target.exclusive)
    if target.type == "immediate":
        return _newest(server, timeline, line_of(server, target), backup_id)
    timeline = line_of(server, target)
    if target.type == "lsn":
        return _by_lsn(server, target.value, timeline, backup_id, inclusive=not target.exclusive)
    if place:
        return _by_lsn(server, place, timeline, backup_id, f"{target.type} {target.value} is at {place}")
    return _by_end(server, timeline, backup_id, oldest=target.type in ("xid", "name"))


def line_of(server, target):
    """The timeline on whose line a target that is no time is sought: the one asked for, else the current one."""
    asked = _asked_timeline(server, target.timeline)
    return asked or next((entry["timeline"] for entry in server["timelines"] if entry["current"]), None)


def followed(server, timeline, backup_id=None):
    """The good backups from which the line of a timeline can be followed, the oldest first."""
    tree = Tree(server["timelines"], server["wal"]["segment_bytes"])
    whole = {number for window in server["windows"] for number in window["backup_ids"]}
    return [
        backup for backup in server["backups"]
        if backup["backup_id"] in whole and backup_id in (None, backup["backup_id"]) and (timeline is None or tree.can_follow(backup, timeline))
    ]


def required_wal(server, backup, target, timeline, place=None):
    """The WAL that a restore of backup to target along timeline reads: dict of required (segments), bytes, first, last, names
    (of those that are there) and missing (ranges as in wal.missing). Needs a catalogue read with include_wal=True.

    Where the target lies is known exactly for an LSN, for 'immediate', and where place says it; for a time the files' times
    tell up to which segment is counted, and for the others it is the end of the archive.
    """
    size = server["wal"]["segment_bytes"]
    segments = server["wal"]["segments"]
    tree = Tree(server["timelines"], size, by_timeline((entry["name"] for entry in segments), size))
    files = {(segment_timeline(entry["name"]), segment_number(entry["name"], size)): entry for entry in segments}
    first = tree.segment(backup["begin_lsn"])
    reason = _reasons(server["wal"]["missing"])
    names, missing = [], []
    for number, low, high in _pieces(tree, backup, target, timeline, files, place):
        low = max(low, first)
        present = [files[number, index] for run in tree.runs.get(number, ()) for index in range(max(run[0], low), min(run[1], high) + 1)]
        names += present
        missing += [gap(number, begin, end, size, reason(segment_name(number, begin, size))) for begin, end in tree.gaps(number, low, high)]
    return dict(
        required=len(names) + sum(hole["count"] for hole in missing),
        bytes=sum(entry["bytes"] for entry in names),
        first=names[0]["name"] if names else None,
        last=names[-1]["name"] if names else None,
        names=[entry["name"] for entry in names],
        missing=missing,
    )


def _reasons(holes):
    """A function that tells why a segment is missing, from wal.missing, which is sorted by name."""
    starts = [hole["first"] for hole in holes]

    def reason(name):
        index = bisect.bisect_right(starts, name) - 1
        return holes[index]["reason"] if index >= 0 and name <= holes[index]["last"] else NOT_ARCHIVED

    return reason


def _pieces(tree, backup, target, timeline, files, place):
    """The stretches timeline, first, last running number which the restore reads, each with an end."""
    pieces = []
    line = tree.pieces(timeline)
    for number, low, high in line[[piece[0] for piece in line].index(backup["timeline"]):]:
        known = tree.runs.get(number)
        end = high if high is not None else max(known[-1][1] if known else low, tree.last_segment(backup["end_lsn"]))
        stop = _stop(tree, backup, target, number, max(low, tree.segment(backup["begin_lsn"])), end, files, place)
        pieces.append((number, low, end if stop is None else stop))
        if stop is not None:
            break
    return pieces


def _stop(tree, backup, target, number, low, high, files, place):
    """The segment in which replay ends, when that is on this stretch."""
    if target.type == "immediate":
        return tree.last_segment(backup["end_lsn"])
    if target.type == "lsn" or place:
        segment = tree.segment(place or target.value)
        return segment if segment <= high else None
    if target.type == "time":
        instant = target.utc.timestamp()
        enough = tree.last_segment(backup["end_lsn"]) if number == backup["timeline"] else low
        return next((index for index in range(enough, high + 1) if (number, index) in files and files[number, index]["file_time"] > instant), None)
    return None


def _by_time(server, moment, timeline, backup_id, exclusive=False):
    """exclusive: PostgreSQL stops at a commit of the very moment, so the end of a window counts."""
    before = operator.le if exclusive else operator.lt
    branch = timeline or _live_branch(server, moment)
    inside = []
    if timeline is None:
        current = {entry["timeline"] for entry in server["timelines"] if entry["current"]}
        inside = [window for window in server["windows"] if window["begin_time"] and _moment(window["begin_time"]) <= moment and before(moment, _end(window))]
        chosen = [window for window in inside if window["timeline"] == branch] or [window for window in inside if window["timeline"] in current]
    else:
        chosen = [window for window in server["windows"] if window["timeline"] == timeline and before(moment, _end(window))]
    for window in chosen:
        candidates = [backup for backup in _backups_of(server, window, backup_id) if _moment(backup["end_time"]) <= moment]
        if candidates:
            backup = max(candidates, key=lambda entry: (entry["end_time"], entry["backup_id"]))
            return backup, window["timeline"], (
                f"backup {backup['backup_id']} is the newest good one that ended before the target ({backup['end_time']}), and the WAL "
                f"of timeline {window['timeline']} is whole from there to its last commit at {window['end_time']}"
            )
    if backup_id and (chosen or backup_id not in {backup["backup_id"] for backup in server["backups"]}):
        return None, timeline, _why_not_backup(server, backup_id)
    why = _why_not(server, moment, branch, [] if timeline else inside)
    begun = next((entry["begin_time"] for entry in server["timelines"] if entry["timeline"] == timeline and entry["parent"] is not None), "")
    if begun != "" and (begun is None or moment < _moment(begun)):
        why += f" For a moment before timeline {timeline} began, leave target_timeline out."
    return None, timeline, why


def windows_of(server, timeline):
    """The windows of one timeline."""
    return [window for window in server["windows"] if window["timeline"] == timeline]


def _live_branch(server, moment):
    """The timeline that was the last to be seen alive until a moment: by its promotion (the first one's is before everything), by its first
    commit after a recovery was taken back to it, by a backup's end, or by its last commit."""
    seen = [(entry["begin_time"] if entry["parent"] else EVER.isoformat(), entry["timeline"]) for entry in server["timelines"]]
    seen += [(time, entry["timeline"]) for entry in server["timelines"] for time in entry["resumed"]]
    seen += [(entry["end_time"], entry["timeline"]) for entry in server["backups"] + server["windows"]]
    return max(((time, number) for time, number in ((text and _moment(text), number) for text, number in seen) if time and time <= moment),
               default=(None, None))[1]


def _by_lsn(server, lsn, timeline, backup_id, what=None, inclusive=False):
    """inclusive: PostgreSQL stops after the first record that begins at the LSN or later. Where that may be one with which the line has left an ancestor,
    the line itself is replayed: no record is taken to be longer than a segment.
    """
    position, size = parse_lsn(lsn), server["wal"]["segment_bytes"]
    backup, number = _on_line(server, position, timeline, backup_id, size if inclusive else 1)
    if backup:
        why = f"backup {backup['backup_id']} is the newest good one that ended at or before {lsn} on the line of timeline {timeline}"
        return backup, number, f"{what}; {why}" if what else why
    ancestor = _on_line(server, position, timeline, backup_id, 1)[1]
    if ancestor:
        return None, timeline, (
            f"{lsn} is so near to the end of what timeline {timeline} shares with timeline {ancestor} that PostgreSQL may stop after a record that was "
            f"abandoned, and the WAL that replaces it is not whole in the archive. Type target_exclusive=true to stop before that record, or "
            f"target_timeline={ancestor} to go on where timeline {timeline} did not."
        )
    return None, timeline, (
        f"{what + ', and that' if what else lsn} is in no window of timeline {timeline}: "
        f"{_ranges(server, Tree(server['timelines'], size).line(timeline), 'begin_lsn', 'end_lsn')}. Choose an LSN inside a window, or another target_timeline."
    )


def _on_line(server, position, timeline, backup_id, room):
    """The newest backup that ended before a place on the line of a timeline, and the oldest timeline along which that can be replayed; None twice without
    one. room: how many bytes, from the place on, the line must share with an ancestor that is to be replayed."""
    tree = Tree(server["timelines"], server["wal"]["segment_bytes"])
    for number, leave in tree.leaves(timeline)[::-1]:
        if leave is not None and position + room > leave:
            continue                                           # the line leaves this ancestor before
        for window in windows_of(server, number):
            if window["end_lsn"] is None or position > parse_lsn(window["end_lsn"]):
                continue
            candidates = [
                backup for backup in _backups_of(server, window, backup_id)
                if parse_lsn(backup["end_lsn"]) <= position and tree.can_follow(backup, number)
            ]
            if candidates:
                return max(candidates, key=lambda entry: entry["backup_id"]), number
    return None, None


def _newest(server, timeline, line, backup_id):
    """timeline: the one asked for; line: that, or the current one, whose backups go before those of abandoned branches."""
    on_line = followed(server, line, backup_id)
    good = on_line or followed(server, timeline, backup_id)
    if not good:
        return None, timeline, _why_not_backup(server, backup_id)
    where = f" on the line of timeline {line}" if on_line else f"; none is on the line of timeline {line}"
    return good[-1], timeline or good[-1]["timeline"], f"backup {good[-1]['backup_id']} is the newest good one{where if line else ''}"


def _by_end(server, timeline, backup_id, oldest):
    """For a target that lies somewhere up to the archive's end: the last window, which must not be followed by a hole."""
    windows = windows_of(server, timeline)
    if not windows:
        return None, timeline, f"no good backup leads into timeline {timeline}: {_ranges(server, None, 'begin_time', 'end_time')}.{_lost_histories(server)}"
    holes = _holes_after(server, windows[-1])
    if holes:
        return None, timeline, (
            f"WAL {holes[0]['first']} to {holes[0]['last']} is missing ({holes[0]['reason']}), so the end of timeline {timeline} is out of reach. "
            f"The last moment before the hole: any target_time before {windows[-1]['end_time']}."
        )
    candidates = _backups_of(server, windows[-1], backup_id)
    if not candidates:
        return None, timeline, _why_not_backup(server, backup_id)
    if oldest:
        return candidates[0], timeline, (
            f"this target is not in the WAL that could be read, so it is backup {candidates[0]['backup_id']}, the oldest from which the "
            f"WAL is whole; name a later one as backup_id to replay less"
        )
    return candidates[-1], timeline, f"backup {candidates[-1]['backup_id']} is the newest good one on the line of timeline {timeline}"


def _lost_histories(server):
    """What is missing of branches of which nothing tells where they began."""
    numbers = [entry["timeline"] for entry in server["timelines"] if not entry["parent"] and entry["timeline"] > 1]
    return "".join(
        f" Where timeline {number} began is not known, since {number:08X}.history is not in the archive. {bring_history(number, server['name'])}."
        for number in numbers if not windows_of(server, number)
    )


def _holes_after(server, window):
    """The ranges of missing WAL behind a window, on its timeline."""
    size = server["wal"]["segment_bytes"]
    begin = parse_lsn(window["begin_lsn"]) // size
    return [hole for hole in server["wal"]["missing"] if hole["timeline"] == window["timeline"] and segment_number(hole["first"], size) > begin]


def _backups_of(server, window, backup_id):
    wanted = set(window["backup_ids"])
    return [backup for backup in server["backups"] if backup["backup_id"] in wanted and backup_id in (None, backup["backup_id"])]


def _why_not(server, moment, branch, inside):
    """inside: the windows of other branches that hold the moment."""
    windows = windows_of(server, branch)
    if not server["windows"]:
        return NO_BACKUP
    passed = [window for window in windows if window["begin_time"] and _moment(window["begin_time"]) <= moment and _end(window) <= moment]
    if not passed:
        known = _ranges(server, None, "begin_time", "end_time")
        return f"it is before the end of the first good backup on timeline {branch}: {known}. Choose an instant inside a window.{_lost_histories(server)}"
    last = passed[-1]
    text = f"no commit after {last['begin_time']} is proven on timeline {branch}: {last['note']}" if last["end_time"] is None else (
        f"the last commit that can be reached on timeline {branch} was at {last['end_time']}, and PostgreSQL stops only at a commit later than the target"
    )
    heir, leave = _heir(server, last, moment)
    if heir:
        return (
            f"{text}. What timeline {branch} wrote later is archived up to {format_lsn(leave)} only, at the beginning of timeline {heir}: "
            f"type target_timeline={heir} too, and that is replayed."
        )
    for number in [window["timeline"] for window in inside]:
        return f"{text}. Timeline {number} was written to before and after that moment: if its data is meant, type target_timeline={number}."
    later = [
        entry["timeline"] for entry in server["timelines"]
        if entry["parent"] == branch and (not entry["begin_time"] or _moment(entry["begin_time"]) > moment) and windows_of(server, entry["timeline"])
    ]
    beginning = "".join(f" Timeline {number} began after it: type target_timeline={number} for what was there then." for number in later[:1])
    if last["end_time"] is None:
        return f"{text}. For a backup as it was at its own end type target_immediate=true backup_id={last['backup_ids'][-1]}.{beginning}"
    hole = next(iter(_holes_after(server, last)), None)
    if hole:
        return f"{text}; then WAL {hole['first']} to {hole['last']} is missing ({hole['reason']}). Choose an earlier instant."
    if last["note"]:
        return f"{text}; WAL after it is not counted: {last['note']}. Choose an earlier instant."
    current = any(entry["current"] for entry in server["timelines"] if entry["timeline"] == branch)
    return (
        f"{text}. Choose an earlier instant, or type target_latest=true{'' if current else f' target_timeline={branch}'} for everything that is archived."
        f"{beginning}{_lost_histories(server)}"
    )


def _heir(server, window, moment):
    """The timeline that leads to a moment with what a window's timeline wrote after the window, and the LSN up to which; None twice without one.

    When a dead server is recovered with WAL that it had not archived, that lies in the first segment of the new timeline and nowhere else.
    """
    tree = Tree(server["timelines"], server["wal"]["segment_bytes"])
    found = [
        (leave, -heir["timeline"])
        for heir in server["windows"] for leave in [dict(tree.leaves(heir["timeline"])).get(window["timeline"])]
        if leave and window["end_lsn"] and (leave - 1) // tree.size > tree.segment(window["end_lsn"]) and moment < _end(heir)
        and any(_moment(backup["end_time"]) <= moment for backup in _backups_of(server, heir, None))
    ]
    leave, heir = max(found, default=(None, None))
    return heir and -heir, leave


def _why_not_backup(server, backup_id):
    backup = next((entry for entry in server["backups"] if entry["backup_id"] == backup_id), None)
    if backup_id is None:
        return NO_BACKUP
    if backup is None:
        known = ", ".join(entry["backup_id"] for entry in server["backups"]) or "none"
        return f"there is no backup {backup_id!r} of server {server['name']}; backups: {known}"
    if not backup["good"]:
        parent = next((entry for entry in server["backups"] if entry["backup_id"] == backup["parent_backup_id"]), None)
        broken = backup["parent_backup_id"] and not (parent and parent["good"])
        why = f"backup {backup['parent_backup_id']}, on which it builds, is not good or not there" if broken else "its WAL was refused as duplicate"
        return f"backup {backup_id} is not good: status {backup['status']}{', ' + why if backup['status'] == 'DONE' else ''}"
    return (
        f"from backup {backup_id} (ended {backup['end_time']}, timeline {backup['timeline']}) no whole WAL leads to the target: "
        f"leave backup_id out to let it be chosen"
    )


def _ranges(server, timelines, low, high):
    found = [
        f"timeline {window['timeline']} from {window[low]} to {window[high]}"
        for window in server["windows"] if timelines is None or window["timeline"] in timelines
    ]
    return "; ".join(found) or "there is no window at all"


def _asked_timeline(server, asked):
    if asked in (None, "", "current"):
        return None
    if asked == "latest":
        return max((entry["timeline"] for entry in server["timelines"]), default=None)
    return int(asked)


def _end(window):
    """The end of a window, which is no moment in it; a window without a known end holds none."""
    return _moment(window["end_time"]) if window["end_time"] else EVER


def _moment(text):
    return datetime.fromisoformat(text)
