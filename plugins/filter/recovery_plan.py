# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of both hosts, judged."""
from __future__ import annotations

DOCUMENTATION = r"""
name: recovery_plan
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: The plan of a recovery, with the findings of both hosts
description:
  - Judges what the hosts have answered, and merges it with the plan that M(pgrescue.barman.barman_restore) made. The role
    P(pgrescue.barman.pitr#role) gathers the answers.
  - It asks nothing and changes nothing. What is red never depends on what is found first, since all findings are made.
options:
  _input:
    description:
      - The answers, C(server), C(host), C(confirm), C(archived), C(clone) (empty in place), C(asked), C(drop), C(tablespaces),
        C(barman_address), C(postgres_user), C(catalogue) (an entry of
        M(pgrescue.barman.barman_catalog_info)), C(cluster) (M(pgrescue.barman.pg_cluster_info)), C(live) (a row of the running server, empty
        without one), C(to_barman), C(processes), C(under_way), C(records), C(wanted), C(arms),
        C(archive_timeout) (seconds), C(restore) and C(latest) (plans of M(pgrescue.barman.barman_restore)).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Judge what the hosts have answered
  ansible.builtin.set_fact:
    pitr_plan: "{{ (__pitr_facts | pgrescue.barman.recovery_plan).plan }}"
"""

RETURN = r"""
_value:
  description: The judgement.
  type: dict
  contains:
    plan:
      description:
        - C(plan) of M(pgrescue.barman.barman_restore), with C(findings) of both hosts, C(target.asked), the target as it was typed, and C(drop),
          the transaction that it was found by, or null. A green finding has a C(meaning) where it is information
          that somebody should read.
      type: dict
    latest:
      description:
        - C(backup_id) and C(timeline) for a second plan, to the archive's end, when the target lies in the WAL that only the running server
          holds. Otherwise null.
      type: dict
    archives:
      description: Whether the running server is the one that was backed up, so that what it has not archived yet can be archived first.
      type: bool
"""

from ansible_collections.pgrescue.barman.plugins.module_utils._findings import recovery_plan


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"recovery_plan": recovery_plan}
