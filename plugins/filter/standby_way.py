# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a standby comes to follow its primary."""
from __future__ import annotations

DOCUMENTATION = r"""
name: standby_way
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: How a standby comes to follow its primary
description:
  - Says whether a standby follows as it is, has to be started, or has to be rebuilt since its data is of a branch that its primary has left.
options:
  _input:
    description:
      - C(primary) and C(timeline) (of the primary, and of the standby by its C(pg_control)), C(following) (of M(pgrescue.barman.pg_standby) in check mode,
        failed or not), C(histories) (paths of the history files in its C(pg_wal)) and C(rebuild) (whether it is rebuilt in any case).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Choose the way
  ansible.builtin.set_fact:
    way: >-
      {{ {'primary': 3, 'timeline': cluster.timeline, 'following': following, 'histories': histories.files | map(attribute='path'), 'rebuild': false}
         | pgrescue.barman.standby_way }}
"""

RETURN = r"""
_value:
  description: V(none), V(start) or V(rebuild).
  type: str
"""

from ansible_collections.pgrescue.barman.plugins.module_utils._standby import way


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"standby_way": way}
