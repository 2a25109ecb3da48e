# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write-ahead log: arithmetic of LSNs and segment names, and what a segment holds, read by pg_waldump.

A segment's name is timeline, log and number in the log, each of eight hexadecimal digits; a log is 4 GiB whatever the
size of a segment (src/include/access/xlog_internal.h). This is the only place that runs pg_waldump.
"""
from __future__ import annotations

import bz2
import glob
import gzip
import importlib
import lzma
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone

SEGMENT = re.compile(r"[0-9A-F]{24}")
HISTORY = re.compile(r"[0-9A-F]{8}\.history")
LOG_BYTES = 1 << 32
TAIL_BYTES = 128 * 1024                       # how much of a segment's end is tried before all of it
WALK_BACK = 256                               # segments without a commit that are searched before giving up
DAMAGED = 4                                   # segments at the end of a stretch that cannot be read and are passed over
UNPACKED_AT_ONCE = 8                          # packed segments that lie unpacked side by side

COMPRESSIONS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
# What Barman compresses with a package outside the standard library is read with that package, where this Python has it.
PACKAGES = ((b"(\xb5/\xfd", "zstd", "zstandard"), (b"\x04\x22\x4d\x18", "lz4", "lz4.frame"))
SNAPPY = b"\xff\x06\x00\x00sNaPpY"

RECORD = re.compile(r"^rmgr: .*?, lsn: ([0-9A-F]+/[0-9A-F]+), ", re.MULTILINE)
TRANSACTION_END = re.compile(
    r"^rmgr: Transaction .*?, lsn: ([0-9A-F]+/[0-9A-F]+), .*?desc: (?:COMMIT|ABORT)(?:_PREPARED)? (?:\d+: )?"
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC", re.MULTILINE,
)
END_OF_RECOVERY = re.compile(r"desc: END_OF_RECOVERY .*?time (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")


class WalError(Exception):
    """A segment cannot be read; the text says why and what to do."""

    def __init__(self, message, **details):
        super().__init__(message)
        self.details = details


class NoRoom(WalError):
    """A segment cannot be unpacked for want of room, and nothing is wrong with it."""


@dataclass
class End:
    """The end of a stretch of WAL: the last record, and the last commit or abort (None where there is none)."""

    lsn: str | None = None
    commit_lsn: str | None = None
    commit_time: datetime | None = None
    reason: str | None = None                 # why something is None, or WAL after it is not read


def parse_lsn(text):
    """An LSN as PostgreSQL prints it (X/Y, hexadecimal) as a number of bytes; ValueError when it is none."""
    high, slash, low = text.partition("/")
    if not (slash and re.fullmatch(r"[0-9A-Fa-f]{1,8}", high) and re.fullmatch(r"[0-9A-Fa-f]{1,8}", low)):
        raise ValueError(f"{text!r} is not an LSN: PostgreSQL prints them as 0/3000148")
    return int(high, 16) * LOG_BYTES + int(low, 16)


def format_lsn(position):
    """A number of bytes as an LSN."""
    return f"{position // LOG_BYTES:X}/{position % LOG_BYTES:X}"


def segment_number(name, size):
    """The running number of a segment from the start of WAL; names of one timeline are consecutive in it."""
    return int(name[8:16], 16) * (LOG_BYTES // size) + int(name[16:24], 16)


def segment_name(timeline, number, size):
    """The name of a timeline's segment by its running number."""
    per_log = LOG_BYTES // size
    return f"{timeline:08X}{number // per_log:08X}{number % per_log:08X}"


def segment_timeline(name):
    """The timeline in a segment's or history file's name."""
    return int(name[:8], 16)


def stretch(names, lsn, size, timeline=None):
    """How far the segments in a list of files go on from an LSN without a gap, on a timeline or else on the newest one that has the LSN's
    segment: timeline and the end as a number of bytes. None when the LSN's segment is not among them.

    pg_waldump waits five seconds for a segment that is not there (WALDumpOpenSegment in its source), so it must be told where to end.
    """
    first = parse_lsn(lsn) // size
    found = {(segment_timeline(name), segment_number(name, size)) for name in names if SEGMENT.fullmatch(name)}
    timelines = [one for one, number in found if number == first and timeline in (None, one)]
    if not timelines:
        return None
    last = first
    while (max(timelines), last + 1) in found:
        last += 1
    return max(timelines), (last + 1) * size


def system_identifier(path):
    """The system identifier in a segment's first page header as text, or None when the file cannot be read."""
    try:
        header = content(path, 32)
    except WalError:
        return None
    return str(struct.unpack_from("<Q", header, 24)[0]) if len(header) == 32 else None


def read_text(path):
    """The text of a file that Barman may have compressed (history files)."""
    return content(path).decode("utf-8", "replace")


def find_waldump(major, path_prefix=None):
    """The pg_waldump of a PostgreSQL major version: WAL of one major cannot be read by another's. None if there is none.

    Looked for in Barman's path_prefix, in the directories of Debian and of the PGDG packages, then in PATH.
    """
    directories = [entry for entry in (path_prefix or "").split(os.pathsep) if entry]
    directories += [f"/usr/lib/postgresql/{major}/bin", f"/usr/pgsql-{major}/bin"]
    directories += sorted(glob.glob(f"/usr/local/pgsql*{major}*/bin"))
    for directory in directories + os.environ.get("PATH", "").split(os.pathsep):
        program = os.path.join(directory, "pg_waldump")
        if os.access(program, os.X_OK) and program_major(program) == major:
            return program
    return None


def last_commit(paths, program, after=None):
    """The End of a contiguous stretch of segments of one timeline, given as paths in order.

    The last segment is read first; as long as no commit or abort record is found, those before it are read too, more and more
    at once. after: an LSN; records before it do not count (a backup is not consistent before its end).
    """
    end = End()
    try:
        end = _tail(program, paths[-1])
        begin, count = len(paths), 1
        while not end.commit_time and begin > 0:
            last, begin = begin, max(0, begin - count)
            # A record may go on in the segment that follows.
            found = TRANSACTION_END.findall(_dump(program, paths[begin:last + 1], "--rmgr=Transaction"))
            if found:
                end.commit_lsn, end.commit_time = _lsn(found[-1][0]), _time(found[-1][1])
            count = min(2 * count, at_once(paths))
    except WalError as error:
        end.reason = str(error)
        return end
    if end.commit_time and after and parse_lsn(end.commit_lsn) < parse_lsn(after):
        end.commit_lsn = end.commit_time = None
    if not end.commit_time:
        end.reason = f"no commit or abort record in the last {len(paths)} archived segments of this stretch"
    return end


def first_time(paths, program, start_lsn):
    """When a timeline began: the time in its end-of-recovery record, else of its first commit or abort. None if unknown.

    paths: its first segments in order. A promotion that no one asked for (end of WAL, target_action) writes a
    checkpoint without a time in place of the end-of-recovery record.
    """
    if not paths:
        return None
    try:
        began = END_OF_RECOVERY.search(_dump(program, paths[:1], f"--start={start_lsn}", "--limit=1"))
        if began:
            return _time(began.group(1))
        count = at_once(paths)
        for index in range(0, min(len(paths), WALK_BACK), count):
            # Its first segment begins with what its parent had written there.
            start = [] if index else [f"--start={start_lsn}"]
            found = TRANSACTION_END.search(_dump(program, paths[index:index + count + 1], *start, "--rmgr=Transaction", "--limit=1"))
            if found:
                return _time(found.group(2))
    except WalError:
        pass
    return None


def commit_after(paths, program, moment):
    """The time of the first commit or abort later than a moment in neighbouring segments of one timeline; None if there is none."""
    try:
        count = at_once(paths) if paths else 1
        for index in range(0, min(len(paths), WALK_BACK), count):
            found = TRANSACTION_END.findall(_dump(program, paths[index:index + count + 1], "--rmgr=Transaction"))
            later = next((time for time in (_time(text) for _place, text in found) if time > moment), None)
            if later:
                return later
    except WalError:
        pass
    return None


def _tail(program, path):
    """Last record and last commit of one segment, found near its end where possible: a switched segment ends in zeros."""
    data = content(path)
    used = len(data.rstrip(b"\0"))
    size = len(data)
    begin = segment_number(os.path.basename(path), size) * size if size and not size & (size - 1) else None
    if data and data[1:2] != b"\xd1" and begin is None:
        raise WalError(f"{path} is packed or encrypted in a way that is not read here (Barman's compression = custom, or encryption)")
    if begin is None or used == 0:
        raise WalError(f"{path} is not a whole WAL segment ({size} bytes): it was cut off or damaged")
    for length in (TAIL_BYTES, size):
        offset = max(0, used - length) & ~8191
        output = _dump(program, [path], f"--start={format_lsn(begin + offset)}", data=data)
        records, ends = RECORD.findall(output), TRANSACTION_END.findall(output)
        if ends or (records and not offset):
            return End(_lsn(records[-1]), *((_lsn(ends[-1][0]), _time(ends[-1][1])) if ends else (None, None)))
        if records:
            return End(_lsn(records[-1]))
    raise WalError(f"{path} holds no readable WAL record: it was damaged, or is of another PostgreSQL major version than {program}")


def _dump(program, paths, *options, data=None):
    """The output of pg_waldump over neighbouring segments. It ends with an error at the end of what is there, so its exit code
    says nothing; no record at all is an empty text."""
    names = [os.path.basename(path)[:24] for path in paths]               # without .partial
    with tempfile.TemporaryDirectory(prefix="pgrescue-wal-") as directory:
        for path, name in zip(paths, names):
            provide(path, os.path.join(directory, name), data)
        return run_waldump([program, f"--path={directory}", *options, names[0], *names[1:][-1:]])


def at_once(paths, linked=WALK_BACK):
    """How many segments pg_waldump is given, of a stretch with these paths: unpacked ones take room, links to others cost nothing."""
    return linked if all(opener_of(path) is open for path in (paths[0], paths[-1])) else UNPACKED_AT_ONCE


def run_waldump(command):
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace",
            env=dict(os.environ, LC_ALL="C", TZ="UTC"), check=False,
        ).stdout
    except OSError as error:
        raise WalError(f"{command[0]} cannot be run: {error.strerror}") from error


def provide(path, target, data=None):
    """Put a segment where pg_waldump finds it: as a link, or unpacked."""
    if opener_of(path) is open:
        os.symlink(os.path.abspath(path), target)
        return
    data = content(path) if data is None else data
    try:
        with open(target, "wb") as unpacked:
            unpacked.write(data)
    except OSError as error:
        raise NoRoom(f"{path} cannot be unpacked in {os.path.dirname(os.path.dirname(target))} to be read: {error.strerror}") from error


def content(path, size=-1):
    """The unpacked content of a file, all of it or its first bytes."""
    try:
        with opener_of(path)(path, "rb") as source:
            return source.read(size)
    except (OSError, EOFError, RuntimeError, lzma.LZMAError, zlib.error, getattr(sys.modules.get("zstandard"), "ZstdError", OSError)) as error:
        raise WalError(f"{path} cannot be read: {error}") from error


def opener_of(path):
    """How to open a file, by the bytes with which it begins."""
    try:
        with open(path, "rb") as source:
            magic = source.read(10)
    except OSError as error:
        raise WalError(f"{path} cannot be read: {error.strerror}") from error
    for known, opener in COMPRESSIONS:
        if magic.startswith(known):
            return opener
    for known, name, package in PACKAGES:
        if magic.startswith(known):
            try:
                return importlib.import_module(package).open
            except ImportError as error:
                package = package.partition(".")[0]
                raise WalError(f"{path} is compressed with {name}, and Python's package {package} is not here: type apt install python3-{package}") from error
    if magic.startswith(SNAPPY):
        raise WalError(f"{path} is compressed with snappy, which is not read here")
    return open


def program_major(program):
    """The major version that a program of PostgreSQL says it is of; None when it says none."""
    try:
        found = re.search(r"\) (\d+)", run_waldump([program, "--version"]))
    except WalError:
        return None
    return int(found.group(1)) if found else None


def _lsn(text):
    return format_lsn(parse_lsn(text))


def _time(text):
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
