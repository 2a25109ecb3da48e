# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a backup and see it through to a good one, or say why there is none. Every message ends with what to do."""
from __future__ import annotations

import os
import time

from ._archive import read_archive
from ._barman import BarmanError
from ._catalog import read_backups
from ._check import check, failed, run_check
from ._filesystem import size_bytes
from ._plan import share
from ._progress import telling
from ._session import StallWatch, ask_archiver, cancel_backup_stop
from ._switch import archive_written


class Take:
    """One backup of one server. stall: seconds without progress that end it; deadline: time.monotonic() that ends it, or None."""

    def __init__(self, barman, server, stall, deadline):
        self.barman = barman
        self.server = server
        self.stall = stall
        self.deadline = deadline
        self.conninfo = server.options.get("conninfo")

    def copy(self, arguments):
        """Run 'barman backup' and return the backup that it made, DONE or WAITING_FOR_WALS."""
        archiver = ask_archiver(self.conninfo)
        if archiver.failing:
            raise BarmanError(
                f"a backup of server {self.server.name} would never end, because the WAL that it needs is not archived. {archiver}. "
                f"No backup was begun. Repair that; PostgreSQL tries again every minute, and once it has archived a segment, run this again."
            )
        before = read_backups(self.server)
        known = {backup["backup_id"] for backup in before}
        last = next((backup["size_bytes"] for backup in reversed(before) if backup["good"]), None)
        stall, say = StallWatch(self.stall, lambda: ask_archiver(self.conninfo)), telling(lambda seconds: self._told(known, last, seconds))

        def watch(pid):
            say()
            return stall(pid)

        timeout = None if self.deadline is None else max(self.deadline - time.monotonic(), 1)
        try:
            answer = self.barman.call(
                "backup", *arguments, self.server.name, accept=(0, 1), timeout=timeout, watch=watch,
                unblock=lambda: cancel_backup_stop(self.conninfo),
            )
        except BarmanError as error:
            if error.details.get("timed_out"):
                raise self._interrupted(error, self._made(known)) from error
            raise
        backup = self._find(answer.data.get("backup_id"))
        if backup is None:
            raise self._refused(answer)
        if backup["status"] not in ("DONE", "WAITING_FOR_WALS"):
            raise BarmanError(
                f"backup {backup['backup_id']} of server {self.server.name} is {backup['status']}: {backup['error'] or answer.reason}. "
                f"{ask_archiver(self.conninfo)}. When the cause is gone, run this again; the failed one goes with state=absent, status=FAILED.",
                backup=backup, cmd=answer.cmd, rc=answer.rc,
            )
        return backup

    def complete(self, backup_id):
        """Have the WAL of a copied backup archived and checked, and return the backup, which is good."""
        backup = self._find(backup_id)
        if backup["status"] == "WAITING_FOR_WALS":
            archive_written(self.barman, self.server, self.stall, self.deadline)
            answer = self.barman.call("check-backup", self.server.name, backup_id, accept=(0, 1))
            backup = self._find(backup_id)
            if backup["status"] != "DONE":
                raise BarmanError(
                    f"backup {backup_id} of server {self.server.name} is {backup['status']}, although everything written so far is archived: "
                    f"its WAL {backup['begin_wal']} to {backup['end_wal']} is not complete. {answer.reason if answer.rc else ''} "
                    f"Take a new backup; 'barman check-backup {self.server.name} {backup_id}' says what is missing.", backup=backup,
                )
        self.refuse_duplicates(backup)
        return backup

    def refuse_duplicates(self, backup):
        """Raise BarmanError for a backup that Barman calls DONE although WAL it needs was thrown out of the archive."""
        if backup["status"] != "DONE" or backup["good"]:
            return
        refused = sorted({name for name, _identifier in read_archive(self.server).duplicates if backup["begin_wal"] <= name <= backup["end_wal"]})
        raise BarmanError(
            f"backup {backup['backup_id']} of server {self.server.name} is DONE and yet cannot be restored: the archive already held other WAL "
            f"named {', '.join(refused)}, so that of this backup was moved to {self.server.directory('errors_directory')}. This PostgreSQL is not the "
            f"cluster, or not the timeline, whose WAL the archive holds: give it a server name of its own, or recover it onto a new timeline.",
            backup=backup,
        )

    def _find(self, backup_id):
        return next((backup for backup in read_backups(self.server) if backup["backup_id"] == backup_id), None)

    def _made(self, known):
        return next((backup for backup in reversed(read_backups(self.server)) if backup["backup_id"] not in known), None)

    def _told(self, known, last, seconds):
        """How far the copy is, measured by the bytes of the last good backup; None before it has begun."""
        backup = self._made(known)
        if backup is None:
            return None
        path = os.path.join(self.server.directory("basebackups_directory"), backup["backup_id"])
        return f"Backup {backup['backup_id']}: copied " + share(size_bytes(path), last, seconds)

    def _interrupted(self, error, backup):
        state = "no backup was begun"
        if backup:
            state = f"backup {backup['backup_id']} is {backup['status']}"
            if backup["status"] == "STARTED":
                state += ", because Barman could not end it in order; remove it with state=absent, status=STARTED"
        return BarmanError(
            f"the backup of server {self.server.name} {error.details['reason']}, so it was interrupted: {state}. "
            f"{ask_archiver(self.conninfo)}. A backup ends only when its last WAL segment is archived: repair that and run this again, "
            f"or allow more time.", **dict(error.details, backup=backup),
        )

    def _refused(self, answer):
        name = self.server.name
        if any("Another backup process is running" in line for line in answer.error):
            running = [backup["backup_id"] for backup in read_backups(self.server) if backup["status"] in ("STARTED", "EMPTY")]
            return BarmanError(
                f"another backup of server {name} is running ({', '.join(running[-1:]) or 'or a deletion'}), and Barman allows one at a time. "
                f"Nothing was changed; run this again when that one has ended.", cmd=answer.cmd, rc=answer.rc,
            )
        if any("Impossible to start the backup" in line for line in answer.error):
            checks = [entry for entry in run_check(self.barman, [name])[name] if not entry["ok"]]
            return BarmanError(
                f"Barman refuses to back up server {name}, because these checks fail: {failed(checks) or 'none any more, try again'}. "
                f"{ask_archiver(self.conninfo)}. No backup was begun. 'barman check {name}' shows all checks.",
                checks=checks or [check("none", True)], cmd=answer.cmd, rc=answer.rc,
            )
        return BarmanError(
            f"Barman took no backup of server {name} and exited with {answer.rc}: {answer.skipped or answer.reason}", cmd=answer.cmd, rc=answer.rc,
            stderr=answer.stderr,
        )
