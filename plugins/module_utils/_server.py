# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server that replays: one look at it, and its promotion. What the evidence means is in _replay.py."""
from __future__ import annotations

import os
import re
import traceback
from contextlib import closing

from ansible_collections.pgrescue.barman.plugins.module_utils import _postgres, _replay
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import PostgresError
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import format_lsn, parse_lsn, stretch

try:
    import psycopg2

    HAS_PSYCOPG2, PSYCOPG2_ERROR = True, None
except ImportError:
    HAS_PSYCOPG2, PSYCOPG2_ERROR = False, traceback.format_exc()

STATE = """
SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text, pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC',
       (SELECT timeline_id FROM pg_control_checkpoint()), (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
       current_setting('server_version_num')::int
"""
SEGMENT_BYTES = "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'"
LIVE = "SELECT pg_current_wal_lsn()::text, pg_walfile_name(pg_current_wal_lsn())"
SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)"
LOG_BYTES = 1 << 20
NOISE_BYTES = 1 << 16


def tail(path):
    """The last mebibyte of a text file, empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def startup_process(postmaster):
    """What the startup process, which replays, says of itself, and how much it has read and written: title and bytes."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
            if parent != postmaster:
                continue
            with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as file:
                title = file.read().replace("\0", " ").strip()
            if "startup" not in title.split():
                continue
            with open(f"/proc/{name}/io", encoding="utf-8") as file:
                return title[title.index("startup"):], tuple(re.findall(r"[rw]char: ([0-9]+)", file.read()))
        except (OSError, ValueError):
            continue
    return None, ()


class ReplayingServer:
    """The server of one data directory."""

    def __init__(self, place, params, target):
        self.data = os.path.realpath(place["data_directory"])
        self.params, self.target = params, target
        major = _postgres.major_of(self.data)
        if major is None:
            raise PostgresError(f"{place['data_directory']} is not a PostgreSQL data directory: it has no PG_VERSION. Restore it first (barman_restore).")
        if os.path.exists(os.path.join(self.data, "standby.signal")):
            raise PostgresError(f"{self.data} is a standby (standby.signal): it follows its primary and has no target at which it stops.")
        self.binaries = _postgres.bin_directory(major)
        self.connection = self.discarded = None
        label = tail(os.path.join(self.data, "backup_label")) or tail(os.path.join(self.data, "backup_label.old"))
        self.begin = _replay.parse_backup_label(label)["lsn"]

    def look(self):
        """One sight: reached is true, false with a message, or null while it is not known yet."""
        pid = _postgres.postmaster(self.data)
        if not pid:
            return self._dead()
        title, moved = startup_process(pid)
        try:
            in_recovery, lsn, when, timeline, replaying, version = self._query(STATE)[0]
            paused = "pg_get_wal_replay_pause_state() = 'paused'" if version >= 140000 else "pg_is_wal_replay_paused()"
            # Recovery may end between the two, and then the second is an error.
            is_paused = in_recovery and self._query(f"SELECT {paused}")[0][0]
        except psycopg2.Error as error:
            self.connection = None
            said = " ".join(str(error).split())
            advice = None if _replay.COMES_WITH_WAL.search(said) else _replay.way_in(said)
            if advice:
                return self._sight(known=True, reached=False, message=(
                    f"PostgreSQL replays on {self.data}, but does not let user {self.params['login_user']} in: {said} -- So where it stops cannot be seen. "
                    f"{advice} Then recover again."))
            # A replay that has paused reads a little whenever it wakes up.
            return self._sight(activity=f"{title} ({said})" if title else said, progress=(title, [int(count) // NOISE_BYTES for count in moved]))
        stopped = dict(lsn=lsn, time=f"{when.isoformat()}+00:00" if when else None, xid=None, timeline=replaying or timeline, reason=None)
        if title and re.search(r"recovering ([0-9A-F]{8})[0-9A-F]{16}", title):
            stopped["timeline"] = int(re.search(r"recovering ([0-9A-F]{8})", title)[1], 16)
        if not in_recovery:
            return self._promoted(stopped)
        if not is_paused:
            return self._sight(known=True, stopped=stopped, activity=title, progress=(lsn, title, moved))
        return self._paused(stopped)

    def promote(self):
        """Ask PostgreSQL to end replay here; it is over when look() says so."""
        try:
            self._query("SELECT pg_promote(false)")
        except psycopg2.Error as error:
            raise PostgresError(
                f"PostgreSQL on {self.data} cannot be promoted: {' '.join(str(error).split())} -- Start it on the restored directory, as it was started for "
                f"the replay, and run this again."
            ) from error

    def report(self, sight):
        """The part of a sight that is the module's result."""
        stopped = sight["stopped_at"]
        return dict(
            reached=sight["reached"], stopped_at=stopped, discarded=sight["discarded"], promoted=sight["promoted"],
            distance_seconds=_replay.distance(self.target, stopped["time"]), replayed_bytes=_replay.replayed(self.begin, stopped["lsn"]),
        )

    def _query(self, text, *values):
        if self.connection is None or self.connection.closed:
            self.connection = psycopg2.connect(
                connect_timeout=5, options="-c statement_timeout=30s -c lock_timeout=5s", **_postgres.login(self.data, self.params),
            )
            self.connection.autocommit = True
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(text, values or None)
            return cursor.fetchall()

    def _sight(self, known=False, reached=None, promoted=False, stopped=None, activity=None, progress=None, message=None):
        return dict(
            known=known, reached=reached, promoted=promoted, activity=activity, progress=progress, message=message, discarded=self.discarded,
            stopped_at=stopped or dict(lsn=None, time=None, xid=None, timeline=None, reason=None),
        )

    def _log(self):
        return _replay.parse_log(tail(self.params["log_file"])) if self.params["log_file"] else None

    def _dead(self):
        log = self._log()
        if log and log["stop"] and not log["fatal"]:
            stop = log["stop"]
            return self._sight(known=True, reached=True, stopped=dict(lsn=stop["lsn"], time=None, xid=stop["xid"], timeline=None, reason=stop["reason"]))
        stopped = dict(lsn=None, time=log["last_commit"] if log else None, xid=None, timeline=None, reason=log["fatal"] if log else None)
        return self._sight(known=True, reached=False, stopped=stopped, message=_replay.epitaph(log, self.data, self.params["log_file"], self.target))

    def _paused(self, stopped):
        settings = dict(self._query(SETTINGS, list(_replay.NEEDED.values())))
        small = _replay.too_small(_postgres.run(os.path.join(self.binaries, "pg_controldata"), "-D", self.data), settings) if self.binaries else []
        if small:
            return self._sight(known=True, reached=False, stopped=stopped, message=(
                f"Replay has paused before the target, because the origin had larger settings: {', '.join(small)}. "
                f"PostgreSQL will end when it is resumed. Set them at least as large as there, and start the recovery again."))
        # Replay, and its title too, may be a segment ahead of where it paused: the file that was read tells the timeline.
        stopped["timeline"], self.discarded = self._next_commit(stopped["lsn"]) or (stopped["timeline"], None)
        stop = (self._log() or {}).get("stop")
        if stop:
            stopped.update(reason=stop["reason"], xid=stop["xid"])
        elif self.discarded and self.target and self.target.type == "time":
            stopped.update(reason=f"paused before transaction {self.discarded['xid']}, time {self.discarded['time']}", xid=self.discarded["xid"])
        else:
            stopped["reason"] = "paused"
        return self._beyond(stopped) or self._sight(known=True, reached=True, stopped=stopped)

    def _promoted(self, stopped):
        lsn, segment = self._query(LIVE)[0]
        timeline = int(segment[:8], 16)
        fork = _replay.parse_history(tail(os.path.join(self.data, "pg_wal", f"{timeline:08X}.history")))
        stopped.update(timeline=timeline)
        if fork:
            xid = re.search(r"transaction ([0-9]+)", fork["reason"] or "")
            stopped.update(lsn=fork["lsn"], reason=fork["reason"], xid=xid[1] if xid else None)
            if self.target is None or self.target.type != "latest":
                self.discarded = self.discarded or (self._next_commit(fork["lsn"], fork["parent"]) or (None, None))[1]
        if self.target and _replay.fits(fork["reason"] if fork else "", self.target) is False:
            return self._sight(known=True, reached=False, promoted=True, stopped=stopped, message=(
                f"PostgreSQL on {self.data} is not in recovery, it writes on timeline {timeline} at {lsn}, and that did not begin at the target "
                f"({self.target.type} {self.target.value}): {fork['reason'] if fork else 'it has no history of a recovery'}."))
        ended_early = self._ended_early(stopped)
        if ended_early:
            return self._sight(known=True, reached=False, promoted=True, stopped=stopped, message=ended_early)
        if self.target and self.target.type == "time" and self.discarded:
            stopped["xid"] = self.discarded["xid"]
        return self._beyond(stopped, promoted=True) or self._sight(known=True, reached=True, promoted=True, stopped=stopped)

    def _ended_early(self, stopped):
        """Why the end of what was replayed is not the end of the archive; null if it is, or nobody has said where that is."""
        end = self.params["end_lsn"]
        if not (end and self.target and self.target.type == "latest" and parse_lsn(stopped["lsn"]) <= parse_lsn(end)):
            return None
        broken = (self._log() or {}).get("broken")
        return (
            f"Replay ended at {stopped['lsn']}, and the archive goes on to {end}: PostgreSQL takes what restore_command does not bring for the end of WAL. "
            f"{f'It said: {broken}.' if broken else 'See the log for what it said.'} Mend that, and recover again."
        )

    def _beyond(self, stopped, promoted=False):
        """A sight that says that transactions after the target's time are there, null if it is not so."""
        over = _replay.distance(self.target, stopped["time"])
        if over is None or over >= 0:
            return None
        return self._sight(known=True, reached=False, promoted=promoted, stopped=stopped, message=(
            f"PostgreSQL on {self.data} holds a transaction of {stopped['time']}, {-over} seconds after the target {self.target.utc.isoformat()}. "
            f"Its recovery had another target; restore again."))

    def _next_commit(self, lsn, timeline=None):
        """The timeline and the first transaction's end after an LSN, as far as the WAL that is left here tells; None when its segment is gone."""
        directory = os.path.join(self.data, "pg_wal")
        found = stretch(os.listdir(directory), lsn, self._query(SEGMENT_BYTES)[0][0], timeline) if self.binaries and lsn else None
        if not found:
            return None
        timeline, end = found
        try:
            text = _postgres.run(
                os.path.join(self.binaries, "pg_waldump"), "-p", directory, "-t", str(timeline), "-s", lsn, "-e", format_lsn(end),
                "-r", "Transaction", "-n", "1")
        except PostgresError as error:
            text = error.details.get("stdout") or ""  # the end of the WAL is an error to pg_waldump, and what it printed before it is right
        return timeline, _replay.parse_next_record(text)
