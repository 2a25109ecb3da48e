# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stretch of WAL as a stream of pg_waldump's lines: which segments, in which order, one process over all of them.

Segments that lie unpacked are linked to; packed ones are unpacked a few at a time, so that neither memory nor the
temporary directory grows with the stretch.
"""
from __future__ import annotations

import os
import struct
import subprocess
import tempfile

from ._archive import Archive, read_archive
from ._timeline import Tree, by_timeline, read_timelines
from ._wal import (
    HISTORY, SEGMENT, NoRoom, WalError, at_once, content, find_waldump, first_time, format_lsn, parse_lsn, provide, segment_name,
)
from ._waldump import HEAD

# XLOG_PAGE_MAGIC in src/include/access/xlog_internal.h
MAJORS = {0xD106: 13, 0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18}
HEADER = struct.Struct("<HHIQIxxxxQI")         # magic, info, timeline, address, remaining, system identifier, bytes of a segment
LINKED_AT_ONCE = 100000


class _Flat(Archive):
    """Segments side by side, as in pg_wal."""

    def path(self, name):
        return os.path.join(self.wals_directory, name)


class Source:
    """The segments of one server or directory."""

    def __init__(self, archive, path_prefix=None):
        self.archive = archive
        if not archive.available:
            raise WalError(f"{archive.wals_directory} holds no WAL segment")
        magic, size = self._kind(archive)
        if magic not in MAJORS or not size:
            raise WalError(f"{archive.path(archive.available[-1])} does not begin as WAL of PostgreSQL 13 to 18 does")
        self.size, self.major = size, MAJORS[magic]
        self.program = find_waldump(self.major, path_prefix)
        if self.program is None:
            raise WalError(f"there is no pg_waldump of PostgreSQL {self.major} here: type apt install postgresql-{self.major}")
        self.timelines = read_timelines(archive, [])
        self.tree = Tree(self.timelines, self.size, by_timeline(archive.available, self.size))

    @staticmethod
    def _kind(archive):
        """Magic and bytes of a segment, from the newest one that has a header: pg_wal holds empty ones for later use."""
        for name in reversed(archive.available):
            header = content(archive.path(name), HEADER.size)
            if len(header) == HEADER.size and any(header):
                magic, _info, _timeline, _address, _rest, _identifier, size = HEADER.unpack(header)
                return magic, size
        return 0, 0

    def between(self, timeline, start, end):
        """What has to be read of a branch (None: the current one), as stretches. start, end: pairs of an LSN as a number or None, and
        a moment or None; where a moment ends is seen while reading."""
        if timeline is None:
            timeline = next(entry["timeline"] for entry in self.timelines if entry["current"])
        if timeline not in self.tree.parents:
            raise WalError(f"timeline {timeline} is not in the archive; there are {', '.join(map(str, sorted(self.tree.parents)))}")
        stretches = self.stretches(timeline)
        if end[0] is not None:
            last = end[0] // self.size + 1                # the record at the end may go on in the next segment
            stretches = [(number, low, min(high, last)) for number, low, high in stretches if low <= last]
        if start[0] is not None:
            first = max(start[0] // self.size - 1, 0)
            return [(number, max(low, first), high) for number, low, high in stretches if high >= first]
        return self.since(stretches, start[1])

    def stretches(self, timeline):
        """The whole stretches on the way to a timeline: triples timeline, first, last running number, in order."""
        found = []
        for number, first, last in self.tree.pieces(timeline):
            for low, high in self.tree.runs.get(number, ()):
                low, high = max(low, first), high if last is None else min(high, last)
                if low <= high:
                    found.append((number, low, high))
        return found

    def since(self, stretches, moment):
        """The stretches from the segment on that may hold a commit of this moment, found by bisection over commit records."""
        flat = [(number, segment) for number, low, high in stretches for segment in range(low, high + 1)]
        low, high = 0, len(flat)
        while low < high:
            middle = (low + high) // 2
            number, segment = flat[middle]
            last = next(end for timeline, begin, end in stretches if timeline == number and begin <= segment <= end)
            began = first_time(self._paths(number, segment, min(last, segment + 255)), self.program, format_lsn(segment * self.size))
            if began is not None and began < moment:
                low = middle + 1
            else:
                high = middle
        return self.from_segment(stretches, *flat[max(0, low - 2)]) if flat else []

    @staticmethod
    def from_segment(stretches, timeline, segment):
        """The stretches from this segment on."""
        index = next(index for index, (number, low, high) in enumerate(stretches) if number == timeline and low <= segment <= high)
        return [(timeline, segment, stretches[index][2])] + stretches[index + 1:]

    def going_on(self, timeline, first, last):
        """The number of the first of some segments that begins as it should, or None: what pg_wal holds for later use has older addresses."""
        for number in range(first, last + 1):
            try:
                header = content(self.archive.path(segment_name(timeline, number, self.size)), HEADER.size)
            except WalError:
                continue
            if len(header) == HEADER.size and HEADER.unpack(header)[3] == number * self.size:
                return number
        return None

    def lines(self, timeline, first, last):
        """The records of one stretch as lines."""
        step = at_once(self._paths(timeline, first, first) + self._paths(timeline, last, last), LINKED_AT_ONCE)
        begin, seen = first, None
        while begin <= last:
            end = min(last, begin + step - 1)
            before, seen = seen, (yield from self._batch(timeline, begin, end, seen)) or seen
            if end == last or seen == before:             # nothing new: it is damaged there, and going on would hide that
                return
            # The last record may go on in the next batch: begin it in the segment of the last one that was whole.
            begin = max(begin + 1, parse_lsn(seen) // self.size if seen else end)

    def _batch(self, timeline, first, last, seen):
        """Lines of some segments, after the record at the LSN 'seen'; returns the LSN of the last."""
        with tempfile.TemporaryDirectory(prefix="pgrescue-wal-") as directory:
            for number, path in enumerate(self._paths(timeline, first, last), first):
                try:
                    provide(path, os.path.join(directory, os.path.basename(path)))
                except NoRoom:
                    raise
                except WalError:                          # damaged: pg_waldump ends before it, as it does in one that lies unpacked
                    last = number - 1
                    break
            if last < first:
                return seen
            start = seen if seen and parse_lsn(seen) >= first * self.size else format_lsn(first * self.size)
            command = [self.program, f"--path={directory}", f"--timeline={timeline}", f"--start={start}",
                       f"--end={format_lsn((last + 1) * self.size)}"]
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
                env=dict(os.environ, LC_ALL="C", TZ="UTC"),
            ) as process:
                try:
                    line, passed = "", seen is None
                    for line in process.stdout:
                        if passed or _position(line) != seen:
                            yield line
                        passed = True
                    return _position(line)
                finally:
                    process.kill()

    def _paths(self, timeline, first, last):
        return [self.archive.path(segment_name(timeline, number, self.size)) for number in range(first, last + 1)]


def _position(line):
    found = HEAD.search(line)
    return found and found[2]


def of_server(server, archive=None):
    """The archive of a ServerConfiguration, read now where it has not been."""
    if server.in_cloud:
        raise WalError(f"the WAL of {server.name} lies in an object store, which is not read here")
    return Source(archive or read_archive(server), server.options.get("path_prefix"))


def of_directory(directory):
    """Segments side by side in one directory."""
    try:
        entries = {name: os.stat(os.path.join(directory, name)) for name in os.listdir(directory) if SEGMENT.fullmatch(name) or HISTORY.fullmatch(name)}
    except OSError as error:
        raise WalError(f"{directory} cannot be read: {error.strerror}") from error
    listed = {name: (status.st_size, status.st_mtime, None) for name, status in entries.items() if SEGMENT.fullmatch(name)}
    return Source(_Flat(directory, listed, None, [name for name in entries if HISTORY.fullmatch(name)]))
