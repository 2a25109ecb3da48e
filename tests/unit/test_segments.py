# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged WAL: the first page of a segment, its length, and what pg_waldump complains of."""
from __future__ import annotations

import gzip
import lzma
import shutil
import struct

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _segments

SIZE = 1024 * 1024
SYSTEM = "7711256199264749241"
NAMES = ["0000000100000000000000%02X" % number for number in range(2, 6)]


def page(name, size=SIZE, system=SYSTEM, magic=0xD110, timeline=1):
    return struct.pack("<HHIQIxxxxQI", magic, 2, timeline, int(name[16:], 16) * SIZE, 0, int(system), size)


@pytest.fixture
def wal(tmp_path):
    """Four segments of 1 MiB."""
    for name in NAMES:
        (tmp_path / name).write_bytes(page(name).ljust(SIZE, b"\0"))
    return [tmp_path / name for name in NAMES]


def damage(wal, program=None, limit=0):
    found = _segments.examine([str(path) for path in wal], SIZE, SYSTEM, program, limit=limit)
    return found.wrong, found.read


def test_whole_segments(wal):
    assert damage(wal) == ([], 0)


@pytest.mark.parametrize("content, words", [
    (page(NAMES[1]), "cut off or damaged"),
    (page(NAMES[1])[:20], "it ends after 20 bytes"),
    (b"", "it ends after 0 bytes"),
    (b"\0" * SIZE, "not one of WAL"),
    (page(NAMES[2]).ljust(SIZE, b"\0"), "its content is that of " + NAMES[2]),
    (page(NAMES[1], timeline=2).ljust(SIZE, b"\0"), "its content is that of 00000002"),
    (page(NAMES[1], system="42").ljust(SIZE, b"\0"), "of another cluster (system identifier 42)"),
    (gzip.compress(page(NAMES[1]).ljust(SIZE, b"\1"), 1)[:-9], "cut off or damaged"),
    (b"\x1f\x8b\x08", "it cannot be unpacked"),
    (b"\x1f\x8b", "it cannot be unpacked"),
])
def test_a_damaged_segment(wal, content, words):
    wal[1].write_bytes(content)
    (name, reason), = damage(wal)[0]
    assert name == NAMES[1] and words in reason


@pytest.mark.parametrize("content", [
    gzip.compress(page(NAMES[1]).ljust(SIZE, b"\0"), 1), lzma.compress(page(NAMES[1]).ljust(SIZE, b"\0")),
    b"(\xb5/\xfd" + b"x" * 100, b"\x85\x02\x0c\x03 encrypted" * 9,
])
def test_a_packed_segment_is_not_damaged(wal, content):
    wal[1].write_bytes(content)
    assert damage(wal) == ([], 0)


def test_what_cannot_be_unpacked_here_is_not_read(wal, monkeypatch):
    monkeypatch.setattr(_segments, "_dump", lambda *_args: ("", ""))
    wal[2].write_bytes(b"(\xb5/\xfd" + b"x" * 100)
    assert damage(wal, "pg_waldump") == ([], 2)


def test_a_segment_of_a_branch_begins_with_pages_of_its_parent(wal):
    name = "00000002" + NAMES[1][8:]
    wal[1] = wal[1].rename(wal[1].with_name(name))
    assert damage(wal) == ([], 0)


# As pg_waldump 15 complained of segments that were overwritten in part.
@pytest.mark.parametrize("said, name", [
    ("pg_waldump: error: error in WAL record at 0/267A1170: incorrect resource manager data checksum in record at 0/467A1D", NAMES[2]),
    ("pg_waldump: error: error in WAL record at 0/213F88: invalid magic number 0000 in log segment " + NAMES[1] + ", offset 81920", NAMES[1]),
    ("pg_waldump: error: could not find a valid record after 0/300000", NAMES[1]),
    ("pg_waldump: error: error in WAL record at 0/4FFF00: invalid record length at 0/500028: wanted 24, got 7", NAMES[3]),
])
def test_a_record_that_cannot_be_read(wal, monkeypatch, said, name):
    monkeypatch.setattr(_segments, "_dump", lambda *_args: ("", said))
    (found, reason), = damage(wal, "pg_waldump")[0]
    assert found == name and reason in said


@pytest.mark.parametrize("said", [
    "", "pg_waldump: error: error in WAL record at 0/4FFF00: invalid record length at 0/500028: wanted 24, got 0",
    "pg_waldump: error: error in WAL record at 0/4FFF00: invalid magic number 0000 in log segment " + NAMES[3] + ", offset 8192",
])
def test_the_end_of_the_archive_is_no_damage(wal, monkeypatch, said):
    monkeypatch.setattr(_segments, "_dump", lambda *_args: ("", said))
    assert damage(wal, "pg_waldump") == ([], 4)


def test_what_is_asked_of_pg_waldump(wal, monkeypatch):
    asked = []
    monkeypatch.setattr(_segments, "UNPACKED_AT_ONCE", 2)
    monkeypatch.setattr(_segments, "_dump", lambda _program, _directory, batch, *_args: asked.append([path[-2:] for path in batch]) or ("", ""))
    assert damage(wal, "pg_waldump") == ([], 4)
    wal[3].write_bytes(gzip.compress(wal[3].read_bytes(), 1))
    assert damage(wal, "pg_waldump") == ([], 4)
    assert damage(wal, "pg_waldump", limit=2 * SIZE) == ([], 2)
    assert asked == [["02", "03", "04", "05"], ["02", "03"], ["03", "04"], ["04", "05"], ["02", "03"]]


def test_timelines_are_read_one_by_one(wal, monkeypatch):
    branch = shutil.copy(wal[3], wal[3].with_name("00000002" + NAMES[3][8:]))
    asked = []
    monkeypatch.setattr(_segments, "_dump", lambda _program, _directory, batch, *_args: asked.append([path[-24:][:8] for path in batch]) or ("", ""))
    damage(wal + [branch], "pg_waldump")
    assert asked == [["00000001"] * 4, ["00000002"]]


def test_tablespaces_that_replay_makes(wal, monkeypatch):
    """As pg_waldump 17 printed it."""
    said = (
        'rmgr: Tablespace  len (rec/tot):     41/    41, tx:        755, lsn: 0/06000A78, prev 0/06000A40, desc: CREATE 16394 "/srv/hist"\n'
        "rmgr: Tablespace  len (rec/tot):     30/    30, tx:        757, lsn: 0/06000C10, prev 0/06000BD8, desc: DROP 16390\n"
        'rmgr: Tablespace  len (rec/tot):     41/    41, tx:        758, lsn: 0/06000D10, prev 0/06000CD8, desc: CREATE 16395 "/srv/a \"b\""\n'
    )
    monkeypatch.setattr(_segments, "_dump", lambda *_args: (said, ""))
    found = _segments.examine([str(path) for path in wal], SIZE, SYSTEM, "pg_waldump")
    assert found.spaces == {16394: "/srv/hist", 16395: '/srv/a "b"'} and not found.wrong
