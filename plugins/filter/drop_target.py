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
    description: The search of the running server's WAL, which the archive does not hold yet, also one that was skipped or failed.
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
        - The transaction, an item of C(transactions) of M(pgrescue.barman.pg_wal_search_info), with C(summary), what it did in words, and C(also), what
          others had dropped or truncated in the hour before it, in words. Empty in doubt.
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

from datetime import datetime, timedelta

from ansible_collections.pgrescue.barman.plugins.module_utils._wal import parse_lsn

INSTEAD = "Type one of these targets instead of before_drop: "


def drop_target(asked, archive, live=None, branches=()):
    """Return the decision; see RETURN."""
    found = _unique([archive, live or {}])
    doubt = _doubt(asked, found, archive, live or {}, _unique(branches))
    if doubt:
        return dict(transaction={}, target={}, doubt=doubt)
    one = found[0]
    did = dict(drop="dropped", truncate="truncated")[one["kind"]]
    summary = f"transaction {one['xid']}, which {did} {_names(one)} at {one['commit_time']}"
    readable = one["target_inspect"] and not one["commits_between"]
    also = _also(one, _unique([archive, live or {}], "others"))
    return dict(transaction=dict(one, summary=summary, also=also), target=one["target_inspect"] if readable else one["target"], doubt="")


def _unique(searches, key="transactions"):
    """The transactions of several searches, each once."""
    return list({(one["timeline"], one["commit_lsn"]): one for search in searches for one in search.get(key) or []}.values())


def _doubt(asked, found, archive, live, elsewhere):
    others = _unique([archive, live], "others")
    if archive.get("transactions") is None:
        why = str(archive.get("msg") or "The archive could not be searched.")
        return why + (f" Or {asked} is not spelt so. {INSTEAD}{_listed(others)}." if others else "")
    if len(found) > 1:
        databases = sorted({relation["database"] for one in found for relation in one["relations"]})
        named = f"It can be said with its database: {' or '.join(f'-e before_drop={name}.{_relation(asked)}' for name in databases)}. "
        return (
            f"{len(found)} transactions dropped or truncated {asked}, so say which is meant. {named if len(databases) > 1 else ''}{INSTEAD}{_listed(found)}."
        )
    unsure = _unread(asked, found, archive) + _failed(live) + _unnamed(asked, archive, live)
    if not found:
        return (
            f"No transaction that can be found here dropped or truncated {asked}. {unsure}"
            + (f"One on another branch did. {INSTEAD}{_listed(elsewhere)}. " if elsewhere else "")
            + (f"Others were dropped or truncated. {INSTEAD}{_listed(others)}." if others else "" if elsewhere or unsure else "Nothing else was either.")
        ).rstrip()
    return f"It is not sure that this is the last transaction that dropped or truncated {asked}. {unsure}{INSTEAD}{_listed(found + others)}." if unsure else ""


def _unread(asked, found, archive):
    """What of the archive was not read and may hold a later one than what was found."""
    end, notes = 0, []
    for stretch in archive.get("searched") or []:
        end = max(end, parse_lsn(stretch["last_lsn"] or "0/0"))
        if stretch["note"] and not (found and parse_lsn(found[0]["commit_lsn"]) > end):
            notes.append(stretch["note"])
    return (
        f"The archive was not read as a whole: {'; '.join(notes)}. What dropped {asked} may be in there: bring back the segments that are damaged or missing, "
        "or type the moment before it, -e target_time=, or -e target_lsn= with -e target_exclusive=true. " if notes else ""
    )


def _failed(live):
    """That the server's own WAL was to be searched, and could not be."""
    if not live or live.get("skipped") or live.get("transactions") is not None:
        return ""
    return f"What the server has not archived yet could not be searched: {str(live.get('msg') or 'no reason was given').rstrip('.')}. "


def _unnamed(asked, archive, live):
    """What may have been it, but has no name."""
    number = sum(search.get("unnamed") or 0 for search in (archive, live))
    gone = list(dict.fromkeys(name for search in (archive, live) for name in search.get("unnamed_databases") or []))
    having = sorted({one["database"] for one in archive.get("known") or []} - set(gone)) or ["DATABASE"]
    return (
        f"{number} transactions dropped or truncated something whose name is not sure (it was created after the last backup, was renamed perhaps, or another "
        f"table was written anew at the same time), and one of them may have been {asked}. "
        if number else ""
    ) + (
        f"A database was dropped with all that it had ({', '.join(gone)}), and that may have been a {_relation(asked)} too. When it is that of another "
        f"database, name it: {' or '.join(f'-e before_drop={name}.{_relation(asked)}' for name in having)}. " if gone else ""
    )


def _also(found, others):
    """What other transactions dropped or truncated shortly before, which a recovery to just before this one does not bring back."""
    end = datetime.fromisoformat(found["commit_time"])
    before = [
        one for one in others
        if parse_lsn(one["commit_lsn"]) < parse_lsn(found["commit_lsn"]) and end - datetime.fromisoformat(one["commit_time"]) <= timedelta(hours=1)
    ]
    return ", ".join(f"{_names(one)} at {one['commit_time']}" for one in before[:5]) + (f" and {len(before) - 5} more" if len(before) > 5 else "")


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
