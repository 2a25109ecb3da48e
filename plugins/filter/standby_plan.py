# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rebuilding a standby needs."""
from __future__ import annotations

DOCUMENTATION = r"""
name: standby_plan
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: The plan of rebuilding a standby from Barman
description:
  - Takes the plan of the restore and judges it for a host whose old data is set aside first.
options:
  _input:
    description:
      - C(plan) (of M(pgrescue.barman.barman_restore)), C(cluster) (the standby's, of M(pgrescue.barman.pg_cluster_info)) and C(backup) (of the catalogue of
        M(pgrescue.barman.barman_catalog_info)).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Plan the rebuild
  ansible.builtin.set_fact:
    pitr_plan: "{{ {'plan': restore.plan, 'cluster': cluster, 'backup': backup} | pgrescue.barman.standby_plan }}"
"""

RETURN = r"""
_value:
  description:
    - The plan, without findings that setting the old data aside puts right, and with those of the room beside it and of PostgreSQL's major version.
    - C(tablespaces), from name to directory, are those that the standby has elsewhere than its primary. Where there are some, the restore is planned once
      more with them.
  type: dict
"""

from ansible_collections.pgrescue.barman.plugins.module_utils._findings import standby_plan


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"standby_plan": standby_plan}
