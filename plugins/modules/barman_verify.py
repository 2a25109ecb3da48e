#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_verify
short_description: Compare the files of a backup with its manifest
version_added: "0.1.0"
description:
  - Says whether each file of a backup is there, has its size and its checksum, by C(barman verify-backup), that is by PostgreSQL's C(pg_verifybackup).
  - A backup that does not match is an answer, RV(verified=false) and RV(problems), not an error of the task. It is an error when nothing could be verified.
author:
  - pgrescue contributors (@pgrescue)
extends_documentation_fragment:
  - pgrescue.barman.barman
attributes:
  check_mode:
    support: partial
    description: A backup that has a manifest is verified as it would be without check mode.
    details: A manifest that is missing is not made, and without it nothing can be verified. RV(verified) is then V(null).
  diff_mode:
    support: none
    description: The manifest is as long as the list of files.
  idempotent:
    support: full
    description: A manifest is made once.
  async:
    support: full
    description: Reads every byte of the backup, so this is the way to go with large ones.
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
  generate_manifest:
    description:
      - Make a manifest (C(barman generate-manifest)) if the backup has none, as is the case after a backup by rsync unless Barman's
        C(autogenerate_manifest) is on.
      - A manifest made now holds what the files are now. It proves nothing about the time before, only that they stay so.
      - Otherwise a backup without a manifest makes the task fail.
    type: bool
    default: false
requirements:
  - C(pg_verifybackup) of PostgreSQL 13 or later on the Barman host, in Barman's C(path_prefix), in C(PATH), or where the packages of
    Debian and PGDG put it (Debian's C(postgresql-client-17))
notes:
  - Neither Barman nor this module looks at the WAL that the backup needs, see M(pgrescue.barman.barman_catalog_info).
  - A compressed or encrypted backup, a snapshot and one in an object store cannot be verified, since C(pg_verifybackup) reads plain files.
seealso:
  - module: pgrescue.barman.barman_backup
  - name: pg_verifybackup
    description: What is verified, and what is not.
    link: https://www.postgresql.org/docs/current/app-pgverifybackup.html
"""

EXAMPLES = r"""
- name: The backup's files are as they were copied
  pgrescue.barman.barman_verify:
    server: main
    backup_id: 20260915T120000
    generate_manifest: true
  become: true
  become_user: barman
  register: result
  failed_when: result is failed or not result.verified
"""

RETURN = r"""
backup_id:
  description: The backup that was looked at.
  returned: success
  type: str
  sample: 20260915T120000
verified:
  description:
    - Whether every file that the manifest names is there and has the size and the checksum that the manifest says, and no other file is there.
    - Null if there is no manifest and check mode did not make one.
  returned: success
  type: bool
  sample: false
problems:
  description: What does not match.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - V(missing), V(surplus), V(size) or V(checksum) of a file, V(manifest) if the manifest itself is damaged, else V(other).
      type: str
    file:
      description: The file, relative to the data directory; null if it is not about one.
      type: str
    message:
      description: The words of C(pg_verifybackup).
      type: str
  sample:
    - kind: checksum
      file: PG_VERSION
      message: checksum mismatch for file "PG_VERSION"
manifest_time:
  description: When the manifest was written, ISO 8601 in UTC. The files are as they were then. Null if there is none.
  returned: success
  type: str
  sample: "2026-09-15T12:00:41.130489+00:00"
unverified:
  description:
    - Names of tablespaces whose files are in no manifest, so that nothing is known of them.
    - These are all tablespaces of a backup by rsync, since Barman makes a manifest of the data directory alone.
  returned: success
  type: list
  elements: str
  sample: []
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, Barman, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._selection import find_backup
from ansible_collections.pgrescue.barman.plugins.module_utils._verify import data_directory, judge, read_manifest, search_path, uncovered


def make_manifest(barman, server, backup, path):
    """Let Barman write the manifest, and return its time. Barman exits with 0 when it skips the server."""
    answer = barman.call("generate-manifest", server.name, backup["backup_id"])
    made = read_manifest(path, backup)
    if made is None:
        raise BarmanError(f"no manifest of backup {backup['backup_id']} was made: {answer.skipped or answer.reason}", cmd=answer.cmd, rc=answer.rc)
    return made


def run(module):
    params = module.params
    server = read_configuration(params["barman_config"]).server(check_name(params["server"], "server"))
    backup = find_backup(server, params["backup_id"])
    path = data_directory(server, backup)
    manifest = read_manifest(path, backup)
    changed = manifest is None
    if changed and not params["generate_manifest"]:
        raise BarmanError(
            f"backup {backup['backup_id']} of server {server.name} has no manifest, as every backup by rsync without autogenerate_manifest, so there is "
            f"nothing to compare its files with. generate_manifest=true makes one of what is there now."
        )
    result = dict(changed=changed, backup_id=backup["backup_id"], verified=None, problems=[], manifest_time=manifest, unverified=uncovered(backup))
    if changed and module.check_mode:
        return result

    barman = Barman(params["barman_executable"], params["barman_config"])
    major = (backup["postgresql_version"] or 0) // 10000
    os.environ["PATH"] = search_path(major, os.environ.get("PATH", os.defpath))
    if changed:
        result["manifest_time"] = make_manifest(barman, server, backup, path)
    problems = judge(barman.call("verify-backup", server.name, backup["backup_id"], accept=(0, 1)), major)
    return dict(result, verified=not problems, problems=problems)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            server=dict(type="str", required=True),
            backup_id=dict(type="str", required=True),
            generate_manifest=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
