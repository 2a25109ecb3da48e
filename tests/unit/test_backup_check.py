# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health: Barman's checks as recorded, and what the catalogue tells besides."""
from __future__ import annotations

import fcntl
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _check as health
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import parse
from ansible_collections.pgrescue.barman.plugins.module_utils._config import Configuration, ServerConfiguration
from ansible_collections.pgrescue.barman.plugins.modules.barman_check_info import overall, verdict

RECORDINGS = Path(__file__).parent / "recordings"
VERSIONS = ("3.4.0", "3.13.3", "3.20.1")
SERVER = ServerConfiguration("main", dict(active="true", disabled="false", minimum_redundancy="1"))
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


def recorded(version, name):
    return parse(["barman"], 1, (RECORDINGS / version / f"{name}.json").read_text(), "")


class Tool:
    def __init__(self, answer):
        self.answer = answer

    def call(self, *args, **options):
        return self.answer


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded(version):
    good = health.run_check(Tool(recorded(version, "check")), ["main"])["main"]
    assert all(check["ok"] for check in good) and len(good) > 10
    assert [check["name"] for check in good] == sorted(check["name"] for check in good)
    down = health.run_check(Tool(recorded(version, "check-down")), ["main"])["main"]
    assert "postgresql" in [check["name"] for check in down if not check["ok"]]
    assert all(check["hint"] != "" for check in down)
    assert health.failed(down).startswith("postgresql") or ", postgresql" in health.failed(down)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_that_barman_skipped_is_not_healthy(version):
    checks = health.run_check(Tool(recorded(version, "backup-inactive")), ["dormida"])["dormida"]
    assert [check["ok"] for check in checks] == [False] and "inactive" in checks[0]["hint"]


def backup(hour, status="DONE", **changes):
    made = dict(backup_id=f"20261123T{hour:02d}0000", status=status, good=status == "DONE", end_time=f"2026-11-23T{hour:02d}:00:00+00:00", timeline=1,
                begin_wal=f"{1:08X}{hour:016X}")
    return dict(made, **changes)


def hole(first, last, timeline=1):
    return dict(timeline=timeline, first=f"{timeline:08X}{first:016X}", last=f"{timeline:08X}{last:016X}", count=last - first + 1, reason="gone")


def failing(backups, missing=(), lock_held=False, server=SERVER):
    return [check["name"][9:] for check in health.own_checks(server, dict(backups=backups, wal=dict(missing=list(missing))), lock_held, NOW) if not check["ok"]]


@pytest.mark.parametrize("backups, missing, lock_held, expected", [
    ([backup(1)], [], False, []),
    ([], [], False, ["good_backups"]),
    ([backup(1, "FAILED")], [], False, ["good_backups"]),
    ([backup(1), backup(2, "STARTED")], [], True, []),
    ([backup(1), backup(2, "STARTED")], [], False, ["dead_backups"]),
    ([backup(1), backup(2, "STARTED"), backup(3, "EMPTY")], [], True, ["dead_backups"]),
    ([backup(1), backup(2, good=False)], [], False, ["duplicate_wal"]),
    ([backup(1), backup(5)], [hole(2, 3)], False, []),                     # only older backups have to cross it
    ([backup(1), backup(5)], [hole(4, 5)], False, ["wal_continuity"]),
    ([backup(5)], [hole(6, 9, timeline=2)], False, ["wal_continuity"]),
    ([backup(5, timeline=2)], [hole(6, 9)], False, []),
])
def test_own_checks(backups, missing, lock_held, expected):
    assert failing(backups, missing, lock_held) == expected


@pytest.mark.parametrize("option", [dict(active="false"), dict(disabled="true"), dict(primary_ssh_command="ssh other")])
def test_inactive(option):
    assert failing([backup(1)], server=ServerConfiguration("main", dict(SERVER.options, **option))) == ["active"]


def test_verdict():
    bad, fine = dict(name="a", ok=False), dict(name="b", ok=True)
    assert verdict([bad, fine], [], True) is False
    assert verdict([bad, fine], ["a"], True) is True
    assert verdict([fine], [], False) is None
    assert verdict([bad], [], False) is False
    assert (overall([]), overall([True, None]), overall([True, None, False]), overall([True])) == (True, None, False, True)


def test_lock(tmp_path):
    configuration = Configuration("/etc/barman.conf", str(tmp_path), {})
    assert not health.backup_runs(configuration, "main")
    lock = tmp_path / ".main-backup.lock"
    lock.touch()
    assert not health.backup_runs(configuration, "main")                  # the dead leave the file, never the lock
    with open(lock, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert health.backup_runs(configuration, "main")
    elsewhere = Configuration("/etc/barman.conf", "/nowhere", dict(barman_lock_directory=str(tmp_path)))
    assert not health.backup_runs(elsewhere, "main")
