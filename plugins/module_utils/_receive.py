# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver of a server, 'barman receive-wal': whether it runs, and where it resumes.

pg_receivewal resumes at the newest file of its directory, NAME.partial being a segment that is not whole yet; an empty file of
that name is how Barman itself marks a place (receive-wal --reset). It cannot resume on a branch that the server has left.
"""
from __future__ import annotations

import fcntl
import os

from ._archive import RECEIVED
from ._wal import parse_lsn, segment_name, segment_number, segment_timeline


def resume_at(timeline, lsn, size, known):
    """The segment to resume at on a timeline: after the newest whole one of it that is known, else the one that holds an LSN."""
    own = [segment_number(name, size) for name in known if segment_timeline(name) == timeline]
    return segment_name(timeline, max(own) + 1 if own else parse_lsn(lsn) // size, size)


def in_the_way(files, segment):
    """Files of the receiver's directory that would have it resume elsewhere than at a segment. Barman archives the older whole ones."""
    found = [(name, match[1], match[2]) for name in sorted(files) for match in [RECEIVED.fullmatch(name)] if match]
    return [name for name, received, partial in found if received > segment or (partial and received != segment)]


def holder(path):
    """The process that holds a lock of Barman (0: one that has not said its number yet), None when it is free."""
    try:
        with open(path, "r+", encoding="ascii", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = file.readline().strip()
                return int(pid) if pid.isdigit() else 0
    except FileNotFoundError:
        pass
    return None


def streams(pid, proc="/proc"):
    """Whether a process has started pg_receivewal. Barman's cron holds the same lock for a moment."""
    for number in filter(str.isdigit, os.listdir(proc)):
        try:
            with open(f"{proc}/{number}/stat", encoding="utf-8", errors="replace") as file:
                command, rest = file.read().partition("(")[2].rpartition(")")[::2]
        except OSError:
            continue
        if command == "pg_receivewal" and int(rest.split()[1]) == pid:
            return True
    return False
