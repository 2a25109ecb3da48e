# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Barman's WAL archive: what xlog.db lists, what lies on the disk, and what was thrown out as a duplicate.

'barman restore' copies what xlog.db lists and is on the disk; only that counts as archived here. Every step is linear in
the number of segments.
"""
from __future__ import annotations

import bisect
import os
import re
from contextlib import suppress
from itertools import accumulate

from ._wal import HISTORY, SEGMENT, segment_name, system_identifier

XLOGDB_LINE = re.compile(r"^([0-9A-F]{24})[ \t]+(\d+)[ \t]+(\d+(?:\.\d+)?)(?:[ \t]+(\w+).*)?$", re.MULTILINE)
XLOGDB_HISTORY = re.compile(r"^([0-9A-F]{8}\.history)[ \t]", re.MULTILINE)
# Barman splits each line into four words or, since 3.14, five, and ends with an error at any other (WalFileInfo.from_xlogdb_line in its infofile.py).
XLOGDB_OTHER = re.compile(r"^([0-9A-F]{24}\.(?:partial|[0-9A-F]{8}\.backup))[ \t]+\d+[ \t]+\d+(?:\.\d+)?[ \t]+\S+(?:[ \t]+\S+)?[ \t]*$", re.MULTILINE)
RECEIVED = re.compile(r"([0-9A-F]{24})(\.partial)?")
DUPLICATE = re.compile(r"([0-9A-F]{24})\.[0-9]{8}T[0-9]{6}Z\.duplicate")
DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024


NOT_ARCHIVED = "never archived, or deleted"
GONE = "listed in xlog.db, but the file is gone"
CUT = "its file has another size than xlog.db says: cut off or overwritten"
UNLISTED = "on the disk, but not in xlog.db: type barman rebuild-xlogdb"


class Archive:
    """The segments of one server. Segment names sort as WAL does, timeline first."""

    def __init__(self, wals_directory=None, listed=None, on_disk=None, histories=(), duplicates=(), received=None, listed_histories=None, others=(), broken=()):
        self.wals_directory = wals_directory
        self.listed = listed or {}                # name -> (bytes, file time, compression or None)
        self.names = sorted(self.listed)
        self.histories = sorted(histories)        # names of *.history files on the disk
        self.listed_histories = set(self.histories if listed_histories is None else listed_histories)
        self.others, self.broken = others, broken  # listed .backup and .partial files, and lines of xlog.db that Barman cannot read
        self.duplicates = duplicates              # pairs name, system identifier or None
        self.received = received or {}            # name -> path of what has come and is not archived yet, the last of a stream in part
        self.faults = {}                          # reason -> names that cannot be restored for it
        self.available = self.names if on_disk is None else self._compare(on_disk)
        self._sums = [0] + list(accumulate(self.listed[name][0] for name in self.names))

    def _compare(self, on_disk):
        """The names that can be restored; on_disk: name -> bytes. PostgreSQL refuses a segment of another size."""
        available, faults = [], {GONE: [], CUT: [], UNLISTED: [name for name in on_disk if name not in self.listed]}
        for name in self.names:
            size, _time, compression = self.listed[name]
            found = on_disk.get(name)
            fault = GONE if found is None else CUT if found != size and compression is None else None
            (faults[fault] if fault else available).append(name)
        self.faults = {reason: names for reason, names in faults.items() if names}
        return available

    def path(self, name):
        """Where Barman keeps a segment or a history file."""
        return os.path.join(self.wals_directory, name[:16] if SEGMENT.fullmatch(name) else "", name)

    def following(self, timeline, last, size):
        """What has come and continues a stretch without a hole, from name to path. last: the stretch's last running number."""
        found = {}
        while (name := segment_name(timeline, last + 1, size)) in self.received:
            found[name], last = self.received[name], last + 1
        return found

    def gone(self, names):
        """Which of these files, and which history files, xlog.db lists although they are not on the disk: Barman's copy ends there with an error."""
        lost = {name for name in names if name in self.others and not os.path.exists(os.path.join(self.wals_directory, name[:16], name))}
        return sorted(lost | set(self.faults.get(GONE, ())) & set(names) | self.listed_histories - set(self.histories))

    def history(self, timeline):
        """The name of a timeline's history file, and what keeps it from being copied: null if nothing does."""
        name = f"{timeline:08X}.history"
        return name, NOT_ARCHIVED if name not in self.histories else UNLISTED if name not in self.listed_histories else None

    def bytes_between(self, first, last):
        """The bytes of all listed segments from first to last, both names included."""
        low, high = bisect.bisect_left(self.names, first), bisect.bisect_right(self.names, last)
        return self._sums[high] - self._sums[low] if high > low else 0

    def refused(self, cluster):
        """The names of segments that were refused because the archive had other WAL of that name.

        A refused segment of another system identifier than the one given (cluster) belongs to another cluster and says nothing about this one.
        """
        return {name for name, identifier in self.duplicates if identifier in (None, cluster)}

    def has_duplicate(self, backup):
        """Whether WAL that the backup needs was refused."""
        begin, end = backup["begin_wal"], backup["end_wal"]
        if not (begin and end):
            return False
        return any(begin <= name <= end and name[:8] == begin[:8] for name in self.refused(backup["system_identifier"]))


def read_archive(server):
    """The archive of one server (a ServerConfiguration). What does not exist yet is empty."""
    if server.in_cloud:
        return Archive()
    wals = server.directory("wals_directory")
    received = _received(server)                  # before what is archived, so that nothing on its way there is in neither
    text = _read_xlogdb(server, wals)             # before the disk: Barman lists a segment after it has put it there
    on_disk, histories = _scan(wals)
    duplicates = _duplicates(server.directory("errors_directory"))
    if text is None:                              # Barman rebuilds a missing xlog.db before it reads it
        listed = {name: _stat(os.path.join(wals, name[:16], name)) for name in on_disk}
        return Archive(wals, listed, on_disk, histories, duplicates, received)
    found, listed_histories = XLOGDB_LINE.findall(text), XLOGDB_HISTORY.findall(text)
    listed = {name: (int(size), float(time), None if compression in ("", "None") else compression) for name, size, time, compression in found}
    others, broken = XLOGDB_OTHER.findall(text), ()
    if text.count("\n") + (text[-1:] not in ("", "\n")) > len(found) + len(listed_histories) + len(others):
        broken = [line for line in text.splitlines() if not any(kind.match(line) for kind in (XLOGDB_LINE, XLOGDB_HISTORY, XLOGDB_OTHER))]
    return Archive(wals, listed, on_disk, histories, duplicates, received, listed_histories, others, broken)


def _read_xlogdb(server, wals):
    """The text of SERVER-xlog.db (Barman 3.13 and later) or wals/xlog.db; None where there is none."""
    for path in (os.path.join(server.directory("xlogdb_directory"), f"{server.name}-xlog.db"), os.path.join(wals, "xlog.db")):
        try:
            with open(path, encoding="utf-8", errors="replace") as source:
                return source.read()
        except FileNotFoundError:
            continue
    return None


def _scan(wals):
    """Segments on the disk as name -> bytes, and the names of the history files. What Barman deletes meanwhile is not there."""
    segments, histories = {}, []
    for entry in _entries(wals):
        if HISTORY.fullmatch(entry.name):
            histories.append(entry.name)
        elif len(entry.name) == 16:
            for file in _entries(entry.path):
                if len(file.name) == 24:
                    with suppress(FileNotFoundError):
                        segments[file.name] = file.stat().st_size
    return segments, histories


def _entries(directory):
    try:
        return list(os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stat(path):
    try:
        status = os.stat(path)
        return status.st_size, status.st_mtime, None
    except OSError:
        return 0, 0.0, None


def _received(server):
    """Segments in incoming/ and streaming/. An empty one only marks a place."""
    found = {}
    for option in ("incoming_wals_directory", "streaming_wals_directory"):
        with suppress(PermissionError):
            for entry in sorted(_entries(server.directory(option)), key=lambda entry: entry.name, reverse=True):
                with suppress(FileNotFoundError):
                    if RECEIVED.fullmatch(entry.name) and entry.stat().st_size:
                        found[entry.name[:24]] = entry.path
    return found


def _duplicates(errors_directory):
    try:
        entries = os.listdir(errors_directory)
    except OSError:
        return []
    found = [(match.group(1), entry) for entry in sorted(entries) for match in [DUPLICATE.fullmatch(entry)] if match]
    return [(name, system_identifier(os.path.join(errors_directory, entry))) for name, entry in found]
