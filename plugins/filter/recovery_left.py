# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an earlier run has left."""
from __future__ import annotations

DOCUMENTATION = r"""
name: recovery_left
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: What there is to recover, commit or undo, or why there is nothing
description:
  - Judges the marker and the records that M(pgrescue.barman.barman_fence) returns. The role P(pgrescue.barman.pitr#role) asks it before it acts.
options:
  _input:
    description:
      - C(verb) (V(recover), V(commit), V(undo)), C(server), C(host) (inventory name of the PostgreSQL host), C(found), C(elsewhere) and C(records) of
        M(pgrescue.barman.barman_fence), C(pause), C(confirm) (the name of the server looks behind a recovery that was taken back already),
        C(clone), empty or, to undo a clone, its C(host) and perhaps its C(directory), and C(gone), the host that is gone for good, or empty.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse when there is nothing to undo
  ansible.builtin.assert:
    that: judged.refusal is none
    fail_msg: "{{ judged.refusal }}"
  vars:
    judged: >-
      {{ {'verb': 'undo', 'server': 'main', 'host': inventory_hostname, 'found': fence.found, 'elsewhere': fence.elsewhere, 'records': fence.records,
          'pause': false, 'confirm': '', 'clone': {}, 'gone': ''} | pgrescue.barman.recovery_left }}
"""

RETURN = r"""
_value:
  description: The judgement.
  type: dict
  contains:
    left:
      description: The marker, else the record of the recovery that is meant, else empty.
      type: dict
    unfinished:
      description: Whether it is a marker, of a recovery that was begun and is not over.
      type: bool
    refusal:
      description: Why nothing can be done, in a sentence, or null.
      type: str
    gone:
      description: The markers of what was under way on the host that is gone.
      type: list
      elements: dict
"""

from ansible_collections.pgrescue.barman.plugins.module_utils._way_back import recovery_left


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"recovery_left": recovery_left}
