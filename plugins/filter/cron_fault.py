# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cron would not read in an expression."""
from __future__ import annotations

DOCUMENTATION = r"""
name: cron_fault
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: What cron would not read in an expression
description:
  - cron reads no line at all of a file of which it cannot read one, so one wrong expression would stop the others too.
  - Five fields are right, minute, hour, day of the month, month and day of the week. Each is a list of V(*), numbers and ascending ranges, the first and
    the last of these perhaps with a step (V(*/5), V(9-17/2)). Months and weekdays have names too (V(mon-fri); Sunday is 0, so V(sat-sun) does not ascend).
options:
  _input:
    description: The expression.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cron would not read
  ansible.builtin.assert:
    that: schedule | pgrescue.barman.cron_fault == ''
    fail_msg: "{{ schedule | pgrescue.barman.cron_fault }}"
"""

RETURN = r"""
_value:
  description: What is wrong, and what to type instead, as one sentence. Empty, when nothing is.
  type: str
"""

import re

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
WEEKDAYS = "sun mon tue wed thu fri sat".split()
FIELDS = (("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day of the month", 1, 31, ()), ("month", 1, 12, MONTHS), ("day of the week", 0, 7, WEEKDAYS))
NICKNAMES = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
WORD = re.compile(r"[a-z]+")
PART = re.compile(r"(?:\*|(?P<first>[0-9]{1,2})(?:-(?P<last>[0-9]{1,2}))?)(?:/(?P<step>[0-9]{1,2}))?")


def cron_fault(expression):
    """Return what is wrong with an expression of cron, in one sentence; see DOCUMENTATION."""
    text = str(expression)
    fields = text.split()
    if fields and fields[0].startswith("@"):
        instead = NICKNAMES.get(text.strip().lower())
        return f"It has to be five fields, type {instead!r} instead." if instead else "It has to be five fields, for example '30 2 * * *'."
    if len(fields) != len(FIELDS):
        return f"It has {len(fields)} fields, and has to have five: {', '.join(field[0] for field in FIELDS)}; for example '30 2 * * *'."
    for value, (name, least, most, names) in zip(fields, FIELDS):
        numbers = WORD.sub(lambda word, names=names, least=least: str(least + names.index(word[0])) if word[0] in names else word[0], value.lower())
        if not all(_is_right(part, least, most) for part in numbers.split(",")):
            words = f", or of names: {', '.join(names)}" if names else ""
            return f"Its {name} {value!r} has to be *, {least} to {most}, an ascending range such as {least}-{most}, */2, or a list of these{words}."
    return ""


def _is_right(part, least, most):
    found = PART.fullmatch(part)
    if not found:
        return False
    first, last, step = (None if found[group] is None else int(found[group]) for group in ("first", "last", "step"))
    if step is not None and (not 1 <= step <= most or first is not None and last is None):
        return False
    return first is None or least <= first <= (first if last is None else last) <= most


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"cron_fault": cron_fault}
