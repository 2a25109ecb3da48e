#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_backup
short_description: Make sure that a good backup exists, or that backups are gone
version_added: "0.1.0"
description:
  - Makes sure that a good backup of a server exists and takes one if it does not; or makes sure that certain backups are gone.
  - A backup is I(good) when it is C(DONE) and none of its WAL was thrown out of the archive as a duplicate. Barman calls
    C(DONE) some backups that cannot be restored, and exits with 0 when it took none.
  - A failed backup stays in the catalogue as C(FAILED) until it is removed.
author:
  - pgrescue contributors (@pgrescue)
extends_documentation_fragment:
  - pgrescue.barman.barman
attributes:
  check_mode:
    support: full
    description: Nothing is run. RV(backup) then has V(null) for what nobody can know before the backup was taken.
  diff_mode:
    support: full
    description: Shows the ids of the good backups, with O(state=absent) of all backups, before and after.
  idempotent:
    support: partial
    description: Full with O(name), O(max_age) and O(state=absent). With neither, every run takes a backup.
  async:
    support: full
    description: Not needed. Without it the task survives a lost connection too, shows how far it is, and gives up a host that is silent for two minutes.
  platform:
    support: full
    platforms: posix
    description: Any POSIX host on which Barman runs; how far a running copy is, is known on Linux only.
options:
  server:
    description:
      - Name of the server in Barman's configuration. An inactive or passive one is refused; Barman would skip it with exit code 0.
    type: str
    required: true
  state:
    description:
      - V(present), a good backup exists. With neither O(name) nor O(max_age) a new one is taken.
      - V(absent), the backups selected by O(backup_id) or O(status) do not exist. Barman deletes with a backup the incremental
        ones on top of it and the WAL that nothing needs any more.
    type: str
    choices: [present, absent]
    default: present
  backup_id:
    description:
      - The backups to delete, by id, C(YYYYMMDDTHHMMSS). An id that does not exist is fine.
      - V(latest), V(oldest) and names are refused, they may mean another backup a moment later.
    type: list
    elements: str
  status:
    description:
      - Delete all backups of these statuses.
      - V(STARTED) means those on which no process works any more, known by Barman's own lock. A running backup is never touched.
    type: list
    elements: str
    choices: [FAILED, STARTED]
  name:
    description:
      - Take a backup of this name, only if no good one has it. One that has the name and waits for WAL only is completed instead.
      - Letters, digits, C(_), C(.) and C(-). Words that Barman reads otherwise, like V(latest), are refused.
    type: str
  max_age:
    description:
      - Take a backup only if the newest good one ended longer ago than this, for example V(30m), V(12h) or V(7d).
    type: str
  incremental:
    description:
      - Copy only the blocks that changed since a backup, its id, or V(auto) for the newest good one, which is a full backup if there is none.
      - Needs Barman 3.11, PostgreSQL 17 with C(summarize_wal) and C(backup_method = postgres).
    type: str
  reuse_backup:
    description:
      - With C(backup_method = rsync), what is done with files that did not change since the last backup, V(link) them, V(copy) them
        on the Barman host, or transfer them again (V(off)). Not given, Barman's configuration decides.
    type: str
    choices: [copy, link, 'off']
  jobs:
    description:
      - How many processes copy. Not given, C(parallel_jobs) of Barman's configuration decides.
    type: int
  bandwidth_limit:
    description:
      - The most that the copy may transfer, in kilobytes per second. Not given, Barman's configuration decides.
    type: int
  immediate_checkpoint:
    description:
      - Have PostgreSQL write its checkpoint at once. V(false) spreads it, which is gentle and takes minutes before the copy begins.
    type: bool
    default: true
  extra_args:
    description:
      - Any other options of C(barman backup), each one item, for example V(--retry-times=3). Those of waiting are refused, use O(wait).
    type: list
    elements: str
    default: []
  wait:
    description:
      - Go on until the backup is good, that is, have its last WAL segment closed and archived as M(pgrescue.barman.barman_wal) does.
      - V(false) returns after the copy. The backup may be C(WAITING_FOR_WALS) then, and may never become good.
      - Barman's own C(--wait) is not used, it hangs on PostgreSQL 17 before Barman 3.15.
    type: bool
    default: true
  wait_timeout:
    description:
      - Seconds without progress after which the task fails. While copying, that is no data moved and archiving fails; after it, no newly archived segment.
      - The message says what PostgreSQL's archiver reports.
    type: int
    default: 600
  timeout:
    description:
      - Seconds after which the backup is interrupted and marked C(FAILED), whatever it does. Not given, there is no such bound.
    type: int
  during_recovery:
    description:
      - Go ahead while a recovery holds the server (M(pgrescue.barman.barman_fence)). For the recovery itself, which ends with a backup.
    type: bool
    default: false
seealso:
  - module: pgrescue.barman.barman_catalog_info
  - module: pgrescue.barman.barman_keep
"""

EXAMPLES = r"""
- name: Take a backup before the migration
  pgrescue.barman.barman_backup:
    server: main
    name: before-migration-42
    timeout: 7200
  become: true
  become_user: barman
  register: result

- name: Have a backup that is younger than a day
  pgrescue.barman.barman_backup:
    server: main
    max_age: 24h
  become: true
  become_user: barman

- name: Clear away what failed or died
  pgrescue.barman.barman_backup:
    server: main
    state: absent
    status: [FAILED, STARTED]
  become: true
  become_user: barman
"""

RETURN = r"""
backup:
  description:
    - The backup that makes O(state=present) true, with the keys that M(pgrescue.barman.barman_catalog_info) describes under C(backups).
    - V(null) with O(state=absent). When a backup was begun and failed, its dict accompanies the failure.
  returned: success, or when a backup was begun
  type: dict
  sample: {backup_id: 20260915T120000, name: null, status: DONE, type: rsync, timeline: 1, good: true}
deleted:
  description: Ids of the backups that were deleted, or would be in check mode, incremental ones on top of them included. Oldest first.
  returned: success
  type: list
  elements: str
  sample: [20260914T120000]
checks:
  description: The checks that failed, when Barman refused to begin because of them.
  returned: when Barman refused to begin
  type: list
  elements: dict
  contains:
    name:
      description: The check's name.
      type: str
      returned: always
    ok:
      description: Always V(false).
      type: bool
      returned: always
    hint:
      description: What Barman adds to it.
      type: str
      returned: always
"""

import time
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils import _selection as selection
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, Barman, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._catalog import read_backups
from ansible_collections.pgrescue.barman.plugins.module_utils._check import backup_runs
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._fence import FenceError, held, read_marker
from ansible_collections.pgrescue.barman.plugins.module_utils._switch import refuse_inactive
from ansible_collections.pgrescue.barman.plugins.module_utils._take import Take


def check_params(params):
    """Judge what the argument spec cannot, and return the maximal age, None without one."""
    for option in ("backup_id", "status"):
        if params[option]:
            raise BarmanError(f"{option} selects backups to delete: type state=absent with it. A backup to be taken has a name.")
    if params["name"] is not None:
        selection.check_backup_name(params["name"])
    selection.check_extra_args(params["extra_args"])
    return selection.parse_age(params["max_age"]) if params["max_age"] is not None else None


def check_incremental(barman, server):
    """Raise BarmanError when an incremental backup cannot be taken here."""
    method = server.options["backup_method"]
    if method != "postgres":
        raise BarmanError(f"incremental needs backup_method = postgres, server {server.name} has {method}; for it there is reuse_backup=link.")
    if not barman.can("incremental"):
        version = ".".join(map(str, barman.version))
        raise BarmanError(f"incremental needs Barman 3.11 or later, here is {version}. Leave incremental out.")


def present(params, barman, server, check_mode):
    max_age = check_params(params)
    before = read_backups(server)
    found = selection.present_backup(before, params["name"], max_age, datetime.now(timezone.utc))
    if found:
        return dict(changed=False, backup=found, deleted=[])

    refuse_inactive(server)
    if params["incremental"]:
        check_incremental(barman, server)
    parent = selection.parent_of_incremental(before, params["incremental"])
    waiting = selection.waiting_backup(before, params["name"])
    ids = [backup["backup_id"] for backup in before if backup["good"]]
    if check_mode:
        backup = waiting or selection.predicted_backup(params["name"], parent, server.options["backup_method"])
        backup = dict(backup, status="DONE", good=True) if params["wait"] else backup
    else:
        deadline = None if params["timeout"] is None else time.monotonic() + params["timeout"]
        take = Take(barman, server, params["wait_timeout"], deadline)
        backup = waiting or take.copy(selection.backup_arguments(params, parent))
        if params["wait"]:
            backup = take.complete(backup["backup_id"])
        take.refuse_duplicates(backup)
    after = ids + [backup["backup_id"] or "one more"]
    return dict(changed=backup != waiting or params["wait"], backup=backup, deleted=[], diff=dict(before=dict(good=ids), after=dict(good=after)))


def absent(params, barman, server, lock_held, check_mode):
    before = read_backups(server)
    doomed = selection.doomed_backups(before, params["backup_id"] or [], params["status"] or [], lock_held)
    gone = selection.with_descendants(before, doomed)
    selection.check_deletion(before, gone, int(server.options["minimum_redundancy"]))
    if gone and not check_mode:
        for backup in reversed(doomed):        # newest first: an incremental before what it builds on
            barman.call("delete", server.name, backup["backup_id"])
        left = {backup["backup_id"] for backup in read_backups(server)}.intersection(gone)
        if left:
            raise BarmanError(f"barman delete ended well, but these backups of server {server.name} are still there: {', '.join(sorted(left))}.")
    ids = [backup["backup_id"] for backup in before]
    diff = dict(before=dict(backups=ids), after=dict(backups=[value for value in ids if value not in gone]))
    return dict(changed=bool(gone), backup=None, deleted=gone, diff=diff)


def run(module):
    params = module.params
    configuration = read_configuration(params["barman_config"])
    server = configuration.server(check_name(params["server"], "server"))
    marker = read_marker(configuration.home, server.name)
    if marker and not params["during_recovery"]:
        raise FenceError(f"{held(marker)} Until then its backups are left as they are.", fence=marker)
    barman = Barman(params["barman_executable"], params["barman_config"])
    if params["state"] == "absent":
        return absent(params, barman, server, backup_runs(configuration, server.name), module.check_mode)
    return present(params, barman, server, module.check_mode)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            server=dict(type="str", required=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
            backup_id=dict(type="list", elements="str"),
            status=dict(type="list", elements="str", choices=["FAILED", "STARTED"]),
            name=dict(type="str"),
            max_age=dict(type="str"),
            incremental=dict(type="str"),
            reuse_backup=dict(type="str", choices=["copy", "link", "off"]),
            jobs=dict(type="int"),
            bandwidth_limit=dict(type="int"),
            immediate_checkpoint=dict(type="bool", default=True),
            extra_args=dict(type="list", elements="str", default=[]),
            wait=dict(type="bool", default=True),
            wait_timeout=dict(type="int", default=600),
            timeout=dict(type="int"),
            during_recovery=dict(type="bool", default=False),
        ),
        mutually_exclusive=[("name", "max_age")],
        required_if=[("state", "absent", ("backup_id", "status"), True)],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
