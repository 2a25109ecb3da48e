# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in WAL a transaction ended or a restore point lies: what makes the verdict on such a target certain beforehand.

WAL is read from the newest backup on, then from the one before it, and so on, so that what is near the end is found soon.
"""
from __future__ import annotations

import os
import re
import tempfile
from datetime import datetime, timedelta, timezone

from ._wal import (
    TRANSACTION_END, WalError, at_once, format_lsn, parse_lsn, provide, run_waldump, segment_name, segment_number,
)
from ._waldump import XIDS, Collector, matches, restore_points

SNAPSHOT = re.compile(r"desc: RUNNING_XACTS nextXid (\d+)")
SEGMENTS_AT_ONCE = 64
# Servers that commit side by side do not write in the order of the times that they have taken.
ASCENDING = timedelta(seconds=1)
# Between the destruction and the commit of a DROP DATABASE is a checkpoint. So many segments before and after a place are looked at for one.
AROUND = 16
# XLOG_DBASE_DROP of a transaction of its own: DROP DATABASE, or a CREATE DATABASE that failed. (That of SET TABLESPACE has none.)
DROP_DATABASE = re.compile(r"tx: +[1-9][0-9]*, .*desc: DROP dir")


def locate(source, backups, timeline, target, names):
    """The LSN of the target's own record on a timeline's line, as text; None when it is not there.

    source: a Source of _walstream; backups: those from which the line can be followed, the oldest first; names: a set, to which the names of the
    restore points are added that were read for a target of type name.
    """
    flat = _flat(source, timeline)
    if flat:
        flat += [(timeline, segment_number(name, source.size)) for name in source.archive.following(timeline, flat[-1][1], source.size)]
    later = found = None
    for backup in reversed(backups):
        first = source.tree.segment(backup["begin_lsn"])
        found = _search(source, [one for one in flat if first <= one[1] and (later is None or one[1] <= later)], target, names) or found
        # What comes before the end of a backup is reached from an older one, on whose way a name may come once more.
        reached = found and parse_lsn(found) >= parse_lsn(backup["end_lsn"])
        if reached or target.type == "xid" and (found or not _older(source, timeline, backup, int(target.value) % XIDS)):
            return found
        later = first
    return found


def stops_by(source, timeline, backup, target, guess, most):
    """Where PostgreSQL stops for a target of type time: at the first commit later than that, in the order of WAL and not of time.

    Pair of the commit's LSN as a number, None when the archive has none, and a commit of another time than its place in WAL would have it, because
    the server's clock was wrong: None, or dict of lsn, time, and inside (whether it is in the backup, which is not consistent there).
    guess: the pair of timeline and running number of a segment in whose neighbourhood the commit should be; most: of how many segments in the backup,
    and of how many before the guess, it is asked.
    """
    flat, stop = _flat(source, timeline), None
    if guess not in flat:
        return None, None
    begin, consistent = parse_lsn(backup["begin_lsn"]), parse_lsn(backup["end_lsn"])
    within = [one for one in flat if begin // source.size <= one[1] <= (consistent - 1) // source.size][:most]
    near = [one for one in flat[max(0, flat.index(guess) - most):] if one[1] >= begin // source.size and one not in within]
    for number, batch in [*_batches(source, within), *_batches(source, near, 1)]:
        for lsn, time in TRANSACTION_END.findall("\n".join(_lines(source, number, batch[0], batch[-1] + 1, "--rmgr=Transaction"))):
            position, when = parse_lsn(lsn), datetime.fromisoformat(time).replace(tzinfo=timezone.utc)
            if not begin <= position < (batch[-1] + 1) * source.size:
                continue
            late = when > target.utc or target.exclusive and when == target.utc
            if late and position < consistent:
                return None, dict(lsn=format_lsn(position), time=when, inside=True)
            if late and stop is None:
                stop = position
            elif stop is not None and target.utc - when > ASCENDING:
                return stop, dict(lsn=format_lsn(position), time=when, inside=False)
        if stop is not None and (number, batch[-1]) >= guess:
            break
    return stop, None


def half_dropped(source, timeline, place, included):
    """The DROP DATABASE (a Transaction of _waldump) between whose first destructive record and whose commit a replay ends; None without one.

    place: the LSN, as text, at whose record it ends; included: whether that is replayed. Replay destroys the database before it comes to the commit.
    """
    position = parse_lsn(place)
    near = [one for one in _flat(source, timeline) if abs(one[1] - position // source.size) <= AROUND]
    drops = [number for number, batch in _batches(source, near) for line in _lines(source, number, batch[0], batch[-1] + 1, "--rmgr=Database")
             if DROP_DATABASE.search(line)]
    for number in sorted(set(drops)):
        segments, collector = [segment for owner, segment in near if owner == number], Collector()
        for entry in filter(None, map(collector.feed, source.lines(number, segments[0], segments[-1]))):
            commit = parse_lsn(entry.commit_lsn)
            if entry.databases and parse_lsn(entry.undone_lsn) < position and (position < commit or position == commit and not included):
                return entry
    return None


def elsewhere(source, timeline, target):
    """The other timelines that hold the target's own record on their own part."""
    line = source.tree.line(timeline)
    return [
        number for number in sorted(source.tree.parents) if number not in line
        and _search(source, [(number, segment) for low, high in source.tree.runs.get(number, ()) for segment in range(low, high + 1)], target, set())
    ]


def _flat(source, timeline):
    return [(number, segment) for number, low, high in source.stretches(timeline) for segment in range(low, high + 1)]


def _place(archive, name):
    """Where a segment lies, archived or not yet; null if it does not."""
    return next((path for path in (archive.path(name), archive.received.get(name)) if path and os.path.exists(path)), None)


def _batches(source, segments, count=SEGMENTS_AT_ONCE):
    """Some (timeline, running number), which follow each other, as (timeline, running numbers); count: how many at first."""
    begin, path = 0, segments and _place(source.archive, segment_name(*segments[0], source.size))
    most = at_once([path], SEGMENTS_AT_ONCE) if path else SEGMENTS_AT_ONCE
    while begin < len(segments):
        timeline = segments[begin][0]
        batch = [segment for number, segment in segments[begin:begin + min(count, most)] if number == timeline]
        yield timeline, batch
        begin, count = begin + len(batch), 2 * count


def _search(source, segments, target, names):
    """The first match in some (timeline, running number), which follow each other."""
    kind = "--rmgr=Transaction" if target.type == "xid" else "--rmgr=XLOG"
    for timeline, batch in _batches(source, segments):
        # A record may go on in the next segment, so that one is there too. What begins there is of the next batch, or of a branch that was left.
        lines = _lines(source, timeline, batch[0], batch[-1] + 1, kind)
        names.update(name for lsn, name in restore_points(lines) if parse_lsn(lsn) // source.size <= batch[-1])
        found = [lsn for lsn in map(parse_lsn, matches(target, lines)) if lsn // source.size <= batch[-1]]
        if found:
            return format_lsn(found[0])
    return None


def _older(source, timeline, backup, xid):
    """Whether a transaction may have ended before a backup began; the first snapshot in the backup's WAL tells which ones had begun."""
    first = source.tree.segment(backup["begin_lsn"])
    where = next((number for number, low, high in source.stretches(timeline) if low <= first <= high), None)
    if where is None:
        return True
    found = SNAPSHOT.search("\n".join(_lines(source, where, first, first, "--rmgr=Standby", f"--start={backup['begin_lsn']}")))
    return found is None or 0 < (int(found[1]) - xid) % XIDS < XIDS // 2


def _lines(source, timeline, first, last, *options):
    """pg_waldump's lines about the segments of one timeline from first to last, as far as they are there."""
    named = {number: _place(source.archive, segment_name(timeline, number, source.size)) for number in range(first, last + 1)}
    for heir in source.tree.heirs(timeline, last):
        # A branch begins with what its parent had written of the segment, which the parent itself may never have completed.
        named[last] = named[last] or _place(source.archive, segment_name(heir, last, source.size))
    there = {number: path for number, path in named.items() if path}
    if not there:
        return []
    start = [] if any(option.startswith("--start") for option in options) else [f"--start={format_lsn(first * source.size)}"]
    # Else it waits five seconds for the segment that is not there (stretch in _wal).
    end = format_lsn((max(there) + 1) * source.size)
    with tempfile.TemporaryDirectory(prefix="pgrescue-wal-") as directory:
        for number, path in there.items():
            provide(path, os.path.join(directory, segment_name(timeline, number, source.size)))
        command = [source.program, f"--path={directory}", f"--timeline={timeline}", *start, f"--end={end}", *options]
        lines = run_waldump(command).splitlines()
    gone = [path for path in there.values() if not os.path.exists(path)]
    if gone:
        raise WalError(f"WAL cannot be read: {gone[0]} went to another place meanwhile")
    return lines
