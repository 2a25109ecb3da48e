# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a transaction ended or a restore point lies, in lines that pg_waldump printed."""
from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _locate
from ansible_collections.pgrescue.barman.plugins.module_utils._archive import Archive
from ansible_collections.pgrescue.barman.plugins.module_utils._timeline import Tree

SIZE = 1 << 24
# As pg_waldump prints them (15 to 18).
LINES = """\
rmgr: Standby     len (rec/tot):     50/    50, tx:          0, lsn: 0/03000028, prev 0/02000110, desc: RUNNING_XACTS nextXid 746
rmgr: Heap        len (rec/tot):     59/    59, tx:        746, lsn: 0/03000060, prev 0/03000028, desc: INSERT off: 1
rmgr: Transaction len (rec/tot):     34/    34, tx:        746, lsn: 0/030000A0, prev 0/03000060, desc: COMMIT 2026-11-23 05:00:01.000001 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        747, lsn: 0/030000D0, prev 0/030000A0, desc: ABORT 2026-11-23 05:00:02.000001 UTC
rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/03000100, prev 0/030000D0, desc: RESTORE_POINT before_upgrade
rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/03000168, prev 0/03000100, desc: RESTORE_POINT before
rmgr: Transaction len (rec/tot):     66/    66, tx:          0, lsn: 0/030001D0, prev 0/03000168, desc: COMMIT_PREPARED 748: 2026-11-23 05:00:03.000001 UTC
rmgr: Transaction len (rec/tot):     82/    82, tx:        750, lsn: 0/04000028, prev 0/030001D0, desc: COMMIT 2026-11-23 05:00:04.000001 UTC; subxacts: 751
""".splitlines()


def target(kind, value):
    return SimpleNamespace(type=kind, value=value)


@pytest.mark.parametrize("kind, value, places", [
    ("xid", "746", ["0/030000A0"]), ("xid", "747", ["0/030000D0"]), ("xid", "748", ["0/030001D0"]), ("xid", "4294968042", ["0/030000A0"]),
    ("xid", "74", []), ("xid", "751", []), ("name", "before", ["0/03000168"]), ("name", "before_upgrade", ["0/03000100"]), ("name", "upgrade", []),
])
def test_the_records_at_which_postgresql_stops(kind, value, places):
    assert _locate.matches(target(kind, value), LINES) == places


class Source:
    """Three segments of one timeline; what is read of them is counted."""

    size = SIZE

    def __init__(self, monkeypatch):
        self.tree = Tree([dict(timeline=1, parent=None, switch_lsn=None)], SIZE, {1: [3, 4, 5]})
        self.archive = Archive("/nonexistent")
        self.read = []
        monkeypatch.setattr(_locate, "_lines", self.lines)

    @staticmethod
    def stretches(_timeline):
        return [(1, 3, 5)]

    def lines(self, _source, _timeline, first, last, *options):
        self.read.append((first, last))
        manager = options[0].partition("=")[2]
        return [line for line in LINES if line.startswith(f"rmgr: {manager} ") and first <= int(line.partition("lsn: 0/")[2][:2], 16) <= last]


@pytest.mark.parametrize("kind, value, place, read", [
    ("xid", "750", "0/4000028", [(4, 6)]),                              # behind the newest backup
    ("name", "before", "0/3000168", [(4, 6), (3, 5)]),                  # behind the one before it
    ("xid", "746", "0/30000A0", [(4, 6), (4, 4), (3, 5)]),
    ("xid", "760", None, [(4, 6), (4, 4), (3, 5), (3, 3)]),
    ("name", "nobody", None, [(4, 6), (3, 5)]),
])
def test_from_the_newest_backup_backwards(monkeypatch, kind, value, place, read):
    source = Source(monkeypatch)
    backups = [dict(begin_lsn="0/3000028", end_lsn="0/3000060"), dict(begin_lsn="0/4000028", end_lsn="0/4000028")]
    assert _locate.locate(source, backups, 1, target(kind, value), set()) == place
    assert source.read == read


@pytest.mark.parametrize("received, read", [
    ({}, [(5, 6)]),
    ({"000000010000000000000006": "/incoming/000000010000000000000006"}, [(5, 7)]),
    ({"000000010000000000000006": "/streaming/000000010000000000000006.partial"}, [(5, 7)]),
    ({"000000010000000000000007": "/incoming/000000010000000000000007"}, [(5, 6)]),     # what comes before it is not there
    ({"000000020000000000000006": "/incoming/000000020000000000000006"}, [(5, 6)]),
])
def test_what_has_come_is_read_too(monkeypatch, received, read):
    source = Source(monkeypatch)
    source.archive.received = received
    assert _locate.locate(source, [dict(begin_lsn="0/5000028")], 1, target("name", "nobody"), set()) is None
    assert source.read == read


def test_the_names_of_the_restore_points_that_were_read(monkeypatch):
    names = set()
    assert _locate.locate(Source(monkeypatch), [dict(begin_lsn="0/3000028")], 1, target("name", "befor"), names) is None
    assert names == {"before", "before_upgrade"}


def test_a_transaction_that_began_after_a_backup_is_not_sought_before_it(monkeypatch):
    source = Source(monkeypatch)
    backups = [dict(begin_lsn="0/2000028", end_lsn="0/2000100"), dict(begin_lsn="0/3000028", end_lsn="0/3000060")]
    assert _locate.locate(source, backups, 1, target("xid", "999"), set()) is None
    assert source.read == [(3, 6), (3, 3)]


@pytest.mark.parametrize("end, place", [("0/4000028", "0/4000028"), ("0/4000100", "0/3000168")])
def test_a_name_that_was_given_twice_is_where_the_chosen_backup_meets_it(monkeypatch, end, place):
    """The second one lies behind the newest backup's end, or within the backup, so that an older one is restored, which meets the first one."""
    source = Source(monkeypatch)
    again = "rmgr: XLOG len (rec/tot): 98/ 98, tx: 0, lsn: 0/04000028, prev 0/030001D0, desc: RESTORE_POINT before"
    monkeypatch.setattr(_locate, "_lines", lambda *words: source.lines(*words) + ([again] if words[2] <= 4 <= words[3] else []))
    backups = [dict(begin_lsn="0/2000028", end_lsn="0/2000100"), dict(begin_lsn="0/4000000", end_lsn=end)]
    source.stretches = lambda _timeline: [(1, 2, 5)]
    assert _locate.locate(source, backups, 1, target("name", "before"), set()) == place


def test_what_the_old_branch_holds_after_the_switch_is_not_on_the_new_one(monkeypatch):
    """The new branch begins in segment 4; the old one's own segment 4 is read for what goes on into it."""
    source = Source(monkeypatch)
    source.stretches = lambda _timeline: [(1, 3, 3), (2, 4, 5)]
    monkeypatch.setattr(_locate, "_lines", lambda _source, timeline, *words: source.lines(_source, timeline, *words) if timeline == 1 else [])
    backups = [dict(begin_lsn="0/3000028", end_lsn="0/3000060")]
    assert _locate.locate(source, backups, 2, target("xid", "750"), set()) is None
    assert _locate.locate(source, backups, 2, target("xid", "746"), set()) == "0/30000A0"


def test_nor_are_its_restore_points(monkeypatch):
    source, names = Source(monkeypatch), set()
    source.stretches = lambda _timeline: [(1, 2, 2), (2, 3, 5)]
    monkeypatch.setattr(_locate, "_lines", lambda _source, timeline, *words: source.lines(_source, timeline, *words) if timeline == 1 else [])
    assert _locate.locate(source, [dict(begin_lsn="0/2000028")], 2, target("name", "befor"), names) is None
    assert names == set()


def stopping(source, moment, exclusive=False, end="0/3000000", guess=(1, 3), most=9):
    """stops_by of a backup that began with the segment 3."""
    utc = datetime.strptime(f"2026-11-23 {moment} +0000", f"%Y-%m-%d %H:%M:%S{'.%f' if '.' in moment else ''} %z")
    return _locate.stops_by(source, 1, dict(begin_lsn="0/3000000", end_lsn=end), SimpleNamespace(utc=utc, exclusive=exclusive), guess, most)


@pytest.mark.parametrize("moment, exclusive, place, read", [
    ("05:00:01", False, 0x30000A0, [(3, 4)]),
    ("05:00:01.000001", False, 0x30000D0, [(3, 4)]),
    ("05:00:01.000001", True, 0x30000A0, [(3, 4)]),
    ("05:00:03.5", False, 0x4000028, [(3, 4), (4, 6)]),            # what begins in the next segment is found there
    ("05:00:04.000001", False, None, [(3, 4), (4, 6)]),
])
def test_where_postgresql_stops_for_a_time(monkeypatch, moment, exclusive, place, read):
    source = Source(monkeypatch)
    assert stopping(source, moment, exclusive) == (place, None)
    assert source.read == read


@pytest.mark.parametrize("guess, most, read", [
    ((1, 5), 0, [(5, 6)]), ((1, 5), 1, [(3, 4), (4, 5), (5, 6)]), ((1, 4), 9, [(3, 4), (4, 5), (5, 6)]), ((1, 9), 9, []),
])
def test_how_much_is_read_to_find_where(monkeypatch, guess, most, read):
    """The backup's own WAL, some of what is before the guess, and on from there as far as needed; nothing for a segment that is not there."""
    source = Source(monkeypatch)
    assert stopping(source, "06:00:00", end="0/4000000", guess=guess, most=most) == (None, None)
    assert source.read == read


@pytest.mark.parametrize("moment, end, place, disorder", [
    ("05:00:01", "0/30000B0", None, ("0/30000A0", True)),          # not consistent there
    ("05:00:01", "0/30000A0", 0x30000A0, None),
    ("05:00:02.5", "0/3000000", 0x30001D0, None),
])
def test_a_clock_that_was_ahead_during_the_backup(monkeypatch, moment, end, place, disorder):
    found, what = stopping(Source(monkeypatch), moment, end=end)
    assert found == place and (what and (what["lsn"], what["inside"])) == disorder


@pytest.mark.parametrize("seconds, disorder", [("02.4", None), ("01.4", "0/4000100")])
def test_a_clock_that_was_set_back(monkeypatch, seconds, disorder):
    """Commits that were taken side by side are not in the order of their times; more than a second is another thing."""
    source = Source(monkeypatch)
    again = ("rmgr: Transaction len (rec/tot): 34/ 34, tx: 752, lsn: 0/04000100, prev 0/04000028, "
             f"desc: COMMIT 2026-11-23 05:00:{seconds}00000 UTC")
    monkeypatch.setattr(_locate, "_lines", lambda *words: source.lines(*words) + ([again] if words[2] <= 4 <= words[3] else []))
    found, what = stopping(source, "05:00:02.5", guess=(1, 4))
    assert found == 0x30001D0 and (what and what["lsn"]) == disorder


def test_pg_waldump_is_told_where_what_is_there_ends(monkeypatch, tmp_path):
    """It would wait five seconds for the segment after a switched one."""
    asked = []
    monkeypatch.setattr(_locate, "run_waldump", lambda command: asked.append(command) or "")
    archive = SimpleNamespace(path=lambda name: str(tmp_path / name), received={})
    source = SimpleNamespace(size=SIZE, program="pg_waldump", archive=archive, tree=Tree([dict(timeline=1, parent=None, switch_lsn=None)], SIZE))
    for number in (3, 4):
        (tmp_path / f"00000001{number:016X}").write_bytes(b"\x16\xd1")
    assert _locate._lines(source, 1, 3, 5, "--rmgr=XLOG") == []
    assert [word for word in asked[0] if word.startswith(("--start", "--end"))] == ["--start=0/3000000", "--end=0/5000000"]
    assert _locate._lines(source, 1, 6, 7, "--rmgr=XLOG") == [] and len(asked) == 1


def test_what_goes_on_in_a_branch_is_read_from_there(monkeypatch, tmp_path):
    """The old branch never completed its segment 5; the branch that holds most of it has its bytes."""
    for name in ("000000010000000000000004", "000000020000000000000005", "000000030000000000000005"):
        (tmp_path / name[:16]).mkdir(exist_ok=True)
        (tmp_path / name[:16] / name).write_bytes(name.encode())
    switches = {1: (None, None), 2: (1, "0/5000100"), 3: (1, "0/5000200")}
    parents = [dict(timeline=number, parent=parent, switch_lsn=lsn) for number, (parent, lsn) in switches.items()]
    source = SimpleNamespace(tree=Tree(parents, SIZE, {1: [4], 2: [5], 3: [5]}), archive=Archive(str(tmp_path)), size=SIZE, program="pg_waldump")
    read = {}

    def run(command):
        directory = command[1].partition("=")[2]
        read.update((name, (Path(directory) / name).read_text()) for name in os.listdir(directory))
        return ""

    monkeypatch.setattr(_locate, "run_waldump", run)
    _locate._lines(source, 1, 4, 5)
    assert read == {"000000010000000000000004": "000000010000000000000004", "000000010000000000000005": "000000030000000000000005"}


@pytest.mark.parametrize("place, included, found", [
    ("0/C004A0", False, False), ("0/C004C8", False, False), ("0/C008B8", False, True), ("0/C008E0", False, True), ("0/C008E0", True, False),
    ("0/C00A08", False, False),
])
def test_a_replay_that_ends_within_a_drop_database(monkeypatch, place, included, found):
    """It makes the database invalid at 0/C004C8, removes the files at 0/C008B8 and is committed at 0/C008E0."""
    records = (Path(__file__).parent / "recordings" / "pg_waldump" / "database-15.txt").read_text().splitlines()
    source = SimpleNamespace(size=1 << 20, stretches=lambda _timeline: [(1, 11, 13)], lines=lambda *_words: iter(records), archive=Archive("/nonexistent"))
    monkeypatch.setattr(_locate, "_lines", lambda *words: [line for line in records if f"rmgr: {words[-1].partition('=')[2]} " in line])
    drop = _locate.half_dropped(source, 1, place, included)
    assert (drop and (drop.undone_lsn, drop.databases)) == (("0/00C004C8", ["1663/16425"]) if found else None)


def test_what_is_no_drop_database_is_not_taken_for_one():
    head = "rmgr: Database    len (rec/tot):     38/    38, tx:{:>11}, lsn: 0/00C008B8, prev 0/00C00840, desc: "
    assert _locate.DROP_DATABASE.search(head.format(730) + "DROP dir 1663/16425")
    assert not _locate.DROP_DATABASE.search(head.format(0) + "DROP dir 1663/16425")          # ALTER DATABASE SET TABLESPACE
    assert not _locate.DROP_DATABASE.search(head.format(730) + "CREATE_WAL_LOG create dir 1663/16425")
