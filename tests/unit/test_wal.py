# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LSNs, segment names, and what is read from segments."""
from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import sys
import types
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _wal
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import (
    commit_after, find_waldump, first_time, format_lsn, last_commit, parse_lsn, segment_name, segment_number, segment_timeline, system_identifier,
)

from recorded import SEGMENT_BYTES, VERSIONS, home, segment

SEED = int(os.environ.get("SEED", "20261123"))


@pytest.mark.parametrize("text, position", [("0/0", 0), ("0/3000148", 0x3000148), ("1/0", 1 << 32), ("16/b374d848", 0x16B374D848)])
def test_lsn(text, position):
    assert parse_lsn(text) == position and format_lsn(position) == text.upper()


@pytest.mark.parametrize("text", ["", "0", "/", "0/", "x/1", "0/123456789", "0/1/2", " 0/1", "-1/0"])
def test_what_is_no_lsn(text):
    with pytest.raises(ValueError, match="is not an LSN"):
        parse_lsn(text)


@pytest.mark.parametrize("size, number, name", [
    (16 << 20, 0, "000000010000000000000000"), (16 << 20, 255, "0000000100000000000000FF"), (16 << 20, 256, "000000010000000100000000"),
    (1 << 20, 4095, "000000010000000000000FFF"), (1 << 20, 4096, "000000010000000100000000"), (1 << 30, 5, "000000010000000100000001"),
])
def test_segment_names(size, number, name):
    assert segment_name(1, number, size) == name and segment_number(name, size) == number


def test_stretch():
    names = ["000000010000000100000077", "000000010000000100000078", "000000040000000100000079", "00000004000000010000007A", "00000004000000010000007C",
             "00000004.history", "archive_status", "000000040000000100000079.00000028.backup"]
    size = 16 << 20
    # The newest timeline that has the segment, up to the first gap.
    assert _wal.stretch(names, "1/79014F58", size) == (4, _wal.parse_lsn("1/7B000000"))
    assert _wal.stretch(names, "1/77000028", size) == (1, _wal.parse_lsn("1/79000000"))
    assert _wal.stretch(names, "1/79014F58", size, 1) is None
    assert _wal.stretch(names, "1/7B000000", size) is None
    assert _wal.stretch(["000000010000000000000003", "000000020000000000000003"], "0/3000110", size) == (2, _wal.parse_lsn("0/4000000"))
    assert _wal.stretch(["000000010000000000000003", "000000020000000000000003"], "0/3000110", size, 1) == (1, _wal.parse_lsn("0/4000000"))


def test_names_and_numbers_are_inverse():
    print("SEED", SEED)
    chance = random.Random(SEED)
    for _round in range(500):
        size = 1 << chance.randint(20, 30)
        timeline, number = chance.randint(1, 1 << 31), chance.randint(0, (1 << 62) // size)
        name = segment_name(timeline, number, size)
        assert (segment_timeline(name), segment_number(name, size)) == (timeline, number)
        lsn = format_lsn(number * size + chance.randrange(size))
        assert parse_lsn(lsn) // size == number


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress, bz2.compress, lzma.compress], ids=["plain", "gzip", "bzip2", "xz"])
def test_system_identifier_of_a_packed_segment(tmp_path, pack):
    segment(tmp_path / "s", SEGMENT_BYTES, 7711209116258977267)
    (tmp_path / "s").write_bytes(pack((tmp_path / "s").read_bytes()))
    assert system_identifier(str(tmp_path / "s")) == "7711209116258977267"


@pytest.mark.parametrize("data", [b"", b"short", b"(\xb5/\xfd" + b"x" * 40, b"\x1f\x8bnot gzip at all, not gzip at all"])
def test_no_system_identifier(tmp_path, data):
    (tmp_path / "s").write_bytes(data)
    assert system_identifier(str(tmp_path / "s")) is None
    assert system_identifier(str(tmp_path / "none")) is None


PROGRAM = "pg_waldump"


@pytest.fixture(name="world", params=VERSIONS)
def _world(request, tmp_path, recorded_wal):
    home(request.param, tmp_path)
    wals = tmp_path / "main" / "wals"

    def paths(timeline):
        return [str(path) for path in sorted(wals.glob(f"{timeline:08X}*/{timeline:08X}*"))]

    return request.param, paths, recorded_wal(request.param)


def switch(paths, timeline):
    """The LSN in the recorded history file."""
    wals = os.path.dirname(os.path.dirname(paths(timeline)[0]))
    with open(os.path.join(wals, f"{timeline:08X}.history"), encoding="utf-8") as source:
        return source.read().split("\t")[1]


def recorded_commits(records, timeline):
    text = "".join(path.read_text() for path in sorted(records.glob(f"{timeline:08X}*")))
    return _wal.TRANSACTION_END.findall(text)


@pytest.mark.parametrize("timeline", [1, 2, 3])
def test_last_commit_of_recorded_wal(world, timeline):
    _version, paths, records = world
    lsn, time = recorded_commits(records, timeline)[-1]
    end = last_commit(paths(timeline), PROGRAM)
    assert (end.commit_lsn, end.commit_time.isoformat(" ")) == (format_lsn(parse_lsn(lsn)), time + "+00:00")
    assert parse_lsn(end.lsn) >= parse_lsn(end.commit_lsn) and end.reason is None


def test_commits_before_the_end_of_a_backup_do_not_count(world):
    _version, paths, _records = world
    end = last_commit(paths(1), PROGRAM, after="FF/0")
    assert (end.commit_lsn, end.commit_time) == (None, None) and "no commit or abort" in end.reason


def test_all_of_a_stretch_is_searched(world):
    _version, paths, _records = world
    quiet = paths(1)[:2]                                        # a backup and the end of a segment: no commit in there
    assert last_commit(quiet, PROGRAM).reason == "no commit or abort record in the last 2 archived segments of this stretch"


def repack(paths, pack):
    """Segments as Barman would have packed them."""
    for path in map(Path, paths):
        path.write_bytes(pack(path.read_bytes()))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"])
def test_packed_segments(world, pack):
    _version, paths, _records = world
    plain = last_commit(paths(2), PROGRAM)
    repack(paths(2), pack)
    assert last_commit(paths(2), PROGRAM) == plain


@pytest.mark.parametrize("magic, package", [(b"(\xb5/\xfd", "zstandard"), (b"\x04\x22\x4d\x18", "lz4.frame")])
def test_segments_are_unpacked_with_the_package_of_barman(world, monkeypatch, magic, package):
    """The package stands in for itself: what it finds after the magic is gzip."""
    _version, paths, _records = world
    plain = last_commit(paths(2), PROGRAM)
    repack(paths(2), lambda data: magic + gzip.compress(data))
    opened = types.SimpleNamespace(open=lambda path, mode: io.BytesIO(gzip.decompress(Path(path).read_bytes()[len(magic):])))
    monkeypatch.setitem(sys.modules, package.partition(".")[0], types.ModuleType(package.partition(".")[0]))
    monkeypatch.setitem(sys.modules, package, opened)
    assert last_commit(paths(2), PROGRAM) == plain


@pytest.mark.parametrize("data, reason", [
    (b"(\xb5/\xfd" + b"x" * 40, "compressed with zstd"), (b"\x04\x22\x4d\x18" + b"x" * 40, "compressed with lz4"),
    (b"\xff\x06\x00\x00sNaPpY" + b"x" * 40, "compressed with snappy"),
    (b"\x16\xd1" * 1000, "not a whole WAL segment"), (b"\x85\x02\x0c\x03" * 99, "in a way that is not read"),
    (b"", "not a whole WAL segment"), (b"\x1f\x8bbroken", "cannot be read"),
])
def test_segments_that_cannot_be_read(world, data, reason):
    _version, paths, _records = world
    with open(paths(1)[-1], "wb") as target:
        target.write(data)
    end = last_commit(paths(1), PROGRAM)
    assert end.commit_time is None and end.lsn is None and reason in end.reason


def test_missing_segment(world):
    _version, paths, _records = world
    assert "No such file" in last_commit(paths(1)[:-1] + ["/nonexistent/00000001000000000000000C"], PROGRAM).reason


@pytest.mark.parametrize("timeline", [2, 3])
def test_promotion_is_read_from_the_end_of_recovery_record(world, timeline):
    _version, paths, records = world
    text = "".join(path.read_text() for path in sorted(records.glob(f"{timeline:08X}*")))
    began = _wal.END_OF_RECOVERY.search(text)
    assert first_time(paths(timeline), PROGRAM, switch(paths, timeline)).isoformat(" ") == began.group(1) + "+00:00"


def test_promotion_without_that_record_is_the_first_commit(world, tmp_path, recorded_wal):
    version, paths, records = world
    without = tmp_path / "records"
    without.mkdir()
    for path in records.iterdir():
        (without / path.name).write_text("".join(line + "\n" for line in path.read_text().splitlines() if "END_OF_RECOVERY" not in line))
    # The first segment begins with what the parent had written there.
    fork = without / f"{os.path.basename(paths(2)[0])}.txt"
    before = next(line for path in sorted(records.glob("00000001*")) for line in path.read_text().splitlines(True) if "desc: COMMIT" in line)
    fork.write_text(before + fork.read_text())
    recorded_wal(version, without)
    assert first_time(paths(2), PROGRAM, switch(paths, 2)).isoformat(" ") == recorded_commits(records, 2)[0][1] + "+00:00"
    assert first_time([], PROGRAM, "0/C00080") is None


@pytest.mark.parametrize("timeline", [1, 2, 3])
def test_first_commit_after_a_moment(world, timeline):
    _version, paths, records = world
    times = [datetime.fromisoformat(time + "+00:00") for _lsn, time in recorded_commits(records, timeline)]
    for moment in (times[0] - timedelta(microseconds=1), *times):
        assert commit_after(paths(timeline), PROGRAM, moment) == next((time for time in times if time > moment), None)
    assert commit_after([], PROGRAM, times[0]) is None and commit_after(["/nonexistent"], PROGRAM, times[0]) is None


@pytest.fixture(name="program")
def _program(tmp_path):
    path = tmp_path / "bin" / "pg_waldump"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\necho \"pg_waldump (PostgreSQL) 47.1\"\necho \"$TZ $LC_ALL $*\" >> {tmp_path}/calls\n")
    path.chmod(0o755)
    return path


def test_waldump_of_the_right_major_only(program):
    assert find_waldump(47, f"/nonexistent:{program.parent}") == str(program)
    assert find_waldump(48, str(program.parent)) is None


def test_waldump_runs_in_utc_on_a_directory_of_its_own(program, tmp_path):
    path = tmp_path / "000000010000000000000003"
    segment(path, SEGMENT_BYTES)
    end = last_commit([str(path)], str(program))
    assert end.commit_time is None and "no readable WAL record" in end.reason
    words = (tmp_path / "calls").read_text().splitlines()[0].split()
    assert words[:2] == ["UTC", "C"] and words[3:] == ["--start=0/300000", "000000010000000000000003"]
    assert not os.path.exists(words[2].partition("=")[2])


def test_waldump_that_is_gone(tmp_path):
    segment(tmp_path / "000000010000000000000003", SEGMENT_BYTES)
    assert "cannot be run" in last_commit([str(tmp_path / "000000010000000000000003")], "/nonexistent/pg_waldump").reason


def test_two_phase_and_abort_records():
    text = (
        "rmgr: Transaction len (rec/tot):     34/    34, tx:        735, lsn: 0/0156DF60, prev 0/0156DF28, desc: ABORT 2026-11-23 04:00:00.123456 UTC\n"
        "rmgr: Transaction len (rec/tot):     34/    34, tx:          0, lsn: 0/0156DF90, prev 0/0156DF60, desc: "
        "COMMIT_PREPARED 736: 2026-11-23 04:00:01 UTC; x\n"
        "rmgr: Transaction len (rec/tot):     34/    34, tx:        737, lsn: 0/0156DFA0, prev 0/0156DF60, desc: PREPARE gid a: 2026-11-23 04:00:02 UTC\n"
    )
    assert _wal.TRANSACTION_END.findall(text) == [("0/0156DF60", "2026-11-23 04:00:00.123456"), ("0/0156DF90", "2026-11-23 04:00:01")]
