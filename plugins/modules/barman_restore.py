#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_restore
version_added: 0.1.0
short_description: A directory holds a backup of Barman, ready to recover to a target
description:
  - Chooses the backup and the timeline for a target, checks everything that can be checked beforehand, restores with
    C(barman recover) and makes sure that PostgreSQL will stop at the target. PostgreSQL is not started.
  - The module looks at the destination first, the way Barman will reach it. Barman up to 3.14 deletes what it finds there without a word, and
    no Barman looks for a running PostgreSQL; this module refuses both.
  - A marker beside the directory, C(<destination_directory>.pgrescue-restore.json), records system identifier, backup, target and whether the
    restore is complete. The same request on a complete, never started restore changes nothing; an incomplete restore of this module is
    redone; anything else is refused.
  - The last lines of the destination's C(postgresql.auto.conf) say where to stop, with the timeline as a number, or C(current) where
    the backup is on it already. Targets that an
    earlier restore left in the backup are emptied by them. Where Barman makes no archive recovery of it
    (no target), C(recovery.signal) and a C(restore_command) are written, so that PostgreSQL ends on a timeline of its own.
options:
  state:
    description:
      - V(present) makes sure that the directory holds the backup, ready to recover.
      - V(stopped) makes sure that no C(barman recover) of this host copies into the directory, and touches nothing there. Barman goes on
        copying when the run that started it is gone. O(server), O(destination_directory) and O(remote_ssh_command) say which one.
    type: str
    choices: [present, stopped]
    default: present
  server:
    description:
      - The name of the Barman server.
    type: str
    required: true
  backup_id:
    description:
      - The id of the backup to restore, C(YYYYMMDDTHHMMSS), or V(auto) to have it chosen, the newest good one from which the target can be reached.
      - Barman's words that move (C(latest), C(oldest)) are refused.
    type: str
    default: auto
  destination_directory:
    description:
      - The directory that shall hold the data, an absolute path without spaces, quotes and other characters that Barman does not quote.
      - It must be absent or empty, and is made if the directory above it exists. Symlinks are followed.
    type: str
    required: true
  remote_ssh_command:
    description:
      - How Barman reaches the destination host as the owner of the data, for example V(ssh postgres@db1). Not given, it is this host.
      - C(-o StrictHostKeyChecking=yes -o BatchMode=yes) is added where it is missing, because Barman's own check would switch the
        checking of host keys off. A command that switches it off is refused.
    type: str
  target_action:
    description:
      - What PostgreSQL does at the target (C(recovery_target_action)). It means nothing with O(target_latest), after which PostgreSQL always promotes.
    type: str
    choices: [pause, promote, shutdown]
    default: pause
  tablespaces:
    description:
      - Other directories for tablespaces, from name to absolute path. The others go where they were.
    type: dict
    default: {}
  jobs:
    description:
      - How many files are copied at a time. Not given, it is Barman's C(parallel_jobs).
    type: int
  bandwidth_limit:
    description:
      - The largest rate of the copy, in kilobytes per second. Not given, it is Barman's C(bandwidth_limit).
    type: int
  wal_delivery:
    description:
      - V(copy) copies the WAL that is needed with the backup. V(get) lets PostgreSQL fetch it while it replays (C(--get-wal) of Barman), which takes
        C(barman-wal-restore) on the destination host and SSH from there to Barman.
    type: str
    choices: [copy, get]
    default: copy
  barman_address:
    description:
      - The name under which the destination host reaches Barman, for O(wal_delivery=get). Not given, Barman writes the
        name that its own host gives itself.
    type: str
  all_wal:
    description:
      - Copy all WAL of the branch that is archived, not only what the target needs, so that replay can go on to a later target without another copy.
    type: bool
    default: false
  delta:
    description:
      - Copy only what differs onto what is there, the data of the same, stopped cluster or a clone that M(pgrescue.barman.pg_aside) has made of it
        (C(--delta-restore) from Barman 3.17; up to 3.14 it is what Barman does by itself; 3.15 and 3.16 are refused).
        What was in O(destination_directory) is lost.
      - Files of the right size and time are compared by checksum, so damage that changed neither is repaired as well.
    type: bool
    default: false
  staging_path:
    description:
      - A directory in which a backup that is compressed, encrypted or incremental is unpacked; a directory is made in it, and removed after the restore.
        It needs as much room as the unpacked backup, for each of these properties.
      - It is one of the Barman host. Only Barman before 3.15 unpacks compressed backups on the destination host (C(--recovery-staging-path)), and there
        it needs the room of the compressed backup.
      - Not given, it is what Barman's configuration says (C(staging_path), C(staging_location), before Barman 3.15 C(recovery_staging_path) and
        C(local_staging_path)), else C(backup_directory) of the server, or on the destination host the directory above O(destination_directory).
    type: str
  additional_wal:
    description:
      - WAL that is in no archive, and that the caller puts into C(pg_wal) of O(destination_directory) after this module and before PostgreSQL is
        started, as that of a dead server. It must continue the archive without a hole; it is counted as reachable, no more.
      - What Barman itself has received and not archived, such as a C(.partial) segment, is restored by this module and is not meant here.
    type: dict
    suboptions:
      timeline:
        description:
          - The branch that it belongs to.
        type: int
        required: true
      end_lsn:
        description:
          - Its last record.
        type: str
        required: true
      end_time:
        description:
          - The time of its last commit.
        type: str
      target:
        description:
          - What a search of it for O(target_xid) or O(target_name) has found (M(pgrescue.barman.pg_wal_search_info)). Given, a target that is neither
            there nor in the archive is out of reach; not given, only replay can tell.
        type: dict
        suboptions:
          lsn:
            description:
              - Where the target's record begins, empty when it is not there.
            type: str
          restore_points:
            description:
              - The names of the restore points there.
            type: list
            elements: str
            default: []
  read_wal:
    description:
      - Look whether every WAL segment between backup and target is what its name says, and read the records of the first O(read_wal_bytes) with
        C(pg_waldump). That takes about a second for 500 MB. A damaged segment would end replay when the old server is stopped already.
      - A tablespace that was made after the backup is made again by replay, at the path where it was, O(tablespaces) or not. That directory is
        looked at like the others; one that is used by a living server on the same host would lose its content.
    type: bool
    default: true
  read_wal_bytes:
    description:
      - How many bytes of WAL are read with O(read_wal=true) record by record, from the backup on; 0 for all of it.
    type: int
    default: 4294967296
  extra_args:
    description:
      - Further words for C(barman recover), passed on as they are. Options that this module has itself are refused.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - pgrescue.barman.barman
  - pgrescue.barman.target
attributes:
  check_mode:
    description: Can run in C(check_mode). All checks are made and RV(plan) is returned; a plan that is not feasible fails in the same way.
    support: full
  diff_mode:
    description: The content of a database has no readable difference; RV(plan) says what would be restored.
    support: none
  async:
    description: Not needed. Without it the task survives a lost connection too, shows how far it is, and gives up a host that is silent for two minutes.
    support: full
  platform:
    description: Linux.
    platforms: posix
    support: full
notes:
  - A plan that is not feasible makes the task fail with RV(plan) in its result and nothing touched. A play that wants to go on with it says
    C(failed_when) with RV(plan) not defined.
author:
  - pgrescue contributors (@pgrescue)
seealso:
  - module: pgrescue.barman.barman_catalog_info
  - module: pgrescue.barman.pg_aside
  - module: pgrescue.barman.pg_recovery
"""

EXAMPLES = r"""
- name: Restore to a moment, into an empty directory of the database's host
  pgrescue.barman.barman_restore:
    server: main
    target_time: "2026-09-15 14:30:00+02:00"
    destination_directory: /var/lib/postgresql/17/main
    remote_ssh_command: ssh postgres@db1
  become: true
  become_user: barman

- name: Everything that is archived, from a backup of one's own choice, with other places for a tablespace
  pgrescue.barman.barman_restore:
    server: main
    backup_id: 20260915T020000
    target_latest: true
    destination_directory: /srv/restored/data
    tablespaces:
      history: /srv/restored/history
    remote_ssh_command: ssh postgres@db2
  become: true
  become_user: barman
"""

RETURN = r"""
plan:
  description: What the module would do or has done. It is there on failure too, unless an option could not be read at all.
  returned: always, except for unreadable input
  type: dict
  contains:
    server:
      description: The Barman server.
      type: str
    backup_id:
      description: The backup that was chosen, null if none leads to the target.
      type: str
    why:
      description: Why that one, or why none.
      type: str
    target:
      description: The target as it was understood, C(type), C(value) in PostgreSQL's spelling, and C(utc) for a time (ISO 8601).
      type: dict
    target_timeline:
      description: The timeline on which replay ends.
      type: int
    new_timeline:
      description: The timeline on which PostgreSQL would be after a promotion, the first one without a history file in the archive. Null without a backup.
      type: int
    wal:
      description: >-
        The WAL segments between backup and target, C(required) (a number) and C(missing) (ranges), and C(tablespaces), those that replay makes at the
        path where they were (C(oid) and C(location); empty with O(read_wal=false)). C(end_lsn) is the last record of the archive with
        O(target_latest), otherwise null; M(pgrescue.barman.pg_recovery) sees with its O(pgrescue.barman.pg_recovery#module:end_lsn) that
        replay came so far.
      type: dict
    restore_bytes:
      description: The bytes of backup and WAL, null if they are not known.
      type: int
    directories:
      description: What of it goes where, the data directory with its WAL first, then the tablespaces. Empty if it is not known.
      type: list
      elements: dict
      contains:
        path:
          description: The directory.
          type: str
        bytes:
          description: The bytes that go there, null for a tablespace of which that is not known; then they are counted with the data directory.
          type: int
    estimate_seconds:
      description:
        - How many seconds the copy will take at the rate of the backup's own, null where that was not measured or most of it was linked. Replay comes after it.
      type: int
    findings:
      description: All checks, green and red, each with C(check), C(ok), C(found), and for a red one C(meaning) and C(fix).
      type: list
      elements: dict
    feasible:
      description: Whether no finding is red.
      type: bool
stopped:
  description: The processes that were ended.
  returned: with O(state=stopped)
  type: list
  elements: int
destination_directory:
  description: The directory with all symlinks followed.
  returned: success
  type: str
restore:
  description: What the restore did, null if nothing had to be done, and in check mode.
  returned: success
  type: dict
  contains:
    elapsed:
      description: Seconds.
      type: float
    bytes:
      description: The bytes in the destination and its tablespaces after it.
      type: int
    wal_segments:
      description: The number of WAL segments that were copied.
      type: int
    settings_changed:
      description: Settings that Barman changed in the restored configuration files, with C(file), C(line), C(setting) and C(value).
      type: list
      elements: dict
    settings_of_note:
      description: Settings that Barman names as dangerous on another host or path, and leaves as they are.
      type: list
      elements: dict
    missing_files:
      description: Configuration files that the backup does not hold, because they lie outside the data directory.
      type: list
      elements: str
    warnings:
      description: Barman's warnings.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils import _plan
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._destination import check_ssh, end_restores, running_restores
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import check_path
from ansible_collections.pgrescue.barman.plugins.module_utils._restore import Restore, remove_stagings
from ansible_collections.pgrescue.barman.plugins.module_utils._target import TARGET_ARGUMENTS


def stop(module):
    params = module.params
    destination = check_path(params["destination_directory"], "destination_directory")
    running = running_restores(destination, check_name(params["server"], "server"), check_ssh(params["remote_ssh_command"]))
    if running and not module.check_mode:
        end_restores(running)
    if not module.check_mode:
        for problem in remove_stagings(module.params):
            module.warn(f"It is not known whether a backup that was being unpacked is still there. {problem}")
    return dict(changed=bool(running), plan=None, destination_directory=destination, restore=None, stopped=running)


def run(module):
    if module.params["state"] == "stopped":
        return stop(module)
    restore = Restore(module.params)
    plan = restore.plan()
    if not plan["feasible"]:
        raise BarmanError(_plan.complaint(plan), plan=plan)
    changed = restore.state != "complete"
    result = dict(changed=changed, plan=plan, destination_directory=restore.look["places"][0]["real"], restore=None)
    if changed and not module.check_mode:
        try:
            result["restore"] = restore.act(plan["restore_bytes"])
        except BarmanError as error:
            raise BarmanError(str(error), **dict(error.details, plan=plan)) from error
    return result


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            **TARGET_ARGUMENTS,
            state=dict(type="str", choices=["present", "stopped"], default="present"),
            server=dict(type="str", required=True),
            backup_id=dict(type="str", default="auto"),
            destination_directory=dict(type="str", required=True),
            remote_ssh_command=dict(type="str"),
            target_action=dict(type="str", choices=["pause", "promote", "shutdown"], default="pause"),
            tablespaces=dict(type="dict", default={}),
            jobs=dict(type="int"),
            bandwidth_limit=dict(type="int"),
            wal_delivery=dict(type="str", choices=["copy", "get"], default="copy"),
            barman_address=dict(type="str"),
            all_wal=dict(type="bool", default=False),
            delta=dict(type="bool", default=False),
            staging_path=dict(type="str"),
            additional_wal=dict(type="dict", options=dict(
                timeline=dict(type="int", required=True), end_lsn=dict(type="str", required=True), end_time=dict(type="str"),
                target=dict(type="dict", options=dict(lsn=dict(type="str"), restore_points=dict(type="list", elements="str", default=[]))),
            )),
            read_wal=dict(type="bool", default=True),
            read_wal_bytes=dict(type="int", default=4 << 30),
            extra_args=dict(type="list", elements="str", default=[]),
        ),
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
