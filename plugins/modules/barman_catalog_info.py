#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_catalog_info
short_description: Backups, timelines, WAL and the moments that can be reached
version_added: "0.1.0"
description:
  - Answers with the catalogue of one Barman server or of all, in one call and in time linear in backups and WAL.
  - Everything is read from Barman's own files (C(backup.info), C(xlog.db), history files, keep annotations) and from
    archived WAL. Barman itself is not started and PostgreSQL is not contacted, so the answer is the same with PostgreSQL
    up, down or unreachable.
  - The windows tell which moments can be reached. They end with the last commit or abort record in the archive, read by
    C(pg_waldump), never with the time of a file.
  - A failed backup, a damaged C(backup.info), a missing segment of WAL are part of the answer and no error.
author:
  - pgrescue contributors (@pgrescue)
extends_documentation_fragment:
  - pgrescue.barman.barman
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed; the answer is the same.
  diff_mode:
    support: none
    description: Nothing is ever changed.
  idempotent:
    support: full
    description: Nothing is ever changed.
  async:
    support: full
    description: Useless here, the module ends within seconds.
  platform:
    support: full
    platforms: posix
    description: Any POSIX host on which Barman runs.
options:
  server:
    description:
      - Name of one server in Barman's configuration. An unknown name is an error that lists the names.
      - Not given, all servers are returned.
    type: str
  status:
    description:
      - Only backups with one of these statuses are returned, for example V(DONE). Windows and timelines are not affected.
    type: list
    elements: str
    choices: [DONE, WAITING_FOR_WALS, STARTED, FAILED, SYNCING, EMPTY, UNREADABLE]
  since:
    description:
      - Only backups that began at this instant or later are returned (ISO 8601 with an offset or C(Z)).
      - Windows and timelines are not affected. A backup that has no begin time is returned.
    type: str
  reachable_at:
    description:
      - An instant (date, time and offset from UTC, C(2026-09-15T14:30:00+02:00) or C(2026-09-15 12:30:00Z)). Each server then says
        whether it can be brought back to that instant, from which backup and on which timeline.
      - Anything else, a time without a zone or with a zone's abbreviation, is an error that shows what to type.
    type: str
  include_wal:
    description:
      - Also list every archived segment, in RV(servers[].wal.segments).
    type: bool
    default: false
requirements:
  - C(pg_waldump) of the servers' PostgreSQL major version on the Barman host, for the ends of the windows; Debian has it in
    the package of the server. Without it RV(servers[].windows[].end_time) is null and RV(servers[].windows[].note) says so.
notes:
  - RV(servers[].reachable) is judged by the archive alone. What the live server has not archived yet does not count.
  - It counts commits, and does not read what stands between them. A moment within a C(DROP DATABASE), and one after which the server's
    clock was set back, are found by the plan of a recovery only (C(recover.yml --check), findings C(half_dropped) and C(commit_times)).
seealso:
  - module: pgrescue.barman.barman_restore
  - module: pgrescue.barman.barman_backup
"""

EXAMPLES = r"""
- name: The catalogue of all servers
  pgrescue.barman.barman_catalog_info:
  become: true
  become_user: barman
  register: catalogue

- name: Can we get back to half past two?
  pgrescue.barman.barman_catalog_info:
    server: main
    reachable_at: "2026-09-15 14:30:00+02:00"
  become: true
  become_user: barman
  register: catalogue

- name: Show the verdict
  ansible.builtin.debug:
    var: catalogue.servers[0].reachable

- name: Failed backups of this week
  pgrescue.barman.barman_catalog_info:
    server: main
    status: [FAILED]
    since: "2026-09-14T00:00:00Z"
  become: true
  become_user: barman
"""

RETURN = r"""
servers:
  description: One entry for each server asked for, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the server.
      type: str
      returned: success
      sample: main
    active:
      description: Whether Barman takes WAL and backups of it (C(active) in its configuration, and not C(disabled)).
      type: bool
      returned: success
    passive:
      description: Whether this Barman only copies what another one has of it (C(primary_ssh_command) in its configuration).
      type: bool
      returned: success
    backups:
      description: Its backups, oldest first.
      type: list
      elements: dict
      returned: success
      contains:
        backup_id:
          description: Barman's id, the begin of the backup in the Barman host's zone.
          type: str
          returned: success
          sample: 20260915T020001
        name:
          description: The name that was given to the backup, or null.
          type: str
          returned: success
        status:
          description:
            - Barman's word (V(DONE), V(WAITING_FOR_WALS), V(STARTED), V(FAILED), V(SYNCING), V(EMPTY)).
            - V(UNREADABLE) when C(backup.info) is damaged.
          type: str
          returned: success
        good:
          description: Whether the backup is V(DONE) and none of its WAL was refused by the archive as a duplicate. Only good backups count in windows.
          type: bool
          returned: success
        type:
          description: V(rsync), V(full), V(incremental) or V(snapshot); null when unknown.
          type: str
          returned: success
        parent_backup_id:
          description: The backup that an incremental one builds on, or null.
          type: str
          returned: success
        begin_time:
          description: When it began (ISO 8601, UTC), by the Barman host's clock.
          type: str
          returned: success
        end_time:
          description: When it ended (ISO 8601, UTC), by the Barman host's clock. Earlier instants cannot be reached from it.
          type: str
          returned: success
        begin_lsn:
          description: Where replay begins.
          type: str
          returned: success
          sample: 0/3000028
        end_lsn:
          description: Where the restored cluster becomes consistent.
          type: str
          returned: success
        begin_wal:
          description: Name of the first segment that the backup needs.
          type: str
          returned: success
        end_wal:
          description: Name of the last segment without which it is not consistent.
          type: str
          returned: success
        timeline:
          description: The timeline on which it was taken.
          type: int
          returned: success
        size_bytes:
          description: Bytes of the backup with the WAL that it needs, as C(barman list-backups) counts them.
          type: int
          returned: success
        wal_bytes:
          description: Bytes of the WAL archived after it and before the next backup's end, as C(barman list-backups) counts them.
          type: int
          returned: success
        cluster_bytes:
          description: Bytes of the cluster when it was taken. Null where Barman did not note it, as before 3.11.
          type: int
          returned: success
        copied_bytes:
          description: Bytes that Barman copied for it, without what it linked from the backup before. Null until it is done.
          type: int
          returned: success
        copy_seconds:
          description: Seconds that this copy took. Null until it is done, and of a snapshot.
          type: float
          returned: success
        wal_segment_bytes:
          description: Size of a WAL segment of that cluster.
          type: int
          returned: success
        system_identifier:
          description: System identifier of the cluster, as text; null where Barman did not record it.
          type: str
          returned: success
        postgresql_version:
          description: C(server_version_num) of the cluster, for example 170006.
          type: int
          returned: success
        compression:
          description: What it is compressed with, V(gzip), V(lz4), V(zstd) or V(none) (in a tar), or null for plain files.
          type: str
          returned: success
        encryption:
          description: What it is encrypted with (Barman 3.14), or null.
          type: str
          returned: success
        tablespaces:
          description: Its tablespaces besides the two built-in ones, each with name, oid and location.
          type: list
          elements: dict
          returned: success
        keep:
          description: Whether it is kept beyond its retention, V(full), V(standalone) or V(none).
          type: str
          returned: success
        retention_status:
          description:
            - What the retention policy says, V(VALID), V(OBSOLETE), V(OBSOLETE*) (kept for the minimum redundancy only), V(KEEP:FULL),
              V(KEEP:STANDALONE), or V(-) for a backup that is not V(DONE). Null when the server has no retention policy.
            - C(barman list-backups) prints V(-) for V(VALID) too.
          type: str
          returned: success
        error:
          description: Why it failed or cannot be read, or null.
          type: str
          returned: success
    timelines:
      description: The branches of the server's history, by number.
      type: list
      elements: dict
      returned: success
      contains:
        timeline:
          description: Its number.
          type: int
          returned: success
        parent:
          description: The timeline that it left, null for the first one or when its history file is not archived.
          type: int
          returned: success
        switch_lsn:
          description: Where it left its parent, or null.
          type: str
          returned: success
        reason:
          description: Why, in PostgreSQL's words from the history file, or null.
          type: str
          returned: success
        current:
          description: True on the branch that the live server followed when it last archived anything.
          type: bool
          returned: success
        last_wal:
          description: The archived segment of this timeline with the greatest name, or null.
          type: str
          returned: success
        begin_time:
          description: When it was promoted, from WAL (ISO 8601, UTC). Null for the first one or when its first WAL is gone.
          type: str
          returned: success
        resumed:
          description: >-
            The first commits (ISO 8601, UTC) after a recovery that had left this branch was taken back, one for each such recovery. From then
            on it is this branch that a moment is sought on.
          type: list
          elements: str
          returned: success
    wal:
      description: The archive.
      type: dict
      returned: success
      contains:
        first:
          description: The archived segment with the smallest name, or null.
          type: str
          returned: success
        last:
          description: The archived segment with the greatest name, or null.
          type: str
          returned: success
        count:
          description: How many segments C(xlog.db) lists.
          type: int
          returned: success
        bytes:
          description: Their bytes, as stored.
          type: int
          returned: success
        segment_bytes:
          description: Size of one segment, unpacked.
          type: int
          returned: success
        missing:
          description: Holes, as ranges, each with timeline, first and last (names), count and reason.
          type: list
          elements: dict
          returned: success
        received:
          description:
            - Segments, each with name and path, that Barman has received and not archived yet, where they continue a window. The last one of a stream is
              a C(.partial). M(pgrescue.barman.barman_restore) restores them too, so a window goes as far as they can be read.
          type: list
          elements: dict
          returned: success
        segments:
          description: Every archived segment, each with name, bytes (as stored) and file_time (seconds since the epoch, from C(xlog.db)).
          type: list
          elements: dict
          returned: when O(include_wal=true)
    windows:
      description:
        - Stretches of time in which every instant can be reached, by timeline. A hole in the WAL ends one, and so does a segment that came once more with
          other content; the next good backup begins another.
        - A window is about a timeline's own part; what was before its promotion is in the windows of its parent.
      type: list
      elements: dict
      returned: success
      contains:
        timeline:
          description: The branch.
          type: int
          returned: success
        begin_time:
          description: Its first instant (ISO 8601, UTC), the end of its first backup, or the promotion when WAL leads there from an ancestor's backup.
          type: str
          returned: success
        begin_lsn:
          description: The same as an LSN.
          type: str
          returned: success
        end_time:
          description:
            - Time of the last commit or abort record (ISO 8601, UTC). An instant is reachable when it is earlier than this,
              since PostgreSQL stops only at a commit or abort later than the target.
            - Null when there is no such record or it cannot be read.
          type: str
          returned: success
        end_lsn:
          description: The last record of WAL, the greatest LSN that can be reached; null when it cannot be read.
          type: str
          returned: success
        backup_ids:
          description: The good backups from which it can be reached, those of ancestors included.
          type: list
          elements: str
          returned: success
        note:
          description: Why an end is null, or why WAL after it is not counted (it is damaged), or null.
          type: str
          returned: success
    reachable:
      description: The verdict on O(reachable_at), null without it.
      type: dict
      returned: success
      contains:
        reachable:
          description: Whether the server can be brought back to that instant.
          type: bool
          returned: success
        backup_id:
          description: The backup to restore, or null.
          type: str
          returned: success
        timeline:
          description: The timeline to follow, or null.
          type: int
          returned: success
        why:
          description: The reason, in words.
          type: str
          returned: success
    problem:
      description: Why the catalogue of this server is not complete, or null.
      type: str
      returned: success
"""

from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, BarmanError
from ansible_collections.pgrescue.barman.plugins.module_utils._catalog import reachable, read_catalog
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._target import TargetError, parse_moment

STATUSES = ["DONE", "WAITING_FOR_WALS", "STARTED", "FAILED", "SYNCING", "EMPTY", "UNREADABLE"]


def run(module):
    """The result of the module."""
    params = module.params
    since, instant = _instant(module, "since"), _instant(module, "reachable_at")
    configuration = read_configuration(params["barman_config"])
    for entry in configuration.unreadable:
        module.warn(f"{entry['path']} cannot be read ({entry['reason']}): Barman ignores the servers in it without a word")
    servers = read_catalog(configuration, [params["server"]] if params["server"] else None, params["include_wal"])
    for server in servers:
        if instant:
            server["reachable"] = reachable(server, instant)
        server["backups"] = [backup for backup in server["backups"] if _wanted(backup, params["status"], since)]
    return dict(changed=False, servers=servers)


def _instant(module, option):
    """An option that is an instant; one in the future is an answer here (out of reach), not an error."""
    if not module.params[option]:
        return None
    try:
        return parse_moment(module.params[option], datetime.max.replace(tzinfo=timezone.utc))
    except TargetError as error:
        raise BarmanError(str(error).replace("target_time", option)) from error


def _wanted(backup, statuses, since):
    if statuses and backup["status"] not in statuses:
        return False
    return not since or not backup["begin_time"] or datetime.fromisoformat(backup["begin_time"]) >= since


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            server=dict(type="str"),
            status=dict(type="list", elements="str", choices=STATUSES),
            since=dict(type="str"),
            reachable_at=dict(type="str"),
            include_wal=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
