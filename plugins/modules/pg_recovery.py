#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_recovery
version_added: 0.1.0
short_description: Replay has stopped at the target, or the recovered PostgreSQL is promoted
description:
  - Waits until a PostgreSQL that was started on a restored directory has stopped at its target, and says where, with PostgreSQL's own evidence.
  - A start that succeeded proves nothing. PostgreSQL lets clients in while it replays, and ends a moment later when the target
    is not in the archive. This module sees that within a second, and fails with the reason.
options:
  state:
    description:
      - V(reached) waits until replay is paused at the target, or has ended with a promotion, or with the shutdown that C(recovery_target_action) asks for.
      - V(promoted) waits for the same, promotes, and waits until PostgreSQL writes on its new timeline.
    type: str
    choices: [reached, promoted]
    default: reached
  stall_timeout:
    description:
      - Seconds without any progress of the replay (WAL location, segment, or bytes read by PostgreSQL's startup process) after which the task fails.
        There is no limit on the whole, a long replay is not a failed one.
    type: int
    default: 300
  log_file:
    description:
      - The file to which the server logs, as given to C(pg_ctl -l). With C(lc_messages=C) the reason for an end, and the
        transaction at the stop, are read from it. Not given, an end is noticed, but its reason is not known.
    type: str
  end_lsn:
    description:
      - With O(target_latest), the last record that has to be replayed, as RV(pgrescue.barman.barman_restore#module:plan) tells in C(wal.end_lsn).
      - PostgreSQL takes whatever its C(restore_command) cannot bring for the end of WAL, also when the disk was full. So a replay that has ended
        before this has failed.
    type: str
extends_documentation_fragment:
  - pgrescue.barman.postgresql
  - pgrescue.barman.postgresql.login
  - pgrescue.barman.target
attributes:
  check_mode:
    description: Can run in C(check_mode). It looks once, does not wait and does not promote, and says whether it would.
    support: full
  diff_mode:
    description: Where replay stopped is in the result, there is no other difference to show.
    support: none
  async:
    description: Not needed. Without it the task survives a lost connection too, shows how far it is, and gives up a host that is silent for two minutes.
    support: full
  platform:
    description: Linux.
    platforms: posix
    support: full
notes:
  - The target options say what was asked for, so that it is compared with what was reached. Here they are optional, and at most one
    may be given; PostgreSQL's own target is in its configuration.
  - While replay is paused, a table whose C(DROP) or C(TRUNCATE) was being replayed cannot be read, though the target lies before its
    commit. PostgreSQL took the lock when it replayed the statement, and keeps it until promotion. Set C(lock_timeout) when you look.
author:
  - pgrescue contributors (@pgrescue)
seealso:
  - module: pgrescue.barman.barman_restore
  - name: PostgreSQL's recovery targets
    description: Recovery target settings and functions.
    link: https://www.postgresql.org/docs/current/runtime-config-wal.html#RUNTIME-CONFIG-WAL-RECOVERY-TARGET
"""

EXAMPLES = r"""
- name: Replay has stopped at the target
  pgrescue.barman.pg_recovery:
    data_directory: /var/lib/postgresql/17/main
    target_time: "2026-09-15 14:30:00+02:00"
    log_file: /var/lib/postgresql/17/replay.log
  become: true
  become_user: postgres

- name: The recovered PostgreSQL takes writes
  pgrescue.barman.pg_recovery:
    data_directory: /var/lib/postgresql/17/main
    state: promoted
  become: true
  become_user: postgres
"""

RETURN = r"""
reached:
  description:
    - Whether replay stopped at the target. Null if that is not known yet (check mode).
    - If it is false, the task has failed.
  returned: always
  type: bool
stopped_at:
  description: Where replay stopped, each part null if it is not known.
  returned: always
  type: dict
  contains:
    lsn:
      description: The end of the last WAL record that was replayed.
      type: str
    time:
      description: The time of the last transaction that is there, ISO 8601 in UTC.
      type: str
    xid:
      description: The transaction at which replay stopped, the first that is not there, or the last that is, as C(reason) says.
      type: str
    timeline:
      description: The timeline on which the server is. After the promotion it is the new one.
      type: int
    reason:
      description: PostgreSQL's words for why it stopped.
      type: str
discarded:
  description:
    - The first transaction that is not there any more, with C(lsn), C(xid) and C(time), read from WAL.
    - Null if the next record is not a transaction's end.
  returned: always
  type: dict
distance_seconds:
  description: The seconds between O(target_time) and the last transaction that is there.
  returned: always
  type: float
promoted:
  description: Whether the server takes writes.
  returned: always
  type: bool
replayed_bytes:
  description: The bytes of WAL that were replayed since the backup's beginning.
  returned: always
  type: int
elapsed:
  description: The seconds that this task waited.
  returned: always
  type: float
"""

import time

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.pgrescue.barman.plugins.module_utils import _postgres
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import LOGIN_ARGUMENTS, POSTGRESQL_ARGUMENTS, PostgresError, check_path
from ansible_collections.pgrescue.barman.plugins.module_utils._progress import tell
from ansible_collections.pgrescue.barman.plugins.module_utils._server import HAS_PSYCOPG2, PSYCOPG2_ERROR, ReplayingServer
from ansible_collections.pgrescue.barman.plugins.module_utils._target import TARGET_ARGUMENTS, TYPES, TargetError, parse_target
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import parse_lsn

POLL_SECONDS = 0.5


def wait(server, done, stall_timeout):
    """Look until done(sight); PostgresError when the postmaster ends, or nothing moves for stall_timeout seconds."""
    last, since = None, time.monotonic()
    while True:
        sight = server.look()
        stopped = sight["stopped_at"]
        tell(f"Replayed to {stopped['lsn']}, the last transaction is of {stopped['time']}" if stopped["time"] else sight["activity"] or "Replaying")
        if sight["known"] and (done(sight) or sight["reached"] is False):
            return sight
        if sight["progress"] != last:
            last, since = sight["progress"], time.monotonic()
        elif time.monotonic() - since > stall_timeout:
            raise PostgresError(
                f"Replay has not moved for {stall_timeout} seconds; PostgreSQL is at {sight['activity'] or sight['stopped_at']['lsn'] or 'an unknown place'}. "
                f"If it waits for a WAL segment, see whether its restore_command hangs. Nothing was changed.", **server.report(sight))
        time.sleep(POLL_SECONDS)


def run(module):
    params = module.params
    given = any(params[f"target_{kind}"] not in (None, "", False) for kind in TYPES)
    target = parse_target(params) if given else None
    if params["stall_timeout"] < 1:
        raise TargetError(f"stall_timeout is {params['stall_timeout']}, and must be at least one second.")
    if params["log_file"]:
        check_path(params["log_file"], "log_file")
    try:
        parse_lsn(params["end_lsn"] or "0/0")
    except ValueError as error:
        raise TargetError(f"end_lsn: {error}.") from error
    begin = time.monotonic()
    server = ReplayingServer(_postgres.layout(params["data_directory"], params["version"], params["cluster"]), params, target)
    sight = server.look() if module.check_mode else wait(server, lambda sight: sight["reached"], params["stall_timeout"])
    changed = False
    if sight["reached"] is False:
        raise PostgresError(sight["message"], **server.report(sight), elapsed=round(time.monotonic() - begin, 3))
    if params["state"] == "promoted" and not sight["promoted"]:
        changed = True
        if not module.check_mode:
            server.promote()
            sight = wait(server, lambda sight: sight["promoted"], params["stall_timeout"])
            if not sight["promoted"]:
                raise PostgresError(sight["message"], **server.report(sight), elapsed=round(time.monotonic() - begin, 3))
    return dict(server.report(sight), changed=changed, elapsed=round(time.monotonic() - begin, 3))


def main():
    module = AnsibleModule(
        argument_spec=dict(
            POSTGRESQL_ARGUMENTS,
            **LOGIN_ARGUMENTS,
            **TARGET_ARGUMENTS,
            state=dict(type="str", choices=["reached", "promoted"], default="reached"),
            stall_timeout=dict(type="int", default=300),
            log_file=dict(type="str"),
            end_lsn=dict(type="str"),
        ),
        supports_check_mode=True,
    )
    if not HAS_PSYCOPG2:
        module.fail_json(msg=missing_required_lib("psycopg2"), exception=PSYCOPG2_ERROR)
    try:
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
