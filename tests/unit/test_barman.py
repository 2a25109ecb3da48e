# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What real Barman printed, as an Answer; and what a call of barman does."""
from __future__ import annotations

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import Barman, BarmanError, check_name, parse

from recorded import VERSIONS, answer


def executable(directory, script):
    path = directory / "barman"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("version", VERSIONS)
class TestRecorded:
    def test_inactive_server_is_skipped_with_rc_0(self, version):
        got = answer(version, "backup-inactive")
        assert (got.rc, got.data) == (0, {})
        assert got.skipped == "Skipping inactive server 'dormida'"

    def test_backup_says_what_it_did_at_top_level(self, version):
        got = answer(version, "backup-rsync")
        assert got.data["backup_id"] and got.data["status"] in ("DONE", "WAITING_FOR_WALS") and got.skipped is None
        assert got.data["backup_name"] == "nocturna"

    def test_backup_without_wait_is_waiting(self, version):
        got = answer(version, "backup-waiting")
        assert (got.rc, got.data["status"]) == (0, "WAITING_FOR_WALS")

    def test_unknown_server(self, version):
        got = answer(version, "backup-unknown")
        assert (got.rc, got.data) == (1, {"nadie": []} if got.data else {})
        assert got.reason == "Unknown server 'nadie'"

    def test_backup_refused_by_checks_has_no_id(self, version):
        got = answer(version, "backup-down")
        assert got.rc == 1 and "backup_id" not in got.data
        assert "Impossible to start the backup" in got.reason

    def test_interrupted_backup_is_failed(self, version):
        got = answer(version, "backup-interrupted")
        assert got.data.get("status", "FAILED") == "FAILED" and got.reason

    def test_failed_check_is_a_complete_answer(self, version):
        got = answer(version, "check-down")
        assert got.rc == 1 and got.data["main"]["postgresql"]["status"] == "FAILED"

    def test_restore_of_an_unknown_backup(self, version):
        got = answer(version, "restore-unknown-backup")
        assert got.rc == 1 and got.reason == "Unknown backup '20200101T000000' for server 'main'"

    def test_restore_before_the_end_of_the_backup(self, version):
        assert "is before the backup end time" in answer(version, "restore-before-end").reason

    def test_argparse_speaks_on_stderr(self, version):
        got = answer(version, "argparse")
        assert (got.rc, got.data, got.error) == (2, {}, []) and "--no-such-option" in got.stderr

    def test_keep(self, version):
        assert answer(version, "keep-status").data["main"]["keep_status"]["message"] == "standalone"
        assert answer(version, "keep-status-none").data["main"]["keep_status"]["message"] == "nokeep"


def test_non_empty_destination_is_refused_by_new_barman_only():
    assert [answer(version, "restore-not-empty").rc for version in VERSIONS] == [0, 0, 1]


def test_messages_leave_the_data():
    got = parse(["barman"], 1, '{"_ERROR": ["one", "two\\n  lines"], "_WARNING": ["w"], "main": {"a": 1}}', "")
    assert got.data == {"main": {"a": 1}}
    assert got.reason == "one; two lines; w"


def test_reason_is_short_and_never_empty():
    assert len(parse(["barman"], 1, '{"_ERROR": ["%s"]}' % ("x" * 2000), "").reason) == 600
    assert parse(["barman"], 3, "", "").reason == "no reason given, exit code 3"


@pytest.mark.parametrize("text", ["Traceback", "[1]", '"text"'])
def test_what_is_not_an_object_is_an_error(text):
    with pytest.raises(BarmanError) as error:
        parse(["barman", "check"], 1, text, "boom")
    assert error.value.details["stdout"] == text and error.value.details["stderr"] == "boom"


@pytest.mark.parametrize("name", ["", "-main", "a b", "a;id", "a\nb", "a/b", "é", "x" * 64])
def test_names_that_are_refused(name):
    with pytest.raises(BarmanError, match="is not a name"):
        check_name(name, "server")


@pytest.mark.parametrize("name", ["main", "bd-principal", ".hidden", "x" * 63, "20261123T034949"])
def test_names_that_pass(name):
    assert check_name(name, "server") == name


def test_version_and_abilities(tmp_path):
    barman = Barman(executable(tmp_path, "echo '3.13.3 Barman by EnterpriseDB (www.enterprisedb.com)'"))
    assert barman.version == (3, 13, 3)
    assert barman.can("restore") and not barman.can("refuses_full_destination")


def test_arguments_are_not_read_by_a_shell(tmp_path):
    barman = Barman(executable(tmp_path, """printf '{"main": "%s"}' "$6" """), config="/x")
    assert barman.call("check", "$(id)").data == {"main": "$(id)"}


def test_an_exit_code_is_an_answer_only_when_accepted(tmp_path):
    barman = Barman(executable(tmp_path, """echo '{"_ERROR": ["no"]}'; exit 1"""))
    assert barman.call("check", "main", accept=(0, 1)).error == ["no"]
    with pytest.raises(BarmanError, match="barman check failed: no") as error:
        barman.call("check", "main")
    assert error.value.details["rc"] == 1


def test_missing_executable(tmp_path):
    with pytest.raises(BarmanError, match="cannot be run"):
        Barman(str(tmp_path / "none")).call("check", "main")
