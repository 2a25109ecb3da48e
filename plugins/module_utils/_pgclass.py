# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of relations, read from the files of a data directory at rest (a base backup): WAL itself holds oids only.

pg_class, pg_namespace and pg_database have the same leading columns, all of fixed width, in PostgreSQL 12 to 18
(src/include/catalog/pg_class.h). A base backup may hold a torn page or several versions of a row; names do not mind.
"""
from __future__ import annotations

import glob
import os
import struct
from dataclasses import dataclass, field

PAGE_BYTES = 8192
MAP_MAGIC = 0x592717                          # src/backend/utils/cache/relmapper.c
PG_DATABASE, PG_CLASS, PG_NAMESPACE = 1262, 1259, 2615
DEFAULT_SPACE = 1663
NORMAL_POINTER = 1
XMAX_INVALID = 0x0800
# oid, relname, relnamespace, reltype, reloftype, relowner, relam, relfilenode, reltablespace
CLASS_ROW = struct.Struct("<I64s7I")
KIND_OFFSETS = (115, 119)                     # up to 17, from 18 on (relallfrozen)
KINDS = {"r": "table", "i": "index", "S": "sequence", "t": "toast", "v": "view", "m": "materialized view", "f": "foreign table",
         "p": "partitioned table", "I": "partitioned index", "c": "type"}


@dataclass
class Relation:
    """A row of pg_class."""

    database: str
    database_oid: str
    oid: str
    name: str
    type: str
    path: str


@dataclass
class Names:
    """Every relation of the databases of one data directory."""

    databases: dict = field(default_factory=dict)       # oid -> name
    by_oid: dict = field(default_factory=dict)          # (database oid, oid) -> Relation
    by_path: dict = field(default_factory=dict)         # 'tablespace/database/filenode' -> Relation
    class_files: set = field(default_factory=set)


def read_names(data_directory, major):
    """The Names in a data directory. What cannot be read is left out."""
    names = Names()
    shared = _map(os.path.join(data_directory, "global"))
    for row in _rows(os.path.join(data_directory, "global", str(shared.get(PG_DATABASE, PG_DATABASE)))):
        names.databases[str(struct.unpack_from("<I", row)[0])] = _text(row[4:68])
    for directory in sorted(glob.glob(os.path.join(glob.escape(data_directory), "base", "[0-9]*"))):
        _read_database(names, directory, os.path.basename(directory), DEFAULT_SPACE, major)
    for directory in sorted(glob.glob(os.path.join(glob.escape(data_directory), "pg_tblspc", "*", f"PG_{major}_*", "[0-9]*"))):
        if os.path.exists(os.path.join(directory, "pg_filenode.map")):
            _read_database(names, directory, os.path.basename(directory), int(directory.split(os.sep)[-3]), major)
    return names


def _read_database(names, directory, database, space, major):
    node = _map(directory).get(PG_CLASS)
    if node is None:
        return
    names.class_files.add(f"{space}/{database}/{node}")
    offset = KIND_OFFSETS[major >= 18]
    rows = [(CLASS_ROW.unpack_from(row), chr(row[offset])) for row in _rows(os.path.join(directory, str(node))) if len(row) > offset]
    schemas = {}
    own = next((fields[7] for fields, _kind in reversed(rows) if fields[0] == PG_NAMESPACE), PG_NAMESPACE)
    for row in _rows(os.path.join(directory, str(own))):
        schemas[struct.unpack_from("<I", row)[0]] = _text(row[4:68])
    for fields, kind in rows:
        path = f"{fields[8] or space}/{database}/{fields[7]}"
        name = f"{schemas.get(fields[2], fields[2])}.{_text(fields[1])}"
        relation = Relation(names.databases.get(database, database), database, str(fields[0]), name, KINDS.get(kind, kind), path)
        names.by_oid[database, relation.oid] = relation
        if fields[7]:
            names.by_path[path] = relation


def _map(directory):
    """oid -> filenode of the catalogues whose file pg_class cannot tell."""
    try:
        with open(os.path.join(directory, "pg_filenode.map"), "rb") as source:
            data = source.read()
        magic, count = struct.unpack_from("<Ii", data)
        return dict(struct.unpack_from("<II", data, 8 + 8 * index) for index in range(count)) if magic == MAP_MAGIC else {}
    except (OSError, struct.error):
        return {}


def _rows(path):
    """The data of all rows in a heap file, the ones that nobody has deleted last."""
    deleted, living = [], []
    for part in [path] + sorted(glob.glob(glob.escape(path) + ".[0-9]*")):
        try:
            with open(part, "rb") as source:
                for page in iter(lambda source=source: source.read(PAGE_BYTES), b""):
                    for row, alive in _page(page):
                        (living if alive else deleted).append(row)
        except OSError:
            continue
    return deleted + living


def _page(page):
    if len(page) < PAGE_BYTES:
        return
    lower = struct.unpack_from("<H", page, 12)[0]
    for position in range(24, min(lower, PAGE_BYTES - 3), 4):
        pointer = struct.unpack_from("<I", page, position)[0]
        start, flags, length = pointer & 0x7FFF, pointer >> 15 & 3, pointer >> 17
        if flags != NORMAL_POINTER or length < 92 or start + length > PAGE_BYTES:
            continue
        xmax, mask, header = struct.unpack_from("<I", page, start + 4)[0], struct.unpack_from("<H", page, start + 20)[0], page[start + 22]
        if header < length:
            yield page[start + header:start + length], xmax == 0 or bool(mask & XMAX_INVALID)


def _text(raw):
    return raw.split(b"\0")[0].decode("utf-8", "replace")
