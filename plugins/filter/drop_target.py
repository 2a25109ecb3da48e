# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which transaction dropped a table, as far as that is sure, and the recovery target just before it."""
from __future__ import annotations

DOCUMENTATION = r"""
name: drop_target
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: Which transaction dropped a table, as far as that is sure, and the recovery target just before it
description:
  - Decides from results of M(pgrescue.barman.pg_wal_search_info). It never guesses; whatever leaves a doubt is a sentence in C(doubt) that lists
    what was found, with what to type.
positional: archive, live, branches
options:
  _input:
    description: The table that was asked for, C(schema.table) or C(database.schema.table).
    type: str
    required: true
  archive:
    description: The search of the archive for this table, also one that failed.
    type: dict
    required: true
  live:
    description: The search of the running server's WAL, which the archive does not hold yet.
    type: dict
    default: {}
  branches:
    description: Searches of the archive's other timelines.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    choice: "{{ 'public.customer' | pgrescue.barman.drop_target(search) }}"
"""

RETURN = r"""
_value:
  description: The decision.
  type: dict
  contains:
    transaction:
      description:
        - The transaction, an item of C(transactions) of M(pgrescue.barman.pg_wal_search_info), with C(summary), what it did in words. Empty in doubt.
      type: dict
    target:
      description:
        - The options of a recovery that stops just before it, and before its lock when nobody committed in between, so that the
          table can be read while replay is paused. Empty in doubt.
      type: dict
    doubt:
      description: Why it is not sure, and what to type. Empty when it is.
      type: str
"""

INSTEAD = "Type one of these targets instead of before_drop: "


def drop_target(asked, archive, live=None, branches=()):
    """Return the decision; see RETURN."""
    found = _unique([archive, live or {}])
    doubt = _doubt(asked, found, archive, _unique(branches))
    if doubt:
        return dict(transaction={}, target={}, doubt=doubt)
    one = found[0]
    did = dict(drop="dropped", truncate="truncated")[one["kind"]]
    summary = f"transaction {one['xid']}, which {did} {_names(one)} at {one['commit_time']}"
    readable = one["target_inspect"] and not one["commits_between"]
    return dict(transaction=dict(one, summary=summary), target=one["target_inspect"] if readable else one["target"], doubt="")


def _unique(searches):
    """The transactions of several searches, each once."""
    return list({(one["timeline"], one["commit_lsn"]): one for search in searches for one in search.get("transactions") or []}.values())


def _doubt(asked, found, archive, elsewhere):
    others = archive.get("others") or []
    if archive.get("transactions") is None:
        why = str(archive.get("msg") or "The archive could not be searched.")
        return why + (f" Or {asked} is not spelt so. {INSTEAD}{_listed(others)}." if others else "")
    if len(found) > 1:
        databases = sorted({relation["database"] for one in found for relation in one["relations"]})
        named = f"It can be said with its database: {' or '.join(f'-e before_drop={name}.{_relation(asked)}' for name in databases)}. "
        return (
            f"{len(found)} transactions dropped or truncated {asked}, so say which is meant. {named if len(databases) > 1 else ''}{INSTEAD}{_listed(found)}."
        )
    if archive["unnamed"]:
        return (
            f"{archive['unnamed']} transactions dropped or truncated what was created after the last backup, so its name is not known, and one of them may "
            f"have been {asked}. {INSTEAD}{_listed(found + others)}."
        )
    if not found:
        return (
            f"No transaction that can be found here dropped or truncated {asked}. "
            + (f"One on another branch did. {INSTEAD}{_listed(elsewhere)}. " if elsewhere else "")
            + (f"Others were dropped or truncated. {INSTEAD}{_listed(others)}." if others else "" if elsewhere else "Nothing else was either.")
        )
    return ""


def _relation(asked):
    return ".".join((["public"] + asked.split("."))[-2:])


def _names(one):
    names = dict.fromkeys(relation["name"] or f"something of oid {relation['oid'] or 'unknown'}" for relation in one["relations"])
    return f"{', '.join(names)} in database {one['relations'][0]['database']}"


def _listed(transactions):
    """One sentence part for each, with what to type."""
    parts = []
    for one in transactions:
        parts.append(
            f"{one['commit_time']} {one['kind']} of {_names(one)} by transaction {one['xid']}: "
            f"-e target_lsn={one['target']['target_lsn']} -e target_exclusive=true -e target_timeline={one['timeline']}"
        )
    return "; ".join(parts)


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"drop_target": drop_target}
