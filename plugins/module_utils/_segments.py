# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the WAL of a restore is what its names say: the first page of every segment, and every record as far as that is cheap.

PostgreSQL ends replay at the first record that it cannot read, and that is known only when the old server is stopped. Its own
reader (pg_waldump) says it beforehand. On the way it tells which tablespaces replay will make.
"""
from __future__ import annotations

import gzip
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from itertools import groupby, takewhile

from ._wal import UNPACKED_AT_ONCE, NoRoom, WalError, content, format_lsn, opener_of, parse_lsn, provide, segment_name, segment_number, segment_timeline
from ._walstream import HEADER, LINKED_AT_ONCE

ANOTHER_CLUSTER = "it is of another cluster"
BROKEN = re.compile(r"error: (?:error in WAL record at [0-9A-F]+/[0-9A-F]+: (.*)|(could not find a valid record after .*))")
LSN = re.compile(r"\b[0-9A-F]+/[0-9A-F]+\b")
NAMED = re.compile(r"\b[0-9A-F]{24}\b")
# XLOG_TBLSPC_CREATE (src/backend/access/rmgrdesc/tblspcdesc.c): replay makes the tablespace where it was, even if a backup has mapped it elsewhere.
SPACE = re.compile(r'desc: CREATE ([0-9]+) "(.+)"$', re.MULTILINE)
# Nothing more was written: so a segment may end that no other follows.
END = re.compile(r"got 0$|magic number 0000")


@dataclass
class Content:
    """What segments hold."""

    wrong: list = field(default_factory=list)   # pairs of a segment's name and what is wrong with it
    judged: int = 0                             # of how many the first page was looked at: others are packed or encrypted in a way that is not read
    read: int = 0                               # how many were read record by record
    spaces: dict = field(default_factory=dict)  # the tablespaces that replay makes, from oid to location


def examine(paths, size, identifier, program, start_lsn=None, limit=0):
    """The Content of segments, given as paths in the order of replay.

    identifier: the system identifier that they must have, as text. program: a pg_waldump, or None. start_lsn: where replay begins.
    limit: how many bytes are read record by record, 0 for all; the first pages are looked at in all of them.
    """
    pages = [(os.path.basename(path), first_page(path, size, identifier)) for path in paths]
    found = Content([page for page in pages if page[1]], sum(reason is not None for _name, reason in pages))
    if found.wrong or program is None:
        return found
    wanted = list(takewhile(_readable, paths[:limit // size if limit else None]))
    found.read, start = len(wanted), parse_lsn(start_lsn) if start_lsn else 0
    for _timeline, piece in groupby(wanted, key=lambda path: segment_timeline(os.path.basename(path))):
        try:
            broken = _read(list(piece), size, program, start, os.path.basename(paths[-1]), found.spaces)
        except NoRoom:
            found.read = 0
            break
        if broken:
            found.wrong.append(broken)
            break
    return found


def first_page(path, size, identifier):
    """What is wrong with the first page of a segment and with its length, empty if nothing is. What cannot be unpacked here is not judged: None."""
    name = os.path.basename(path)
    try:
        length = _length(path)
        header = content(path, HEADER.size) if length is not None else b""
    except WalError as error:
        return f"it cannot be unpacked: {error}"
    if len(header) < HEADER.size:
        return None if length is None else f"it ends after {len(header)} bytes"
    magic, _info, timeline, address, _rest, system, segment_bytes = HEADER.unpack(header)
    if magic >> 8 != 0xD1:
        return "its first page is not one of WAL" if length == size else None      # another length: packed or encrypted
    if identifier and str(system) != str(identifier):
        return f"{ANOTHER_CLUSTER} (system identifier {system})"
    if address != segment_number(name, size) * size or segment_bytes != size or not 0 < timeline <= segment_timeline(name):
        return f"its content is that of {segment_name(timeline, address // size, size)}"
    return "" if length == size else f"it does not hold {size} bytes: it was cut off or damaged"


def _readable(path):
    """Whether it is WAL once it is unpacked: what is packed or encrypted in another way is left to PostgreSQL."""
    try:
        return content(path, 2)[1:] == b"\xd1"
    except WalError:
        return False


def _length(path):
    """The bytes of the content, without unpacking it: gzip keeps them at its end, of others it is not known (None)."""
    try:
        found = opener_of(path)
    except WalError:
        return None
    if found is gzip.open:
        with open(path, "rb") as file:
            file.seek(max(0, os.stat(path).st_size - 4))             # one that is shorter cannot be unpacked, and that is said then
            return int.from_bytes(file.read(4), "little")
    return os.stat(path).st_size if found is open else None


def _read(paths, size, program, start, last, spaces):
    """Read the records of one timeline's neighbouring segments; the pair of the first that is broken, or None. Tablespaces are added to spaces."""
    begin = 0
    while begin < len(paths):
        with tempfile.TemporaryDirectory(prefix="pgrescue-wal-") as directory:
            batch = paths[begin:begin + LINKED_AT_ONCE]
            if any(_length(path) != os.stat(path).st_size for path in batch):
                batch = batch[:UNPACKED_AT_ONCE]
            for path in batch:
                try:
                    provide(path, os.path.join(directory, os.path.basename(path)))
                except NoRoom:
                    raise
                except WalError as error:
                    return os.path.basename(path), f"it cannot be unpacked: {error}"
            records, errors = _dump(program, directory, batch, size, start)
            spaces.update((int(oid), location) for oid, location in SPACE.findall(records))
            found = _broken(errors, size, batch)
        if found and not (found[0] == last and END.search(found[1])):
            return found
        # The last record of a batch may go on in the next one: it is read again with that.
        begin += len(batch) if begin + len(batch) >= len(paths) else max(1, len(batch) - 1)
    return None


def _dump(program, directory, batch, size, start):
    """The records about tablespaces, and what pg_waldump complains of: it reads all records, whatever it prints."""
    names = [os.path.basename(path) for path in batch]
    numbers = [segment_number(name, size) for name in names]
    command = [
        program, "--rmgr=Tablespace", f"--path={directory}", f"--timeline={segment_timeline(names[0])}", f"--start={format_lsn(max(start, numbers[0] * size))}",
        f"--end={format_lsn((numbers[-1] + 1) * size)}",
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        env=dict(os.environ, LC_ALL="C", TZ="UTC"), check=False,
    )
    return done.stdout, done.stderr if done.returncode else ""


def _broken(text, size, batch):
    """The segment and the reason in a complaint of pg_waldump. Its last LSN is the place, unless a segment is named."""
    found = BROKEN.search(text)
    if not found:
        return None
    complaint = (found.group(1) or found.group(2)).strip()
    name = NAMED.search(complaint)
    if name:
        return name.group(), complaint
    lsn = LSN.findall(found.group())[-1]
    return segment_name(segment_timeline(os.path.basename(batch[0])), parse_lsn(lsn) // size, size), complaint
