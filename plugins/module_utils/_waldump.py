# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transactions and restore points in the output of pg_waldump (PostgreSQL 13 to 18). Pure: lines in, Transactions out, one pass.

What is held is one entry per transaction that is open at that point of WAL. What a transaction did to tables is told by:
LOCK (an AccessExclusiveLock, by oid), the rows that it removed from pg_class, the storage that it created, and in its
commit record the storage that it removed and, from PostgreSQL 15 on, the oids whose statistics went with it. Where its rows
of pg_class are not seen, because they came before what is read or pg_class has got another file, the commit record tells alone.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from ._wal import parse_lsn

LINE = re.compile(r"rmgr: (\w+) +len \(rec/tot\): +\d+/ +\d+, tx: +(\d+), lsn: ([0-9A-F/]+), prev [0-9A-F/]+, desc: ([A-Z_]+)\S* ?(.*)")
HEAD = re.compile(r"tx: +(\d+), lsn: ([0-9A-F/]+), prev ")
TOLD = frozenset(("Transaction", "Standby", "Storage", "Database", "Heap", "Heap2"))
COMMIT = re.compile(r"(?:(\d+): )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")
STORAGE = re.compile(r"(?:(base)|(global)|pg_tblspc/(\d+)/PG_\w+)/(?:(\d+)/)?(\d+)(?=[\s;]|$)")     # temporary and other forks do not match
LOCK = re.compile(r"xid (\d+) db (\d+) rel (\d+)")
BLOCK = re.compile(r"blkref #(\d): rel (\d+/\d+/\d+) (fork \w+ )?blk (\d+)")
OFFSET = re.compile(r"(?<!new_)(?<!old_)\boff:? (\d+)|\bold_off: (\d+)")
NEW_OFFSET = re.compile(r"new(?:_off:| off) (\d+)")
TUPLES = re.compile(r"(?:ntuples: )?(\d+)")
STATISTICS = re.compile(r"\b2/(\d+)/(\d+)\b")           # 2: PGSTAT_KIND_RELATION
OLDEST = re.compile(r"oldestRunningXid (\d+)")
DATABASE = re.compile(r"dir (\d+/\d+)|(\d+/\d+)")
COUNTED = {"INSERT": 0, "UPDATE": 1, "HOT_UPDATE": 1, "DELETE": 2}
GLOBAL_SPACE, DEFAULT_SPACE = "1664", "1663"
PG_DATABASE = "1664/0/1262"
XIDS = 1 << 32
AT_ONCE = timedelta(seconds=1)
ENDED = re.compile(r"tx: +(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .*?desc: (?:COMMIT|ABORT)(?:_PREPARED)? (?:(\d+): )?\d{4}-")
POINT = re.compile(r", lsn: ([0-9A-F]+/[0-9A-F]+), .*?desc: RESTORE_POINT (.*)")


def restore_points(lines):
    """LSN and name of each restore point in pg_waldump's lines."""
    return [(found[1], found[2].strip()) for found in map(POINT.search, lines) if found]


def matches(target, lines):
    """The LSNs of the records in pg_waldump's lines at which PostgreSQL would stop for a target of type xid or name."""
    if target.type == "name":
        return [lsn for lsn, name in restore_points(lines) if name == target.value]
    xid = str(int(target.value) % XIDS)
    return [found[2] for found in map(ENDED.search, lines) if found and (found[3] or found[1]) == xid]


@dataclass
class Transaction:
    """What WAL says of one transaction. Relations are file paths 'tablespace/database/filenode' or pairs (database, oid)."""

    xid: int
    first_lsn: str
    commits_before: int = 0                              # commits that had been seen at first_lsn or at the lock
    lock_lsn: str | None = None
    lock_seen: bool = True                               # False: the lock was taken before what was read
    commit_lsn: str | None = None
    commit_time: datetime | None = None
    commits_between: int = 0                             # other commits between the lock and the own commit
    locks: list = field(default_factory=list)            # (database, oid)
    rows: dict = field(default_factory=dict)             # path -> [inserted, updated, deleted]
    created: list = field(default_factory=list)          # paths
    removed: list = field(default_factory=list)          # paths, from the commit record
    dropped: list = field(default_factory=list)          # (database, oid), PostgreSQL 15 and later
    databases: list = field(default_factory=list)        # 'tablespace/database' of DROP DATABASE
    undone_lsn: str | None = None                        # from here on replay destroys such a database, whether it commits or not
    commits_then: int = 0                                # commits that had been seen there
    class_born: set = field(default_factory=set)         # places in pg_class that hold its own rows
    class_deleted: int = 0                               # rows of others that it removed from pg_class
    class_updated: int = 0                               # rows of others that it changed there
    class_inserted: int = 0
    class_undone: int = 0                                # its own rows that it removed again

    def absorb(self, other):
        """Take over what a subtransaction did."""
        if parse_lsn(other.first_lsn) < parse_lsn(self.first_lsn):
            self.first_lsn = other.first_lsn
        if other.lock_lsn and (not self.lock_lsn or parse_lsn(other.lock_lsn) < parse_lsn(self.lock_lsn)):
            self.lock_lsn, self.lock_seen, self.commits_before = other.lock_lsn, other.lock_seen, other.commits_before
        self.locks += other.locks
        self.created += other.created
        self.databases += other.databases
        if not self.undone_lsn:
            self.undone_lsn, self.commits_then = other.undone_lsn, other.commits_then
        for path, counts in other.rows.items():
            mine = self.rows.setdefault(path, [0, 0, 0])
            mine[:] = [one + two for one, two in zip(mine, counts)]
        self.class_deleted += other.class_deleted
        self.class_updated += other.class_updated
        self.class_inserted += other.class_inserted
        self.class_undone += other.class_undone

    @property
    def gone(self):
        """The oids that were dropped and had existed before, PostgreSQL 15 and later: a rewrite drops what it created."""
        born = {path.split("/")[2] for path in self.created}
        return [pair for pair in self.dropped if pair[1] not in born]

    @property
    def lost(self):
        """The files that it removed and had not created itself."""
        return [path for path in self.removed if path not in self.created]

    @property
    def kept(self):
        """The file numbers of what it created and did not remove."""
        return {path.split("/")[2] for path in self.created if path not in self.removed}

    @property
    def rewritten(self):
        """The tables that were written anew (VACUUM FULL, CLUSTER, ALTER TABLE, REFRESH), by the numbers of their new files: such a file was
        created for a relation that is gone, and is still there.

        Without statistics (up to PostgreSQL 14) every relation that it locked may be the one that is gone, if one of its own is.
        """
        if not (self.dropped or self.class_undone):
            return set()
        numbers = {int(oid) for _database, oid in self.dropped or self.locks if oid in self.kept}
        # A toast table has the number before its index's; between two tables are those of their types.
        return {number for number in numbers if not numbers & {number - 1, number + 1}} or numbers

    @property
    def class_seen(self):
        """Whether its rows of pg_class are seen."""
        return bool(self.class_deleted or self.class_updated or self.class_inserted or self.class_undone)

    @property
    def may_drop(self):
        """Whether a relation that existed before is gone (a table or only an index; the names tell)."""
        if self.databases:
            return True
        if not self.class_seen:
            return bool(self.gone) if self.dropped else bool(self.lost) and not self.created
        return bool(self.class_deleted) and (bool(self.gone) if self.dropped else not self.rewritten)

    @property
    def may_truncate(self):
        """Whether storage was replaced in the same place with nothing copied: TRUNCATE, or REINDEX (the names tell). Both change rows of
        pg_class, where its rows can be seen."""
        places = {path.rpartition("/")[0] for path in self.created}
        replaced = any(path.rpartition("/")[0] in places for path in self.lost)
        return replaced and not self.rewritten and bool(self.class_updated or not (self.class_inserted or self.class_deleted))


class Collector:
    """Fed with the records of one timeline in order; feed() returns a Transaction when its commit record comes."""

    def __init__(self, class_files=(), target=None, before=None):
        self.class_files = set(class_files)              # files of pg_class that do not have its first name, 1259
        self.target = target                             # of type xid or name
        self.target_lsn = None                           # the first record at which PostgreSQL would stop for it
        self.restore_points = []                         # LSN and name
        # What goes on from the stretch before, where nothing is missing in between.
        self.open = before.open if before else {}
        self.commits = before.commits if before else 0
        self.parts = before.parts if before else set()   # oids of what a rewrite has made: toast tables, and their indexes
        self.invalidated = before.invalidated if before else {}       # place in pg_database -> where it was changed in place, and what had been seen
        self.last_lsn = None
        self.last_time = None

    def feed(self, line):
        """Take one line of pg_waldump. Lines that are no record are passed over."""
        manager = line[6:line.find(" ", 6)]
        is_point = manager == "XLOG" and "RESTORE_POINT" in line           # most of XLOG's records are page images
        if is_point:
            self.restore_points += restore_points([line])
        if self.target and not self.target_lsn and (is_point or manager == "Transaction"):
            self.target_lsn = next(iter(matches(self.target, [line])), None)
        if manager not in TOLD:                           # most lines: only whose and where they are
            found = HEAD.search(line)
            if found and found[1] != "0":
                self._entry(int(found[1]), found[2])
            self.last_lsn = found[2] if found else self.last_lsn
            return None
        found = LINE.match(line)
        if not found:
            return None
        manager, xid, lsn, action, text = found.groups()
        self.last_lsn = lsn
        if manager == "Transaction":
            return self._transaction(int(xid), lsn, action, text)
        if manager == "Standby":
            self._standby(int(xid), lsn, action, text)
        elif action == "INPLACE":
            self._invalidate(lsn, text)
        elif xid != "0":
            entry = self._entry(int(xid), lsn)
            if manager == "Heap":
                self._heap(entry, action, text)
            elif manager == "Heap2" and action == "MULTI_INSERT":
                block = BLOCK.search(text)
                if block:
                    self._count(entry, block[2], 0, int(TUPLES.match(text)[1]))
            elif manager == "Storage" and action == "CREATE":
                entry.created += _paths(text)
            elif manager == "Database" and action == "DROP":
                entry.databases += [one or two for one, two in DATABASE.findall(text)]
                if not entry.undone_lsn:
                    entry.undone_lsn, entry.commits_then = lsn, self.commits
        return None

    def _entry(self, xid, lsn):
        entry = self.open.get(xid)
        if entry is None:
            entry = self.open[xid] = Transaction(xid, lsn, self.commits)
        return entry

    def _transaction(self, xid, lsn, action, text):
        if action not in ("COMMIT", "COMMIT_PREPARED", "ABORT", "ABORT_PREPARED"):
            if xid:
                self._entry(xid, lsn)
            return None
        ended = COMMIT.match(text)
        if not ended:
            return None
        xid = int(ended[1] or xid)
        parts = dict(part.partition(": ")[::2] for part in text.split("; ")[1:])
        children = [self.open.pop(int(child), None) for child in parts.get("subxacts", "").split() if child.isdigit()]
        entry = self.open.pop(xid, None) or Transaction(xid, lsn, self.commits)
        if action.startswith("ABORT"):
            return None
        for child in children:
            if child:
                entry.absorb(child)
        entry.commit_lsn = lsn
        entry.commit_time = self.last_time = datetime.fromisoformat(ended[2]).replace(tzinfo=timezone.utc)
        entry.removed = _paths(parts.get("rels", ""))
        entry.dropped = STATISTICS.findall(parts.get("dropped stats", ""))
        entry.commits_between = self.commits - (entry.commits_then if entry.databases else entry.commits_before if entry.lock_lsn else self.commits)
        if entry.rewritten:                              # the toast table that the last rewrite has made goes with every rewrite
            entry.dropped = [pair for pair in entry.dropped if pair[1] not in self.parts]
            self.parts |= entry.kept
        self.commits += 1
        return entry

    def _standby(self, xid, lsn, action, text):
        if action == "LOCK":
            for holder, database, oid in LOCK.findall(text):
                entry = self._entry(int(holder), lsn)
                if entry.lock_lsn is None:               # a snapshot of all locks (no xid) repeats what was logged before
                    entry.lock_lsn, entry.lock_seen, entry.commits_before = lsn, bool(xid), self.commits
                if (database, oid) not in entry.locks:
                    entry.locks.append((database, oid))
        elif action == "RUNNING_XACTS":                  # what a crash ended has no abort record
            oldest = OLDEST.search(text)
            if oldest:
                limit = int(oldest[1])
                for old in [old for old in self.open if 0 < (limit - old) % XIDS < XIDS // 2]:
                    del self.open[old]

    def _heap(self, entry, action, text):
        if action not in COUNTED:
            return
        first = BLOCK.search(text)
        if not first:
            return
        path = first[2]
        self._count(entry, path, COUNTED[action], 1)
        if path == PG_DATABASE and action == "DELETE" and not entry.undone_lsn:
            self._find_invalidation(entry, text)
        if not (path.endswith("/1259") or path in self.class_files):
            return
        blocks = {number: (one, block) for number, one, fork, block in BLOCK.findall(text) if not fork}
        block = first[4]
        old, new = OFFSET.search(text), NEW_OFFSET.search(text)
        place = (path, blocks.get("1", (path, block))[1], old and (old[1] or old[2]))
        if action == "INSERT":
            entry.class_inserted += 1
            entry.class_born.add((path, block, place[2]))
        elif action == "DELETE":
            entry.class_deleted += place not in entry.class_born
            entry.class_undone += place in entry.class_born
        elif place not in entry.class_born:
            entry.class_updated += 1
        elif new:
            entry.class_born.add((path, block, new[1]))

    def _invalidate(self, lsn, text):
        """DROP DATABASE makes a database invalid in place, before it removes its files; VACUUM changes the same row so."""
        first, offset = BLOCK.search(text), OFFSET.search(text)
        if first and first[2] == PG_DATABASE and offset:
            self.invalidated[first[4], offset[1]] = lsn, self.commits, self.last_time

    def _find_invalidation(self, entry, text):
        """DROP DATABASE removes the row at once after that, so what came much earlier was a VACUUM."""
        first, offset = BLOCK.search(text), OFFSET.search(text)
        lsn, commits, time = self.invalidated.get((first[4], offset and offset[1]), (None, 0, None))
        if lsn and (commits == self.commits or time and self.last_time - time <= AT_ONCE):
            entry.undone_lsn, entry.commits_then = lsn, commits

    @staticmethod
    def _count(entry, path, column, number):
        entry.rows.setdefault(path, [0, 0, 0])[column] += number


def _paths(text):
    """Files as the text names them, as 'tablespace/database/filenode'."""
    return ["/".join((DEFAULT_SPACE if base else GLOBAL_SPACE if shared else space, database or "0", node))
            for base, shared, space, database, node in STORAGE.findall(text)]
