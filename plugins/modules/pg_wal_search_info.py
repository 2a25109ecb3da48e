#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_wal_search_info
short_description: Find the transactions that dropped, truncated, deleted or updated, and the recovery target before each
version_added: 0.1.0
author: pgrescue contributors (@pgrescue)
description:
  - Reads WAL with C(pg_waldump) and says which transactions dropped or truncated a table, deleted or updated many of its rows,
    or simply which transactions committed between two moments, and for each the recovery target that ends just before it.
  - Nothing is asked of PostgreSQL, so it works when the server is gone. What is not archived yet is not found with O(server);
    M(pgrescue.barman.barman_wal) archives everything first, if the server still runs.
  - WAL names relations by number. Their names come from the newest base backup that was complete before the transaction,
    or from O(data_directory). A table that was created after that backup has RV(transactions[].relations[].name=null);
    it is found when O(relation) is not given, and by its oid. A table that was renamed since has its older name.
  - Backups that Barman keeps as tar files or encrypted, and directories that the user of the task cannot read, give no names.
options:
  server:
    description: The server of Barman whose archive is searched, on the Barman host. Its base backups give the names.
    type: str
  directory:
    description:
      - A directory with WAL segments side by side, for example C(pg_wal) of a data directory, on the host that has it.
      - The C(.history) files in it tell the timelines apart.
    type: path
  data_directory:
    description:
      - A data directory of the same cluster as it was before the transaction, such as a base backup or one that was set aside.
        It gives the names.
    type: path
  start:
    description:
      - Only transactions that committed at or after this, an LSN (C(X/Y)) or a moment as PostgreSQL prints it, with offset.
      - Not given, it is one day before O(end), or before now.
      - Reading begins a segment or two earlier, so that a transaction's first record is seen; one that had
        begun long before has a RV(transactions[].first_lsn) that is too late.
    type: str
  end:
    description: Only transactions that committed at or before this, an LSN or a moment. Not given, it is the end of the archive.
    type: str
  timeline:
    description: The branch of history to search, with its ancestors. Not given, it is the one that was written last.
    type: int
  relation:
    description:
      - Only transactions that did it to this relation, C(schema.table), an oid, or the path of a file C(tablespace/database/filenode) of numbers.
      - It is an error when no base backup knows the name, because that is no proof that nothing happened.
    type: str
  database:
    description: Only relations of this database, a name or an oid. It matters when several have a relation of the same name.
    type: str
  known:
    description:
      - Relations whose names are known from elsewhere, as RV(known) of another search returns them. They go before what is found here.
      - A running server has forgotten what it dropped, so a search of its C(pg_wal) takes the name from a search of the archive.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: C(schema.relation).
        type: str
        required: true
      type:
        description: The kind of relation, such as V(table).
        type: str
        required: true
      database:
        description: The database's name.
        type: str
        required: true
      database_oid:
        description: The database's oid.
        type: str
        required: true
      oid:
        description: The relation's oid.
        type: str
        required: true
      path:
        description: Its file, C(tablespace/database/filenode).
        type: str
        required: true
  named_until:
    description:
      - A relation or file without a name of this number or a lower one is not counted in RV(unnamed), because it has a name elsewhere, and another one.
      - What a running server dropped has no name there; RV(named_until) of a search of the archive tells it from what was created after the last backup.
    type: int
    default: 0
  kind:
    description:
      - What to look for.
      - V(drop) is C(DROP TABLE), also of views, sequences and databases, V(truncate) is C(TRUNCATE).
      - V(delete) and V(update) are at least O(minimum_rows) rows of one table.
      - V(commit) is every transaction that committed.
      - Rewrites that keep the rows (C(VACUUM FULL), C(CLUSTER), C(REINDEX), C(ALTER TABLE)) and the drop of an index alone are V(commit) only,
        as far as names tell an index from a table.
    type: list
    elements: str
    choices: [drop, truncate, delete, update, commit]
    default: [drop, truncate]
  minimum_rows:
    description: How many rows of one table make a V(delete) or V(update).
    type: int
    default: 1000
  limit:
    description: How many transactions are returned at most, the newest ones. RV(found) counts all.
    type: int
    default: 100
  target_xid:
    description:
      - Say too where a recovery to this transaction would stop, in RV(target_lsn), whatever is looked for otherwise. PostgreSQL stops at a transaction
        that was rolled back as well.
    type: str
  target_name:
    description: Say too where a recovery to this restore point would stop, in RV(target_lsn).
    type: str
extends_documentation_fragment:
  - pgrescue.barman.barman
requirements:
  - C(pg_waldump) of the WAL's own major version, PostgreSQL 13 to 18
notes:
  - With O(directory) neither Barman nor its user is needed; run as a user who can read the files, such as C(postgres).
  - A C(DROP) or C(TRUNCATE) is seen by its AccessExclusiveLock and commit record, which need C(wal_level=replica) or higher.
  - The whole of WAL in the range is read, in one process and in a memory that does not grow with it.
attributes:
  check_mode:
    support: full
    description: Nothing is changed in any case.
  diff_mode:
    support: none
    description: Nothing is changed.
  idempotent:
    support: full
    description: Nothing is changed.
  async:
    support: full
    description: A search of many segments takes minutes.
  platform:
    support: full
    platforms: posix
    description: Runs on the Barman host, or where the directory is.
"""

EXAMPLES = r"""
- name: Who dropped the customers?
  pgrescue.barman.pg_wal_search_info:
    server: main
    relation: public.customer
  become: true
  become_user: barman
  register: search

- name: Everything that committed in a minute
  pgrescue.barman.pg_wal_search_info:
    server: main
    kind: commit
    start: "2026-09-15 14:30:00+02:00"
    end: "2026-09-15 14:31:00+02:00"
  become: true
  become_user: barman

- name: Big deletes in what a dead server left behind
  pgrescue.barman.pg_wal_search_info:
    directory: /var/lib/postgresql/17/main.aside-20260915T123000Z/pg_wal
    data_directory: /var/lib/postgresql/17/main.aside-20260915T123000Z
    kind: [delete, truncate]
    minimum_rows: 100
  become: true
  become_user: postgres
"""

RETURN = r"""
transactions:
  description: The transactions, in the order of their commits.
  returned: success
  type: list
  elements: dict
  contains:
    xid:
      description: The transaction's number.
      type: int
    kind:
      description: The gravest thing that it did, V(drop), V(truncate), V(delete), V(update) or V(commit).
      type: str
    commit_time:
      description: When it committed, ISO 8601 in UTC.
      type: str
    first_lsn:
      description: Where its first record begins, as far back as was read.
      type: str
    lock_lsn:
      description: Where its first AccessExclusiveLock was logged, null without one and when that was before what was read.
      type: str
    commit_lsn:
      description: Where its commit record begins.
      type: str
    timeline:
      description: The timeline that holds the commit record.
      type: int
    relations:
      description: The relations that it did that to; with V(commit) all that it wrote to, except the system catalogues.
      type: list
      elements: dict
      contains:
        name:
          description: C(schema.relation), null when no base backup knows it.
          type: str
        type:
          description: The kind of relation, such as V(table), null when unknown.
          type: str
        database:
          description: The database's name, or its oid when unknown.
          type: str
        oid:
          description: The oid, null when unknown.
          type: int
        path:
          description: The file, C(tablespace/database/filenode), null when unknown.
          type: str
        evidence:
          description: V(storage) or V(catalog), WAL says it of this relation. V(lock), it was locked, and what was removed has no name.
          type: str
        inserted:
          description: Rows inserted by this transaction.
          type: int
        updated:
          description: Rows updated.
          type: int
        deleted:
          description: Rows deleted.
          type: int
    target:
      description:
        - The options of a recovery (C(target_lsn), C(target_exclusive), C(target_timeline)) that stops just before the commit record. Every
          transaction that committed earlier is there, and nothing of this one. It equals C(target_xid) with C(target_exclusive), without depending on a
          number that comes again.
        - Replayed so far and paused, the tables cannot be read, because the transaction's AccessExclusiveLock has been replayed. It goes away at the promotion.
      type: dict
    target_inspect:
      description:
        - The same, before the transaction's first AccessExclusiveLock, so that its tables can be read while replay is paused.
          RV(transactions[].commits_between) commits of others are then missing; without a lock it equals RV(transactions[].target).
        - Null when the lock was taken before what was read; an earlier O(start) finds it.
      type: dict
    commits_between:
      description: How many other transactions committed after RV(transactions[].target_inspect) and before RV(transactions[].target).
      type: int
found:
  description: How many transactions were found, O(limit) or more.
  returned: success
  type: int
unnamed:
  description:
    - With O(relation), how many transactions were left out of which no name tells whether they dropped or truncated it. Not 0, one of them may have.
    - They dropped or truncated what was created after the newest base backup, or a table that another transaction had altered together with this one
      and that may have got its name since, or they wrote another table anew while they had this one locked.
  returned: success
  type: int
unnamed_databases:
  description:
    - With O(relation), the databases that were dropped, by name, or by oid when it is unknown. Each may have had such a relation. O(database) leaves
      out the others.
  returned: success
  type: list
  elements: str
named_until:
  description: The largest oid or file number in the newest base backup, for O(named_until) of another search.
  returned: success, with O(relation)
  type: int
others:
  description:
    - With O(relation), ten transactions at most that did it to something else, those whose relations are called most like it first. Shaped as
      RV(transactions).
    - It is there too when no base backup knows the name, which is an error.
  returned: success, and with an unknown name
  type: list
  elements: dict
known:
  description: With the name of a relation, what the newest base backup that knows it says of it, one entry for each database that has it.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: C(schema.relation).
      type: str
    type:
      description: The kind of relation, such as V(table).
      type: str
    database:
      description: The database's name.
      type: str
    database_oid:
      description: The database's oid.
      type: str
    oid:
      description: The oid.
      type: str
    path:
      description: The file, C(tablespace/database/filenode).
      type: str
restore_points:
  description: The restore points in what was read, in its order. An earlier O(start) finds more.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: As it was given to C(pg_create_restore_point()).
      type: str
    lsn:
      description: Where its record begins.
      type: str
    timeline:
      description: The timeline that holds the record.
      type: int
target_lsn:
  description: Where the first record begins at which a recovery to O(target_xid) or O(target_name) would stop, null when what was read has none.
  returned: success, with O(target_xid) or O(target_name)
  type: str
searched:
  description: What was read, one entry for each stretch without a hole.
  returned: success
  type: list
  elements: dict
  contains:
    timeline:
      description: The timeline.
      type: int
    first:
      description: The first segment.
      type: str
    last:
      description: The last segment.
      type: str
    last_lsn:
      description: The last record that could be read, null if there was none.
      type: str
    last_time:
      description: The time of the last commit that was read.
      type: str
    note:
      description:
        - Set when reading stopped before the last segment, as at a damaged one, or at those that C(pg_wal) holds for later use, and when segments are missing
          before the next stretch. What is in between was not searched; reading goes on as the next stretch, where a later segment can be read.
      type: str
"""

from collections import deque
from dataclasses import asdict
from datetime import datetime, timedelta, timezone

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._target import LSN, TargetError, parse_moment, parse_target
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import WalError, parse_lsn, segment_name
from ansible_collections.pgrescue.barman.plugins.module_utils._waldump import Collector
from ansible_collections.pgrescue.barman.plugins.module_utils._walnames import Catalogues, Wanted, describe, nearest
from ansible_collections.pgrescue.barman.plugins.module_utils._walstream import of_directory, of_server

KNOWN = ("name", "type", "database", "database_oid", "oid", "path")
LATE = timedelta(seconds=30)          # commit records are not strictly in the order of their times


def bound(name, text):
    """A start or end as (LSN as a number or None, moment or None)."""
    if not text:
        return None, None
    if LSN.fullmatch(text):
        return parse_lsn(text), None
    try:
        return None, parse_moment(text)
    except TargetError as error:
        why = str(error).replace("target_time", name).replace("target_latest=true for the last one in the archive", f"leave {name} out")
        raise TargetError(f"{why} An LSN is taken too, such as 0/3000028.") from error


def search(source, stretches, start, end, catalogues, wanted, limit, target=None):
    """What main() returns of the transactions, the restore points, the target and of what was read."""
    newest, found, others, searched, points, place = deque(maxlen=limit), 0, deque(maxlen=1000), [], [], None
    anything = Wanted(wanted.kinds, None, None, wanted.minimum_rows)
    todo, collector, note = deque(stretches), None, None
    while todo:
        timeline, first, last = todo.popleft()
        collector, note = Collector(catalogues.class_files(), target, before=None if note else collector), None
        lines = source.lines(timeline, first, last)
        for line in lines:
            entry = collector.feed(line)
            if entry is None:
                continue
            if end[1] and entry.commit_time > end[1] + LATE or end[0] is not None and parse_lsn(entry.commit_lsn) > end[0]:
                break
            if start[0] is not None and parse_lsn(entry.commit_lsn) < start[0] or start[1] and entry.commit_time < start[1]:
                continue
            if end[1] and entry.commit_time > end[1]:
                continue
            shown = describe(entry, timeline, catalogues, wanted)
            if shown:
                found += 1
                newest.append(shown)
            elif wanted.name:
                others.extend(filter(None, [describe(entry, timeline, catalogues, anything)]))
        else:
            read = parse_lsn(collector.last_lsn) // source.size if collector.last_lsn else first - 1
            if read < last:
                after = collector.last_lsn or f"the beginning of segment {segment_name(timeline, first, source.size)}"
                note = f"timeline {timeline} could not be read after {after}: what comes then is damaged or was never written"
                next_one = source.going_on(timeline, max(read, first) + 1, last)
                if next_one is not None:
                    todo.appendleft((timeline, next_one, last))
                    last = next_one - 1
                    note += f". Reading went on with segment {segment_name(timeline, next_one, source.size)}"
            elif todo and todo[0][1] > last + 1:
                gone = dict.fromkeys(segment_name(todo[0][0], number, source.size) for number in (last + 1, todo[0][1] - 1))
                note = f"timeline {timeline} could not be read after {collector.last_lsn}: {' to '.join(gone)} is not there"
        lines.close()
        points += [dict(name=name, lsn=lsn, timeline=timeline) for lsn, name in collector.restore_points]
        place = place or collector.target_lsn
        searched.append(dict(
            timeline=timeline, first=segment_name(timeline, first, source.size), last=segment_name(timeline, last, source.size),
            last_lsn=collector.last_lsn, last_time=collector.last_time.isoformat(timespec="microseconds") if collector.last_time else None,
            note=note,
        ))
    return dict(
        transactions=list(newest), found=found, others=nearest(wanted.name, list(others)), restore_points=points, searched=searched,
        **(dict(target_lsn=place) if target else {}),
    )


def run(params):
    if params["limit"] < 0:
        raise WalError(f"limit is {params['limit']}, and no fewer than 0 transactions can be returned: type 0 or more, or leave limit out, for 100")
    start, end = bound("start", params["start"]), bound("end", params["end"])
    if start == (None, None):
        start = (None, (end[1] or datetime.now(timezone.utc)) - timedelta(days=1)) if end[0] is None else (0, None)
    server = None
    if params["server"]:
        server = read_configuration(params["barman_config"]).server(check_name(params["server"], "server"))
    source = of_server(server) if server else of_directory(params["directory"])
    catalogues = Catalogues(source, server, params["data_directory"], params["known"])
    wanted = Wanted(params["kind"], params["relation"], params["database"], params["minimum_rows"], named_until=params["named_until"])
    stretches = source.between(params["timeline"], start, end)
    target = parse_target(params) if params["target_xid"] or params["target_name"] else None
    result = search(source, stretches, start, end, catalogues, wanted, params["limit"], target)
    known = catalogues.named(wanted) if wanted.name and not wanted.known else []
    if not (result["found"] or known or wanted.known) and wanted.name:
        catalogues.refuse_unknown(wanted, result["others"])
    return dict(
        result, unnamed=wanted.unnamed, unnamed_databases=wanted.unnamed_databases, known=[asdict(one) for one in known],
        **(dict(named_until=catalogues.named_until()) if wanted.name else {}),
    )


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            server=dict(type="str"),
            directory=dict(type="path"),
            data_directory=dict(type="path"),
            start=dict(type="str"),
            end=dict(type="str"),
            timeline=dict(type="int"),
            relation=dict(type="str"),
            database=dict(type="str"),
            known=dict(type="list", elements="dict", default=[], options={key: dict(type="str", required=True) for key in KNOWN}),
            named_until=dict(type="int", default=0),
            kind=dict(type="list", elements="str", choices=["drop", "truncate", "delete", "update", "commit"], default=["drop", "truncate"]),
            minimum_rows=dict(type="int", default=1000),
            limit=dict(type="int", default=100),
            target_xid=dict(type="str"),
            target_name=dict(type="str"),
        ),
        required_one_of=[("server", "directory")],
        mutually_exclusive=[("server", "directory"), ("target_xid", "target_name")],
        supports_check_mode=True,
    )
    try:
        result = run(module.params)
        # pg_wal holds segments for later use; an archive that cannot be read to its end is damaged.
        for note in filter(None, (stretch["note"] for stretch in result["searched"] if module.params["server"])):
            module.warn(note)
        module.exit_json(changed=False, **result)
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)
    except WalError as error:
        module.fail_json(msg=f"WAL cannot be searched: {error}.", **error.details)


if __name__ == "__main__":
    main()
