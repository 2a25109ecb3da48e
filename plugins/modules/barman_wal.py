#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_wal
short_description: Have everything that PostgreSQL has written so far archived
version_added: "0.1.0"
description:
  - Closes the WAL segment that PostgreSQL is writing, and waits until Barman has archived it. After that every
    transaction that was committed before the task is in the archive.
  - Success is read from the archive, never from Barman's exit code, which is 0 too when the server was skipped, when nothing
    was closed, and when the segment was refused as a duplicate.
  - Where Barman's role has C(pg_checkpoint) (PostgreSQL 15 and later, granted by role P(pgrescue.barman.pg_primary#role)) and
    Barman heeds it (3.9 and later), a C(CHECKPOINT) is issued first, so there is always a segment to close. Elsewhere, a segment
    in which nothing has been written since the last switch stays open; it holds no transaction. Who needs it closed all the same
    creates a restore point first.
author:
  - pgrescue contributors (@pgrescue)
extends_documentation_fragment:
  - pgrescue.barman.barman
attributes:
  check_mode:
    support: full
    description: Nothing is run. RV(switched) is V(true), because a run closes a segment nearly always, and RV(last_archived) is the newest one of now.
  diff_mode:
    support: none
    description: What is written into a segment is not known beforehand.
  idempotent:
    support: none
    description: Every run closes a segment, if there is something in it. Where a C(CHECKPOINT) is issued, there always is.
  async:
    support: full
    description: The module waits at most O(timeout) seconds, or O(stall_timeout) seconds after the last progress.
  platform:
    support: full
    platforms: posix
    description: Any POSIX host on which Barman runs.
options:
  server:
    description:
      - Name of the server in Barman's configuration.
      - An inactive or passive one is refused. Of a standby, Barman needs C(primary_conninfo) to have its primary switch.
    type: str
    required: true
  timeout:
    description:
      - Seconds until the task fails when the segment has not been archived. The message says what PostgreSQL's archiver reports.
      - The segment stays closed then, and PostgreSQL goes on trying to archive it.
      - Without it the limit is 600 seconds, or none where O(stall_timeout) is given.
    type: int
  stall_timeout:
    description:
      - Seconds without any newly archived segment after which the task fails, however many segments still wait. So a long queue
        is waited for, and an archive that takes nothing is not.
      - PostgreSQL tries again a minute after its C(archive_command) has failed three times in a row, so much less than two minutes
        gives up what would have mended itself.
    type: int
seealso:
  - name: pg_switch_wal()
    description: What closes the segment.
    link: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-BACKUP
"""

EXAMPLES = r"""
- name: Make every second up to now reachable
  pgrescue.barman.barman_wal:
    server: main
    timeout: 120
  become: true
  become_user: barman
"""

RETURN = r"""
switched:
  description: Whether a segment was closed. V(false) when nothing had been written since the last switch.
  returned: success
  type: bool
  sample: true
closed:
  description: The segment that was closed and is archived now. V(null) when none was, and in check mode.
  returned: success
  type: str
  sample: "00000001000000000000001C"
last_archived:
  description: The newest segment of the archive after the task. V(null) in check mode with an empty archive.
  returned: success
  type: str
  sample: "00000001000000000000001C"
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils._archive import read_archive
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, Barman, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._switch import archive_written, newest, refuse_inactive

TIMEOUT = 600


def run(module):
    params = module.params
    server = read_configuration(params["barman_config"]).server(check_name(params["server"], "server"))
    refuse_inactive(server)
    if module.check_mode:
        return dict(changed=True, switched=True, closed=None, last_archived=newest(read_archive(server)))

    barman = Barman(params["barman_executable"], params["barman_config"])
    seconds = params["timeout"] or (None if params["stall_timeout"] else TIMEOUT)
    written = archive_written(barman, server, params["stall_timeout"], seconds and time.monotonic() + seconds)
    return dict(changed=written.changed, switched=written.switched, closed=written.closed, last_archived=written.last_archived)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            server=dict(type="str", required=True),
            timeout=dict(type="int"),
            stall_timeout=dict(type="int"),
        ),
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
