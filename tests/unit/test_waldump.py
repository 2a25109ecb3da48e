# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transactions in recorded output of pg_waldump, and names in pages of pg_class.

The recordings hold, of one workload: a drop of the tables a and b in one transaction while two others committed, TRUNCATE tr, a DELETE and
an UPDATE of big (every 250th record), VACUUM FULL, REINDEX and ALTER TABLE of re, a temporary table, a table without a name (created after
the backup) dropped, and DROP of tr under the file that TRUNCATE gave it.
"""
from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._pgclass import CLASS_ROW, Names, Relation, read_names
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import WalError
from ansible_collections.pgrescue.barman.plugins.module_utils._waldump import Collector
from ansible_collections.pgrescue.barman.plugins.module_utils._walnames import Catalogues, Wanted, describe, nearest

RECORDINGS = Path(__file__).parent / "recordings" / "pg_waldump"
MAJORS = (15, 17)
# What the base backup before the workload knew: oid, name, type; file and oid were still the same.
BACKUP = [
    (16384, "public.ledger", "table"), (16391, "public.a", "table"), (16394, "pg_toast.pg_toast_16391", "toast"),
    (16395, "pg_toast.pg_toast_16391_index", "index"), (16396, "public.a_pkey", "index"), (16398, "public.b", "table"), (16401, "public.big", "table"),
    (16404, "public.tr", "table"), (16407, "pg_toast.pg_toast_16404", "toast"), (16408, "pg_toast.pg_toast_16404_index", "index"),
    (16409, "public.tr_pkey", "index"), (16411, "public.re", "table"), (16414, "public.re_pkey", "index"),
]


class Known(Catalogues):
    def __init__(self, backup=None):
        self.names = Names(databases={"5": "postgres", "16443": "other"})
        self.places, self.known = [], []
        for oid, name, kind in backup or BACKUP:
            row = Relation("postgres", "5", str(oid), name, kind, f"1663/5/{oid}")
            self.names.by_oid["5", str(oid)] = self.names.by_path[row.path] = row

    def at(self, lsn):
        return self.names


def lines(name):
    return (RECORDINGS / f"{name}.txt").read_text().splitlines(True)


def old(text):
    """A record as PostgreSQL 13 and 14 write it: without the statistics."""
    return "; ".join(part for part in text.split("; ") if not part.startswith("dropped stats"))


def search(records, kinds=("drop", "truncate"), relation=None, database=None, minimum_rows=3, catalogues=None, named_until=0):
    collector, wanted = Collector(), Wanted(list(kinds), relation, database, minimum_rows)
    wanted.named_until = named_until
    entries = [entry for entry in map(collector.feed, records) if entry]
    found = [shown for shown in (describe(entry, 1, catalogues or Known(), wanted) for entry in entries) if shown]
    return found, wanted, collector


def brief(found):
    return [(one["kind"], [relation["name"] for relation in one["relations"]]) for one in found]


@pytest.mark.parametrize("major", MAJORS)
def test_drops_and_truncates(major):
    found, _wanted, collector = search(lines(major))
    assert [(kind, sorted(map(str, names))) for kind, names in brief(found)] == [
        ("drop", ["public.a", "public.b"]), ("truncate", ["public.tr"]), ("drop", ["None"]), ("drop", ["public.tr"]),
    ]
    assert found[2]["relations"][0]["oid"] == 16436
    assert not collector.open


@pytest.mark.parametrize("major", MAJORS)
def test_without_statistics(major):
    """Up to PostgreSQL 14 the files tell; of a table whose file changed since the backup, its lock."""
    found = search([old(line) for line in lines(major)])[0]
    assert [(kind, sorted({str(name) for name in names})) for kind, names in brief(found)] == [
        ("drop", ["public.a", "public.b"]), ("truncate", ["public.tr"]), ("drop", ["None"]), ("drop", ["None", "public.tr"]),
    ]
    assert [relation["evidence"] for relation in found[3]["relations"] if relation["name"]] == ["lock"]


@pytest.mark.parametrize("major", MAJORS)
def test_targets(major):
    drop = search(lines(major), relation="a")[0][0]
    assert drop["commits_between"] == 2
    assert drop["target"] == dict(target_lsn=drop["commit_lsn"], target_exclusive=True, target_timeline=1)
    assert drop["target_inspect"] == dict(drop["target"], target_lsn="0/30001C0")
    assert drop["first_lsn"] < drop["lock_lsn"] < drop["commit_lsn"]
    assert drop["commit_time"].startswith("2026-11-23T04:") and drop["commit_time"].endswith("+00:00")


@pytest.mark.parametrize("major", MAJORS)
def test_lock_from_before(major):
    """Read from the middle, the snapshot of all locks says that there was one, not since when."""
    records = lines(major)
    lock = next(line for line in records if "desc: LOCK " in line)
    xid = lock.split("tx:")[1].split(",")[0].strip()
    drop = search([lock.replace(f"{xid}, lsn", "0, lsn")] + [line for line in records if "desc: LOCK " not in line])[0][0]
    assert drop["xid"] == int(xid) and drop["lock_lsn"] is None and drop["target_inspect"] is None and drop["target"]


@pytest.mark.parametrize("major", MAJORS)
def test_rows(major):
    found = search(lines(major), kinds=("delete", "update"))[0]
    assert brief(found) == [("delete", ["public.big"]), ("update", ["public.big"])]
    assert found[0]["relations"][0]["deleted"] == 16
    assert not search(lines(major), kinds=("delete",), minimum_rows=17)[0]


@pytest.mark.parametrize("major", MAJORS)
def test_commits(major):
    found = search(lines(major), kinds=("commit",), minimum_rows=1000)[0]
    assert len(found) == sum("desc: COMMIT" in line for line in lines(major))
    assert len(search(lines(major), kinds=("commit",), relation="public.ledger")[0]) == 8      # seven of them only that, and the drop


@pytest.mark.parametrize("relation, database, number", [
    ("public.a", None, 1), ("a", "postgres", 1), ("16391", "5", 1), ("1663/5/16391", None, 1), ("public.a", "other", 0), ("public.ledger", None, 0),
])
def test_relation(relation, database, number):
    found, wanted, _collector = search(lines(17), relation=relation, database=database)
    assert len(found) == number and wanted.unnamed == (database != "other")      # nothing in another database is it


def test_unknown_name():
    with pytest.raises(WalError, match="knows public.never.*Search without relation") as caught:
        Known().refuse_unknown(Wanted(["drop"], "public.never", None, 1), ["what is nearest"])
    assert caught.value.details == dict(others=["what is nearest"])


def test_nearest():
    found = search(lines(17))[0]
    assert [one["xid"] for one in nearest("public.tt", found)] == [found[index]["xid"] for index in (3, 1, 0, 2)]
    assert nearest("public.tt", found, 1) == [found[3]]


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("known, database, number", [("16391", None, 1), ("16391", "elsewhere", 0), ("4", None, 0)])
def test_name_known_from_elsewhere(major, known, database, number):
    """As in pg_wal of a running server, whose catalogue has forgotten the table."""
    row = dict(name="public.a", type="table", database="postgres", database_oid="5", oid=known, path=f"1663/5/{known}")
    catalogues, wanted = Catalogues(SimpleNamespace(major=major), known=[row]), Wanted(["drop", "truncate"], "public.a", database, 1)
    assert bool(catalogues.named(wanted)) == (database is None)
    collector = Collector()
    for records in (lines(major), [old(line) for line in lines(major)]):
        entries = [entry for entry in map(collector.feed, records) if entry]
        found = [shown for shown in (describe(entry, 1, catalogues, wanted) for entry in entries) if shown]
        assert [one["relations"][0]["name"] for one in found] == ["public.a"] * number


def test_what_is_no_record():
    collector = Collector()
    assert [collector.feed(line) for line in ("", "pg_waldump: error: x\n", "rmgr: ", "\tBLKREF\n")] == [None] * 4


def test_abort_and_crash_hold_no_memory():
    collector = Collector()
    record = "rmgr: {} len (rec/tot):     34/    34, tx:        {}, lsn: 0/0300{:04X}, prev 0/03000000, desc: {}\n"
    collector.feed(record.format("Heap", 800, 1, "INSERT off: 1, flags: 0x00, blkref #0: rel 1663/5/16384 blk 0"))
    collector.feed(record.format("Heap", 801, 2, "INSERT off: 1, flags: 0x00, blkref #0: rel 1663/5/16384 blk 0"))
    assert collector.feed(record.format("Transaction", 800, 3, "ABORT 2026-11-23 04:00:00.000000 UTC")) is None
    assert list(collector.open) == [801]
    collector.feed(record.format("Standby", 0, 4, "RUNNING_XACTS nextXid 803 latestCompletedXid 802 oldestRunningXid 803"))
    assert not collector.open


@pytest.mark.parametrize("kind, value, place", [("xid", "800", "0/03000001"), ("name", "before", "0/03000002"), ("name", "befor", None), (None, None, None)])
def test_where_a_target_is_and_which_restore_points_there_are(kind, value, place):
    collector = Collector(target=SimpleNamespace(type=kind, value=value) if kind else None)
    record = "rmgr: {} len (rec/tot):     34/    34, tx:        {}, lsn: 0/0300{:04X}, prev 0/03000000, desc: {}\n"
    for manager, xid, position, what in (
        ("Transaction", 800, 1, "ABORT 2026-11-23 04:00:00.000000 UTC"), ("XLOG", 0, 2, "RESTORE_POINT before"), ("XLOG", 0, 3, "RESTORE_POINT before"),
        ("XLOG", 0, 4, "CHECKPOINT_SHUTDOWN redo 0/3000004"),
    ):
        collector.feed(record.format(manager, xid, position, what))
    assert collector.target_lsn == place
    assert collector.restore_points == [("0/03000002", "before"), ("0/03000003", "before")]


def test_prepared():
    collector = Collector()
    record = "rmgr: {} len (rec/tot):     34/    34, tx:        {}, lsn: 0/0300{:04X}, prev 0/03000000, desc: {}\n"
    collector.feed(record.format("Standby", 800, 1, "LOCK xid 800 db 5 rel 16391 "))
    collector.feed(record.format("Transaction", 800, 2, "PREPARE gid x: 2026-11-23 04:00:00.000000 UTC"))
    rels = "base/5/16391 pg_tblspc/16500/PG_17_202406281/5/7"
    done = collector.feed(record.format("Transaction", 0, 3, f"COMMIT_PREPARED 800: 2026-11-23 04:00:01.000000 UTC; rels: {rels}"))
    assert (done.xid, done.first_lsn, done.commit_lsn) == (800, "0/03000001", "0/03000003")
    assert done.removed == ["1663/5/16391", "16500/5/7"]


def page(rows):
    """A heap page; rows: (data, xmax)."""
    data, pointers, end = bytearray(8192), [], 8192
    for row, xmax in rows:
        header = struct.pack("<IIIHHHHHB", 1, xmax, 0, 0, 0, 1, 33, 0x0800 if not xmax else 0, 24) + b"\0"
        item = header + row
        end = (end - len(item)) & ~7
        data[end:end + len(item)] = item
        pointers.append(end | 1 << 15 | len(item) << 17)
    struct.pack_into("<H", data, 12, 24 + 4 * len(pointers))
    struct.pack_into(f"<{len(pointers)}I", data, 24, *pointers)
    return bytes(data)


@pytest.mark.parametrize("major, offset", [(13, 115), (17, 115), (18, 119)])
def test_names_from_pages(tmp_path, major, offset):
    def row(oid, name, schema, node, kind, space=0):
        fixed = CLASS_ROW.pack(oid, name.encode(), schema, 0, 0, 10, 2, node, space)
        return (fixed + bytes(60))[:offset] + kind.encode() + bytes(40)

    def filemap(directory, pairs):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "pg_filenode.map").write_bytes(struct.pack("<Ii", 0x592717, len(pairs)) + b"".join(struct.pack("<II", *pair) for pair in pairs))

    filemap(tmp_path / "global", [(1262, 1262)])
    (tmp_path / "global" / "1262").write_bytes(page([(struct.pack("<I64s", 5, b"shop") + bytes(60), 0)]))
    filemap(tmp_path / "base" / "5", [(1259, 20001)])
    rows = [(row(2615, "pg_namespace", 11, 2615, "r"), 0), (row(16390, "customer", 2200, 16399, "r"), 0), (row(16390, "older", 2200, 16390, "r"), 77),
            (row(16391, "elsewhere", 2200, 16391, "p", 16500), 0)]
    (tmp_path / "base" / "5" / "20001").write_bytes(page(rows) + b"torn")
    (tmp_path / "base" / "5" / "2615").write_bytes(page([(struct.pack("<I64s", 2200, b"public") + bytes(60), 0)]))
    names = read_names(str(tmp_path), major)
    assert names.by_oid["5", "16390"].name == names.by_path["1663/5/16399"].name == "public.customer"
    assert names.by_path["1663/5/16390"].name == "public.older"
    assert names.by_path["16500/5/16391"].type == "partitioned table"
    assert names.by_oid["5", "16390"].database == "shop" and names.class_files == {"1663/5/20001"}
    assert read_names(str(tmp_path / "nowhere"), major).by_oid == {}


# Of another workload, of PostgreSQL 15, with a restore point before each: what the base backup before it knew.
LATER = [
    (16385, "public.a", "table"), (16388, "pg_toast.pg_toast_16385", "toast"), (16389, "pg_toast.pg_toast_16385_index", "index"),
    (16390, "public.a_pkey", "index"), (16392, "public.b", "table"), (16395, "pg_toast.pg_toast_16392", "toast"),
    (16396, "pg_toast.pg_toast_16392_index", "index"), (16397, "public.b_pkey", "index"), (16399, "public.c", "table"),
    (16402, "pg_toast.pg_toast_16399", "toast"), (16403, "pg_toast.pg_toast_16399_index", "index"), (16404, "public.c_pkey", "index"),
    (16406, "public.c_t", "index"), (16407, "public.d", "table"), (16410, "pg_toast.pg_toast_16407", "toast"),
    (16411, "pg_toast.pg_toast_16407_index", "index"), (16412, "public.d_pkey", "index"), (16414, "public.e", "table"), (16417, "public.e_n", "index"),
    (16418, "public.mv", "materialized view"), (16421, "pg_toast.pg_toast_16418", "toast"), (16422, "pg_toast.pg_toast_16418_index", "index"),
    (16424, "public.part", "partitioned table"), (16427, "public.part_1", "table"), (16430, "public.f", "table"),
    (16433, "pg_toast.pg_toast_16430", "toast"), (16434, "pg_toast.pg_toast_16430_index", "index"), (16435, "public.f_pkey", "index"),
    (16437, "public.m", "table"), (16440, "public.old", "table"),
]
WORKLOAD = {
    "truncate, temporary table": [("truncate", ["public.a"])],
    "truncate, table": [("truncate", ["public.b"])],
    "truncate, table for a while": [("truncate", ["public.f"])],
    "drop and create": [("drop", ["public.old"])],
    "drop index": [], "drop constraint": [], "drop and create index": [],
    "vacuum full": [], "cluster": [], "refresh": [], "reindex": [],
    "truncate parent": [("truncate", ["public.part_1", "public.part"])],
    "truncate what was new": [], "tablespace": [],
    "drop database": [("drop", [None])],
}


def done_at(point, statistics=True):
    """The records from a restore point of the other workload to the next one."""
    records = (RECORDINGS / "etl-15.txt").read_text().split("rmgr: XLOG ")
    part = next(part for part in records if part.split("\n")[0].endswith(f"RESTORE_POINT {point}"))
    return [line if statistics else old(line) for line in part.splitlines(True)[1:]]


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("point, kinds", WORKLOAD.items())
def test_what_comes_with_something_else(point, kinds, statistics):
    assert brief(search(done_at(point, statistics), catalogues=Known(LATER))[0]) == kinds


@pytest.mark.parametrize("statistics, kinds", [(True, [("drop", [None])]), (False, [])])
def test_alter_type_of_a_table_with_an_index_without_name(statistics, kinds):
    """The index is made anew, under a new oid."""
    assert brief(search(done_at("alter type", statistics), catalogues=Known(LATER))[0]) == kinds


def test_index_without_a_name_and_without_statistics():
    """That the table was locked is no evidence that it is gone: more was locked than is gone."""
    known = Known([row for row in LATER if row[1] != "public.c_t"])
    found, wanted, _collector = search(done_at("drop index", False), relation="public.c", catalogues=known)
    assert (found, wanted.unnamed) == ([], 1)


@pytest.mark.parametrize("database, unnamed, dropped", [(None, 0, ["other"]), ("other", 0, ["other"]), ("postgres", 0, [])])
def test_database_that_is_gone(database, unnamed, dropped):
    """It may have had such a table, and is no relation without a name."""
    found, wanted, _collector = search(done_at("drop database"), relation="public.a", database=database, catalogues=Known(LATER))
    assert (found, wanted.unnamed, wanted.unnamed_databases) == ([], unnamed, dropped)


@pytest.mark.parametrize("until, unnamed", [(0, 1), (16439, 1), (16440, 0)])
@pytest.mark.parametrize("statistics", [True, False])
def test_what_a_backup_had_is_not_without_a_name(until, unnamed, statistics):
    """Numbers only grow: below the largest one of a backup, it is in there under another name than the one that is looked for."""
    known = Known([row for row in LATER if row[1] != "public.old"])
    wanted = search(done_at("drop and create", statistics), relation="public.a", catalogues=known, named_until=until)[1]
    assert wanted.unnamed == unnamed


# Of the recordings rewrite, pg_class, exchange and database.
THIRD = [
    (16384, "public.c", "table"), (16387, "pg_toast.pg_toast_16384", "toast"), (16388, "pg_toast.pg_toast_16384_index", "index"),
    (16389, "public.c_pkey", "index"), (16391, "public.inv", "table"), (16394, "pg_toast.pg_toast_16391", "toast"),
    (16395, "pg_toast.pg_toast_16391_index", "index"), (16396, "public.inv_pkey", "index"), (16398, "public.p2", "table"), (16401, "public.cnew", "table"),
    (16404, "public.cust", "table"), (16407, "public.other", "table"), (16410, "public.rw", "table"), (16413, "public.mv", "materialized view"),
    (16416, "pg_toast.pg_toast_16413", "toast"), (16417, "pg_toast.pg_toast_16413_index", "index"),
]


@pytest.mark.parametrize("statistics", [True, False])
def test_truncate_of_one_table_while_another_is_written_anew(statistics):
    """TRUNCATE c; ALTER TABLE inv with a new type and TRUNCATE c in one transaction; REFRESH mv and DROP rw in one; REFRESH mv; CLUSTER c."""
    records = [line if statistics else old(line) for line in lines("rewrite-15")]
    found, wanted, _collector = search(records, relation="public.c", catalogues=Known(THIRD))
    assert brief(found) == [("truncate", ["public.c"])] and wanted.unnamed == 1
    every = brief(search(records, catalogues=Known(THIRD))[0])
    assert every[:2] == [("truncate", ["public.c"]), ("truncate", ["public.inv", "public.c"])]
    # The toast table of the first REFRESH goes with the second one, and is no drop; up to PostgreSQL 14, nothing tells what was dropped beside the first.
    assert every[2:] == ([("drop", ["public.rw"])] if statistics else [("truncate", ["public.mv", "public.rw"])])
    found, wanted, _collector = search(records, relation="public.rw", catalogues=Known(THIRD))
    assert (brief(found), wanted.unnamed) == (([("drop", ["public.rw"])], 0) if statistics else ([], 1))


@pytest.mark.parametrize("statistics", [True, False])
def test_drop_whose_rows_of_pg_class_are_not_seen(statistics):
    """VACUUM FULL pg_class has given it another file, which the backup does not know."""
    records = [line if statistics else old(line) for line in lines("pg_class-15")]
    assert brief(search(records, catalogues=Known(THIRD))[0]) == [("drop", ["public.p2"]), ("truncate", ["public.cust"])]


@pytest.mark.parametrize("statistics", [True, False])
def test_drop_that_began_before_what_is_read(statistics):
    """Its commit record tells alone."""
    records = [line if statistics else old(line) for line in lines("exchange-15")]
    first = next(number for number, line in enumerate(records) if "desc: COMMIT" in line and "rels: base/5/16404" in line)
    found = search(records[first:], relation="public.cust", catalogues=Known(THIRD))[0]
    assert brief(found) == [("drop", ["public.cust"])]
    assert found[0]["target"]["target_lsn"] == found[0]["commit_lsn"]


def test_table_that_has_got_the_name():
    """cust and cnew change names in one transaction; DROP of the old cust, TRUNCATE other and rw, DROP of cust and of rw."""
    found, wanted, _collector = search(lines("exchange-15"), relation="public.cust", catalogues=Known(THIRD))
    assert brief(found) == [("drop", ["public.cust"])] and wanted.unnamed == 1
    found, wanted, _collector = search(lines("exchange-15"), relation="public.other", catalogues=Known(THIRD))
    assert brief(found) == [("truncate", ["public.other"])] and wanted.unnamed == 0        # TRUNCATE gives no name


def test_target_before_a_database_is_destroyed():
    """Replay removes its files when the commit is still to come; before that DROP DATABASE makes it invalid in place, under no transaction."""
    records = lines("database-15")
    drop = search(records, catalogues=Known(THIRD))[0][0]
    assert drop["commit_lsn"] == "0/C008E0" and drop["commits_between"] == 0
    assert drop["target"] == drop["target_inspect"] == dict(target_lsn="0/C004C8", target_exclusive=True, target_timeline=1)
    # Another commit in the same moment; and minor versions that do not make it invalid, where a VACUUM has changed the row long before.
    place = next(number for number, line in enumerate(records) if "INPLACE" in line)
    commit = records[place - 1].replace("729", "999").replace("0/00C004A0", "0/00C004C9")
    drop = search(records[:place + 1] + [commit] + records[place + 1:], catalogues=Known(THIRD))[0][0]
    assert (drop["target"]["target_lsn"], drop["commits_between"]) == ("0/C004C8", 1)
    drop = search(records[:place + 1] + [commit.replace("21:19:32", "21:29:32")] + records[place + 1:], catalogues=Known(THIRD))[0][0]
    assert (drop["target"]["target_lsn"], drop["commits_between"]) == ("0/C008B8", 0)
