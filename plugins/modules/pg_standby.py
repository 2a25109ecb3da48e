#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_standby
version_added: 0.1.0
short_description: Waits until a standby follows its primary
description:
  - Asks a running standby what it receives and what it has replayed, until it streams on the primary's timeline and has replayed the primary's WAL up to
    a given location. Not the primary's list of clients is asked, in which a standby may have any name.
  - A receiver is believed when it is the same process a second later. For a moment PostgreSQL calls one that streams that the primary is about to refuse.
  - A standby that replays later (C(recovery_min_apply_delay)) receives nothing after a start until the WAL that it has is replayed. It is not waited for, see
    RV(delayed).
  - It fails when nothing moves any more, or PostgreSQL does not run for ten seconds, and says what the standby waits for. There is no limit on the whole.
options:
  timeline:
    description:
      - The timeline on which the primary writes.
    type: int
    required: true
  lsn:
    description:
      - The WAL location of the primary, C(pg_current_wal_lsn()), up to which the standby shall have replayed.
    type: str
    required: true
  stall_timeout:
    description:
      - Seconds without any progress of the replay after which the task fails.
    type: int
    default: 300
extends_documentation_fragment:
  - pgrescue.barman.postgresql
  - pgrescue.barman.postgresql.login
attributes:
  check_mode:
    description: Can run in C(check_mode). It looks twice, a second apart, does not wait, and says in RV(follows) what it saw.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
  idempotent:
    description: It changes nothing.
    support: full
  async:
    description: Can be run with C(async).
    support: full
  platform:
    description: Linux.
    platforms: posix
    support: full
author:
  - pgrescue contributors (@pgrescue)
seealso:
  - module: pgrescue.barman.pg_cluster_info
  - name: PostgreSQL's view of the WAL receiver
    description: pg_stat_wal_receiver.
    link: https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-WAL-RECEIVER-VIEW
"""

EXAMPLES = r"""
- name: The standby has all that its primary had a moment ago
  pgrescue.barman.pg_standby:
    timeline: 3
    lsn: 0/9000148
  become: true
  become_user: postgres
"""

RETURN = r"""
follows:
  description: Whether it streams on O(timeline) and RV(reached_lsn) is O(lsn) or later.
  returned: success
  type: bool
delayed:
  description:
    - Whether it replays WAL that it has by its own setting (C(recovery_min_apply_delay)), and receives again only when that is done. Whether it follows is not
      known before.
  returned: success
  type: bool
in_recovery:
  description: Whether it is a standby; false once it was promoted. Null while it does not answer.
  returned: success
  type: bool
status:
  description: PostgreSQL's word for what the WAL receiver does, V(streaming) when it receives. Null without one.
  returned: success
  type: str
timeline:
  description: The timeline that it receives. Null without a receiver.
  returned: success
  type: int
replay_lsn:
  description: The WAL location up to which it has replayed.
  returned: success
  type: str
reached_lsn:
  description: The same; of a standby that replays later (C(recovery_min_apply_delay)) the location up to which it has received.
  returned: success
  type: str
lag_bytes:
  description: The bytes of WAL between RV(reached_lsn) and O(lsn).
  returned: success
  type: int
sender_host:
  description: The host from which it receives, or the directory of a socket.
  returned: success
  type: str
slot_name:
  description: The replication slot that it uses on its primary. Null without one.
  returned: success
  type: str
receiver_pid:
  description: The process that receives. Null without a receiver.
  returned: success
  type: int
waits:
  description: PostgreSQL's word for what the process that replays waits for, V(RecoveryApplyDelay) for its delay. Null while it waits for nothing.
  returned: success
  type: str
"""

import os
import time
import traceback
from contextlib import closing

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.pgrescue.barman.plugins.module_utils import _postgres, _standby
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import LOGIN_ARGUMENTS, POSTGRESQL_ARGUMENTS, PostgresError
from ansible_collections.pgrescue.barman.plugins.module_utils._server import startup_process
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import parse_lsn

try:
    import psycopg2
    import psycopg2.extras

    HAS_PSYCOPG2, PSYCOPG2_ERROR = True, None
except ImportError:
    HAS_PSYCOPG2, PSYCOPG2_ERROR = False, traceback.format_exc()

POLL_SECONDS = 1
GRACE_SECONDS = 10                            # a postmaster that has just been started needs a moment before it says that it runs


def look(data, params):
    """What the standby says of itself, and why it says nothing."""
    try:
        with closing(psycopg2.connect(connect_timeout=5, **_postgres.login(data, params))) as connection:
            with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(_standby.STATE)
                return dict(cursor.fetchone()), None
    except psycopg2.Error as error:
        return dict(_standby.SILENT), " ".join(str(error).split())


def run(module):
    params = module.params
    parse_lsn(params["lsn"])
    data = os.path.realpath(_postgres.layout(params["data_directory"], params["version"], params["cluster"])["data_directory"])
    before, last, since, alive = _standby.SILENT, None, time.monotonic(), time.monotonic()
    while True:
        postmaster = _postgres.postmaster(data)
        if not postmaster:
            if module.check_mode or time.monotonic() - alive > GRACE_SECONDS:
                raise PostgresError(f"PostgreSQL does not run on {data}, so it follows nobody. Its log says why; start it again.")
            time.sleep(POLL_SECONDS)
            continue
        alive = time.monotonic()
        now, silence = look(data, params)
        seen = _standby.believed(before, now)
        found, delayed = _standby.follows(seen, params["timeline"], params["lsn"]), _standby.delayed(seen)
        if found or delayed or module.check_mode and before is not _standby.SILENT:
            return dict(seen, changed=False, follows=found, delayed=delayed, lag_bytes=_standby.lag(seen, params["lsn"]))
        before = now
        progress = seen["replay_lsn"] or startup_process(postmaster)
        if progress != last and not _standby.is_beside(seen, params["timeline"], params["lsn"]):
            last, since = progress, time.monotonic()
        elif time.monotonic() - since > params["stall_timeout"] or seen["in_recovery"] is False:
            why = silence or _standby.obstacle(seen, params["timeline"], params["lsn"])
            raise PostgresError(f"The standby on {data} does not follow, and has not moved for {int(time.monotonic() - since)} seconds. {why}", **seen)
        time.sleep(POLL_SECONDS)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            POSTGRESQL_ARGUMENTS,
            **LOGIN_ARGUMENTS,
            timeline=dict(type="int", required=True),
            lsn=dict(type="str", required=True),
            stall_timeout=dict(type="int", default=300),
        ),
        supports_check_mode=True,
    )
    if not HAS_PSYCOPG2:
        module.fail_json(msg=missing_required_lib("psycopg2"), exception=PSYCOPG2_ERROR)
    try:
        module.exit_json(**run(module))
    except PostgresError as error:
        module.fail_json(msg=str(error), **error.details)
    except ValueError:
        module.fail_json(msg=f"lsn is {module.params['lsn']!r}, and must be two hexadecimal numbers, for example 0/9000148.")


if __name__ == "__main__":
    main()
