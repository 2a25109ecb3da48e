# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was given with -e and is almost, but not quite, a variable that is read."""
from __future__ import annotations

DOCUMENTATION = r"""
name: misspelt
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: Extra variables that are almost those of a playbook
description:
  - Ansible ignores a variable that nothing reads. C(-e target_exclusve=true) would recover to just after the disaster, and not to just before it.
  - Names of extra variables only are looked at, whether they came by C(-e) or from AWX, and never those of the inventory.
options:
  _terms:
    description: The names that are read.
    required: true
notes:
  - A name that is like none of them is somebody's own, and no mistake.
"""

EXAMPLES = r"""
- name: Refuse misspelt variables
  ansible.builtin.fail:
    msg: "{{ item.given }} is read by nothing. Did you mean {{ item.meant }}?"
  loop: "{{ query('pgrescue.barman.misspelt', 'server', 'target_time', 'target_exclusive') }}"
"""

RETURN = r"""
_list:
  description: One entry for each, with C(given), its name, and C(meant), the name that it is most like.
  type: list
  elements: dict
"""

from difflib import get_close_matches

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

# Role variables, and what Ansible itself sets.
OTHERS = ("ansible_", "barman_server_", "pg_primary_", "pgrescue_", "pitr_", "_")


def misspelt(given, known):
    """Pairs of a name that is not known and the known one that it is most like: spelled like it, or its beginning or end."""
    found = []
    for name in sorted(one for one in set(given) - set(known) if not one.startswith(OTHERS)):
        near = [one for one in known if one == f"target_{name}" and name != "name" or len(name) > 5 and one.startswith(name)]
        near = near or get_close_matches(name, known, 1, cutoff=0.82)
        if near:
            found.append(dict(given=name, meant=near[0]))
    return found


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms, variables=None, **kwargs):
        """See RETURN."""
        return misspelt(load_extra_vars(self._loader), terms)
