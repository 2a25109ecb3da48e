#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_aside
version_added: 0.1.0
short_description: Sets a stopped PostgreSQL cluster aside by rename, and brings it back
description:
  - Makes room for a restore without deleting anything. The data directory, a C(pg_wal) that lies elsewhere and the tablespaces
    are renamed on their own file systems to C(<path>.aside-<stamp>); of a symlink, the target is renamed, not the link.
  - A directory that cannot be renamed, the root of a mounted file system or one above which this user must not write, is emptied instead. Its
    entries move into C(<path>/pgsql_tmp.aside-<stamp>). Barman and pg_basebackup leave out what begins with C(pgsql_tmp), so later backups do not
    carry it. A C(lost+found) stays where it is.
  - Empty directories of the same owner take the place of data directory and tablespaces, so that Barman can write there, RV(paths[].restore). Inside
    a directory that was emptied it is C(<path>/pgsql_tmp.restore-<stamp>), so nothing set aside ever lies below a directory given to Barman.
  - The set-aside data directory holds C(.pgrescue-aside.json), which names everything that belongs to it. A run that was cut off
    anywhere is finished by running it again; at every instant exactly one intact cluster exists.
options:
  state:
    description:
      - V(aside) sets the cluster aside. An absent or empty data directory is noted as such, so that V(back) knows what was found.
      - V(place) comes after the restore and before PostgreSQL is started. What was restored into a subdirectory moves into the place, entry by entry, and
        what Barman wrote about that path is corrected (links of tablespaces, settings of the recovery). The WAL of a cluster whose C(pg_wal) lay elsewhere
        lies there again. A restore that is not complete is refused.
      - V(back) puts it back as it was. What a restore of this collection left in its place (the marker
        C(<data directory>.pgrescue-restore.json) with the directory's identity proves it) is removed, unless it was ever promoted; then it is
        renamed to C(<path>.failed-<stamp>), inside a directory that cannot be renamed to C(<path>/pgsql_tmp.failed-<stamp>). Anything else in the
        place is refused.
      - V(settled) says that the restored data stays, after its promotion. The marker beside it goes; what it proves is kept in the identity file, so
        that V(back) still knows; of a directory that cannot be renamed the marker stays. What was set aside stays, but for the empty
        directory that stands for an empty place.
    type: str
    choices: [aside, place, back, settled]
    required: true
  stamp:
    description:
      - The instant that names what is set aside, UTC, C(YYYYMMDDTHHMMSSZ).
    type: str
    required: true
  server:
    description:
      - The name of the Barman server, noted in the identity file.
    type: str
  tablespaces:
    description:
      - Further directories that a restore or its replay will fill, from tablespace name to path. The cluster's own are found without it.
    type: dict
    default: {}
  vacant:
    description:
      - With O(state=aside), refuse to set anything aside, as for a clone beside its origin. O(data_directory) and O(tablespaces) must be empty or absent.
    type: bool
    default: false
  clone:
    description:
      - With O(state=aside), leave a clone of the relation files where the restore will write, so that M(pgrescue.barman.barman_restore) with
        O(pgrescue.barman.barman_restore#module:delta) copies only what differs. The clone shares its blocks with what was set aside until one of them is
        written to (reflink of XFS, btrfs and others). Where the file system of the data directory cannot do that, it is refused. A tablespace on
        another one that cannot is restored in full.
    type: bool
    default: false
  expires:
    description:
      - With O(state=settled), until when the old data is said to be needed, noted in the identity file. Nothing deletes it.
    type: str
  was_running:
    description:
      - Whether PostgreSQL ran before it was stopped for this, noted in the identity file and returned with V(back).
    type: bool
    default: false
extends_documentation_fragment:
  - pgrescue.barman.postgresql
attributes:
  check_mode:
    description: Can run in C(check_mode) and says what would be renamed, after the same checks.
    support: full
  diff_mode:
    description: Shows the paths before and after.
    support: full
  async:
    description: Can be run with C(async).
    support: full
  platform:
    description: Linux.
    platforms: posix
    support: full
notes:
  - Refused are a running PostgreSQL, a directory in which this user must not write, and one below which another file system is mounted
    (other than C(pg_wal)), before anything is renamed.
author:
  - pgrescue contributors (@pgrescue)
seealso:
  - module: pgrescue.barman.pg_cluster_info
  - module: pgrescue.barman.barman_restore
"""

EXAMPLES = r"""
- name: Set the old cluster aside
  pgrescue.barman.pg_aside:
    state: aside
    stamp: 20260915T123000Z
    server: main
    data_directory: /var/lib/postgresql/17/main
    was_running: true
  become: true
  become_user: postgres

- name: After the restore, put the data, its WAL and its tablespaces where the cluster had them
  pgrescue.barman.pg_aside:
    state: place
    stamp: 20260915T123000Z
    data_directory: /var/lib/postgresql/17/main
  become: true
  become_user: postgres

- name: Bring it back
  pgrescue.barman.pg_aside:
    state: back
    stamp: 20260915T123000Z
    data_directory: /var/lib/postgresql/17/main
  become: true
  become_user: postgres
"""

RETURN = r"""
stamp:
  description: The stamp.
  returned: success
  type: str
paths:
  description: Everything that belongs to the cluster.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: V(data), V(wal) or V(tablespace). The data directory is the first.
      type: str
    name:
      description: The tablespace's name as far as O(tablespaces) gives it, else null.
      type: str
    path:
      description: The place.
      type: str
    aside:
      description: The place while it is set aside.
      type: str
    restore:
      description: Where a restore has to write in its stead. Null for V(wal), which lies below the data directory until O(state=place).
      type: str
    within:
      description: Whether its entries moved, because it could not be renamed.
      type: bool
    was:
      description: V(full), V(empty) or V(absent), when it was found.
      type: str
    link:
      description: The path as the cluster has it, for V(wal) and V(tablespace). Null for a C(pg_wal) that is itself the root of a file system.
      type: str
    anchor:
      description: What tells the old content from what is restored in its place, a name in it and its inode. Null if nothing does.
      type: list
      elements: raw
empty:
  description: Whether there was nothing to set aside, the data directory being absent or empty.
  returned: success
  type: bool
was_running:
  description: What O(was_running) was when the cluster was set aside.
  returned: success
  type: bool
system_identifier:
  description: The identity of the cluster that was set aside, null if it could not be read.
  returned: success
  type: str
kept:
  description: Restored data that was not removed, because it had been promoted, or because it could not be removed.
  returned: success
  type: list
  elements: str
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils import _postgres
from ansible_collections.pgrescue.barman.plugins.module_utils._aside import Aside
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import POSTGRESQL_ARGUMENTS, PostgresError, check_path


def paths_diff(pairs):
    """Ansible's diff of a list of (before, after) paths."""
    return dict(before="".join(f"{before}\n" for before, _after in pairs), after="".join(f"{after}\n" for _before, after in pairs))


def set_aside(cluster, params, check_mode):
    journal = cluster.plan(params["server"], params["tablespaces"], params["was_running"], params["clone"], params["vacant"])
    pending = cluster.pending(journal)
    if not check_mode:
        cluster.away(journal)
    pairs = [(one["path"], one["aside"]) for one in pending]
    return dict(changed=bool(pending), diff=paths_diff(pairs), journal=journal, kept=[])


def put_in_place(cluster, check_mode):
    pairs = cluster.unplaced()
    if pairs and not check_mode:
        cluster.place()
    return dict(changed=bool(pairs), diff=paths_diff(pairs), journal=cluster.journal, kept=[])


def bring_back(cluster, check_mode):
    steps = cluster.way_back()
    journal = cluster.journal or cluster.returned or {}
    kept = [step["out"] for step in steps if step["out"] and step["suffix"] == "failed"]
    if not cluster.journal and os.path.isdir(cluster.data.named("failed")):
        kept = [cluster.data.named("failed")]                 # an earlier call has brought it back
    if steps and not check_mode:
        kept = cluster.back(steps)
    pairs = [(step["path"], step["out"] or "") for step in steps if step["out"]] + [(step["aside"], step["path"]) for step in steps if step["aside"]]
    return dict(changed=bool(steps), diff=paths_diff(pairs), journal=journal, kept=kept)


def settle(cluster, params, check_mode):
    journal = cluster.settled(params["expires"])
    if journal and not check_mode:
        cluster.settle(journal)
    marks = [] if journal is None else [(cluster.marker, "")]
    return dict(changed=bool(marks), diff=paths_diff(marks), journal=journal or cluster.journal or {}, kept=[])


def run(module):
    params = module.params
    if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", params["stamp"]):
        raise PostgresError(f"stamp {params['stamp']!r} is not an instant. Type it as YYYYMMDDTHHMMSSZ in UTC, for example 20260915T123000Z.")
    if params["server"]:
        check_name(params["server"], "server")
    params["tablespaces"] = {str(name): check_path(path, f"tablespace {name}") for name, path in params["tablespaces"].items()}
    place = _postgres.layout(params["data_directory"], params["version"], params["cluster"])
    cluster = Aside(place["data_directory"], params["stamp"])
    if params["state"] == "aside":
        result = set_aside(cluster, params, module.check_mode)
    elif params["state"] in ("place", "back"):
        result = (put_in_place if params["state"] == "place" else bring_back)(cluster, module.check_mode)
    else:
        result = settle(cluster, params, module.check_mode)
    journal = result.pop("journal")
    return dict(
        result,
        stamp=params["stamp"],
        paths=journal.get("paths", []),
        empty=journal.get("empty", False),
        was_running=journal.get("was_running", False),
        system_identifier=journal.get("system_identifier"),
    )


def main():
    module = AnsibleModule(
        argument_spec=dict(
            POSTGRESQL_ARGUMENTS,
            state=dict(type="str", choices=["aside", "place", "back", "settled"], required=True),
            stamp=dict(type="str", required=True),
            server=dict(type="str"),
            expires=dict(type="str"),
            tablespaces=dict(type="dict", default={}),
            vacant=dict(type="bool", default=False),
            clone=dict(type="bool", default=False),
            was_running=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except OSError as error:
        module.fail_json(msg=f"A rename or another file operation failed: {error}. Nothing was deleted; run the same again.")
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
