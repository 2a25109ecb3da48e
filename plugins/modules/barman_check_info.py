#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_check_info
short_description: Tell whether Barman's servers are healthy
version_added: "0.1.0"
description:
  - Runs C(barman check) once for all servers asked for, and adds what it does not look at.
  - C(barman check) is content with a backup that died in the middle, with a hole in the WAL, with a backup whose WAL was
    refused as a duplicate and, by its exit code, with an inactive server. None of these is healthy here.
  - An unhealthy server is an answer, not a failure of the task. Use C(failed_when) to make it one.
author:
  - pgrescue contributors (@pgrescue)
extends_documentation_fragment:
  - pgrescue.barman.barman
attributes:
  check_mode:
    support: partial
    description: Barman is not run.
    details:
      - From Barman 3.15 on C(barman check) itself may switch WAL, archive it and make directories, so it is not run in check mode.
      - Only the checks that begin with V(pgrescue_) are answered then, from Barman's configuration and catalogue.
        RV(healthy) is V(false) when one of them fails and V(null) otherwise.
  diff_mode:
    support: N/A
    description: Nothing is changed.
  idempotent:
    support: full
    description: The module never reports a change.
  async:
    support: full
    description: Useful for many servers of which some do not answer; Barman waits C(check_timeout) seconds for each.
  platform:
    support: full
    platforms: posix
    description: Any POSIX host on which Barman runs.
options:
  server:
    description:
      - Names of the servers in Barman's configuration, one or a list.
      - Not given, all of them. One that is inactive or passive is unhealthy then, too, unless V(pgrescue_active) is in O(ignore).
    type: list
    elements: str
  ignore:
    description:
      - Names of checks that may fail without making a server unhealthy. They are reported all the same.
      - A name that no check has is not an error, because Barman reports many checks only when they fail.
    type: list
    elements: str
    default: []
seealso:
  - module: pgrescue.barman.barman_catalog_info
"""

EXAMPLES = r"""
- name: Look at all servers
  pgrescue.barman.barman_check_info:
  become: true
  become_user: barman
  register: result

- name: Fail when one server is unhealthy for another reason than its age
  pgrescue.barman.barman_check_info:
    server: main
    ignore: [backup_maximum_age]
  become: true
  become_user: barman
  register: result
  failed_when: not result.healthy
"""

RETURN = r"""
healthy:
  description:
    - Whether every server is healthy. V(null) in check mode when nothing speaks against it.
    - V(true) when no server is configured at all.
  returned: success
  type: bool
  sample: true
servers:
  description: The servers, ordered by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The server's name.
      type: str
      returned: always
    healthy:
      description: Like RV(healthy), of this server.
      type: bool
      returned: always
    checks:
      description: The checks, those of Barman first.
      type: list
      elements: dict
      returned: always
      contains:
        name:
          description:
            - The check's name, as C(barman -f json check) spells it. Barman reports many checks only when they fail.
            - V(pgrescue_active), Barman works on this server at all, that is, it is neither inactive, disabled nor passive.
            - V(pgrescue_dead_backups), no backup is unfinished without a process that works on it.
            - V(pgrescue_good_backups), at least one backup is good, and as many as C(minimum_redundancy) asks for.
            - V(pgrescue_duplicate_wal), no complete backup lacks WAL because it was refused as a duplicate.
            - V(pgrescue_wal_continuity), the WAL since the newest good backup has no hole.
          type: str
          returned: always
        ok:
          description: Whether the check passed.
          type: bool
          returned: always
        hint:
          description: What Barman, or this module, adds to it. V(null) when there is nothing to add.
          type: str
          returned: always
  sample:
    - name: main
      healthy: false
      checks:
        - {name: archiver_errors, ok: true, hint: null}
        - {name: continuous_archiving, ok: false, hint: null}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, Barman, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._catalog import read_catalog
from ansible_collections.pgrescue.barman.plugins.module_utils._check import backup_runs, own_checks, run_check
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration


def verdict(checks, ignore, complete):
    """False when a check failed that is not ignored, True when all were made, None when some were not."""
    if any(not entry["ok"] and entry["name"] not in ignore for entry in checks):
        return False
    return True if complete else None


def overall(verdicts):
    """False outweighs None, None outweighs True."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


def run(module):
    configuration = read_configuration(module.params["barman_config"])
    names = sorted(set(module.params["server"] or configuration.servers))
    for name in names:
        configuration.server(check_name(name, "server"))
    barman = Barman(module.params["barman_executable"], module.params["barman_config"])

    checked = {} if module.check_mode or not names else run_check(barman, names)
    servers = []
    for catalog in read_catalog(configuration, names, windows=False):
        name = catalog["name"]
        checks = checked.get(name, []) + own_checks(configuration.server(name), catalog, backup_runs(configuration, name))
        servers.append(dict(name=name, healthy=verdict(checks, module.params["ignore"], complete=name in checked), checks=checks))
    return dict(changed=False, healthy=overall([server["healthy"] for server in servers]), servers=servers)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            server=dict(type="list", elements="str"),
            ignore=dict(type="list", elements="str", default=[]),
        ),
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
