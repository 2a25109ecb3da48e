# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a restore: every finding, green and red, before anything is touched. Pure: dicts in, dict out."""
from __future__ import annotations

import math
from collections import Counter
from datetime import datetime, timezone
from difflib import get_close_matches

from ansible_collections.pgrescue.barman.plugins.module_utils._backups import UNREADABLE
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import SINCE
from ansible_collections.pgrescue.barman.plugins.module_utils._segments import ANOTHER_CLUSTER
from ansible_collections.pgrescue.barman.plugins.module_utils._target import spell
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import format_lsn, parse_lsn, segment_name, segment_timeline

# Room for WAL that replay keeps, temporary files and what the figures do not know.
SPARE = 1.1
# Barman before 3.11 copies WAL up to the first file that is younger than the target, and the commit at which PostgreSQL
# stops can be in the next one (EnterpriseDB/barman issue 881). With a target that never comes it copies all of it.
NEVER = datetime(2100, 1, 1, tzinfo=timezone.utc)
# With an LSN or 'immediate' no Barman copies more than the target needs. So that replay can go on later, it is told this one.
LAST_LSN = "FFFFFFFF/FF000000"
# What decides where and what is restored is said with the module's own options, so that the plan is about it.
OWN_OPTIONS = ("--target", "--exclusive", "--tablespace", "--remote-ssh-command", "--standby-mode", "--get-wal", "--no-get-wal", "--delta-restore",
               "--no-delta-restore", "--jobs", "--bwlimit", "--staging-path", "--staging-location", "--recovery-staging-path", "--local-staging-path",
               "--recovery-conf-filename", "--config")


def finding(check, ok, found, meaning=None, fix=None):
    """One line of the plan. meaning and fix are for a red one."""
    return dict(check=check, ok=bool(ok), found=found, meaning=None if ok else meaning, fix=None if ok else fix)


def tablespace_places(backup, mapping):
    """Where each tablespace of a backup will lie, from name to path, and the names in mapping that it does not have."""
    names = {one["name"]: one["location"] for one in backup["tablespaces"]}
    return dict(names, **{name: path for name, path in mapping.items() if name in names}), sorted(set(mapping) - set(names))


def request(server, backup, timeline, target, places, options):
    """What identifies a restore: the same request on a complete restore has nothing to do."""
    return dict(
        server=server, system_identifier=backup["system_identifier"], backup_id=backup["backup_id"], timeline=timeline,
        target=dict(type=target.type, value=target.value, exclusive=target.exclusive),
        target_action=options["target_action"], tablespaces=places, wal_delivery=options["wal_delivery"],
    )


def condition(place, wanted):
    """What a directory holds: vacant, complete (the wanted restore, never started), incomplete (ours), started (ours), other (ours), foreign."""
    if "exists" not in place:
        return "foreign" if "other" in place else "vacant"
    if not place["entries"]:
        return "vacant"
    marker = place["marker"] or {}
    if marker.get("inodes", {}).get(place["real"]) != place["inode"]:
        return "foreign"
    if "has_postmaster.pid" in place or "has_postmaster.opts" in place:
        return "started"
    if not marker.get("complete"):
        return "incomplete"
    return "complete" if marker.get("request") == wanted and "has_backup_label" in place else "other"


def not_there(target, timeline, backup, others, names, dead):
    """Why no backup leads to a transaction or restore point that is not in the WAL of a line, backup being the first one on it.

    others: the timelines that have it; names: those of the restore points on the line; dead: whether the WAL of a dead server was read too.
    """
    what = f"no transaction {target.value} ended" if target.type == "xid" else f"there is no restore point {target.value}"
    where, who = similar(target.type, target.value, names), "Barman or the server's host" if dead else "Barman"
    if others:
        where = f" It is on timeline {', '.join(map(str, others))}: type target_timeline={others[0]}."
    return f"{what} on the line of timeline {timeline}, from backup {backup['backup_id']} to the last WAL that {who} has.{where}"


def similar(kind, value, names):
    """A sentence that tells which restore points have a name like that of the target; empty without any, and for a target of another type."""
    found = ", ".join(get_close_matches(value, sorted(names), 5, cutoff=0)) if kind == "name" else ""
    return f" The most similar names there: {found}." if found else ""


def catalogue_findings(server, active, backup, why, wal, version):
    """What the catalogue says: target, backup, WAL, server."""
    found = [finding(
        "target", backup, why, "From this archive the target cannot be reached.", "barman_catalog_info (playbooks/catalog.yml) shows what can.",
    )]
    if not active and version < SINCE["works_on_inactive"]:
        found.append(finding(
            "server_active", False, f"server {server['name']} has active = false",
            "Barman before 3.17 restores nothing of an inactive server, with exit code 0.",
            "Set active = true in its configuration.",
        ))
    found.append(unreadable_finding(server["backups"]))
    if server.get("problem"):
        found.append(finding("archive", False, server["problem"], "The plan cannot be proven.", "Restore with Barman's own command."))
    if backup:
        missing = ", ".join(f"{hole['first']} to {hole['last']} ({hole['reason']})" for hole in wal["missing"])
        found.append(finding(
            "wal", not wal["missing"], f"{wal['required']} segments are needed, {'missing: ' + missing if missing else 'none is missing'}",
            "Replay would end at the hole, before the target.",
            "Choose a target before the hole or a backup after it, or bring the segments back into the archive.",
        ))
    return found


def unreadable_finding(backups):
    """Whether Barman can read every backup.info; at one that it cannot it ends, whatever backup it was asked for."""
    bad = [backup["error"] for backup in backups if backup["status"] == UNREADABLE]
    return finding(
        "backups_readable", not bad, "; ".join(bad[:3]) or f"backup.info of all {len(backups)} backups can be read",
        "Barman ends every command with an error there, also the restore of another backup.",
        "Bring the file back from a copy, or move it out of Barman's directory.",
    )


def delta_finding(version, backup):
    """Whether this Barman writes onto what is there. It compares by checksum where size and time are the same, once it has no memory of an earlier restore."""
    if backup and backup["compression"] and version < SINCE["staging_path"]:
        return finding(
            "delta", False, f"backup {backup['backup_id']} is compressed ({backup['compression']}), and this is Barman {'.'.join(map(str, version))}",
            "Before 3.15 it unpacks such a backup over what is there, and leaves every file that the backup does not have.",
            "Leave delta out (of playbooks/recover.yml: data), or install Barman 3.17 or later.",
        )
    able = version < SINCE["refuses_full_destination"] or version >= SINCE["delta_restore"]
    return finding(
        "delta", able, f"Barman {'.'.join(map(str, version))}", "Barman 3.15 refuses to write onto what is there, and the delta restore of 3.16 is broken.",
        "Leave delta out (of playbooks/recover.yml: data), or install Barman 3.17 or later.",
    )


def content_finding(content, count):
    """Whether the segments are what their names say. content: the Content of _segments; count: of how many."""
    wrong, read, judged = content.wrong, content.read, content.judged
    named = "; ".join(f"{name}: {reason}" for name, reason in wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    unread = f"; the other {count - judged} are packed or encrypted in a way that is not read here" if judged < count else ""
    return finding(
        "wal_content", not wrong,
        named or f"the first page of {judged} segments is right, {'all records' if read == count else f'all records of the first {read} segments'} can be read"
        + unread,
        "Replay would end there, before the target, with the old server already stopped.",
        "The cluster was made anew or upgraded under the same name in Barman: choose a target before that, or a backup of the new one." if any(
            ANOTHER_CLUSTER in reason for _name, reason in wrong) else
        "Put whole copies of these segments into Barman's archive (PostgreSQL's pg_wal may still have them), choose a target before them or a backup "
        "after them.",
    )


def twice_finding(refused, directory):
    """Whether the WAL that is replayed is that of one history; None if nothing speaks against it. refused: the segments before the last one that have come
    once more, with other content. directory: where Barman keeps those."""
    named = ", ".join(refused[:5]) + (f" and {len(refused) - 5} more" if len(refused) > 5 else "")
    return finding(
        "wal_twice", False, f"{named} came once more with other content, which Barman refused",
        "Two servers have written WAL under these names, or one did so twice, as after a restore by hand without a target. What follows in the archive may be "
        "of the second one, and nothing would tell where one history goes over into the other.",
        f"Choose a backup that ended later (backup_id=), or a target in or before {refused[0]}. If what is archived is the right one, move "
        f"{refused[0]}.*.duplicate and the others out of {directory}",
    ) if refused else None


def order_finding(backup, place, disorder):
    """Whether a time means one place in WAL; None if nothing speaks against it. place: the LSN where PostgreSQL stops; disorder: what stops_by() of _locate
    has found.

    PostgreSQL stops at the first commit that is later (recoveryStopsBefore in src/backend/access/transam/xlogrecovery.c), whatever comes after it.
    """
    if not disorder:
        return None
    at = f"the transaction at {disorder['lsn']} ended at {disorder['time'].isoformat()}"
    if disorder["inside"]:
        return finding(
            "commit_times", False, f"{at} by the server's clock, and backup {backup['backup_id']} was not complete then",
            "PostgreSQL would stop there, before the backup is consistent, and end with an error: the server's clock was ahead of Barman's.",
            "Name the target by LSN or transaction: pg_wal_search_info shows which transactions ended when, in the order of WAL.",
        )
    return finding(
        "commit_times", False, f"{at}, and before it in WAL, at {place}, is one later than the target",
        f"The server's clock was set back between them. PostgreSQL would stop at {place}, and what was committed after that would be lost.",
        f"Name the target by LSN or transaction: pg_wal_search_info shows which transactions ended when, in the order of WAL. For {place} itself type "
        f"target_lsn={place} target_exclusive=true.",
    )


def half_dropped_finding(drop, place):
    """Whether no database is destroyed on the way whose DROP is not committed there; None if none is. drop: the Transaction of _waldump. place: the LSN where
    PostgreSQL stops.

    Replay removes the files at a record of their own (dbase_redo in src/backend/commands/dbcommands.c); PostgreSQL stops at commits.
    """
    if not drop:
        return None
    oids = ", ".join(sorted({one.rpartition("/")[2] for one in drop.databases}))
    return finding(
        "half_dropped", False, f"replay would end at {place}, within the DROP DATABASE of oid {oids} that was committed at {drop.commit_time.isoformat()}",
        "The database would still be listed, but its files would be gone. PostgreSQL stops at commits only, and none lies between that and the target.",
        f"For the last place where it is whole type target_lsn={format_lsn(parse_lsn(drop.undone_lsn))} target_exclusive=true instead, or before_drop= and its "
        f"name with playbooks/recover.yml. If it may be lost, type target_lsn={place} target_exclusive=true.",
    )


def listed_finding(gone, broken, server):
    """Whether all that Barman copies is there. It copies more than replay reads: whatever xlog.db lists of the target's timeline and of older ones.

    gone: names whose file is not there; broken: lines that Barman cannot read.
    """
    said = [f"xlog.db lists {', '.join(gone[:5])}{f' and {len(gone) - 5} more' if len(gone) > 5 else ''}, but the files are gone"] if gone else []
    said += [f"xlog.db has {len(broken)} lines that Barman cannot read, the first one {broken[0][:80]!r}"] if broken else []
    return finding(
        "wal_listed", not said, "; ".join(said) or "all that Barman copies is there",
        "Barman would end with an error at them, though replay does not need them, when PostgreSQL is stopped already.",
        f"Have Barman list what there is; type on its host, as its user: barman rebuild-xlogdb {server}",
    )


def packed_finding(packed, size, place, free):
    """Whether Barman has room for the WAL that it unpacks before it copies it, one log (4 GiB of WAL) at a time; None where it unpacks nothing.

    packed: names of the segments; size: the bytes of one; place: where, with so many bytes free.
    """
    need = int(max(Counter(name[:16] for name in packed).values(), default=0) * size * SPARE)
    return finding(
        "wal_unpacked", need <= free, f"{human(need)} are needed in {place} while WAL is unpacked, {human(free)} are free",
        "Barman could not unpack it, and would end with an error when PostgreSQL is stopped already.", f"Make room in the file system of {place}.",
    ) if packed else None


def history_finding(timeline, name, why, server):
    """Whether PostgreSQL can tell where the target's timeline left the others. why: what keeps its history file from being copied."""
    return finding(
        "history", not why, f"{name} is {why or 'in the archive'}", f"Without it PostgreSQL ends at once: recovery target timeline {timeline} does not exist.",
        bring_history(timeline, server),
    )


def bring_history(timeline, server):
    """How a history file comes into the archive again."""
    return (
        f"pg_wal of a server that was ever on timeline {timeline} has {timeline:08X}.history. Put it into Barman's wals_directory of {server}, then type on "
        f"that host, as Barman's user: barman rebuild-xlogdb {server}"
    )


def snapshot_finding(backup, words):
    """Whether Barman is told where the disks of a snapshot are attached; None for another backup."""
    name = backup["backup_id"]
    return finding(
        "snapshot", any(word.startswith("--snapshot-recovery-instance") for word in words), f"backup {name} is a snapshot of cloud disks",
        "Its data lies in no directory of Barman's, so it cannot be copied from here.",
        "Name another one as backup_id, or restore it with Barman's own options (--snapshot-recovery-instance).",
    ) if backup["type"] == "snapshot" else None


def deleted_finding(backup, held):
    """Whether Barman is deleting the backup that is chosen."""
    name = backup["backup_id"]
    return finding(
        "backup_deleted", not held, f"Barman holds the lock of backup {name}, as it does while it deletes it" if held else f"nobody deletes backup {name}",
        "It would vanish while it is copied.",
        "Wait for the end of the deletion, then run this again: another backup is chosen, where one leads to the target.",
    )


def clock_finding(target, host):
    """Whether the clocks of the two hosts agree. Commits carry the time of the PostgreSQL host's clock."""
    apart = host.get("apart", 0.0)
    way = "ahead of" if apart > 0 else "behind"
    return finding(
        "clocks", abs(apart) <= 1 or target.type != "time",
        f"the clock of {host.get('name')} is {abs(apart)} seconds {way} Barman's" if apart else "the clocks of both hosts agree",
        "A commit carries the time of the PostgreSQL host's clock, so the moment that was typed may be another one there.",
        "Set the clock that is wrong (timedatectl set-ntp true), or name the target by transaction or LSN, which pg_wal_search_info finds.",
    )


def destination_findings(look, state, backup, options, ssh, running):
    """What the destination says: reachable, binaries, running, empty."""
    host, data = look["host"], look["places"][0]
    major = backup["postgresql_version"] // 10000
    real, where = data["real"], f" on {host.get('name', '?')}" if ssh else ""
    found = [
        finding("destination_host", True, f"user {host.get('user')} on {host.get('name')} ({host.get('machine')})"),
        finding(
            "postgresql_major", host.get("binaries"), f"PostgreSQL {major}: {host.get('binaries') or 'not installed'}",
            f"The backup is of PostgreSQL {major}; no other major version can start it.", f"Install PostgreSQL {major} on the destination host.",
        ),
        finding(
            "rsync", host.get("rsync") or not ssh, "rsync is there" if host.get("rsync") else "rsync is not there", "Barman copies with rsync.",
            "Install rsync there.",
        ),
        finding(
            "running", "has_postmaster.pid" not in data,
            f"{real}/postmaster.pid names process {data['pid'] or '?'}, which {'runs' if 'living' in data else 'does not run'}" if "pid" in data
            else "no PostgreSQL runs there",
            "Barman does not look for it, and would overwrite the files under a running server.",
            f"Stop PostgreSQL{where}; if it crashed, see that nothing uses {real}, then remove postmaster.pid.",
        ),
        finding(
            "restore_running", not running, f"processes {', '.join(map(str, running))} restore there" if running else "no other restore runs",
            "Two restores into one directory destroy each other.", "Wait for it to end, then run this again.",
        ),
    ]
    made = data.get("version") or None
    if state == "foreign" and made and made != str(major):
        found.append(finding(
            "major_of_destination", False, f"{real} is a cluster of PostgreSQL {made}, the backup is of {major}", "It is another database.",
            "Give another destination_directory.",
        ))
    found.append(_directory("destination", data, state, options["delta"], backup, where))
    for place, name in zip(look["places"][1:], options["tablespace_names"]):
        ours = data["marker"] or {} if state in ("complete", "incomplete") else {}
        known = ours.get("inodes", {}).get(place["real"]) == place.get("inode")
        kind = condition(place, None)
        found.append(_directory(f"tablespace {name}", place, "vacant" if kind == "vacant" or known else "foreign", options["delta"], backup, where))
    return found


def _directory(check, place, state, delta, backup, where):
    real = place["real"]
    if "exists" not in place and "other" not in place and not ("parent" in place and "parent_writable" in place):
        above = "this user must not write in the directory above it" if "parent" in place else "neither does the directory above it"
        return finding(
            check, False, f"{real} does not exist{where}, and {above}",
            "Barman makes one directory, not those above it.", f"Make {real} for the owner of the data: install -d -m 0700 -o postgres -g postgres {real}",
        )
    if "exists" in place and "writable" not in place:
        return finding(check, False, f"{real} belongs to {place.get('owner')} and is not writable", "Barman cannot restore into it.", f"chown postgres {real}")
    if state == "vacant":
        return finding(check, True, f"{real} is {'empty' if 'exists' in place else 'absent and can be made'}")
    if state in ("complete", "incomplete"):
        known = "restore, complete and never started" if state == "complete" else "collection's own unfinished restore"
        return finding(check, True, f"{real} holds this {known}")
    if delta and check == "destination" and place.get("identifier") == backup["system_identifier"] and "has_postmaster.pid" not in place:
        return finding(check, True, f"{real} holds the same cluster, stopped; only what differs is copied")
    if delta and check != "destination":
        return finding(check, True, f"{real} is not empty; only what differs is copied")
    known = f", system identifier {place['identifier']}" if place.get("identifier") else ""
    what = {
        "started": "a restore of this collection that was started since", "other": "a complete restore of this collection for another target or backup",
    }.get(state, f"something else ({', '.join(place['entries']) or 'not a directory'}{known})")
    return finding(
        check, False, f"{real} is not empty{where}: {what}", "Barman up to 3.14 deletes what is there without a word, and later ones refuse.",
        "Give an empty or absent directory; playbooks/recover.yml sets the old one aside by itself.",
    )


def space_findings(places, sizes):
    """Whether each file system has room for what goes there. places: the data directory, then the tablespaces; sizes: their bytes, None if not known.

    Where the size of a tablespace is not known, only the sum can be judged.
    """
    rooms = {}
    for place, size in zip(places, sizes):
        room = rooms.setdefault(None if None in sizes else place.get("filesystem") or place["real"], dict(systems={}, need=0, paths=[]))
        room["systems"][place.get("filesystem") or place["real"]] = place["free"]
        room["need"] += int((size or 0) * SPARE)
        room["paths"].append(place["real"])
    return [_space("space" if not index else f"space {', '.join(room['systems'])}", room) for index, room in enumerate(rooms.values())]


def _space(check, room):
    free, systems = sum(room["systems"].values()), ", ".join(room["systems"])
    return finding(
        check, room["need"] <= free,
        f"{human(room['need'])} are needed for {', '.join(room['paths'])} (with a tenth to spare), {human(free)} are free in {systems}",
        "The disk would be full before the end. What lies there now is not deleted, so it gives no room.",
        f"Make room in {systems}, or give a larger file system.",
    )


def human(number):
    """Bytes as people read them."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def share(done, total, seconds):
    """Bytes done of a total (None: not known) in some seconds, with percent, rate and the time that is left at this rate."""
    if not total:
        return human(done)
    done = min(done, total)
    left = f", {human(done / seconds)}/s, {round(seconds * (total - done) / done)} s left" if done and seconds else ""
    return f"{human(done)} of {human(total)}, {100 * done // total} %{left}"


def barman_arguments(target, timeline, options, version, bound):
    """What 'barman recover' is told, between its name and the server's; the same words from Barman 3.4 to 3.20. bound: the LSN, as a number,
    up to which it shall copy WAL; None for all that there is. Where PostgreSQL stops is said by our own settings."""
    words = ["--target-tli", timeline]
    if options["all_wal"] and target.type in ("lsn", "immediate"):
        words += ["--target-lsn", LAST_LSN]
    elif bound is not None:
        words += ["--target-lsn", format_lsn(bound)]
    elif target.type == "time":
        words += ["--target-time", spell(target.utc if version >= SINCE["copies_all_wal_for_a_time"] else NEVER)]
    elif target.type in ("xid", "name"):
        words += [f"--target-{target.type}", target.value]
    elif target.type == "immediate":
        words += ["--target-immediate"]
    if target.exclusive:
        words += ["--exclusive"]
    if target.type != "latest":
        words += ["--target-action", options["target_action"]]
    words += ["--get-wal" if options["wal_delivery"] == "get" else "--no-get-wal"]
    for name, path in options["tablespaces"].items():
        words += ["--tablespace", f"{name}:{path}"]
    for option, value in (("--remote-ssh-command", options["ssh"]), ("--jobs", options["jobs"]), ("--bwlimit", options["bandwidth_limit"])):
        words += [option, value] if value is not None else []
    words += options["staging"]
    if version >= SINCE["delta_restore"]:                      # else Barman's own recovery_options would decide
        words += ["--delta-restore" if options["delta"] else "--no-delta-restore"]
        # A delta is made from this host only, whatever staging_location is configured.
        words += ["--staging-location", "local"] if options["delta"] and "--staging-location" not in words else []
    return words + list(options["extra_args"])


def comes_too_late(listed, needed, timeline, last):
    """Whether a segment that is needed stands in xlog.db behind one that is not, as when a hole was mended by hand: there Barman has ended.

    listed: all names in the order of xlog.db; needed: those up to last that replay reads.
    """
    behind, needed = False, set(needed)
    for name in listed:
        if behind and name in needed and name <= last:
            return True
        behind = behind or name > last and segment_timeline(name) <= timeline
    return False


def copied_segments(names, backup, target, timeline, options, version, bound):
    """Which of the archived segments Barman copies, as its Server.get_required_xlog_files chooses them: of every timeline up to the
    target's, also of those that it does not descend from. names: all that are in the archive."""
    last = None
    if version >= SINCE["copies_all_wal_for_a_time"] and not options["all_wal"]:
        last = backup["end_wal"] if target.type == "immediate" else None
        if bound is not None:
            last = segment_name(timeline, bound // backup["wal_segment_bytes"], backup["wal_segment_bytes"])
    return [name for name in names if backup["begin_wal"] <= name and segment_timeline(name) <= timeline and (last is None or name <= last)]


def estimate(backup, restore_bytes):
    """Seconds at the rate of the backup's own copy; null where that was not measured, or most of it was linked and not copied."""
    seconds, copied = backup["copy_seconds"], backup["copied_bytes"]
    return math.ceil(restore_bytes * seconds / copied) if seconds and copied and restore_bytes and copied * 2 > restore_bytes else None


def assemble(server, backup, why, target, timeline, wal, restore_bytes, findings, spaces, directories, new_timeline):
    """The plan as the contract has it."""
    return dict(
        server=server, backup_id=backup["backup_id"] if backup else None, why=why, target=target.shown, target_timeline=timeline,
        new_timeline=new_timeline,
        wal=dict(required=wal["required"] if wal else None, missing=wal["missing"] if wal else [], end_lsn=wal["end_lsn"] if wal else None,
                 tablespaces=[dict(oid=oid, location=location) for oid, location in spaces.items()]),
        restore_bytes=restore_bytes, directories=directories, estimate_seconds=estimate(backup, restore_bytes) if backup else None,
        findings=findings, feasible=all(one["ok"] for one in findings),
    )


def complaint(plan):
    """One message for all red findings."""
    red = [one for one in plan["findings"] if not one["ok"]]
    return "Nothing was changed. " + " ".join(f"{one['check']}: {one['found'].rstrip('.')}. {one['meaning']} {one['fix'].rstrip('.')}." for one in red)
