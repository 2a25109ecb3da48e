#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_keep
short_description: Keep a backup beyond its retention policy, or let it go
version_added: "0.1.0"
description:
  - Makes sure that a backup is kept, or is not. A kept backup is deleted neither by the retention policy nor by hand.
author:
  - pgrescue contributors (@pgrescue)
extends_documentation_fragment:
  - pgrescue.barman.barman
attributes:
  check_mode:
    support: full
    description: What Barman would refuse is refused in check mode, too.
  diff_mode:
    support: full
    description: Shows how the backup is kept before and after.
  idempotent:
    support: full
    description: Nothing is run when the backup is kept as asked.
  async:
    support: full
    description: Useless here, the module ends at once.
  platform:
    support: full
    platforms: posix
    description: Any POSIX host on which Barman runs.
options:
  server:
    description:
      - Name of the server in Barman's configuration.
    type: str
    required: true
  backup_id:
    description:
      - The backup's id, C(YYYYMMDDTHHMMSS). Names and words like V(latest) are refused, they may mean another backup a moment later.
    type: str
    required: true
  keep:
    description:
      - V(full), the backup is kept with all WAL since, so that every later moment can be reached from it.
      - V(standalone), it is kept with the WAL of its own copy only, so that the moment of its end can be reached.
      - V(none), it is not kept, the retention policy decides.
      - Barman keeps only a backup that is C(DONE) and not incremental; of an incremental, keep the full backup on which it builds.
    type: str
    choices: [full, standalone, none]
    required: true
seealso:
  - module: pgrescue.barman.barman_backup
"""

EXAMPLES = r"""
- name: Keep the backup taken before the migration
  pgrescue.barman.barman_keep:
    server: main
    backup_id: 20260915T120000
    keep: full
  become: true
  become_user: barman
"""

RETURN = r"""
keep:
  description: How the backup is kept after the task, V(full), V(standalone) or V(none).
  returned: success
  type: str
  sample: full
previous:
  description: How it was kept before, in the same words. Who keeps a backup for a while puts exactly this back.
  returned: success
  type: str
  sample: none
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, Barman, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._keep import check_can_be_kept, keep_backup
from ansible_collections.pgrescue.barman.plugins.module_utils._selection import find_backup


def run(module):
    params = module.params
    server = read_configuration(params["barman_config"]).server(check_name(params["server"], "server"))
    backup = find_backup(server, params["backup_id"])
    before, after = backup["keep"], params["keep"]

    changed = before != after
    if changed and after != "none":
        check_can_be_kept(backup)
    if changed and not module.check_mode:
        keep_backup(Barman(params["barman_executable"], params["barman_config"]), server, backup["backup_id"], after)
    return dict(changed=changed, keep=after, previous=before, diff=dict(before=dict(keep=before), after=dict(keep=after)))


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            server=dict(type="str", required=True),
            backup_id=dict(type="str", required=True),
            keep=dict(type="str", choices=["full", "standalone", "none"], required=True, no_log=False),
        ),
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
