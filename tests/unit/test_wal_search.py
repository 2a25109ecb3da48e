# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_wal_search_info reads of stretches that are damaged or have a hole, and what it refuses."""
from __future__ import annotations

import gzip
from types import SimpleNamespace

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError
from ansible_collections.pgrescue.barman.plugins.module_utils._pgclass import Names
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import UNPACKED_AT_ONCE, WalError, parse_lsn, segment_name
from ansible_collections.pgrescue.barman.plugins.module_utils._walnames import Wanted
from ansible_collections.pgrescue.barman.plugins.module_utils._walstream import HEADER, Source
from ansible_collections.pgrescue.barman.plugins.modules import pg_wal_search_info as module

SIZE = 1 << 24
RECORD = "rmgr: Transaction len (rec/tot):     34/    34, tx:        {}, lsn: 0/{:08X}, prev 0/00000000, desc: COMMIT 2026-11-23 05:00:0{}.000001 UTC\n"
NOWHERE = (None, None)


def commit(segment):
    return RECORD.format(700 + segment, segment * SIZE + 0x28, segment)


class Read(Source):
    """Segments with one commit each; reading ends at a damaged one, as pg_waldump does."""

    def __init__(self, damaged=(), foreign=()):
        self.size, self.damaged, self.foreign = SIZE, damaged, foreign

    def lines(self, timeline, first, last):
        for number in range(first, last + 1):
            if number in self.damaged or number in self.foreign:
                return
            yield commit(number)

    def going_on(self, timeline, first, last):
        return next((number for number in range(first, last + 1) if number not in self.foreign), None)


def search(source, *stretches):
    catalogues = SimpleNamespace(class_files=lambda: (), at=lambda lsn: Names())
    return module.search(source, stretches, NOWHERE, NOWHERE, catalogues, Wanted(["commit"], None, None, 1), 100)


def brief(result):
    return [one["xid"] for one in result["transactions"]], [(one["first"][-1], one["last"][-1], one["note"]) for one in result["searched"]]


def test_whole():
    assert brief(search(Read(), (1, 2, 5), (2, 6, 7))) == ([702, 703, 704, 705, 706, 707], [("2", "5", None), ("6", "7", None)])


def test_damaged_segment():
    xids, read = brief(search(Read(damaged=[4]), (1, 2, 6)))
    assert xids == [702, 703, 705, 706] and [one[:2] for one in read] == [("2", "3"), ("4", "4"), ("5", "6")]
    assert read[0][2].startswith("timeline 1 could not be read after 0/03000028: ") and read[0][2].endswith(f"went on with segment {segment_name(1, 4, SIZE)}")
    assert f"the beginning of segment {segment_name(1, 4, SIZE)}: " in read[1][2] and read[2][2] is None


def test_segments_for_later_use():
    xids, read = brief(search(Read(foreign=[4, 5]), (1, 2, 5)))
    assert xids == [702, 703] and [one[:2] for one in read] == [("2", "5")] and read[0][2].endswith("was never written")


def test_hole():
    xids, read = brief(search(Read(), (1, 2, 3), (1, 6, 6)))
    assert xids == [702, 703, 706]
    assert read[0][2] == f"timeline 1 could not be read after 0/03000028: {segment_name(1, 4, SIZE)} to {segment_name(1, 5, SIZE)} is not there"


def test_what_begins_as_it_should(tmp_path):
    source = Source.__new__(Source)
    source.size, source.archive = SIZE, SimpleNamespace(path=lambda name: str(tmp_path / name))
    contents = {4: b"", 5: HEADER.pack(0xD110, 2, 1, 2 * SIZE, 0, 42, SIZE), 6: b"\x1f\x8b\x08", 7: HEADER.pack(0xD110, 2, 1, 7 * SIZE, 0, 42, SIZE)}
    for number, content in contents.items():
        (tmp_path / segment_name(1, number, SIZE)).write_bytes(content)
    assert (source.going_on(1, 4, 7), source.going_on(1, 4, 6)) == (7, None)


@pytest.mark.parametrize("damaged, read", [(None, list(range(1, 21))), (4, [1, 2, 3]), (10, list(range(1, 10))), (1, [])])
def test_packed_segments_end_at_a_damaged_one(monkeypatch, damaged, read):
    """The next batch would begin after it, and nobody would know."""
    source = Source.__new__(Source)
    source.size = SIZE

    def batch(timeline, first, last, seen):
        begin, line = parse_lsn(seen) // SIZE if seen else first, None
        for number in range(max(begin, first), last + 1):
            if number == damaged:
                break
            line = f"0/{number * SIZE + 0x28:08X}"
            if line != seen:
                yield number
        return line

    monkeypatch.setattr(source, "_batch", batch, raising=False)
    monkeypatch.setattr(source, "_paths", lambda *_words: ["packed"], raising=False)
    monkeypatch.setattr("ansible_collections.pgrescue.barman.plugins.module_utils._walstream.at_once", lambda paths, linked: UNPACKED_AT_ONCE)
    assert list(source.lines(1, 1, 20)) == read


def test_transaction_that_goes_on_in_the_next_stretch():
    """A timeline ends where the next begins: what was locked there is remembered, unless something is missing in between."""
    class Locked(Read):
        def lines(self, timeline, first, last):
            if timeline == 1:
                yield (f"rmgr: Standby     len (rec/tot):     42/    42, tx:        707, lsn: 0/{last * SIZE + 0x10:08X}, prev 0/00000000, "
                       "desc: LOCK xid 707 db 5 rel 9\n")
            yield from super().lines(timeline, first, last)

    def locks(*stretches):
        return [one["lock_lsn"] for one in search(Locked(), *stretches)["transactions"] if one["xid"] == 707]

    assert locks((1, 2, 6), (2, 7, 7)) == [f"0/{6 * SIZE + 0x10:X}"]
    assert locks((1, 2, 5), (2, 7, 7)) == [None]


def test_damaged_packed_segment_ends_what_is_read(tmp_path):
    """As one does that lies unpacked."""
    program = tmp_path / "pg_waldump"
    program.write_text("""#!/bin/sh
for segment in ${1#--path=}/*; do echo "rmgr: XLOG len (rec/tot): 30/ 30, tx: 0, lsn: 0/0${segment##*000000}000028, prev 0/0, desc: NOOP"; done
""")
    program.chmod(0o755)
    source = Source.__new__(Source)
    source.size, source.program, source.archive = SIZE, str(program), SimpleNamespace(path=lambda name: str(tmp_path / name))
    for number in range(3, 7):
        packed = bytearray(gzip.compress(bytes(range(256)) * 9))
        if number == 5:
            packed[40:60] = bytes(20)
        (tmp_path / segment_name(1, number, SIZE)).write_bytes(packed)
    assert [line.split("lsn: ")[1].split(",")[0] for line in source.lines(1, 3, 6)] == ["0/03000028", "0/04000028"]


@pytest.mark.parametrize("name, text, says", [
    ("start", "0/G", "^start '0/G' is not a complete moment.*or '2026-.* An LSN is taken too"), ("end", "2026-09-15", "^end .* has no time of day"),
    ("end", "2099-01-01 00:00:00Z", "in the future.* or leave end out"),
])
def test_bound(name, text, says):
    with pytest.raises(BarmanError, match=says) as caught:
        module.bound(name, text)
    assert "target_" not in str(caught.value)


def test_limit():
    with pytest.raises(WalError, match="limit is -1, .*type 0 or more"):
        module.run(dict(limit=-1))
