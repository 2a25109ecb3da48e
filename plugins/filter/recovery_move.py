# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On from a paused recovery to a later target."""
from __future__ import annotations

DOCUMENTATION = r"""
name: recovery_move
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: The plan of moving a paused recovery on to a later target
description:
  - Judges whether the restored copy can be replayed on to another target, without a second copy.
options:
  _input:
    description:
      - C(targets), C(timeline) and C(exclusive) (the new target), C(plan) (of M(pgrescue.barman.barman_restore) for it) and C(standing)
        (the marker of the paused recovery, of M(pgrescue.barman.barman_fence)).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Plan the move
  ansible.builtin.set_fact:
    pitr_plan: >-
      {{ ({'targets': {'target_time': '2026-09-15T14:40:00+02:00'}, 'timeline': '', 'exclusive': false, 'plan': restore.plan,
           'standing': fence.found} | pgrescue.barman.recovery_move).plan }}
"""

RETURN = r"""
_value:
  description: The judgement.
  type: dict
  contains:
    plan:
      description: The plan, with those findings only that count when nothing is copied, and C(restored_copy), which is red for an earlier target.
      type: dict
    settings:
      description: The settings of PostgreSQL that make it stop at the target, in the order in which its configuration must have them.
      type: dict
"""

from ansible_collections.pgrescue.barman.plugins.module_utils._way_back import recovery_move


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"recovery_move": recovery_move}
