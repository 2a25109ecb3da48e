# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups as Barman's own files describe them: backup.info, keep annotations and the retention policy's verdict.

A backup that failed, still runs, or whose file is damaged is an entry of the list like any other; nothing here raises
because of one. barman itself stops every command at the first damaged backup.info.
"""
from __future__ import annotations

import ast
import os
import re
from datetime import datetime, timedelta, timezone

from ._archive import DEFAULT_SEGMENT_BYTES, read_archive
from ._wal import parse_lsn

UNREADABLE = "UNREADABLE"                     # our own status: backup.info cannot be parsed
COPIED = ("DONE", "WAITING_FOR_WALS")         # statuses of a complete copy

INFO_FILE = re.compile(r"([0-9]{8}T[0-9]{6})-backup\.info")
BACKUP_ID = re.compile(r"[0-9]{8}T[0-9]{6}")
REDUNDANCY = re.compile(r"\s*redundancy\s+(\d+)\s*", re.IGNORECASE)
RECOVERY_WINDOW = re.compile(r"\s*recovery\s+window\s+of\s+(\d+)\s+(day|week|month)s?\s*", re.IGNORECASE)
DAYS = {"day": 1, "week": 7, "month": 31}     # barman/retention_policies.py


def read_backups(server, archive=None, now=None):
    """All backups of one server (a ServerConfiguration), oldest first, each with the keys of backups[] in the contract.

    'good' is true for a backup that is DONE, none of whose own WAL was thrown out of the archive as a duplicate, and that builds on a good one or none.
    """
    archive = archive or read_archive(server)
    backups = [backup for backup_id, path in sorted(_info_files(server).items()) for backup in _read_backup(server, backup_id, path)]
    policy = server.options.get("retention_policy", "")
    _judge_retention(backups, policy, int(_number(server.options.get("minimum_redundancy")) or 0), now or datetime.now(timezone.utc))
    _add_wal(backups, archive)
    good = {None}
    for backup in backups:
        backup["good"] = backup["status"] == "DONE" and not archive.has_duplicate(backup) and backup["parent_backup_id"] in good
        good |= {backup["backup_id"]} if backup["good"] else set()
    return backups


def moment(text):
    """An ISO 8601 text of ours as a datetime, None as None."""
    return datetime.fromisoformat(text) if text else None


def _info_files(server):
    """backup id -> path: base/ID/backup.info up to Barman 3.13.1, meta/ID-backup.info since."""
    found = {}
    if not server.in_cloud:
        for entry in _entries(server.directory("basebackups_directory")):
            path = os.path.join(server.directory("basebackups_directory"), entry, "backup.info")
            if BACKUP_ID.fullmatch(entry) and os.path.lexists(path):
                found[entry] = path
    for entry in _entries(server.meta_directory):
        match = INFO_FILE.fullmatch(entry)
        if match:
            found[match.group(1)] = os.path.join(server.meta_directory, entry)
    return found


def _entries(directory):
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _read_backup(server, backup_id, path):
    """A list of the backup; an empty one when Barman has deleted it meanwhile."""
    try:
        return [_backup(server, backup_id, _parse_info(path), None)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, SyntaxError, TypeError, AttributeError) as error:
        return [_backup(server, backup_id, {"status": UNREADABLE}, f"{path} cannot be read as backup.info: {error}")]


def _parse_info(path):
    """The name=value lines of a backup.info; None is written as the word."""
    info = {}
    with open(path, encoding="utf-8") as source:
        for line in source:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"the line {line.strip()[:60]!r} has no '='")
            value = value.strip()
            info[name.strip()] = None if value == "None" else value
    return info


def _backup(server, backup_id, info, problem):
    tablespaces = ast.literal_eval(info.get("tablespaces") or "[]") or []
    copied = ast.literal_eval(info.get("copy_stats") or "{}") or {}
    return dict(
        backup_id=backup_id,
        name=info.get("backup_name"),
        status=info.get("status") or "EMPTY",                    # what Barman says of an empty file, too
        type=_type(info),
        parent_backup_id=info.get("parent_backup_id"),
        begin_time=_time(info.get("begin_time")),
        end_time=_time(info.get("end_time")),
        begin_lsn=_lsn(info.get("begin_xlog")),
        end_lsn=_lsn(info.get("end_xlog")),
        begin_wal=info.get("begin_wal"),
        end_wal=info.get("end_wal"),
        timeline=_number(info.get("timeline")),
        size_bytes=_number(info.get("size")),
        wal_bytes=None,
        cluster_bytes=_number(info.get("cluster_size")),
        copied_bytes=_number(info.get("deduplicated_size")) or _number(info.get("size")),
        copy_seconds=copied.get("total_time") or copied.get("copy_time"),
        wal_segment_bytes=_number(info.get("xlog_segment_size")) or DEFAULT_SEGMENT_BYTES,
        system_identifier=info.get("systemid"),
        postgresql_version=_number(info.get("version")),
        compression=info.get("compression"),
        encryption=info.get("encryption"),
        tablespaces=[dict(name=name, oid=oid, location=location) for name, oid, location in tablespaces],
        keep=_keep(server, backup_id),
        retention_status=None,
        error=problem or info.get("error"),
        good=False,
    )


def _type(info):
    mode = info.get("mode") or ""
    if mode.startswith("snapshot"):
        return "snapshot"
    if mode.startswith("rsync") or mode.startswith("local-rsync"):
        return "rsync"
    if not mode:
        return None
    return "incremental" if info.get("parent_backup_id") else "full"


def _number(text):
    return int(text) if text else None


def _lsn(text):
    if text:
        parse_lsn(text)
    return text


def _time(text):
    """Barman writes a zone; a time without one (very old backups) is in the zone of this host, as Barman takes it."""
    if not text:
        return None
    value = datetime.fromisoformat(text)
    return value.astimezone(timezone.utc).isoformat()


def _keep(server, backup_id):
    """The keep annotation: meta/ID-keep since Barman 3.13.3, base/ID/annotations/keep before."""
    candidates = [os.path.join(server.meta_directory, f"{backup_id}-keep")]
    if not server.in_cloud:
        candidates.insert(0, os.path.join(server.directory("basebackups_directory"), backup_id, "annotations", "keep"))
    for path in candidates:
        try:
            with open(path, encoding="utf-8") as source:
                target = source.read().strip()
        except OSError:
            continue
        return "standalone" if target == "standalone" else "full"     # Barman treats any other word as full
    return "none"


def _add_wal(backups, archive):
    """size_bytes and wal_bytes as 'barman list-backups' counts them, without its second pass over xlog.db per backup."""
    copied = [backup for backup in backups if backup["status"] in COPIED and backup["begin_wal"] and backup["end_wal"]]
    for index, backup in enumerate(copied):
        following = copied[index + 1]["end_wal"] if index + 1 < len(copied) else None
        last_of_timeline = backup["begin_wal"][:8] + "F" * 16
        until = min(following, last_of_timeline) if following else last_of_timeline
        needed = archive.bytes_between(backup["begin_wal"], min(backup["end_wal"], until))
        backup["size_bytes"] = (backup["size_bytes"] or 0) + needed
        backup["wal_bytes"] = archive.bytes_between(backup["begin_wal"], until) - needed


def _judge_retention(backups, policy, minimum_redundancy, now):
    """retention_status by the rules of barman/retention_policies.py; None without a valid policy."""
    redundancy = REDUNDANCY.fullmatch(policy)
    window = RECOVERY_WINDOW.fullmatch(policy)
    if not (redundancy or window):
        return
    limit = max(int(redundancy.group(1)), minimum_redundancy) if redundancy else None
    horizon = None if redundancy else now - timedelta(days=int(window.group(1)) * DAYS[window.group(2).lower()])
    children = {}
    for backup in backups:
        children.setdefault(backup["parent_backup_id"], []).append(backup)
    valid, outside = 0, False
    for backup in reversed(backups):
        if backup["parent_backup_id"]:
            continue                                                   # takes the verdict of its root
        if backup["status"] != "DONE":
            verdict = backup["retention_status"] = "-"
        else:
            if redundancy:
                verdict = "VALID" if valid < limit else "OBSOLETE"
                valid += 1
            else:
                verdict = "VALID" if not outside else "OBSOLETE*" if valid < minimum_redundancy else "OBSOLETE"
                valid += verdict != "OBSOLETE"
                outside = outside or bool(backup["end_time"]) and moment(backup["end_time"]) < horizon
            backup["retention_status"] = verdict if backup["keep"] == "none" else f"KEEP:{backup['keep'].upper()}"
        for child in _descendants(children, backup["backup_id"]):
            child["retention_status"] = "VALID" if backup["keep"] == "full" else verdict


def _descendants(children, backup_id):
    for child in children.get(backup_id, []):
        yield child
        yield from _descendants(children, child["backup_id"])
