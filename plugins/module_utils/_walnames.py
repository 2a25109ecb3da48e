# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a transaction did, in names: its kind, its relations, and the recovery target that ends just before it."""
from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, field
from itertools import chain

from ._backups import COPIED, read_backups
from ._pgclass import Names, Relation, read_names
from ._wal import WalError, parse_lsn

KINDS = ("drop", "truncate", "delete", "update")          # the gravest first
PARTS = ("index", "toast", "partitioned index", "type")   # what belongs to a table
FILELESS = ("partitioned table", "view", "foreign table")
HEAPS = ("table", "materialized view")
FIRST_OID = 16384                                         # FirstNormalObjectId: below are the system catalogues


@dataclass
class Wanted:
    """What is looked for. name: 'schema.table', an oid, a path, or None; known: whether a catalogue has had such a name."""

    kinds: list
    name: str | None
    database: str | None
    minimum_rows: int
    known: bool = False
    named_until: int = 0                                  # what has this number or a lower one has a name elsewhere, and another one
    unnamed: int = 0                                      # transactions left out that may have done it: no name tells
    exchanged: set = field(default_factory=set)           # pairs of database and oid, altered together with it: they may have got its name
    unnamed_databases: list = field(default_factory=list)     # databases that were dropped

    def __post_init__(self):
        if self.name and not re.fullmatch(r"\d+|\d+/\d+/\d+", self.name) and "." not in self.name:
            self.name = f"public.{self.name}"
        self.known = bool(self.name) and "." not in self.name

    def fits(self, relation):
        """Whether one relation of a transaction is the one that is looked for."""
        return self.in_database(relation) and (not self.name or self.name in (relation["name"], str(relation["oid"]), relation["path"]))

    def may_be(self, relation):
        """Whether a relation without a name may be the one that is looked for. Numbers only grow."""
        number = relation["oid"] or (relation["path"] or "").rpartition("/")[2]
        return self.in_database(relation) and bool(number) and int(number) > self.named_until

    def note_exchange(self, entry, catalogues):
        """Keep in mind which tables a transaction altered together with the one that is looked for: loads make a table and give it the name."""
        altered = entry.class_updated > len(entry.created) if entry.class_seen else not entry.created
        if self.name and altered and len(entry.locks) > 1 and any(map(self.fits, _locked(entry, catalogues.at(entry.commit_lsn)))):
            self.exchanged.update(entry.locks)

    def in_database(self, relation):
        """Whether a relation is in the database that is looked in."""
        return not self.database or self.database in (relation["database"], relation["database_oid"])


class Catalogues:
    """The names as they were at an LSN: from a data directory, or the newest base backup that ended before.

    known: Relations as dicts that go before what is found there.
    """

    def __init__(self, source, server=None, data_directory=None, known=()):
        self.major = source.major
        self.known = [Relation(**one) for one in known]
        self.places = [(0, data_directory)] if data_directory else []
        if data_directory and not os.path.isfile(os.path.join(data_directory, "global", "pg_filenode.map")):
            raise WalError(f"{data_directory} is not a data directory that this user can read")
        if server and not data_directory:
            base = server.directory("basebackups_directory")
            for backup in read_backups(server):
                data = os.path.join(base, backup["backup_id"], "data")
                if backup["status"] in COPIED and backup["end_lsn"] and os.path.isfile(os.path.join(data, "global", "pg_filenode.map")):
                    self.places.append((parse_lsn(backup["end_lsn"]), data))
        self._last = (None, self._add_known(Names()))

    def at(self, lsn):
        """The Names at an LSN given as text; before the first backup, those of the first."""
        position = parse_lsn(lsn)
        earlier = [data for end, data in self.places if end <= position] or [data for _end, data in self.places[:1]]
        data = earlier[-1] if earlier else None
        if data != self._last[0]:
            self._last = (data, self._add_known(read_names(data, self.major)))
        return self._last[1]

    def _add_known(self, names):
        for one in self.known:
            names.by_oid[one.database_oid, one.oid] = names.by_path[one.path] = one
            names.databases[one.database_oid] = one.database
        return names

    def class_files(self):
        """Files of pg_class, as the newest backup has them."""
        return read_names(self.places[-1][1], self.major).class_files if self.places else ()

    def named_until(self):
        """The largest number of a relation or a file in the newest backup: everything up to it was there, or was gone before."""
        rows = read_names(self.places[-1][1], self.major).by_oid.values() if self.places else ()
        return max((int(number) for row in rows for number in (row.oid, row.path.rpartition("/")[2])), default=0)

    def named(self, wanted):
        """The Relations of the name that is looked for, as the newest catalogue has them that knows it."""
        catalogues = chain([self.known], (read_names(data, self.major).by_oid.values() for _end, data in self.places[::-1]))
        fitting = ([row for row in rows if wanted.name == row.name and wanted.database in (None, row.database, row.database_oid)] for rows in catalogues)
        return next(filter(None, fitting), [])

    def refuse_unknown(self, wanted, others=()):
        """Nothing was found of a name that no catalogue has: that is no answer."""
        raise WalError(
            f"none of the {len(self.places)} base backups or data directories that can be read here knows {wanted.name}, so WAL, which holds numbers "
            f"only, cannot be searched for it: it may have been created after the last backup. Search without relation, and look for one without a name",
            others=list(others),
        )


def describe(entry, timeline, catalogues, wanted):
    """A Transaction as a dict of transactions[], or None when it is not wanted."""
    wanted.note_exchange(entry, catalogues)
    grave = entry.may_drop or entry.may_truncate or entry.rewritten
    big = any(max(counts[1:]) >= wanted.minimum_rows and _is_user(path) for path, counts in entry.rows.items())
    if not (grave or big or "commit" in wanted.kinds):
        return None
    names = catalogues.at(entry.commit_lsn)
    mixed = _mixed(entry, names)
    done = {
        "drop": _dropped(entry, names) if entry.may_drop else [],
        "truncate": _truncated(entry, names) if entry.may_truncate else mixed if not wanted.name else [],
        "delete": _written(entry, names, 2, wanted.minimum_rows),
        "update": _written(entry, names, 1, wanted.minimum_rows),
        "commit": _written(entry, names),
    }
    grave_kinds = set(KINDS[:2]) & set(wanted.kinds)
    lost = [relation for kind in grave_kinds for relation in done[kind]]
    nameless = [relation for relation in lost if relation["name"] is None]
    if wanted.name and not any(wanted.fits(relation) for kind in KINDS for relation in done[kind]):
        exchanged = [relation for relation in lost if (relation["database_oid"], str(relation["oid"])) in wanted.exchanged]
        wanted.unnamed += any(map(wanted.may_be, nameless)) or bool(grave_kinds) and any(map(wanted.fits, mixed)) or bool(exchanged)
        wanted.unnamed_databases += [one["database"] for one in nameless if not (one["oid"] or one["path"]) and wanted.in_database(one)]
    done = {kind: [relation for relation in relations if wanted.fits(relation)] for kind, relations in done.items()}
    matching = [kind for kind in KINDS if done[kind] and (kind in wanted.kinds or "commit" in wanted.kinds)]
    if not matching and ("commit" not in wanted.kinds or (not done["commit"] and (wanted.name or wanted.database))):
        return None
    kind = matching[0] if matching else "commit"
    relations = [{key: value for key, value in relation.items() if key != "database_oid"} for relation in done[kind]]
    common = dict(target_exclusive=True, target_timeline=timeline)
    before_lock = entry.lock_lsn if entry.lock_seen else None
    target = target_inspect = entry.undone_lsn            # what DROP DATABASE removes does not wait for its commit
    if not entry.databases:
        target, target_inspect = entry.commit_lsn, (before_lock or entry.commit_lsn) if entry.lock_seen else None
    return dict(
        xid=entry.xid, kind=kind, commit_time=entry.commit_time.isoformat(timespec="microseconds"), first_lsn=_plain(entry.first_lsn),
        lock_lsn=_plain(before_lock), commit_lsn=_plain(entry.commit_lsn), timeline=timeline, relations=relations,
        target=dict(common, target_lsn=_plain(target)),
        target_inspect=dict(common, target_lsn=_plain(target_inspect)) if target_inspect else None,
        commits_between=entry.commits_between,
    )


def nearest(name, transactions, limit=10):
    """Of transactions[] those whose relations are called most like a name, the newest first among equals."""
    likeness = difflib.SequenceMatcher(b=name or "")

    def distance(transaction):
        ratios = [0]
        for relation in transaction["relations"]:
            likeness.set_seq1(relation["name"] or "")
            ratios.append(likeness.ratio())
        return -max(ratios)

    return sorted(reversed(transactions), key=distance)[:limit]


def _dropped(entry, names):
    """What is gone: by oid where the commit record has oids, else by file, else what was locked, if no more than what is gone was locked:
    DROP INDEX locks the table too."""
    found = [_relation(entry, names, path=None, pair=pair, evidence="catalog") for pair in entry.gone]
    if not entry.dropped:
        found = [_relation(entry, names, path=path, evidence="storage") for path in entry.lost]
    if not entry.removed:                                 # a view, or a temporary table of which WAL knows nothing else
        found = [relation for relation in found if relation["name"]]
    told = _told(found)
    found = _tables(found)
    if not entry.dropped:
        locked = _tables(_locked(entry, names))
        all_gone = len(set(entry.locks)) <= entry.class_deleted
        if told:
            found += [relation for relation in locked if found and all_gone and relation["type"] in FILELESS]
        elif all_gone or not entry.removed:
            found += locked
    for place in entry.databases:
        oid = place.split("/")[1]
        found.append(_blank(names, oid, None, None, "storage"))
    return found


def _truncated(entry, names):
    """Whose storage was replaced; when a rewrite after the backup gave it another file, what was locked. A partitioned table has no storage."""
    found = [_relation(entry, names, path=path, evidence="storage") for path in entry.lost]
    locked = _locked(entry, names)
    if not _told(found):
        return _tables(locked or found)
    found = _tables(found)
    return found + [relation for relation in locked if found and relation["type"] == "partitioned table"]


def _mixed(entry, names):
    """What a transaction locked that wrote some tables anew, but not so many: one of these may have been truncated (up to PostgreSQL 14, dropped),
    and nothing tells which."""
    locked = [relation for relation in _locked(entry, names) if relation["type"] in HEAPS] if entry.rewritten else []
    return locked if len(locked) > len(entry.rewritten) else []


def _told(relations):
    """Whether names tell what it was: a table has one, or all of them are parts of tables."""
    return any(relation["name"] for relation in _tables(relations)) or bool(relations) and all(relation["name"] for relation in relations)


def _locked(entry, names):
    return [_relation(entry, names, pair=pair, evidence="lock") for pair in entry.locks if pair in names.by_oid]


def _written(entry, names, column=None, minimum=1):
    chosen = [path for path, counts in entry.rows.items() if _is_user(path) and (column is None or counts[column] >= minimum)]
    found = [_relation(entry, names, path=path, evidence="storage") for path in chosen]
    return [relation for relation in found if relation["type"] != "toast" and (relation["oid"] is None or relation["oid"] >= FIRST_OID)]


def _tables(relations):
    """Without indexes and toast tables: they go with their table."""
    return [relation for relation in relations if relation["type"] not in PARTS]


def _relation(entry, names, path=None, pair=None, evidence=None):
    row = names.by_path.get(path) if path else names.by_oid.get(pair)
    database = path.split("/")[1] if path else pair[0]
    shown = _blank(names, database, int(pair[1]) if pair else None, path, evidence)
    if row:
        shown.update(name=row.name, type=row.type, oid=int(row.oid), path=path or row.path)
    shown.update(zip(("inserted", "updated", "deleted"), entry.rows.get(shown["path"], (0, 0, 0))))
    return shown


def _blank(names, database, oid, path, evidence):
    return dict(
        name=None, type=None, database=names.databases.get(database, database), database_oid=database, oid=oid, path=path, evidence=evidence,
        inserted=0, updated=0, deleted=0,
    )


def _is_user(path):
    return int(path.rpartition("/")[2]) >= FIRST_OID


def _plain(lsn):
    """An LSN without the leading zeros of pg_waldump."""
    return lsn and "/".join(f"{int(part, 16):X}" for part in lsn.split("/"))
