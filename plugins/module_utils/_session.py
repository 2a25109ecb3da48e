# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two things about a backup that only a PostgreSQL session knows or can do, with Barman's own conninfo.

pg_stat_archiver tells why archiving fails; any role may read it. A backup that waits in pg_backup_stop() for a segment
which is never archived sits inside libpq, where Barman does not heed SIGINT; cancelling its query ends that wait, and
Barman then marks the backup as FAILED. A role may cancel its own queries. Barman needs psycopg2 itself; should this
Python not have it, both answer that they do not know.
"""
from __future__ import annotations

import os
import time
from dataclasses import dataclass

try:
    import psycopg2
except ImportError:
    psycopg2 = None

ARCHIVER = """
    SELECT current_setting('archive_mode') <> 'off', last_archived_wal, extract(epoch FROM now() - last_archived_time)::float8,
           last_failed_wal, extract(epoch FROM now() - last_failed_time)::float8, failed_count
    FROM pg_stat_archiver"""

CANCEL = """
    SELECT pg_cancel_backend(pid) FROM pg_stat_activity
    WHERE usename = current_user AND pid <> pg_backend_pid() AND query ~ 'pg_(backup_stop|stop_backup)'"""


@dataclass
class Archiver:
    """What pg_stat_archiver says; ages in seconds. problem is set, and nothing else, when PostgreSQL was not asked."""

    enabled: bool = False
    archived: str | None = None
    archived_age: float | None = None
    failed: str | None = None
    failed_age: float | None = None
    failures: int = 0
    problem: str | None = None

    @property
    def failing(self):
        """Whether the last attempt to archive a segment failed; None when it is not known."""
        if self.problem:
            return None
        return self.enabled and self.failed is not None and (self.archived is None or self.failed_age < self.archived_age)

    def __str__(self):
        if self.problem:
            return f"PostgreSQL's archiver could not be asked ({self.problem})"
        last = "never archived a segment"
        if self.archived is not None:
            last = f"archived its last segment, {self.archived}, {self.archived_age:.0f} s ago"
        if self.failing:
            return (
                f"PostgreSQL's archive_command fails: {self.failures} failures, the last one {self.failed_age:.0f} s ago with {self.failed}; "
                f"it {last}. Its error is in PostgreSQL's log on that host"
            )
        return f"PostgreSQL's archiver reports no failure and {last}" if self.enabled else "PostgreSQL's archive_mode is off"


def ask_archiver(conninfo):
    """The Archiver of the PostgreSQL that conninfo leads to; never raises."""
    rows, problem = _query(conninfo, ARCHIVER)
    if problem:
        return Archiver(problem=problem)
    return Archiver(*rows[0])


def cancel_backup_stop(conninfo):
    """Cancel the wait of this role's backup for its last segment. Returns why that could not be tried, or None."""
    return _query(conninfo, CANCEL)[1]


def _query(conninfo, query):
    """The rows of a query and None, or None and what went wrong (a message of libpq, which never holds the password)."""
    if psycopg2 is None:
        return None, "this Python has no psycopg2"
    if not conninfo:
        return None, "Barman's configuration has no conninfo for the server"
    try:
        connection = psycopg2.connect(conninfo, connect_timeout=10, application_name="pgrescue")
    except psycopg2.Error as error:
        return None, " ".join(str(error).split())
    try:
        connection.set_session(autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall(), None
    except psycopg2.Error as error:
        return None, " ".join(str(error).split())
    finally:
        connection.close()


class StallWatch:
    """Says when a running backup must be ended: it moves no data for so many seconds while archiving fails.

    A copy that is slow, or that waits for a spread checkpoint, is let alone as long as archiving works. To be given to
    Barman.call(watch=...).
    """

    NOISE_BYTES = 64 * 1024                   # heartbeats and log lines are no progress

    def __init__(self, seconds, archiver, transferred=None, clock=time.monotonic):
        self.seconds = seconds
        self.archiver = archiver
        self.transferred = transferred or transferred_bytes
        self.clock = clock
        self.since = clock()
        self.bytes = 0

    def __call__(self, pid):
        moved = self.transferred(pid)
        if abs(moved - self.bytes) >= self.NOISE_BYTES:
            self.bytes, self.since = moved, self.clock()
        elif self.clock() - self.since >= self.seconds:
            if self.archiver().failing:
                return f"moved no data for {self.seconds} seconds while PostgreSQL cannot archive its WAL"
            self.since = self.clock()
        return None


def transferred_bytes(session):
    """What all living processes of a session have read and written, in bytes (Linux, proc(5))."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                if int(file.read().rpartition(")")[2].split()[3]) != session:
                    continue
            with open(f"/proc/{pid}/io", encoding="utf-8") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith(("rchar", "wchar")))
        except (OSError, ValueError, IndexError):
            continue
    return total
