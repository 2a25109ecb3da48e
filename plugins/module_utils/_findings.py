# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a recovery: the restore's own plan, merged with what the PostgreSQL host says. Pure: facts in, plan out.

Facts are the answers of the hosts as the role has registered them: server, confirm, archived, tablespaces (as asked for),
barman_address, postgres_user, catalogue (one entry of barman_catalog_info), cluster (pg_cluster_info), live (the row of the
running server, empty without one), host_wal (WAL that is not archived, see _hostwal.py), now (ISO 8601), asked (the target as
it was typed), drop (the transaction that it was found by, empty without one), to_barman (the result of trying the way to
Barman), processes (lines of ps), restore (the plan of barman_restore) and latest (the same for the archive's end, where it
was asked for).
"""
from __future__ import annotations

import os
import re
from datetime import datetime

from ansible_collections.pgrescue.barman.plugins.module_utils._hostwal import loss
from ansible_collections.pgrescue.barman.plugins.module_utils._plan import SPARE, finding
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import parse_lsn

MANAGERS = ("patroni", "repmgrd", "pg_autoctl", "stolon-keeper", "pacemakerd")
# What barman_restore says of the directory as it is now; by the time of the restore that is set aside.
BY_THEN = re.compile(r"running|destination|tablespace .*|major_of_destination|space")
XIDS = 1 << 32
SET_ASIDE = re.compile(r"is not empty|postmaster\.pid|is a cluster of")


def recovery_plan(facts):
    """The merged plan, and latest: the backup_id and timeline of the further plan that is needed for it, or None."""
    window = live_window(facts)
    latest = in_server(facts, window)
    plan = dict(facts.get("latest") or facts["restore"]) if latest else dict(facts["restore"])
    backup = source_backup(facts, plan)
    findings = restore_findings(plan["findings"])
    if latest:
        findings = [target_in_server(window, facts["restore"]["target"]), *(one for one in findings if one["check"] != "target")]
    findings = before_drop(facts["drop"]) + findings + host_findings(facts, plan, backup)
    target = dict(facts["restore"]["target"], asked=facts["asked"])
    mine = {} if facts["live"] else facts["host_wal"]
    plan.update(
        target=target, drop=facts["drop"] or None, findings=findings, feasible=all(one["ok"] for one in findings), loss=loss(facts, window),
        host_wal=mine if mine and mine["wal"] and mine["wal"]["timeline"] == plan["target_timeline"] else {},
    )
    return dict(plan=plan, latest=latest)


def note(check, found, meaning=None):
    """Information, never red."""
    return dict(check=check, ok=True, found=found, meaning=meaning, fix=None)


# --- a target after the archive's end, while the server still answers: the fence archives what it has and judges again ---

def live_window(facts):
    """The last window on the branch that the server is on."""
    catalogue = facts["catalogue"]
    current = {one["timeline"] for one in catalogue["timelines"] if one["current"]}
    return next((one for one in reversed(catalogue["windows"]) if one["timeline"] in current), None)


def in_server(facts, window):
    """Whether the target lies in the WAL that only the running server holds: the backup and the timeline to plan with, or None."""
    plan, live = facts["restore"], facts["live"]
    if not window or facts["archived"] or plan["backup_id"] or not live or live["in_recovery"] or plan["target_timeline"] not in (None, window["timeline"]):
        return None
    target, fitting = plan["target"], [one for one in facts["catalogue"]["backups"] if one["backup_id"] in window["backup_ids"]]
    moment = target["utc"] or facts["drop"].get("commit_time")
    if moment:
        if window["end_time"] and _moment(moment) < _moment(window["end_time"]):
            return None
        fitting = [one for one in fitting if _moment(one["end_time"]) <= _moment(moment)]
    elif target["type"] == "lsn":
        if not parse_lsn(window["end_lsn"] or "0/0") < parse_lsn(target["value"]) <= parse_lsn(live["lsn"]):
            return None
    elif target["type"] == "xid":
        if not 0 < (int(live["next_xid"]) - int(target["value"])) % XIDS < XIDS // 2:
            return None
    elif target["type"] != "name":
        return None
    return dict(backup_id=fitting[-1]["backup_id"], timeline=window["timeline"]) if fitting else None


def target_in_server(window, target):
    """What stands in the place of the finding that the archive alone would give."""
    where = f"after the last archived commit ({window['end_time'] or 'none'}), in" if target["type"] in ("time", "lsn") else "not archived; it may be in"
    return note(
        "target", f"{where} the WAL that the running server holds",
        "The fence archives that WAL and judges the target again before anything is stopped.",
    )


# --- the findings ---

def before_drop(drop):
    """What was found in WAL for a table's name."""
    others = drop.get("commits_between")
    return [note(
        "before_drop", drop["summary"],
        f"{others} others committed while it was at work. They are there, but what it dropped can be read only after the promotion." if others else None,
    )] if drop else []


def source_backup(facts, plan):
    """The backup that is restored, or else the newest one that tells of its cluster; empty without one."""
    backups = facts["catalogue"]["backups"]
    chosen = [one for one in backups if one["backup_id"] == plan["backup_id"]]
    return (chosen or [one for one in backups if one["system_identifier"]] or [{}])[-1]


def restore_findings(findings):
    """Those of barman_restore, without what setting the old data aside puts right."""
    return [one for one in findings if not BY_THEN.fullmatch(one["check"]) or not (one["ok"] or SET_ASIDE.search(one["found"]))]


def host_findings(facts, plan, backup):
    """What the PostgreSQL host says."""
    cluster = facts["cluster"]
    return [
        data_directory(cluster),
        *data(cluster, facts["data"]),
        system_identifier(cluster, backup, facts["server"], facts["confirm"]),
        cluster_major(cluster, backup),
        space(cluster, plan["restore_bytes"]),
        running_server(cluster, facts["live"]),
        not_archived_yet(facts),
        ssh_to_barman(facts["to_barman"], facts["barman_address"], facts["postgres_user"]),
        manager(facts["processes"]),
        standbys(facts["live"]),
        lost_with_old_data(facts["live"]),
    ]


def data_directory(cluster):
    """What lies there, and whether it can be set aside."""
    if cluster["obstacles"]:
        return finding(
            "data_directory", False, " ".join(cluster["obstacles"]), "Without setting the old data aside there is no way back.", "Do what is said there.")
    what = (
        "is absent" if not cluster["exists"] else
        "is empty" if cluster["empty"] else
        f"holds PostgreSQL {cluster['version'] or '?'}, {cluster['state'] or 'in an unknown state'}"
    )
    root = ", the root of a mounted file system," if cluster["mount_point"] else ""
    meaning = "The old data is set aside inside it." if root and not cluster["empty"] else None
    return note("data_directory", f"{cluster['real_data_directory']}{root} {what}", meaning)


def data(cluster, way):
    """Whether only what differs can be copied, and the old data kept nevertheless."""
    if way != "delta":
        return []
    kind = cluster["filesystem"]["type"]
    if cluster["empty"]:
        return [note("data", "nothing is there that could be reused, so everything is copied")]
    return [finding(
        "data", cluster["filesystem"]["reflink"],
        f"{kind} clones files, so only what differs is copied" if cluster["filesystem"]["reflink"] else f"data=delta, but {kind} cannot clone files",
        "What differs could only be written over the old data itself, with no way back.",
        "Leave data=delta out: everything is copied and the old data is kept. XFS (reflink=1) and btrfs clone files.",
    )]


def system_identifier(cluster, backup, server, confirm):
    """Whether it is the cluster that was backed up."""
    here, there = cluster["system_identifier"], backup.get("system_identifier")
    if here is None:
        return finding("system_identifier", True, "none on this host")
    if there is None or str(here) == str(there):
        return finding("system_identifier", True, f"{here}{', as in the backup' if there else ''}")
    return finding(
        "system_identifier", str(confirm) == server, f"the data directory belongs to another cluster ({here}) than the backup ({there})",
        "What lies there is not what was backed up. It would be set aside as well.", f"If it may be replaced, add -e confirm={server}",
    )


def cluster_major(cluster, backup):
    """Whether this host's cluster is of the backup's major version."""
    here, there = cluster["version_directory_major"], (backup.get("postgresql_version") or 0) // 10000
    return finding(
        "cluster_major", here is not None and there in (0, here),
        f"the cluster of this host is of PostgreSQL {here or 'no installed version'}, the backup of {there or 'an unknown one'}",
        "A backup can only be started by its own major version.",
        f"Install PostgreSQL {there} and make a cluster of it the one of this host: pg_createcluster {there} main",
    )


def space(cluster, restore_bytes):
    """Whether there is room beside the old data."""
    need, free = int((restore_bytes or 0) * SPARE), cluster["free_bytes"]
    needed = f"{human(need)} needed" if restore_bytes else "what is needed is not known"
    return finding(
        "space", need <= free, f"{human(free)} free beside the old data, {needed}", "The disk would be full before the end, since the old data stays.",
        f"Make room on the file system of {cluster['real_data_directory']}.",
    )


def running_server(cluster, live):
    """What runs, and whether it is a primary."""
    if cluster["running"] is None:
        return finding("running_server", True, "not running")
    clients = f", {live['clients']} clients connected" if live else ", but it does not answer"
    standby = bool(live and live["in_recovery"])
    found = f"running as process {cluster['running']}{clients}{', a standby' if standby else ''}"
    if not standby:
        return note("running_server", found, "It is stopped for the recovery, and its clients are disconnected.")
    return finding(
        "running_server", False, found, "A standby follows its primary; recovering it alone makes two servers of one.",
        "Recover the primary, or say pg_primary_role=primary of this host and promote it first.",
    )


def not_archived_yet(facts):
    """What only the server has, running or not."""
    live, mine, lost = facts["live"], facts["host_wal"], loss(facts, live_window(facts))
    if not live and mine and not mine["segments"]:
        return note("not_archived_yet", "nothing, the archive has all that this host has")
    if not live and mine:
        return note(
            "not_archived_yet",
            f"{mine['transactions']} transactions up to {mine['wal']['end_time'] or '?'}, {len(mine['segments'])} segments, are in pg_wal only",
            "What is finished is archived before anything is touched, the rest is replayed from there: nothing of it is lost, and it counts as reachable.",
        )
    if not live:
        return note(
            "not_archived_yet", "this host has no WAL that continues the archive",
            f"What was committed after the last commit that Barman has ({lost['since']}) is lost: how many transactions is not known, "
            f"of at most {lost['seconds']} seconds." if lost["since"] else "What was never archived is not recovered.",
        )
    size, seconds = live["bytes"], live["seconds"]
    return note(
        "not_archived_yet",
        f"{'an unknown number of' if size is None else size} bytes, {live['ready']} finished segments, "
        f"{'unknown' if seconds is None else seconds} seconds since the last one, {mine.get('transactions', 'an unknown number of')} transactions",
        "The fence archives it before PostgreSQL is stopped, so it counts as reachable.",
    )


def ssh_to_barman(answer, address, user):
    """Whether Barman takes WAL from here. Where WAL is only streamed, the program is not there and there is nothing to ask."""
    if answer.get("rc") is None or "No such file" in answer.get("msg", ""):
        return finding("ssh_to_barman", True, "not asked")
    reason = " ".join((answer.get("stderr") or "").split())[:300]
    return finding(
        "ssh_to_barman", answer["rc"] == 0, f"{address} is ready to take WAL" if answer["rc"] == 0 else f"{address} does not take WAL: {reason}",
        "The recovered server could not archive, and would have no backup.", f"See that this works as {user}: {' '.join(map(str, answer.get('cmd') or []))}",
    )


def manager(processes):
    """Whether something would start or replace PostgreSQL by itself."""
    words = [line.split() for line in processes if line.strip()]
    programs = {os.path.basename(line[1] if len(line) > 1 and re.search(r"python[0-9.]*$", line[0]) else line[0]) for line in words}
    found = [one for one in MANAGERS if one in programs]
    return finding(
        "manager", not found, ", ".join(found) or "none", "It would start or replace PostgreSQL in the middle of the recovery.",
        f"Stop it first, for example: systemctl stop {found[0] if found else ''}",
    )


def standbys(live):
    """Who follows this server."""
    attached = live.get("standbys")
    return note("standbys", attached or "none attached", "Standbys follow the abandoned branch afterwards and have to be rebuilt." if attached else None)


def lost_with_old_data(live):
    """What no backup brings back."""
    if not live:
        return note("lost_with_old_data", "unknown")
    some = live["slots"] or live["subscriptions"] or live["prepared"]
    return note(
        "lost_with_old_data", f"slots: {live['slots'] or 'none'}; subscriptions: {live['subscriptions']}; prepared transactions: {live['prepared']}",
        "Slots are not in a backup; subscriptions and prepared transactions are as they were at the target." if some else None,
    )


def human(number):
    """Bytes as people read them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def _moment(text):
    return datetime.fromisoformat(text)
