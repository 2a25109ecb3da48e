#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_point
version_added: "0.1.0"
short_description: Make a named restore point, to which a recovery can come back
description:
  - Writes a restore point into the WAL (C(pg_create_restore_point())) and closes its segment (C(pg_switch_wal())), so that it can be archived.
  - The recovery to it is O(pgrescue.barman.barman_restore#module:target_name), or C(target_name) of the playbook C(recover.yml).
  - On the way into the archive the segment is seen by M(pgrescue.barman.barman_wal). The playbook C(bookmark.yml) does both.
options:
  name:
    description:
      - The name, 1 to 63 letters, digits, V(_), V(.) and V(-), and V(-) not as the first.
      - PostgreSQL does not care whether a name was used before, and a recovery stops at the first of that name after its backup. So give each its own.
    type: str
    required: true
extends_documentation_fragment:
  - pgrescue.barman.postgresql
  - pgrescue.barman.postgresql.login
attributes:
  check_mode:
    support: full
    description: Nothing is written. What PostgreSQL would refuse is refused.
  diff_mode:
    support: none
    description: A restore point changes no data.
  idempotent:
    support: none
    description: A restore point is an event. Each run makes one more, even of the same name.
  async:
    support: full
    description: Useless here, the module ends at once.
  platform:
    support: full
    platforms: posix
    description: Linux.
author:
  - pgrescue contributors (@pgrescue)
seealso:
  - module: pgrescue.barman.barman_wal
  - module: pgrescue.barman.barman_restore
  - name: PostgreSQL's backup control functions
    description: C(pg_create_restore_point()) and C(pg_switch_wal()).
    link: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-BACKUP
"""

EXAMPLES = r"""
- name: Remember the moment before the migration
  pgrescue.barman.pg_restore_point:
    name: before-migration-42
  become: true
  become_user: postgres
  register: point
"""

RETURN = r"""
lsn:
  description: The WAL location of the end of the restore point's record. Null in check mode.
  returned: success
  type: str
  sample: 0/7000158
wal:
  description: The WAL segment that holds it. It is in the archive when the restore point can be reached. Null in check mode.
  returned: success
  type: str
  sample: "000000010000000000000007"
time:
  description: When it was made, by PostgreSQL's clock, ISO 8601 in UTC. Null in check mode.
  returned: success
  type: str
  sample: "2026-09-15T12:30:00.123456+00:00"
timeline:
  description: The timeline on which it lies. Null in check mode.
  returned: success
  type: int
  sample: 1
"""

import os
import traceback
from contextlib import closing
from datetime import timezone

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.pgrescue.barman.plugins.module_utils import _postgres
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import LOGIN_ARGUMENTS, POSTGRESQL_ARGUMENTS, PostgresError
from ansible_collections.pgrescue.barman.plugins.module_utils._target import RESTORE_POINT

try:
    import psycopg2

    HAS_PSYCOPG2, PSYCOPG2_ERROR = True, None
except ImportError:
    HAS_PSYCOPG2, PSYCOPG2_ERROR = False, traceback.format_exc()

STATE = "SELECT pg_is_in_recovery(), current_setting('wal_level')"
# The segment's name is that of the record's last byte: pg_walfile_name() takes a boundary as the end of the segment before it.
CREATE = "SELECT lsn::text, pg_walfile_name(lsn), clock_timestamp() FROM pg_create_restore_point(%s) AS lsn"
SWITCH = "SELECT pg_switch_wal()"


def check_point_name(name):
    """Raise PostgresError for a name that a recovery would not take as target_name."""
    if not RESTORE_POINT.fullmatch(name):
        raise PostgresError(
            f"name {name[:80]!r} cannot be a restore point's: 1 to 63 letters, digits, '_', '.' and '-' are allowed, and '-' not as the first. "
            f"Type for example before-migration."
        )


def connect(params):
    """A connection to the running PostgreSQL of the cluster that is meant, by its socket unless told otherwise."""
    data = os.path.realpath(_postgres.layout(params["data_directory"], params["version"], params["cluster"])["data_directory"])
    if not _postgres.postmaster(data):
        raise PostgresError(f"PostgreSQL does not run on {data}, so no restore point can be made. Start it first.")
    connection = psycopg2.connect(connect_timeout=10, **_postgres.login(data, params))
    connection.autocommit = True
    return connection


def check_state(in_recovery, wal_level):
    """Raise PostgresError where PostgreSQL could make no restore point, or none that helps."""
    if in_recovery:
        raise PostgresError(
            "this PostgreSQL is in recovery (a standby, or a recovery that is not finished), and a restore point is made on the primary only. "
            "Run this on the primary; the standby gets it with the WAL."
        )
    if wal_level == "minimal":
        raise PostgresError(
            "wal_level is minimal: such WAL cannot be archived, and no recovery can come back to a restore point in it. "
            "Set wal_level = replica and restart PostgreSQL (role pgrescue.barman.pg_primary does)."
        )


def run(module):
    name = module.params["name"]
    check_point_name(name)
    with closing(connect(module.params)) as connection, connection.cursor() as cursor:
        cursor.execute(STATE)
        check_state(*cursor.fetchone())
        if module.check_mode:
            return dict(changed=True, lsn=None, wal=None, time=None, timeline=None)
        cursor.execute(CREATE, (name,))
        lsn, wal, when = cursor.fetchone()
        cursor.execute(SWITCH)
    return dict(changed=True, lsn=lsn, wal=wal, time=when.astimezone(timezone.utc).isoformat(), timeline=int(wal[:8], 16))


def main():
    module = AnsibleModule(
        argument_spec=dict(POSTGRESQL_ARGUMENTS, **LOGIN_ARGUMENTS, name=dict(type="str", required=True)),
        supports_check_mode=True,
    )
    if not HAS_PSYCOPG2:
        module.fail_json(msg=missing_required_lib("psycopg2"), exception=PSYCOPG2_ERROR)
    try:
        module.exit_json(**run(module))
    except PostgresError as error:
        module.fail_json(msg=str(error), **error.details)
    except psycopg2.Error as error:
        module.fail_json(msg=f"no restore point {module.params['name']!r} was made or its WAL was not switched: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
