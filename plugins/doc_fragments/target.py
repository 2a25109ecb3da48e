# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    # Twin: TARGET_ARGUMENTS in plugins/module_utils/_target.py
    DOCUMENTATION = r"""
options:
  target_time:
    description:
      - The moment to which the data shall come back. Every transaction committed at or before it is there, none after it.
      - Read in one spelling only, the one in which PostgreSQL prints it, date, V(T) or a space, time of day, offset from UTC,
        that is C(YYYY-MM-DD HH:MM[:SS[.1-6 digits]]) and then V(Z), C(±HH), C(±HHMM) or C(±HH:MM).
      - Refused with the spelling to type are a date alone, a time without an offset, names and abbreviations of time zones,
        words, other orders of day and month, and the future.
    type: str
  target_lsn:
    description:
      - The WAL location (C(X/Y)) to which the data shall come back.
    type: str
  target_xid:
    description:
      - The transaction to which the data shall come back, a number. Transactions commit in another order than they get their
        numbers; everything that committed before this one is there.
    type: str
  target_name:
    description:
      - The restore point to which the data shall come back, as it was given to C(pg_create_restore_point()).
      - 1 to 63 letters, digits, V(_), V(.) and V(-), and V(-) not as the first.
    type: str
  target_immediate:
    description:
      - V(true) stops as soon as the data is consistent, at the end of the backup.
      - An empty text counts as V(false), so that an empty field of a survey is not given.
    type: raw
  target_latest:
    description:
      - V(true) replays to the last record in the archive, and ends on a new timeline.
      - This must be said, because PostgreSQL does it when no target is given, and so replays the disaster.
      - An empty text counts as V(false), so that an empty field of a survey is not given.
    type: raw
  target_timeline:
    description:
      - The number of the timeline (branch of history) on which the target lies.
      - Not given, it is the branch that the live server follows, as far as the target lies on it.
      - The words C(current) and C(latest) of PostgreSQL are refused, they move.
    type: str
  target_exclusive:
    description:
      - Stop just before O(target_time), O(target_lsn) or O(target_xid) rather than just after it
        (C(recovery_target_inclusive) of PostgreSQL is then C(off)).
    type: bool
    default: false
notes:
  - Exactly one of O(target_time), O(target_lsn), O(target_xid), O(target_name), O(target_immediate) and O(target_latest) must
    remain after empty texts and V(false) are left out.
"""
