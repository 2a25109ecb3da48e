# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups of a catalogue a task means, and the command line that makes another. Pure but for find_backup(), which looks."""
from __future__ import annotations

import re
from datetime import timedelta

from ._backups import moment, read_backups
from ._barman import BACKUP_ID, BarmanError, check_name

AGE = re.compile(r"([0-9]+)\s*([smhdw])")
UNITS = dict(s="seconds", m="minutes", h="hours", d="days", w="weeks")

# Words that Barman takes for a backup of its choice, in any version (parse_backup_id in barman/cli.py).
MOVING = ("latest", "last", "oldest", "first", "last-failed", "latest-full", "last-full", "auto")
RUNNING = ("STARTED", "EMPTY")            # EMPTY is the moment before STARTED

# Our options in Barman's words; the value of --reuse-backup is optional there, so it must not stand alone.
ARGUMENTS = {
    "name": lambda value: ["--name", value],
    "reuse_backup": lambda value: [f"--reuse-backup={value}"],
    "jobs": lambda value: ["--jobs", value],
    "bandwidth_limit": lambda value: ["--bwlimit", value],
    "immediate_checkpoint": lambda value: ["--immediate-checkpoint" if value else "--no-immediate-checkpoint"],
    "extra_args": list,
}


def parse_age(text):
    """'30m', '12h', '7d' as a timedelta."""
    match = AGE.fullmatch(text.strip())
    if not match:
        raise BarmanError(f"max_age {text!r} is not an age: type a number and one of s, m, h, d, w, for example 30m, 12h or 7d.")
    return timedelta(**{UNITS[match.group(2)]: int(match.group(1))})


def check_backup_name(name):
    """Raise BarmanError for a name that Barman would not give back, or would take for something else."""
    check_name(name, "the backup's name", "Type for example before-migration.")
    if name in MOVING or name in "last-failed" or BACKUP_ID.fullmatch(name):
        raise BarmanError(f"a backup cannot be named {name!r}: Barman reads that as a backup of its own choice, or as an id. Type another name.")


def check_backup_id(value):
    """Raise BarmanError for what is not the id of one certain backup."""
    if not BACKUP_ID.fullmatch(value):
        raise BarmanError(
            f"backup_id {value!r} is not an id: type one of the form YYYYMMDDTHHMMSS. 'latest', 'oldest' and names are refused, "
            f"because they may mean another backup by the time Barman looks."
        )


def find_backup(server, backup_id):
    """The backup with this id as it is now, or BarmanError with the ids that exist; server is a ServerConfiguration."""
    check_backup_id(backup_id)
    backups = {backup["backup_id"]: backup for backup in read_backups(server)}
    if backup_id not in backups:
        raise BarmanError(f"server {server.name} has no backup {backup_id}. Backups: {_ids(backups)}. Type one of these ids.")
    return backups[backup_id]


def check_extra_args(values):
    """Raise BarmanError for a pass-through that is not one option, or that our own wait replaces."""
    for value in values:
        if not value.startswith("--") or value == "--":
            raise BarmanError(f"extra_args: {value!r} is not a long option: type each as one item, for example --retry-times=3.")
        if "--wait-timeout".startswith(value.split("=")[0]):
            raise BarmanError(f"extra_args: {value!r} is refused, use the module's wait and wait_timeout (Barman before 3.15 hangs on PostgreSQL 17).")


def present_backup(backups, name, max_age, now):
    """The good backup that makes a new one unnecessary, or None."""
    good = [backup for backup in backups if backup["good"]]
    if name is not None:
        return next((backup for backup in reversed(good) if backup["name"] == name), None)
    if max_age is not None and good:
        newest = max(good, key=lambda backup: moment(backup["end_time"]))
        return newest if now - moment(newest["end_time"]) <= max_age else None
    return None


def waiting_backup(backups, name):
    """The backup of that name whose copy is complete and which waits for WAL, or None."""
    return next((backup for backup in reversed(backups) if name and backup["name"] == name and backup["status"] == "WAITING_FOR_WALS"), None)


def parent_of_incremental(backups, wish):
    """The id of the backup to build on: the one that was named, for 'auto' the newest good one that can be, else None."""
    usable = [backup["backup_id"] for backup in backups if backup["good"] and backup["type"] in ("full", "incremental")]
    if wish is None:
        return None
    if wish == "auto":
        return usable[-1] if usable else None
    check_backup_id(wish)
    if wish not in usable:
        raise BarmanError(f"no incremental backup can be built on {wish}: it is not a good backup taken by pg_basebackup. Usable: {_ids(usable)}.")
    return wish


def backup_arguments(params, parent):
    """The arguments of 'barman backup' but the server's name."""
    arguments = ["--incremental", parent] if parent else []
    for option, spell in ARGUMENTS.items():
        if params[option] is not None:
            arguments += spell(params[option])
    return arguments


def predicted_backup(name, parent, method):
    """What check mode says of a backup that would be taken: the keys of every backup, null where nobody can know."""
    keys = (
        "backup_id name status type parent_backup_id begin_time end_time begin_lsn end_lsn begin_wal end_wal timeline size_bytes wal_bytes "
        "cluster_bytes copied_bytes copy_seconds wal_segment_bytes system_identifier postgresql_version "
        "compression encryption tablespaces keep retention_status error good"
    ).split()
    kind = "incremental" if parent else {"rsync": "rsync", "local-rsync": "rsync", "snapshot": "snapshot"}.get(method, "full")
    return dict(dict.fromkeys(keys), name=name, status="DONE", type=kind, parent_backup_id=parent, tablespaces=[], keep="none", good=True)


def doomed_backups(backups, ids, statuses, lock_held):
    """The backups that state=absent means, oldest first, those on which they build not included.

    lock_held: a backup or deletion of this server runs, so the newest unfinished backup is taken for alive.
    """
    for value in ids:
        check_backup_id(value)
    unfinished = [backup["backup_id"] for backup in backups if backup["status"] in RUNNING]
    alive = unfinished[-1:] if lock_held else []
    for value in ids:
        if value in alive:
            raise BarmanError(f"backup {value} is being taken right now, so it is not deleted. Wait for its end, or interrupt it with SIGINT.")
    statuses = set(statuses) | (set(RUNNING) if "STARTED" in statuses else set())
    return [backup for backup in backups if backup["backup_id"] in ids or backup["status"] in statuses and backup["backup_id"] not in alive]


def with_descendants(backups, doomed):
    """The ids of backups and of all incrementals on top of them, which Barman deletes with them; oldest first."""
    gone = {backup["backup_id"] for backup in doomed}
    for backup in backups:                     # oldest first, so a parent always comes before its children
        if backup["parent_backup_id"] in gone:
            gone.add(backup["backup_id"])
    return sorted(gone)


def check_deletion(backups, gone, minimum_redundancy):
    """Raise BarmanError for a deletion that Barman would skip: kept backups, and the last ones of minimum_redundancy."""
    kept = [backup["backup_id"] for backup in backups if backup["backup_id"] in gone and backup["keep"] != "none"]
    if kept:
        raise BarmanError(f"{_ids(kept)} must not be deleted: kept (barman keep). Release with pgrescue.barman.barman_keep, keep=none, if nothing needs it.")
    counted = {backup["backup_id"] for backup in backups if backup["status"] == "DONE" and not backup["parent_backup_id"]}
    if counted & set(gone) and len(counted - set(gone)) < minimum_redundancy:
        raise BarmanError(
            f"{_ids(sorted(counted & set(gone)))} must not be deleted: {len(counted - set(gone))} complete backups would be left, and "
            f"minimum_redundancy is {minimum_redundancy}. Take a new backup first, or lower minimum_redundancy."
        )


def _ids(ids):
    return ", ".join(ids) or "none"
