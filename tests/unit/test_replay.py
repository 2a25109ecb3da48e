# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's evidence of where replay stopped, read from recorded logs, histories and WAL records."""
from __future__ import annotations

import pathlib
from datetime import datetime, timezone

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _replay
from ansible_collections.pgrescue.barman.plugins.module_utils._target import parse_target

RECORDINGS = pathlib.Path(__file__).parent / "recordings" / "postgresql"
NOW = datetime(2026, 11, 23, 6, 0, tzinfo=timezone.utc)


def target(**given):
    return parse_target({f"target_{kind}": value for kind, value in given.items()}, NOW)


def recorded(name):
    return (RECORDINGS / name).read_text()


def test_log_of_a_stop():
    log = _replay.parse_log(recorded("log-17-reached.txt"))
    assert log["stop"] == dict(
        reason="before commit of transaction 751, time 2026-11-23 03:47:40.107101+00", xid="751", time="2026-11-23T03:47:40.107101+00:00", lsn=None, name=None)
    assert (log["fatal"], log["last_commit"]) == (None, "2026-11-23T03:47:37.964769+00:00")


def test_log_of_an_end_before_the_target():
    log = _replay.parse_log(recorded("log-17-not-reached.txt"))
    assert (log["stop"], log["fatal"]) == (None, _replay.NOT_REACHED)
    message = _replay.epitaph(log, "/pg", "/pg.log", target(time="2026-11-23 05:55:00Z"))
    assert "2026-11-23T03:48:22.997311+00:00" in message and "target_latest=true" in message


def test_only_the_last_start_in_a_log_counts():
    log = _replay.parse_log(recorded("log-17-not-reached.txt") + recorded("log-17-reached.txt"))
    assert log["fatal"] is None and log["stop"]["xid"] == "751"
    assert _replay.parse_log("")["stop"] is None


@pytest.mark.parametrize("line, broken", [
    ("cp: error writing 'pg_wal/RECOVERYXLOG': No space left on device", True),
    ("cp: cannot open '/pg/barman_wal/000000010000000000000005' for reading: Permission denied", True),
    ("cp: cannot stat '/pg/barman_wal/000000010000000000000006': No such file or directory", False),
])
def test_a_restore_command_that_fails_is_not_the_end_of_the_archive(line, broken):
    text = recorded("log-17-not-reached.txt")
    log = _replay.parse_log(text.replace(_replay.STARTED, f"{_replay.STARTED}x\n{line}\n", 1))
    assert log["broken"] == (line if broken else None)
    assert (line in _replay.epitaph(log, "/pg", "/pg.log", None)) is broken


def test_the_detail_of_an_end_is_told():
    text = (
        "2026-11-29 14:00:00 UTC [7] LOG:  starting PostgreSQL 17\n"
        "2026-11-29 14:00:01 UTC [8] FATAL:  recovery aborted because of insufficient parameter settings\n"
        "2026-11-29 14:00:01 UTC [8] DETAIL:  max_connections = 50 is a lower setting than on the primary server, where its value was 100.\n"
        "2026-11-29 14:00:01 UTC [7] LOG:  shutting down due to startup process failure\n"
    )
    assert "parameter settings: max_connections = 50 is a lower setting than on the primary server" in _replay.parse_log(text)["fatal"]


@pytest.mark.parametrize("error, words", [
    ('FATAL:  database locale is incompatible with operating system\nDETAIL:  The database was initialized with LC_COLLATE "es_ES.UTF-8"', "dpkg-reconfigure"),
    ('FATAL:  database "postgres" does not exist', "createdb"), ('FATAL:  role "postgres" does not exist', "pitr_login_user="),
    ('FATAL:  Peer authentication failed for user "postgres"', "pg_hba.conf"), ('FATAL:  role "dba" is not permitted to log in', "ALTER ROLE"),
    ("FATAL:  the database system is starting up", None), ("timeout expired", None),
])
def test_who_is_kept_out_for_good(error, words):
    assert words in _replay.way_in(error) if words else _replay.way_in(error) is None


def test_a_client_that_came_too_early_is_no_reason():
    text = "LOG:  starting PostgreSQL 17\nFATAL:  the database system is starting up\nFATAL:  the database system is not yet accepting connections\n"
    assert _replay.parse_log(text)["fatal"] is None
    assert "could not locate" in _replay.epitaph(_replay.parse_log(text + "x PANIC:  could not locate a valid checkpoint record\n"), "/pg", "/pg.log", None)
    assert "give log_file" in _replay.epitaph(None, "/pg", None, None)


@pytest.mark.parametrize("line, reason, key, value", [
    ('recovery stopping after WAL location (LSN) "0/3000028"', 'after WAL location (LSN) "0/3000028"', "lsn", "0/3000028"),
    ('recovery stopping at restore point "before", time 2026-11-23 03:47:40.1+00',
     'at restore point "before", time 2026-11-23 03:47:40.1+00', "name", "before"),
    ("recovery stopping after reaching consistency", "after reaching consistency", "xid", None),
    ("recovery stopping after abort of transaction 12, time 2026-11-23 03:47:40+00", "after abort of transaction 12, time 2026-11-23 03:47:40+00", "xid", "12"),
    ("recovery stopping before commit prepared of transaction 12, time 2026-11-23 03:47:40.5+00",
     "before commit prepared of transaction 12, time 2026-11-23 03:47:40.5+00", "xid", "12"),
])
def test_stops(line, reason, key, value):
    stop = _replay.parse_log(f"LOG:  {line}\nLOG:  pausing at the end of recovery\n")["stop"]
    assert (stop["reason"], stop[key]) == (reason, value)


def test_history_and_label():
    assert _replay.parse_history("1\t0/30726F8\tbefore 2026-11-23 03:47:40.107101+00\n\n2\t0/5000000\tno recovery target specified\n\n") == dict(
        parent=2, lsn="0/5000000", reason="no recovery target specified")
    assert _replay.parse_history("") is None
    label = _replay.parse_backup_label("START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTART TIMELINE: 1\n")
    assert label == dict(lsn="0/2000028", timeline=1)
    assert _replay.replayed(label["lsn"], "0/30726F8") == 0x10726D0
    assert _replay.replayed(None, "0/30726F8") is None


def test_next_record():
    text = ("rmgr: Transaction len (rec/tot):    258/   258, tx:        751, lsn: 0/030726F8, prev 0/030726B0, desc: COMMIT 2026-11-23 03:47:40.107101 UTC; "
            "rels: base/5/16388; inval msgs: catcache 80\n")
    assert _replay.parse_next_record(text) == dict(lsn="0/30726F8", xid="751", time="2026-11-23T03:47:40.107101+00:00")
    assert _replay.parse_next_record("rmgr: Standby len (rec/tot): 50/ 50, tx: 0, lsn: 0/030726F8, prev 0/1, desc: RUNNING_XACTS\n") is None


@pytest.mark.parametrize("reason, given, verdict", [
    ("before 2026-11-23 03:47:40.107101+00", dict(time="2026-11-23 03:47:38.5Z"), True),
    ("before 2026-11-23 04:47:40.107101+01", dict(time="2026-11-23 03:47:38.5Z"), True),
    ("before 2026-11-23 03:47:40.107101+00", dict(time="2026-11-23 03:47:40.107101Z"), False),
    ("before 2026-11-23 03:47:40.107101+00", dict(time="2026-11-23 03:47:40.107101Z", exclusive=True), True),
    ("before 2026-11-23 03:47:40.107101+00", dict(time="2026-11-23 05:00:00Z"), False),
    ("before 2026-11-23 03:47:40.107101 EST", dict(time="2026-11-23 05:00:00Z"), None),
    ("before 2026-11-23 03:47:40.107101+00", dict(latest=True), False),
    ("no recovery target specified", dict(latest=True), True),
    ("no recovery target specified", dict(time="2026-11-23 03:47:38.5Z"), False),
    ("after transaction 741", dict(xid="741"), True),
    ("before transaction 742", dict(xid="741"), False),
    ("after LSN 0/3000060", dict(lsn="0/3000028"), True),
    ("after LSN 0/3000000", dict(lsn="0/3000028"), False),
    ('at restore point "x"', dict(name="x"), True),
    ('at restore point "y"', dict(name="x"), False),
    ("reached consistency", dict(immediate=True), True),
])
def test_reason_and_target(reason, given, verdict):
    assert _replay.fits(reason, target(**given)) is verdict
    assert _replay.fits(None, target(**given)) is None


def test_distance():
    wanted = target(time="2026-11-23 03:47:38.5Z")
    assert _replay.distance(wanted, "2026-11-23T03:47:37.964769+00:00") == 0.535231
    assert _replay.distance(wanted, "2026-11-23T03:47:39+00:00") == -0.5
    assert _replay.distance(target(latest=True), "2026-11-23T03:47:39+00:00") is None


def test_settings_smaller_than_on_the_origin():
    control = recorded("pg_controldata-17.txt")
    settings = dict(max_connections="100", max_worker_processes="8", max_wal_senders="10", max_prepared_transactions="0", max_locks_per_transaction="64")
    assert _replay.too_small(control, settings) == []
    assert _replay.too_small(control, dict(settings, max_connections="50")) == ["max_connections = 50 (origin: 100)"]
