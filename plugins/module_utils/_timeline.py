# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Timelines: which branch left which other one, and where; and which stretches of WAL of each are whole.

A history file names all ancestors of its timeline, one a line: number, LSN of the switch, reason
(src/backend/access/transam/timeline.c). PostgreSQL takes the segment that holds a switch from the new timeline.
"""
from __future__ import annotations

import os
from contextlib import suppress

from ._wal import WalError, format_lsn, parse_lsn, read_text, segment_name, segment_number, segment_timeline


def read_timelines(archive, backups):
    """timelines[] of the contract, by number, from history files, segments and backups.

    current: the branch with the most recently written segment (or history file, right after a promotion). It is what the
    live server followed when it last archived anything.
    """
    ancestors = {}
    written = {}
    for name in archive.histories:
        number = segment_timeline(name)
        entries = read_history(archive.path(name))
        if entries:                                              # else another branch's file may tell
            ancestors[number] = entries
        with suppress(FileNotFoundError):                        # Barman may be deleting it
            written[number] = os.path.getmtime(archive.path(name))
    latest, last = {}, {}
    for name, (_size, time, _compression) in archive.listed.items():
        if time > latest.get(name[:8], -1.0):
            latest[name[:8]] = time
        if name > last.get(name[:8], ""):
            last[name[:8]] = name
    for name, time in latest.items():
        written[segment_timeline(name)] = max(time, written.get(segment_timeline(name), -1.0))
    known = set(ancestors) | set(written) | {backup["timeline"] for backup in backups if backup["timeline"]}
    known.update(entry[0] for entries in ancestors.values() for entry in entries)
    for number, entries in list(ancestors.items()):
        for index, entry in enumerate(entries):                  # an ancestor's own file may be gone or damaged
            ancestors.setdefault(entry[0], entries[:index])
    current = max(known, key=lambda number: (written.get(number, -1.0), number), default=None)
    return [_timeline(number, ancestors.get(number), number == current, last.get(f"{number:08X}")) for number in sorted(known)]


def _timeline(number, ancestors, current, last_wal):
    parent, switch, reason = ancestors[-1] if ancestors else (None, None, None)
    return dict(
        timeline=number, parent=parent, switch_lsn=None if switch is None else format_lsn(switch), reason=reason,
        current=current, last_wal=last_wal, begin_time=None, resumed=[],
    )


def read_history(path):
    """The ancestors in a history file, the oldest first, each with the LSN of the switch and its reason; none if it cannot be read."""
    try:
        return _ancestors(read_text(path))
    except WalError:
        return []


def is_damaged(path):
    """Whether a history file is a text that tells nothing. One that cannot be unpacked here, or is encrypted, is not judged."""
    try:
        text = read_text(path)
    except WalError:
        return False
    return all(char.isprintable() or char.isspace() for char in text) and not _ancestors(text)


def _ancestors(text):
    try:
        lines = [line.strip().split("\t") for line in text.splitlines()]
        return [(int(line[0]), parse_lsn(line[1]), line[2] if len(line) > 2 else None) for line in lines if line[0] and not line[0].startswith("#")]
    except (ValueError, IndexError, WalError):
        return []


class Tree:
    """The tree of timelines, and which segments of each branch are whole stretches.

    timelines: timelines[] of the contract; segments: timeline -> sorted running numbers of the archived segments; cuts: the same of those
    with which a stretch ends, although the next one is there.
    """

    def __init__(self, timelines, segment_bytes, segments=None, cuts=None):
        self.size = segment_bytes
        self.parents = {entry["timeline"]: entry["parent"] for entry in timelines}
        self.switches = {entry["timeline"]: entry["switch_lsn"] and parse_lsn(entry["switch_lsn"]) for entry in timelines}
        self.cuts = cuts or {}
        self.runs = {number: _runs(numbers, self.cuts.get(number, ())) for number, numbers in (segments or {}).items()}

    def line(self, timeline):
        """A timeline and its ancestors, itself first."""
        return [number for number, _leave in self.leaves(timeline)]

    def leaves(self, timeline):
        """A timeline and its ancestors, itself first, each with the LSN at which the line leaves it (None: never).

        A recovery along a branch to a place before its beginning writes a history whose switches do not ascend: PostgreSQL has left an ancestor
        from the first of all later switches on (tliOfPointInHistory in timeline.c).
        """
        found, leave = {}, None
        while timeline is not None and timeline not in found:
            found[timeline] = leave
            switch = self.switches.get(timeline) or 0
            leave = switch if leave is None else min(leave, switch)
            timeline = self.parents.get(timeline)
        return list(found.items())

    def fork(self, timeline):
        """The running number of the segment that holds the timeline's beginning; 0 for the first timeline."""
        switch = self.switches.get(timeline)
        return switch // self.size if switch else 0

    def heirs(self, timeline, number):
        """The timelines that left this one in a segment, the one that holds most of it first."""
        found = [child for child, parent in self.parents.items() if parent == timeline and self.switches[child] and self.fork(child) == number]
        return sorted(found, key=self.switches.get, reverse=True)

    def segment(self, lsn):
        """The running number of the segment that holds an LSN given as text."""
        return parse_lsn(lsn) // self.size

    def last_segment(self, lsn):
        """The running number of the segment that holds the last byte before an LSN given as text."""
        return (parse_lsn(lsn) - 1) // self.size

    def pieces(self, timeline):
        """Which segments a replay towards a timeline reads: triples timeline, first, last running number (last None: open),
        the oldest ancestor first."""
        return [(number, self.fork(number), None if leave is None else leave // self.size - 1) for number, leave in self.leaves(timeline)][::-1]

    def run_at(self, timeline, number):
        """The whole stretch (first, last running number) of a timeline around a segment, or None when it is missing."""
        low, high = 0, len(self.runs.get(timeline, ()))
        runs = self.runs.get(timeline, ())
        while low < high:
            middle = (low + high) // 2
            if runs[middle][1] < number:
                low = middle + 1
            else:
                high = middle
        return runs[low] if low < len(runs) and runs[low][0] <= number else None

    def whole(self, timeline, first, last):
        """Whether all segments from first to last of one timeline are there; nothing at all (last < first) is."""
        if last < first:
            return True
        run = self.run_at(timeline, first)
        return run is not None and run[1] >= last

    def can_follow(self, backup, timeline):
        """Whether the timeline's line goes through the backup: it is an ancestor or itself, left after the backup's end."""
        leaves = dict(self.leaves(timeline))
        if backup["timeline"] not in leaves:
            return False
        leave = leaves[backup["timeline"]]
        return leave is None or parse_lsn(backup["end_lsn"]) <= leave

    def gaps(self, timeline, first, last):
        """The stretches between two running numbers that are missing, as pairs."""
        gaps, expected = [], first
        for low, high in self.runs.get(timeline, ()):
            if low > last:
                break
            if low > expected:
                gaps.append((expected, low - 1))
            expected = max(expected, high + 1)
        if expected <= last:
            gaps.append((expected, last))
        return gaps


def by_timeline(names, segment_bytes):
    """Segment names as timeline -> sorted running numbers."""
    logs = {}
    for name in names:
        logs.setdefault(name[:16], []).append(int(name[16:], 16))
    numbers = {}
    for log in sorted(logs):
        start = segment_number(log + "0" * 8, segment_bytes)
        numbers.setdefault(segment_timeline(log), []).extend(start + number for number in sorted(logs[log]))
    return numbers


def gap(timeline, first, last, segment_bytes, reason):
    """A range of missing segments as the contract shows it."""
    return dict(
        timeline=timeline, first=segment_name(timeline, first, segment_bytes), last=segment_name(timeline, last, segment_bytes),
        count=last - first + 1, reason=reason,
    )


def _runs(numbers, cuts):
    runs = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1 and runs[-1][1] not in cuts:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
