# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a recovery: the restore's own plan, merged with what the PostgreSQL host says. Pure: facts in, plan out.

Facts are the answers of the hosts as the role has registered them: server, host (inventory name), confirm, archived, tablespaces (as asked
for), barman_address, postgres_user, catalogue (one entry of barman_catalog_info), cluster (pg_cluster_info), live (the row of the running
server, empty without one), live_said (why a server that runs does not answer, else empty), unarchived (pg_wal_search_info of its pg_wal),
host_wal (WAL that is not archived, see _hostwal.py), now (ISO 8601), clone (what only a clone's host is asked, empty in place), asked (the
target as it was typed), drop (the transaction that it was found by, empty without one), to_barman (the result of trying the way to Barman),
processes (lines of ps), under_way (who else recovers it, empty without one), records (of earlier recoveries, the newest first), wanted (the
target as they have it), arms (whether the commit sets archive_command), archive_timeout (seconds), restore (the plan of barman_restore) and
latest (the same for the archive's end, where it was asked for).
"""
from __future__ import annotations

import os
import re
from datetime import datetime

from ansible_collections.pgrescue.barman.plugins.module_utils._hostwal import loss, reads_to
from ansible_collections.pgrescue.barman.plugins.module_utils._plan import SPARE, bring_history, finding, human, similar, space_findings
from ansible_collections.pgrescue.barman.plugins.module_utils._reach import EVER
from ansible_collections.pgrescue.barman.plugins.module_utils._replay import way_in
from ansible_collections.pgrescue.barman.plugins.module_utils._ssh import explain
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import parse_lsn
from ansible_collections.pgrescue.barman.plugins.module_utils._way_back import ENDED

# What may start or replace PostgreSQL by itself, and how it is put to rest on all of its members first, so that none of them promotes another one.
MANAGERS = {
    "patroni": "patronictl pause, then systemctl stop patroni on the replicas, then here",
    "repmgrd": "repmgr service pause, then systemctl stop repmgrd on all members",
    "pg_autoctl": "systemctl stop pgautofailover on all members, this one last",
    "stolon-keeper": "stop the sentinels and proxies, then the keepers, this one last",
    "pacemakerd": "pcs property set maintenance-mode=true, then systemctl stop pacemaker",
}
# What barman_restore says of the directory as it is now; by the time of the restore that is set aside.
BY_THEN = re.compile(r"running|destination|tablespace .*|major_of_destination")
XIDS = 1 << 32
SOCKET_BYTES = 107
FROZEN = "timeout expired"                    # libpq's words for a server that takes the connection and does not answer
# What barman_restore says of a clone's host it says of the Barman host; the way to the clone is made for the copy only.
ELSEWHERE = re.compile(r"destination.*|postgresql_major|rsync|running|restore_running|tablespace .*|major_of_destination|space.*")
# What is judged here with what the host says.
HERE = re.compile(r"server_active|tablespace of WAL .*")
SET_ASIDE = re.compile(r"is not empty|postmaster\.pid|is a cluster of")
NOT_MINE = dict(
    meaning="The standby has no tablespace there, so it may be of a server that runs, and is not set aside.",
    fix="See whose it is; if nobody needs it, move it away, and run this again.",
)


def recovery_plan(facts):
    """The merged plan; latest: the backup_id and timeline of the further plan that is needed for it, or None; archives: whether the
    running server is the one that was backed up, so that what it has not archived yet can be."""
    facts = dict(facts, live=dict(facts["live"] or {}))
    archives = bool(facts["live"]) and not facts["live"]["in_recovery"] and same_cluster(facts["cluster"], source_backup(facts, facts["restore"]))
    window = live_window(facts)
    latest = in_server(facts, window) if archives else None
    plan = dict(facts.get("latest") or facts["restore"]) if latest else dict(facts["restore"])
    backup = source_backup(facts, plan)
    findings = [one for one in plan["findings"] if not ELSEWHERE.fullmatch(one["check"])] if facts["clone"] else in_place(facts, plan["findings"], backup)
    if latest:
        plan["target_timeline"] = window["timeline"]
        # What depends on the target is said of the target that was typed; but no way to the archive's end is none to what comes after it.
        unreached = [one for one in findings if one["check"] == "target"] if facts.get("latest") and not plan["backup_id"] else []
        findings = [*(unreached or [target_in_server(window, facts["restore"]["target"], facts["unarchived"])]),
                    *(one for one in findings if one["check"] not in ("target", "clocks")),
                    *(one for one in facts["restore"]["findings"] if one["check"] == "clocks")]
    elif archives and could_be_in_server(facts, window):
        findings = [nor_in_server(one, facts) if one["check"] == "target" else one for one in findings]
    told = clone_findings(facts, plan, backup) if facts["clone"] else host_findings(facts, plan, backup, archives)
    spaces = plan["wal"]["tablespaces"] or facts["wal_tablespaces"]
    findings = before_drop(facts["drop"]) + findings + told + tablespaces_of_wal(facts, sorted({one["location"] for one in spaces}))
    target = dict(facts["restore"]["target"], asked=facts["asked"])
    mine = {} if facts["live"] else facts["host_wal"]
    plan.update(
        target=target, drop=facts["drop"] or None, wal=dict(plan["wal"], tablespaces=spaces), findings=findings, feasible=all(one["ok"] for one in findings),
        loss=None if facts["clone"] else loss(facts if archives else dict(facts, live={}), window),
        host_wal=mine if mine and mine["wal"] and mine["wal"]["timeline"] == plan["target_timeline"] else {},
    )
    return dict(plan=plan, latest=latest, archives=archives)


def note(check, found, meaning=None):
    """Information, never red."""
    return dict(check=check, ok=True, found=found, meaning=meaning, fix=None)


# --- a target after the archive's end, while the server still answers: the fence archives what it has and judges again ---

def live_window(facts):
    """The last window on the branch that the server is on; that up to its fork, and without an end, while no WAL of the branch is archived."""
    catalogue = facts["catalogue"]
    current = next((one for one in catalogue["timelines"] if one["current"]), dict(timeline=None))
    window = next((one for one in reversed(catalogue["windows"]) if one["timeline"] == current["timeline"]), None)
    if window or not current.get("switch_lsn"):
        return window
    fork, parents = parse_lsn(current["switch_lsn"]), [one for one in catalogue["windows"] if one["timeline"] == current["parent"]]
    # The segment of the fork is that of the new branch, and of the parent's there may be a part only.
    size = catalogue["wal"]["segment_bytes"]
    before = next(
        (one for one in parents if parse_lsn(one["begin_lsn"]) <= fork and one["end_lsn"] and fork // size - 1 <= parse_lsn(one["end_lsn"]) // size), None)
    early = [one["backup_id"] for one in catalogue["backups"] if one["end_lsn"] and parse_lsn(one["end_lsn"]) <= fork]
    return before and dict(
        before, timeline=current["timeline"], end_lsn=current["switch_lsn"], end_time=None, archived=current["parent"],
        backup_ids=[one for one in before["backup_ids"] if one in early],
    )


def _reached_by(catalogue, window):
    """The moment up to which the archive tells what was committed: the end of the live branch's window, and of whatever was there before that
    branch. Branches are numbered as they begin, so those with smaller numbers were there before."""
    times = [window["end_time"]] + [one["begin_time"] for one in catalogue["timelines"] if one["timeline"] <= window["timeline"]]
    times += [one["end_time"] for one in catalogue["windows"] if one["timeline"] < window["timeline"]]
    return max((_moment(one) for one in times if one), default=EVER)


def could_be_in_server(facts, window):
    """Whether the target is not in the archive, and the running server holds WAL of its branch that is not there either."""
    plan = facts["restore"]
    return bool(window) and not facts["archived"] and not plan["backup_id"] and plan["target_timeline"] in (None, window["timeline"])


def in_server(facts, window):
    """Whether the target lies in the WAL that only the running server holds: the backup and the timeline to plan with, or None."""
    plan, live = facts["restore"], facts["live"]
    if not could_be_in_server(facts, window):
        return None
    target, wanted = plan["target"], facts["wanted"].get("backup_id")
    fitting = [one for one in facts["catalogue"]["backups"] if one["backup_id"] in window["backup_ids"] and wanted in (None, "", one["backup_id"])]
    moment = target["utc"] or facts["drop"].get("commit_time")
    if moment:
        if _moment(moment) < _reached_by(facts["catalogue"], window):
            return None
        fitting = [one for one in fitting if _moment(one["end_time"]) <= _moment(moment)]
    elif target["type"] == "lsn":
        if not parse_lsn(window["end_lsn"] or "0/0") < parse_lsn(target["value"]) <= parse_lsn(live["lsn"]):
            return None
    elif target["type"] not in ("xid", "name") or is_nowhere(facts, window):
        return None
    return dict(backup_id=fitting[-1]["backup_id"], timeline=window.get("archived", window["timeline"])) if fitting else None


def is_nowhere(facts, window):
    """Whether it is sure that the WAL which only the running server holds has no such transaction or restore point either."""
    target, live, search = facts["restore"]["target"], facts["live"], facts["unarchived"]
    if target["type"] == "xid" and not 0 < (int(live["next_xid"]) - int(target["value"])) % XIDS < XIDS // 2:
        return True
    begin, size = parse_lsn(window["end_lsn"] or "0/0"), facts["catalogue"]["wal"]["segment_bytes"]
    if search.get("target_lsn"):
        return parse_lsn(search["target_lsn"]) <= begin
    return "target_lsn" in search and reads_to(search, begin, parse_lsn(live["lsn"]), size)


def nor_in_server(one, facts):
    """What the archive says of the target, and what a search of the running server's WAL for a transaction or restore point adds."""
    search, target = facts["unarchived"], facts["restore"]["target"]
    if one["ok"] or search.get("target_lsn", True):
        return one
    names = similar(target["type"], target["value"], {point["name"] for point in search["restore_points"]})
    return dict(one, found=f"{one['found']} Nor is it in the WAL that the running server holds.{names}")


def target_in_server(window, target, search):
    """What stands in the place of the finding that the archive alone would give."""
    where = (f"after the last archived commit ({window['end_time'] or 'none'}), in" if target["type"] in ("time", "lsn") or search.get("target_lsn")
             else "not archived; it may be in")
    return note(
        "target", f"{where} the WAL that the running server holds",
        "The fence archives that WAL and judges the target again before anything is stopped.",
    )


# --- the findings ---

def before_drop(drop):
    """What was found in WAL for a table's name."""
    others, also = drop.get("commits_between"), drop.get("also")
    meaning = [f"{others} others committed while it was at work. They are there, but what it dropped can be read only after the promotion."] * bool(others)
    meaning += [f"What was lost in the hour before it stays lost: {also}. To have that too, type the name of what was lost first."] * bool(also)
    return [note("before_drop", drop["summary"], " ".join(meaning) or None)] if drop else []


def source_backup(facts, plan):
    """The backup that is restored, or else the newest one that tells of its cluster; empty without one."""
    backups = facts["catalogue"]["backups"]
    chosen = [one for one in backups if one["backup_id"] == plan["backup_id"]]
    return (chosen or [one for one in backups if one["system_identifier"]] or [{}])[-1]


def restore_findings(findings):
    """Those of barman_restore, without what setting the old data aside puts right, and without what is judged here."""
    kept = [one for one in findings if not HERE.fullmatch(one["check"])]
    return [one for one in kept if not BY_THEN.fullmatch(one["check"]) or not (one["ok"] or SET_ASIDE.search(one["found"]))]


def in_place(facts, findings, backup):
    """Those of barman_restore. Where the server has no tablespace now, what lies there may be of another one, and is not set aside unasked."""
    cluster, own = facts["cluster"], {os.path.normpath(one["location"]) for one in facts["cluster"]["tablespaces"]}
    places = {f"tablespace {one['name']}": facts["tablespaces"].get(one["name"], one["location"]) for one in backup.get("tablespaces") or []}
    known = cluster["system_identifier"] is not None and same_cluster(cluster, backup) and facts["confirm"] != facts["server"]
    foreign = [
        one for one in findings
        if known and not one["ok"] and SET_ASIDE.search(one["found"]) and os.path.normpath(places.get(one["check"], "/")) not in {"/", *own}
    ]
    return restore_findings([one for one in findings if one not in foreign]) + [dict(
        one, meaning="The server has no tablespace there now, so it may be of another one, and is not set aside.",
        fix=f"Move it away, or name another directory: tablespaces=. If all of it is the server's own, add -e confirm={facts['server']}",
    ) for one in foreign]


def same_cluster(cluster, backup):
    """Whether what lies there is the cluster that was backed up, as far as that is known."""
    return None in (cluster["system_identifier"], backup.get("system_identifier")) or str(cluster["system_identifier"]) == str(backup["system_identifier"])


def standby_plan(facts):
    """The plan of barman_restore for a standby, which is stopped and set aside first: facts are plan, cluster and backup. Added are tablespaces, from
    name to directory, those that the standby has elsewhere than its primary (pg_basebackup --tablespace-mapping): there they are to be restored."""
    plan, cluster, backup = facts["plan"], facts["cluster"], facts["backup"]
    foreign = [one for one in plan["findings"] if not one["ok"] and one["check"] in _not_of_standby(plan, cluster, backup)]
    findings = restore_findings([one for one in plan["findings"] if one not in foreign])
    findings += [dict(one, **NOT_MINE) if SET_ASIDE.search(one["found"]) else one for one in foreign]
    findings += [cluster_major(cluster, backup)] + space_unless_asked(cluster, plan)
    return dict(plan, findings=findings, feasible=all(one["ok"] for one in findings), tablespaces=elsewhere(cluster, backup))


def elsewhere(cluster, backup):
    """The tablespaces of a backup that a standby has in directories of its own, from name to directory."""
    places, spaces = {str(one["oid"]): one["location"] for one in cluster["tablespaces"]}, backup.get("tablespaces") or []
    mine = {one["name"]: places.get(str(one["oid"])) for one in spaces}
    return {name: path for name, path in mine.items() if path and path not in [one["location"] for one in spaces]}


def _not_of_standby(plan, cluster, backup):
    """The checks of tablespaces that go where the standby has none: what lies there may be of a server that runs, and is not set aside."""
    paths, mine = [one["location"] for one in cluster["tablespaces"]], elsewhere(cluster, backup)
    spaces = [one for one in backup.get("tablespaces") or [] if one["name"] not in mine and one["location"] not in paths]
    made = [one["location"] for one in plan["wal"]["tablespaces"] if one["location"] not in paths]
    return [f"tablespace {one['name']}" for one in spaces] + [f"tablespace of WAL {path}" for path in made]


def host_findings(facts, plan, backup, archives):
    """What the PostgreSQL host says."""
    cluster = facts["cluster"]
    return [
        server_active(facts["catalogue"]),
        under_way(facts["under_way"]),
        *done_before(facts["records"], facts["wanted"]),
        *(undone_branch(facts["records"], facts["wanted"], plan["target_timeline"]) or servers_branch(facts, plan["target_timeline"], backup)),
        data_directory(cluster),
        *private_socket(cluster),
        *data(cluster, facts["data"]),
        running_elsewhere(cluster),
        system_identifier(cluster, backup, facts["server"], facts["confirm"]),
        cluster_major(cluster, backup),
        new_timeline(facts["catalogue"], plan["new_timeline"]),
        *space_unless_asked(cluster, plan),
        *set_aside(cluster),
        running_server(cluster, facts["live"], facts["live_said"]),
        not_archived_yet(facts if archives else dict(facts, live={})),
        archiving(cluster, facts["arms"], facts["live"], facts["archive_timeout"]),
        ssh_to_barman(facts["to_barman"], facts["barman_address"], facts["postgres_user"]),
        manager(facts["processes"]),
        standbys(facts["live"], facts["standbys"]),
        lost_with_old_data(facts["live"]),
    ]


def server_active(catalogue):
    """Whether Barman works for this server."""
    if catalogue["passive"]:
        return finding(
            "server_active", False, f"server {catalogue['name']} is passive on this Barman host: it has primary_ssh_command",
            "It only copies what another Barman host has. The recovered server could archive nothing here and would have no backup.",
            "Put that host into the inventory and recover from there. Is it lost, take primary_ssh_command out of Barman's configuration of the server; "
            "a clone (destination_host, destination_directory) can be made from here as it is.",
        )
    return finding(
        "server_active", catalogue["active"], f"server {catalogue['name']} has active = {'true' if catalogue['active'] else 'false'}",
        "Barman takes neither WAL nor backups of an inactive server, so the recovered one would have none; before 3.17 it does not restore either.",
        "Set active = true in Barman's configuration of the server.",
    )


def under_way(text):
    """Whether another recovery holds the server."""
    return finding("other_recovery", not text, text or "none is under way", "Two recoveries of one server destroy each other.", "Then run this again.")


def done_before(records, wanted):
    """Whether the last recovery was the same, as after a run that was cut off when all was done, and before that could be said."""
    last = next((one for one in records if one.get("outcome") in ENDED), {})
    return [note(
        "done_before", f"the same recovery was finished by {last['finished_by']} at {last['ended']}",
        "It is done once more: what was committed since then is set aside with the data of now.",
    )] if last.get("outcome") == "committed" and last["asked"] == wanted else []


def undone_branch(records, wanted, timeline):
    """Whether the target was looked for on the branch of a recovery that was taken back. What had been there before archives nothing that tells it lives."""
    made = next((one for one in records if one.get("outcome") in ("committed", "undone") and str(one.get("timeline")) == str(timeline)), {})
    found = made.get("found") or {}
    if made.get("outcome") != "undone" or wanted.get("timeline") or found["was_running"] and not found.get("foreign"):
        return []
    before = made["plan"]["target_timeline"]
    return [finding(
        "undone_branch", False, f"the archive's newest branch, timeline {timeline}, is that of the recovery of {made['began']}, which was taken back",
        f"What was there before that recovery is on timeline {before}, and nothing was archived on it since, so the target was looked for on the wrong branch.",
        f"Say which: -e target_timeline={before}, or -e target_timeline={timeline} for what that recovery had brought.",
    )]


def servers_branch(facts, timeline, backup):
    """Whether the target was looked for on the archive's newest branch, and the server that has stopped was on another one that is archived: somebody
    else may archive there, such as a clone that was made by hand, or the server's older data has been put back by hand."""
    cluster, known = facts["cluster"], {one["timeline"]: one for one in facts["catalogue"]["timelines"]}
    own, newest = known.get(cluster["timeline"]), known.get(timeline)
    if facts["live"] or facts["wanted"].get("timeline") or not own or own["current"] or not newest or not newest["current"]:
        return []
    if not same_cluster(cluster, backup):
        return []
    return [finding(
        "servers_branch", False, f"the archive's newest branch is timeline {timeline}, and the server was on timeline {cluster['timeline']} when it stopped",
        "The target was looked for on the newest one, and another server may have written that.",
        f"Say which: -e target_timeline={cluster['timeline']} for the server's own, or -e target_timeline={timeline}.",
    )]


def clone_findings(facts, plan, backup):
    """What the host of a clone says."""
    cluster, clone = facts["cluster"], facts["clone"]
    real, major, parent = cluster["real_data_directory"], (backup.get("postgresql_version") or 0) // 10000, clone["parent"]
    taken = cluster["config_file"] if (cluster["config_file"] or "").startswith("/etc/") else clone["configuration"]
    inside = [one for one in clone["directories"] if one["inside"]]
    made = next((one for one in facts["records"] if one.get("outcome") == "cloned" and (one["host"], one["directory"]) == (facts["host"], real)), None)
    return [
        under_way(facts["under_way"]),
        *undone_branch(facts["records"], facts["wanted"], plan["target_timeline"]),
        finding(
            "data_directory", cluster["empty"] or not cluster["exists"],
            f"{real} is {'absent' if not cluster['exists'] else 'empty' if cluster['empty'] else 'not empty'}"
            f"{'; a clone was finished there already, by ' + made['finished_by'] + ' at ' + made['ended'] if made else ''}",
            "A clone sets nothing aside.",
            f"{'Use that one, or give' if made else 'Give'} another destination_directory, or move what lies there away.",
        ),
        *private_socket(dict(cluster, port=clone["port"] or cluster["port"])),
        finding(
            "cluster", not taken, f"{real} {'belongs to the cluster of ' + taken if taken else 'belongs to no cluster'}",
            "A clone does not take the place of another cluster.", "Give another destination_directory.",
        ),
        finding(
            "parent", not parent["exists"] or parent.get("pw_name") == facts["postgres_user"],
            f"{os.path.dirname(real)} {'belongs to ' + str(parent.get('pw_name')) if parent['exists'] else 'is absent and will be made'}",
            "The note that tells that the copy is ours lies beside the data.", f"Give a destination_directory one level deeper: {real}/data",
        ),
        finding(
            "tablespaces_elsewhere", not clone["tablespaces"], f"not empty: {', '.join(clone['tablespaces'])}" if clone["tablespaces"] else "all free",
            "A clone sets nothing aside.", 'Map each one to an empty directory: -e \'{"tablespaces": {"NAME": "/DIRECTORY"}}\'',
        ),
        finding(
            "port", not clone["port_taken"], f"port {clone['port'] or 'the first that is free'}{' is taken' if clone['port_taken'] else ''}",
            "Another server listens there.", "Give another destination_port, or leave it out.",
        ),
        finding(
            "inside", not inside, "; ".join(f"{one['path']} lies in {one['inside']}, which belongs to a cluster" for one in inside)
            or "no directory lies in one of another cluster",
            "It would be in the backups of that cluster, and be set aside with it.",
            "Give another destination_directory, or map the tablespace to another one.",
        ),
        *clone_space(plan, clone["directories"]),
        note("postgresql", f"PostgreSQL {major} is installed where it is missing"),
        note("origin", "left alone; the clone does not archive", "What the origin has not archived yet is not in the clone."),
    ]


def clone_space(plan, directories):
    """Whether each file system of the clone's host has room. directories: as pg_cluster_info tells, the data directory first."""
    if plan["restore_bytes"] is None:
        return []
    sizes = {directories[0]["path"]: plan["restore_bytes"], **{one["path"]: one["bytes"] for one in plan["directories"]}}
    places = [dict(real=one["path"], filesystem=one["mount_point"], free=one["free_bytes"]) for one in directories]
    return space_findings(places, [sizes.get(one["path"]) for one in directories])


def tablespaces_of_wal(facts, paths):
    """Whether there is room for the tablespaces that replay makes: where they were, on whatever host and for whatever cluster."""
    own = [] if facts["clone"] else [one["location"] for one in facts["cluster"]["tablespaces"]]
    full = [path for path in paths if path in facts["full"] and path not in own]
    fix = ("Choose a host where that directory is free or absent: -e destination_host=HOST. A backup that is taken now can have it mapped, but leads to "
           "moments after its end only."
           if facts["clone"] else "Move what lies there away.")
    return [finding(
        "tablespaces_of_wal", not full, f"made after the backup, and again by replay: {', '.join(paths)}{'; not empty: ' + ', '.join(full) if full else ''}",
        "Replay makes a tablespace where it was and nowhere else, and would write into what lies there, the living server's files too.", fix,
    )] if paths else []


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


def private_socket(cluster):
    """Whether the socket of the server that replays, which lies in the data directory, has a path that a system call takes (sun_path in unix(7))."""
    path = f"{cluster['real_data_directory']}/.s.PGSQL.{cluster['port']}"
    return [] if len(path.encode()) <= SOCKET_BYTES else [finding(
        "private_socket", False, f"{path} has {len(path.encode())} bytes, and the path of a socket at most {SOCKET_BYTES}",
        "The server that replays listens there only, so that nobody else gets in. It could not start.", "Give the data a directory with a shorter path.",
    )]


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


def running_elsewhere(cluster):
    """Whether a PostgreSQL that this host does not know as its own works in the data directory."""
    real, strangers = cluster["real_data_directory"], cluster.get("strangers") or []
    return finding(
        "running_elsewhere", not strangers,
        f"PostgreSQL works in {real} as process {', '.join(map(str, strangers))}, and its postmaster.pid does not say so" if strangers
        else "no other PostgreSQL works in the data directory",
        "It was started in a container, or somebody removed postmaster.pid. It would go on writing while the directory is set aside.",
        f"Stop it where it was started, or kill -INT {strangers[0] if strangers else ''}; then run this again.",
    )


def system_identifier(cluster, backup, server, confirm):
    """Whether it is the cluster that was backed up."""
    here, there = cluster["system_identifier"], backup.get("system_identifier")
    if here is None:
        return finding("system_identifier", True, "none on this host")
    if same_cluster(cluster, backup):
        return finding("system_identifier", True, f"{here}{', as in the backup' if there else ''}")
    other = f"the data directory belongs to another cluster ({here}) than the backup ({there})"
    if str(confirm) == server:
        return note("system_identifier", other, f"confirm={server} was given: it is set aside as well.")
    return finding(
        "system_identifier", False, other,
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


def new_timeline(catalogue, number):
    """Whether the timeline of the recovered server is a new one for the archive. PostgreSQL takes the first number without a history file there."""
    used = [one["timeline"] for one in catalogue["timelines"] if one["last_wal"]] + [one["timeline"] for one in catalogue["backups"]]
    taken = ", of which the archive has WAL or a backup, but no history file" if number in used else ""
    return finding(
        "new_timeline", not taken, f"the recovered server will be on timeline {number or 'unknown'}{taken}",
        "The new WAL would have the names of that which is archived, and Barman would refuse it.", bring_history(number or 0, catalogue["name"]),
    )


def space(cluster, restore_bytes):
    """Whether there is room beside the old data."""
    need, free = int((restore_bytes or 0) * SPARE), cluster["free_bytes"]
    needed = f"{human(need)} needed" if restore_bytes else "what is needed is not known"
    return finding(
        "space", need <= free, f"{human(free)} free in {os.path.dirname(cluster['real_data_directory'])}, {needed}",
        "The disk would be full before the end, since the old data stays.",
        f"Make room on the file system of {cluster['real_data_directory']}.",
    )


def space_unless_asked(cluster, plan):
    """The same, unless barman_restore could look itself."""
    return [] if any(one["check"].startswith("space") for one in plan["findings"]) else [space(cluster, plan["restore_bytes"])]


def set_aside(cluster):
    """What earlier recoveries have left, and until when it is needed."""
    told = [f"{one['path']}{', needed until ' + one['expires'] if one['expires'] else ''}{', which is over' if one['expired'] else ''}"
            for one in cluster["set_aside"]]
    return [note(
        "set_aside", f"left by earlier recoveries: {'; '.join(told)}",
        "It takes room until somebody deletes it; undo.yml needs the newest that is named aside.",
    )] if told else []


def running_server(cluster, live, said):
    """What runs, whether it is a primary, and whether it lets us in. said: why it does not answer, if it does not."""
    if cluster["running"] is None:
        return finding("running_server", True, "not running")
    who = f" ({live['who']})" if live.get("who") else ""
    clients = f", {live['clients']} clients connected{who}" if live else f", but it does not answer{': ' if said else ''}{' '.join(said.split())}"
    standby = bool(live and live["in_recovery"])
    found = f"running as process {cluster['running']}{clients}{', a standby' if standby else ''}"
    if not live and way_in(said):
        return finding(
            "running_server", False, found, "The recovered server would not let us in either, so nobody could see where its replay stops.", way_in(said),
        )
    if not live and FROZEN in said:
        return finding(
            "running_server", False, found, "A server that answers nobody cannot be stopped in order either: the recovery would wait for its end for an hour.",
            f"See what holds it: ps -o pid,stat,wchan -p {cluster['running']}. Is it suspended (T): kill -CONT {cluster['running']}. Else end it "
            f"(systemctl kill --signal=KILL {cluster['service'] or 'its service'}), and recover again: what it has not archived is taken from its pg_wal.",
        )
    if not standby:
        return note("running_server", found, "It is stopped for the recovery, and its clients are disconnected.")
    return finding(
        "running_server", False, found, "A standby follows its primary; recovering it alone makes two servers of one.",
        "Recover the primary, or say pg_primary_role=primary of this host and promote it first.",
    )


def not_archived_yet(facts):
    """What only the server has, running or not. facts["live"] is empty where another cluster runs."""
    live, mine, lost = facts["live"], facts["host_wal"], loss(facts, live_window(facts))
    if not live and mine and not mine["segments"]:
        return note("not_archived_yet", "nothing, the archive has all that this host has")
    if not live and mine:
        return note(
            "not_archived_yet",
            f"{mine['transactions']} transactions up to {mine['wal']['end_time'] or '?'}, {len(mine['segments'])} segments, are in pg_wal only",
            "What is finished is archived before anything is touched, the rest is replayed from there: nothing of it is lost, and it counts as reachable.",
        )
    unknown = None if live else unknown_branch(facts)
    if unknown:
        return note(
            "not_archived_yet", f"the data here is on timeline {unknown}, of which Barman has nothing",
            f"What was committed since that promotion ({lost['since'] or 'or before it'} and later) is in no archive, and no target brings it back. If it is "
            f"needed, leave this, start PostgreSQL, and mend what kept it from archiving (playbooks/check.yml); then recover.",
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


def unknown_branch(facts):
    """The timeline of a dead server that was promoted and never archived anything since, else None."""
    timeline, known = facts["cluster"]["timeline"], [one["timeline"] for one in facts["catalogue"]["timelines"]]
    ours = same_cluster(facts["cluster"], source_backup(facts, facts["restore"]))
    return timeline if ours and timeline and known and timeline > max(known) else None


def archiving(cluster, arms, live, patience):
    """How the recovered server will archive, and whether the running one can."""
    if arms:
        return note("archiving", "no archive_command is configured, as on a host that was made anew", "The commit sets it.")
    how = f"by {cluster['archive_command']}" if cluster.get("archive_command") else "not by archive_command"
    if not live.get("refused_wal"):
        return note("archiving", how)
    return note(
        "archiving", f"{how}, which fails: the last time {live['refused_seconds']} seconds ago with {live['refused_wal']}",
        f"PostgreSQL's log tells why. The fence waits for it: when nothing is archived for {patience} seconds, the run ends REFUSED, with PostgreSQL running.",
    )


def ssh_to_barman(answer, address, user):
    """Whether Barman takes WAL from here."""
    code, said = answer.get("rc"), " ".join((answer.get("stderr") or "").split())
    if code in (None, 0):
        return finding("ssh_to_barman", True, "not asked" if code is None else f"{address} is ready to take WAL")
    reason = explain(said, address) if code == 255 else None
    found, meaning, fix = reason or (f"{address} does not take WAL: {said[:300]}", "", f"See that this works as {user}: {' '.join(map(str, answer['cmd']))}")
    return finding("ssh_to_barman", False, found, f"{meaning} The recovered server could not archive, and would have no backup.".strip(), fix)


def manager(processes):
    """Whether something would start or replace PostgreSQL by itself."""
    words = [line.split() for line in processes if line.strip()]
    programs = {os.path.basename(line[1] if len(line) > 1 and re.search(r"python[0-9.]*$", line[0]) else line[0]) for line in words}
    found = [one for one in MANAGERS if one in programs]
    return finding(
        "manager", not found, ", ".join(found) or "none", "It would start or replace PostgreSQL in the middle of the recovery.",
        f"Put it to rest first, so that no other member is promoted: {'; '.join(MANAGERS[one] for one in found)}.",
    )


def standbys(live, known):
    """Who follows this server: those of the inventory, and how many clients of its WAL are attached."""
    attached = [one for one in (live.get("standbys") or "").split(", ") if one]
    following = [one["host"] for one in known if one["follows"]]
    others = [one["host"] for one in known if not one["follows"]]
    found = "; ".join(
        [f"attached: {', '.join(attached)}"] * bool(attached) + [f"of the inventory: {', '.join(following)}"] * bool(following)
        + [f"{one['host']} of the inventory: {' '.join(one['said'].split())[:200] or 'not running as a standby'}" for one in known if not one["follows"]]
    )
    meaning = " ".join(
        ["Those of the inventory are stopped for the recovery; after the commit they follow again, rebuilt from Barman."] * bool(following)
        + [f"Until then every commit waits for one of them: synchronous_standby_names is {live.get('synchronous')}."] * bool(live.get("synchronous"))
        + [f"What is wrong with {', '.join(others)} stays so, until it is mended and standby.yml is run."] * bool(others)
        + ["What is attached and not in the inventory (pg_primary_role: standby) has to be stopped and rebuilt by hand."]
        * (len(attached) > len(following))
    )
    return note("standbys", found or "none attached, none in the inventory", meaning or None)


def lost_with_old_data(live):
    """What no backup brings back."""
    if not live:
        return note("lost_with_old_data", "unknown")
    some = live["slots"] or live["subscriptions"] or live["prepared"]
    return note(
        "lost_with_old_data", f"slots: {live['slots'] or 'none'}; subscriptions: {live['subscriptions']}; prepared transactions: {live['prepared']}",
        "Slots are not in a backup; subscriptions and prepared transactions are as they were at the target." if some else None,
    )


def _moment(text):
    return datetime.fromisoformat(text)
