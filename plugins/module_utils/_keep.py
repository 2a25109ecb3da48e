# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that Barman keeps, whatever the retention policy says: on somebody's wish, or as long as recoveries need them."""
from __future__ import annotations

from ._backups import read_backups
from ._barman import BarmanError
from ._selection import find_backup


def check_can_be_kept(backup):
    """Raise BarmanError for a backup that Barman does not keep."""
    if backup["parent_backup_id"]:
        raise BarmanError(
            f"backup {backup['backup_id']} is incremental and Barman keeps only full ones: keep the one it builds on, "
            f"{backup['parent_backup_id']} or its root. What is on top of a kept backup is not deleted by retention either."
        )
    if backup["status"] != "DONE":
        hint = " Its WAL is not archived yet: run pgrescue.barman.barman_wal, then barman check-backup." if backup["status"] == "WAITING_FOR_WALS" else ""
        raise BarmanError(f"backup {backup['backup_id']} is {backup['status']}, and Barman keeps only a backup that is DONE.{hint}")


def keep_backup(barman, server, backup_id, keep):
    """Have Barman keep a backup so ('full', 'standalone' or 'none'); server is a ServerConfiguration. Nothing is done where it is so."""
    backup = find_backup(server, backup_id)
    if backup["keep"] == keep:
        return
    if keep != "none":
        check_can_be_kept(backup)
    how = ["--release"] if keep == "none" else ["--target", keep]
    answer = barman.call("keep", *how, server.name, backup_id)
    now = find_backup(server, backup_id)["keep"]
    if now != keep:
        raise BarmanError(f"barman keep ended well, but backup {backup_id} is kept {now!r}: {answer.skipped or answer.reason}")


def full_backup(server, backup_id):
    """The backup that must be kept for this one to stay: itself, or the full one that an incremental builds on."""
    backup = find_backup(server, backup_id)
    while backup["parent_backup_id"]:
        backup = find_backup(server, backup["parent_backup_id"])
    return backup


def put_back(barman, server, marker, others):
    """Have the backup that a recovery has pinned kept as it was found, unless it is gone or one of the others, markers too, needs it."""
    pinned = marker["pinned"]
    if pinned and not any(other["pinned"] == pinned for other in others) and any(backup["backup_id"] == pinned for backup in read_backups(server)):
        keep_backup(barman, server, pinned, marker["keep_found"])
