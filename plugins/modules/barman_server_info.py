#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_server_info
short_description: Configuration and live status of Barman's servers
version_added: "0.1.0"
description:
  - Says how each server is configured in Barman, defaults included, and what Barman finds out about its PostgreSQL now.
  - One call of C(barman show-servers) answers for all servers. A server whose PostgreSQL is down is an answer, not an error.
  - Passwords and other secrets are taken out. C(barman -f json show-servers) itself prints them.
author:
  - pgrescue contributors (@pgrescue)
extends_documentation_fragment:
  - pgrescue.barman.barman
attributes:
  check_mode:
    support: full
    description: Nothing is changed, the answer is the same.
  diff_mode:
    support: none
    description: Nothing is changed, so there is no difference to show.
  async:
    support: full
    description: Of use where a PostgreSQL host swallows packets.
  platform:
    support: full
    platforms: posix
    description: Any POSIX host on which Barman runs.
options:
  server:
    description:
      - Name of the server in Barman's configuration. Not given, all servers are asked.
    type: str
notes:
  - Barman asks the servers one after the other. A PostgreSQL host that swallows packets makes it wait for as long as the
    server's C(conninfo) lets it, so write C(connect_timeout) there. The catalogue costs no connection, see M(pgrescue.barman.barman_catalog_info).
seealso:
  - module: pgrescue.barman.barman_catalog_info
  - module: pgrescue.barman.barman_check_info
"""

EXAMPLES = r"""
- name: All servers
  pgrescue.barman.barman_server_info:
  become: true
  become_user: barman
  register: barman

- name: One server must take backups by rsync
  pgrescue.barman.barman_server_info:
    server: main
  become: true
  become_user: barman
  register: main
  failed_when: main.servers[0].configuration.backup_method != 'rsync'
"""

RETURN = r"""
servers:
  description: The servers, ordered by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the server in Barman's configuration.
      type: str
      sample: main
    description:
      description: The server's C(description), null if it has none.
      type: str
    active:
      description: False if Barman skips the server, because of C(active = false), or because its configuration has an error (see C(problems)).
      type: bool
    passive:
      description: Whether the server is a copy of another Barman's (C(primary_ssh_command)). Barman asks no PostgreSQL for it.
      type: bool
    answers:
      description: Whether its PostgreSQL answered now. Null if it was not asked, since the server is passive or its C(conninfo) is not valid.
      type: bool
    problems:
      description: What Barman says is wrong with the server's configuration, in its words.
      type: list
      elements: str
    configuration:
      description:
        - Barman's options and their values, by Barman's names, as the installed Barman knows them, so more of them on a newer one.
        - Booleans, numbers and lists are such, an option that is not set is null, secrets are C(*REDACTED*).
      type: dict
      sample:
        archiver: true
        backup_method: rsync
        backup_options: [concurrent_backup]
        conninfo: host=bd-principal user=barman dbname=postgres
        minimum_redundancy: 0
        retention_policy: null
    status:
      description:
        - What Barman found out now, by Barman's names, sizes in bytes, times in ISO 8601 with offset.
        - What is asked depends on the methods of backup and archiving. With PostgreSQL down the values are null, or not there.
      type: dict
      sample:
        archive_mode: "on"
        current_lsn: 0/7000090
        current_size: 23802293
        is_in_recovery: false
        last_archived_time: "2026-09-15T12:30:41.130489+00:00"
        last_archived_wal: "000000010000000000000006"
        postgres_systemid: "7711208364578815405"
        server_txt_version: "17.12"
        xlog_segment_size: 16777216
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, Barman, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._secret import redact
from ansible_collections.pgrescue.barman.plugins.module_utils._status import read_server


def ask(barman, servers, every):
    """name -> what 'barman show-servers' says of it; BarmanError if it leaves one out."""
    answer = barman.call("show-servers", *(["all"] if every else servers), accept=(0, 1))
    silent = [name for name in servers if "name" not in answer.data.get(name, {})]
    if silent:
        raise BarmanError(
            f"barman show-servers says nothing about {', '.join(silent)}: {answer.skipped or answer.reason}", cmd=answer.cmd, rc=answer.rc, stderr=answer.stderr
        )
    return answer.data


def run(module):
    params = module.params
    configuration = read_configuration(params["barman_config"])
    wanted = params["server"]
    names = [configuration.server(check_name(wanted, "server")).name] if wanted else sorted(configuration.servers)
    found = ask(Barman(params["barman_executable"], params["barman_config"]), names, not wanted) if names else {}
    return dict(servers=[read_server(found[name], configuration.server(name).options) for name in names])


def main():
    module = AnsibleModule(argument_spec=dict(BARMAN_ARGUMENTS, server=dict(type="str")), supports_check_mode=True)
    try:
        module.exit_json(changed=False, **run(module))
    except BarmanError as error:
        module.fail_json(msg=redact(str(error)), **redact(error.details))


if __name__ == "__main__":
    main()
