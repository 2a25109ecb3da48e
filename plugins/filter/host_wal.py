# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL that only the PostgreSQL host has."""
from __future__ import annotations

DOCUMENTATION = r"""
name: host_wal
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: WAL that only the PostgreSQL host has, and that continues Barman's archive
description:
  - Judges what M(pgrescue.barman.pg_wal_search_info) has read in C(pg_wal) of a server that may be dead. It asks nothing and changes nothing.
options:
  _input:
    description:
      - The answers, C(catalogue) (an entry of M(pgrescue.barman.barman_catalog_info)), C(cluster) (M(pgrescue.barman.pg_cluster_info)) and C(search)
        (M(pgrescue.barman.pg_wal_search_info), all commits after the newest archived segment; empty when it failed).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: See what only the host has
  ansible.builtin.debug:
    msg: "{{ {'catalogue': catalogue.servers[0], 'cluster': cluster, 'search': search} | pgrescue.barman.host_wal }}"
"""

RETURN = r"""
_value:
  description:
    - Empty when nothing continues the archive without a hole, or when it is the WAL of another cluster. Else C(segments) (names of those that
      are not archived), C(transactions) (commits in them) and C(wal), which is O(pgrescue.barman.barman_restore#module:additional_wal).
  type: dict
"""

from ansible_collections.pgrescue.barman.plugins.module_utils._hostwal import host_wal


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"host_wal": host_wal}
