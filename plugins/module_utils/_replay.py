# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where replay stopped, from PostgreSQL's own evidence. Pure: texts of files and tools in, data out.

The evidence is the new timeline's history file, the WAL record after the last one that was replayed, and the log of a
server that was started with lc_messages = C. A start command proves nothing: PostgreSQL lets clients in while it
replays, and can end a moment later because the target is not in the archive.
"""
from __future__ import annotations

import re
from datetime import timezone

from ansible_collections.pgrescue.barman.plugins.module_utils._target import MOMENT, TargetError, parse_moment
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import format_lsn, parse_lsn

STARTED = "starting PostgreSQL "
TOO_EARLY = ("starting up", "not yet accepting")  # what a client is told, no reason for an end
NOT_REACHED = "recovery ended before configured recovery target was reached"
TIME = r"(?P<time>[0-9-]{10} [0-9:.]{8,15}(?:[+-][0-9:]{2,5}| ?[A-Z]{1,5})?)"
STOP = re.compile(
    rf"recovery stopping (?P<reason>(?P<side>before|after) (?:commit|abort)(?: prepared)? of transaction (?P<xid>[0-9]+), time {TIME}"
    r"|(?:before|after) WAL location \(LSN\) \"(?P<lsn>[0-9A-F/]+)\"|at restore point \"(?P<name>[^\"]+)\".*|after reaching consistency)"
)
# What restore_command says for itself; that it does not find a segment is no fault, so PostgreSQL looks for the end of WAL.
BROKEN = re.compile(r"^\w+: .*: ((?:No space left on device|Disk quota exceeded|Input/output error|Permission denied|Read-only file system)$)", re.MULTILINE)
# PostgreSQL, and libpq for it, to somebody who will not get in by waiting, and what to do about it. A role may come with WAL that is still to be replayed.
COMES_WITH_WAL = re.compile(r"role \".*\" does not exist")
NO_WAY_IN = (
    (re.compile(r"locale is incompatible"), "Install the locale that it names on that host (dpkg-reconfigure locales)."),
    (re.compile(r"database \".*\" does not exist"), "Make that database (createdb), which Barman and this collection connect to."),
    (COMES_WITH_WAL, "Make that role a superuser there (createuser --superuser), or name the one that there is: -e pitr_login_user=NAME."),
    (re.compile(r"is not permitted to log in"), "Let it log in: ALTER ROLE ... LOGIN."),
    (re.compile(r"authentication failed|pg_hba\.conf|no password supplied"),
     "Let that user in on the local socket, by a first line in pg_hba.conf: local all postgres peer, and reload PostgreSQL."),
)
LAST_COMMIT = re.compile(rf"last completed transaction was at log time {TIME}")
WALDUMP = re.compile(rf"tx:\s*(?P<xid>[0-9]+), lsn: (?P<lsn>[0-9A-F/]+),.*desc: (?P<kind>COMMIT|ABORT)(?:_PREPARED)? .*?{TIME}")
# The settings that must not be smaller than on the origin, as pg_controldata and PostgreSQL name them. Since 14 replay pauses when one is.
NEEDED = {"max_connections": "max_connections", "max_worker_processes": "max_worker_processes", "max_wal_senders": "max_wal_senders",
          "max_prepared_xacts": "max_prepared_transactions", "max_locks_per_xact": "max_locks_per_transaction"}


def moment(text):
    """A time as PostgreSQL prints it, ISO 8601 in UTC; null for nothing, and for a zone that is only a name other than UTC."""
    if not text:
        return None
    text = re.sub(r" ?(UTC|GMT)$", "Z", text.strip())
    if not MOMENT.fullmatch(text):
        return None
    try:
        return parse_moment(text, None).isoformat()
    except TargetError:
        return None


def parse_log(text):
    """The last start in a log of PostgreSQL: the stop, the last commit, what restore_command failed of, and the last FATAL or PANIC,
    null where there is none."""
    text = text[text.rfind(STARTED) + 1:]
    stops = [found.groupdict() for found in STOP.finditer(text)]
    commits = [moment(found["time"]) for found in LAST_COMMIT.finditer(text)]
    deaths = [
        ": ".join(part.strip() for part in found.groups() if part)
        for found in re.finditer(r"(?:FATAL|PANIC): (.*)(?:\n[^\n]*DETAIL: +(.*))?", text) if not any(words in found[1] for words in TOO_EARLY)
    ]
    stop, broken = stops[-1] if stops else None, BROKEN.search(text)
    return dict(
        broken=broken and broken[0],
        stop=dict(reason=stop["reason"].strip(), xid=stop["xid"], time=moment(stop["time"]), lsn=stop["lsn"], name=stop["name"]) if stop else None,
        last_commit=commits[-1] if commits else None,
        fatal=deaths[-1] if deaths else None,
    )


def parse_history(text):
    """The newest fork in a timeline's history file: parent, lsn, reason; null if there is none."""
    forks = [line.split("\t", 2) for line in text.splitlines() if re.match(r"\s*[0-9]+\t", line)]
    if not forks:
        return None
    parent, lsn, reason = (forks[-1] + ["", ""])[:3]
    return dict(parent=int(parent), lsn=lsn, reason=reason.strip() or None)


def parse_backup_label(text):
    """Where replay of a backup begins: lsn and timeline, null if the text does not say."""
    lsn = re.search(r"^START WAL LOCATION: ([0-9A-F/]+)", text, re.MULTILINE)
    timeline = re.search(r"^START TIMELINE: ([0-9]+)", text, re.MULTILINE)
    return dict(lsn=lsn[1] if lsn else None, timeline=int(timeline[1]) if timeline else None)


def parse_next_record(text):
    """The commit or abort in the first line of pg_waldump: lsn, xid, time; null if it is another record."""
    found = WALDUMP.search(text)
    return dict(lsn=format_lsn(parse_lsn(found["lsn"])), xid=found["xid"], time=moment(found["time"])) if found else None


def too_small(control, settings):
    """The settings that are smaller than the origin's, for which PostgreSQL pauses replay without having reached anything."""
    found = []
    for name, setting in NEEDED.items():
        origin = re.search(rf"^{name} setting:\s+([0-9]+)", control, re.MULTILINE)
        if origin and int(settings.get(setting, origin[1])) < int(origin[1]):
            found.append(f"{setting} = {settings[setting]} (origin: {origin[1]})")
    return found


def fits(reason, target):
    """Whether the reason in a history file is that of this target; null if it cannot be told."""
    if reason is None or target is None:
        return None
    if target.type == "latest":
        return reason.startswith("no recovery target specified")
    if target.type == "immediate":
        return reason.startswith("reached consistency")
    if target.type == "name":
        return reason == f'at restore point "{target.value}"'
    if target.type == "xid":
        return bool(re.fullmatch(rf"(before|after) transaction {int(target.value) & 0xFFFFFFFF}", reason))
    if target.type == "lsn":
        found = re.fullmatch(r"(?:before|after) LSN ([0-9A-F/]+)", reason)
        return bool(found) and parse_lsn(found[1]) >= parse_lsn(target.value)
    found = re.fullmatch(r"(before|after) (.+)", reason)
    when = moment(found[2]) if found else None
    if when is None:
        return None if found and re.match(r"[0-9]{4}-", found[2]) else False
    stopped = parse_moment(when, None)
    return stopped > target.utc or (target.exclusive and stopped == target.utc)


def distance(target, stopped):
    """Seconds between the target's time and the last commit that is there, null if one of them is not known."""
    if target is None or target.utc is None or not stopped:
        return None
    return round((target.utc - parse_moment(stopped, None).astimezone(timezone.utc)).total_seconds(), 6)


def replayed(begin, end):
    """The bytes between two WAL locations, null if one of them is not known."""
    return max(0, parse_lsn(end) - parse_lsn(begin)) if begin and end else None


def way_in(error):
    """What to do about an error that keeps everybody like us out for good; null for one that may pass."""
    return next((advice for words, advice in NO_WAY_IN if words.search(error)), None)


def epitaph(log, data_directory, log_file, target):
    """Why a postmaster is gone, in one message."""
    if log and log["fatal"] and log["broken"]:
        return f"PostgreSQL could not bring WAL from the archive, and ended: {log['broken']}. {log['fatal']}."
    if log and log["fatal"] and NOT_REACHED in log["fatal"]:
        last = f"The last transaction in it was at {log['last_commit']}. " if log["last_commit"] else "There is no later transaction in it than the backup's. "
        advice = "Choose a target before that" if target is None or target.type in ("time", "lsn") else "Check the target with barman_catalog_info"
        return (
            f"Replay came to the end of the archived WAL without reaching the target, and PostgreSQL ended. {last}"
            f"{advice}, or target_latest=true for everything that is archived."
        )
    if log and log["fatal"]:
        return f"PostgreSQL on {data_directory} ended: {log['fatal']} (from {log_file})."
    where = f"see {log_file}" if log_file else "give log_file to have its reason here"
    return f"No PostgreSQL runs on {data_directory}, and its log tells no reason; {where}."
