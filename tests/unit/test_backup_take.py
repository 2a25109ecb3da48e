# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup seen through: what each of Barman's answers means, and that a hanging one ends."""
from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _barman, _session, _take
from ansible_collections.pgrescue.barman.plugins.module_utils._archive import Archive
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import Answer, Barman, BarmanError, parse
from ansible_collections.pgrescue.barman.plugins.module_utils._config import ServerConfiguration

RECORDINGS = Path(__file__).parent / "recordings"
VERSIONS = ("3.4.0", "3.13.3", "3.20.1")
SERVER = ServerConfiguration("main", dict(errors_directory="/errors", conninfo="host=nowhere.invalid"))
OLD = "20261122T000000"


def backup(backup_id, status="DONE", **changes):
    return dict(dict(backup_id=backup_id, status=status, good=status == "DONE", begin_wal="0" * 23 + "4", end_wal="0" * 23 + "5", error=None,
                     size_bytes=1000), **changes)


class Tool:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def call(self, *args, **_options):
        self.asked.append(args[0])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(name="catalogues")
def _catalogues(monkeypatch):
    """read_backups() gives these one after the other, the last one for ever."""
    given = [[backup(OLD)]]
    monkeypatch.setattr(_take, "read_backups", lambda server: given.pop(0) if len(given) > 1 else given[0])
    monkeypatch.setattr(_take, "ask_archiver", lambda conninfo: _session.Archiver(problem="NOT ASKED"))
    monkeypatch.setattr(_take, "archive_written", lambda *args: None)
    monkeypatch.setattr(_take, "read_archive", lambda server: Archive(duplicates=[("0" * 23 + "5", None)]))
    return given


def take(*answers):
    return _take.Take(Tool(*answers), SERVER, 600, None)


def recorded(version, name, rc):
    return parse(["barman"], rc, (RECORDINGS / version / f"{name}.json").read_text(), "")


@pytest.mark.parametrize("version", VERSIONS)
def test_taken(version, catalogues):
    answer = recorded(version, "backup-rsync", 0)
    new = answer.data["backup_id"]
    catalogues.append([backup(OLD), backup(new)])
    assert take(answer).copy([])["backup_id"] == new


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name, rc, says", [
    ("backup-inactive", 0, "took no backup of server main and exited with 0: Skipping inactive server"),
    ("backup-unknown", 1, "Unknown server"),
])
def test_no_backup_whatever_the_exit_code(version, name, rc, says, catalogues):
    with pytest.raises(BarmanError, match=says):
        take(recorded(version, name, rc)).copy([])


@pytest.mark.parametrize("version", VERSIONS)
def test_refused_because_of_checks(version, catalogues):
    with pytest.raises(BarmanError, match="because these checks fail: .*postgresql.*No backup was begun") as error:
        take(recorded(version, "backup-down", 1), recorded(version, "check-down", 1)).copy([])
    assert all(not check["ok"] for check in error.value.details["checks"])


def test_lock_busy(catalogues):
    catalogues[:] = [[backup(OLD), backup("20261123T000000", "STARTED")]]
    with pytest.raises(BarmanError, match="another backup of server main is running .20261123T000000."):
        take(Answer(["barman"], 1, error=["Another backup process is running"])).copy([])


def test_failed_copy_names_the_cause(catalogues):
    catalogues.append([backup(OLD), backup("20261123T000000", "FAILED", error="failure copying files (disk full)")])
    with pytest.raises(BarmanError, match="20261123T000000 of server main is FAILED: failure copying files .disk full.") as error:
        take(Answer(["barman"], 1, data=dict(backup_id="20261123T000000"))).copy([])
    assert error.value.details["backup"]["status"] == "FAILED"


@pytest.mark.parametrize("status, says", [("FAILED", "is FAILED"), ("STARTED", "status=STARTED"), (None, "no backup was begun")])
def test_interrupted(status, says, catalogues):
    catalogues.append([backup(OLD)] + ([backup("20261123T000000", status)] if status else []))
    with pytest.raises(BarmanError, match=f"of server main did not end within 5 seconds, so it was interrupted: .*{says}.*NOT ASKED"):
        take(BarmanError("x", timed_out=True, reason="did not end within 5 seconds")).copy([])


def test_not_begun_while_archiving_fails(catalogues, monkeypatch):
    monkeypatch.setattr(_take, "ask_archiver", lambda conninfo: _session.Archiver(True, None, None, "0" * 23 + "5", 3.0, 7))
    one = take()
    with pytest.raises(BarmanError, match="7 failures, the last one 3 s ago.*never archived a segment.*No backup was begun"):
        one.copy([])
    assert one.barman.asked == []


def test_waiting_becomes_good(catalogues):
    catalogues[:] = [[backup(OLD, "WAITING_FOR_WALS")], [backup(OLD)]]
    one = take(Answer([], 0))
    assert one.complete(OLD)["good"]
    assert one.barman.asked == ["check-backup"]


def test_waiting_for_ever(catalogues):
    catalogues[:] = [[backup(OLD, "WAITING_FOR_WALS")]]
    with pytest.raises(BarmanError, match="is WAITING_FOR_WALS, although everything written so far is archived"):
        take(Answer([], 0)).complete(OLD)


def test_done_with_duplicates_is_not_good(catalogues):
    catalogues[:] = [[backup(OLD, good=False)]]
    with pytest.raises(BarmanError, match="is DONE and yet cannot be restored: the archive already held other WAL named 0+5"):
        take().complete(OLD)


@pytest.fixture(name="barman")
def _barman_script(tmp_path, monkeypatch):
    """Make a 'barman' of a few lines of shell."""
    monkeypatch.setattr(_barman, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(_barman, "INTERRUPT_SECONDS", 1)

    def make(script):
        path = tmp_path / "barman"
        path.write_text("#!/bin/bash\n" + script)
        path.chmod(0o755)
        return Barman(str(path))

    return make


def test_timeout_interrupts_the_whole_group(barman, tmp_path):
    with pytest.raises(BarmanError, match="did not end within 3 seconds and was interrupted") as error:
        barman(f"trap 'echo INT >{tmp_path}/said; exit 1' INT; sleep 30 & wait").call("backup", "main", timeout=3)
    assert error.value.details["timed_out"]
    assert (tmp_path / "said").read_text() == "INT\n"


def test_what_does_not_heed_sigint_is_unblocked(barman, tmp_path):
    with pytest.raises(BarmanError, match="was interrupted"):
        barman(f"trap '' INT; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; touch {tmp_path}/in-order").call(
            "backup", timeout=2, unblock=(tmp_path / "go").touch)
    assert (tmp_path / "in-order").exists()


def test_what_heeds_nothing_is_terminated(barman):
    with pytest.raises(BarmanError, match="was interrupted"):
        barman("trap '' INT; while :; do sleep 0.05; done").call("backup", timeout=0.2)


def test_watched(barman):
    seen = []
    assert barman("sleep 0.5; echo '{\"a\": 1}'").call("backup", watch=seen.append).data == {"a": 1}
    assert len(set(seen)) == 1
    with pytest.raises(BarmanError, match="is lazy and was interrupted"):
        barman("sleep 30").call("backup", watch=lambda pid: "is lazy")


def test_usage_errors_are_cut_to_the_error(barman):
    with pytest.raises(BarmanError, match="^barman backup failed: unrecognized arguments: --x$"):
        barman("echo 'usage: x' >&2; echo 'barman: error: unrecognized arguments: --x' >&2; exit 2").call("backup")


class Clock:
    now = 0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("failing, moved, expected", [
    (True, [0] * 11, 10), (False, [0] * 31, None), (None, [0] * 31, None),
    (True, [1000 * step for step in range(11)], 10),                  # heartbeats are no progress
    (True, [100000 * step for step in range(31)], None),
    (True, [100000 * step for step in range(5)] + [400000] * 11, 14),
])
def test_stalled(failing, moved, expected):
    class Asked:
        pass

    Asked.failing = failing
    clock = Clock()
    left = list(moved)
    watch = _session.StallWatch(10, Asked, lambda pid: left.pop(0), clock)
    for clock.now in range(len(moved)):
        reason = watch(1)
        if reason:
            assert (clock.now, reason) == (expected, "moved no data for 10 seconds while PostgreSQL cannot archive its WAL")
            return
    assert expected is None


def test_transferred_bytes_of_this_session():
    assert _session.transferred_bytes(os.getsid(0)) > 0
    assert _session.transferred_bytes(-1) == 0


@pytest.mark.parametrize("archiver, failing, says", [
    (_session.Archiver(), False, "archive_mode is off"),
    (_session.Archiver(True), False, "never archived"),
    (_session.Archiver(True, "A", 5.0), False, "no failure and archived its last segment, A, 5 s ago"),
    (_session.Archiver(True, "B", 5.0, "A", 9.0, 3), False, "no failure"),
    (_session.Archiver(True, "A", 9.0, "B", 5.0, 3), True, "3 failures, the last one 5 s ago with B; it archived its last segment, A, 9 s ago"),
    (_session.Archiver(False, "A", 9.0, "B", 5.0, 3), False, "archive_mode is off"),
    (_session.Archiver(problem="no route"), None, "could not be asked .no route."),
])
def test_archiver(archiver, failing, says):
    assert archiver.failing is failing
    assert re.search(says, str(archiver))


def test_nobody_to_ask():
    assert "no conninfo" in str(_session.ask_archiver(None)) or "no psycopg2" in str(_session.ask_archiver(None))
