# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a backup that is compressed, encrypted or incremental is unpacked, and whether it can be."""
from __future__ import annotations

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _plan, _staging
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError
from ansible_collections.pgrescue.barman.plugins.module_utils._config import ServerConfiguration
from ansible_collections.pgrescue.barman.plugins.module_utils._destination import Destination

PLAIN = dict(
    backup_id="20261123T033928", postgresql_version=170006, size_bytes=1000, cluster_bytes=None, compression=None, encryption=None, parent_backup_id=None
)
GZIP, INCREMENTAL = dict(PLAIN, compression="gzip", cluster_bytes=5000), dict(PLAIN, parent_backup_id="20261122T033928", cluster_bytes=5000)
BOTH = dict(GZIP, **{"parent_backup_id": "20261122T033928"})
OPTIONS = dict(destination_directory="/pg/new", ssh="ssh postgres@db", staging_path=None, delta=False)
OLD, NEW = (3, 13, 3), (3, 20, 1)


def server(**options):
    return ServerConfiguration("main", dict(backup_directory="/var/lib/barman/main", **options))


def staging(backup, version, configured=None, **options):
    return _staging.staging_of(backup, version, configured or server(), dict(OPTIONS, **options))


@pytest.mark.parametrize("backup, version, configured, side, base, option", [
    (GZIP, OLD, {}, "destination", "/pg", "--recovery-staging-path"),
    (GZIP, OLD, dict(recovery_staging_path="/srv/r", local_staging_path="/srv/l"), "destination", "/srv/r", "--recovery-staging-path"),
    (INCREMENTAL, OLD, {}, "barman", "/var/lib/barman/main", "--local-staging-path"),
    (INCREMENTAL, OLD, dict(recovery_staging_path="/srv/r", local_staging_path="/srv/l"), "barman", "/srv/l", "--local-staging-path"),
    (GZIP, NEW, {}, "barman", "/var/lib/barman/main", "--staging-path"),
    (GZIP, NEW, dict(staging_path="/srv/s"), "barman", "/srv/s", "--staging-path"),
    (GZIP, NEW, dict(staging_path="/srv/s", staging_location="remote"), "destination", "/srv/s", "--staging-path"),
    (GZIP, NEW, dict(staging_location="remote"), "barman", "/var/lib/barman/main", "--staging-path"),
    (dict(GZIP, encryption="gpg"), NEW, dict(staging_path="/srv/s", staging_location="remote"), "barman", "/srv/s", "--staging-path"),
    (INCREMENTAL, NEW, dict(local_staging_path="/srv/l"), "barman", "/srv/l", "--staging-path"),
])
def test_where_a_backup_is_unpacked(backup, version, configured, side, base, option):
    found = staging(backup, version, server(**configured))
    assert (found.side, found.words[0]) == (side, option)
    assert found.path == found.words[1] and found.path.startswith(f"{base}/{_staging.PREFIX}")
    assert found.words[2:] == ([] if version == OLD else ["--staging-location", "remote" if side == "destination" else "local"])
    asked = staging(backup, version, server(**configured), staging_path="/srv/asked")
    assert asked.path.startswith("/srv/asked/") and asked.side == ("destination" if option == "--recovery-staging-path" else "barman")


def test_a_delta_is_made_from_the_barman_host():
    assert staging(GZIP, NEW, server(staging_path="/srv/s", staging_location="remote"), delta=True).side == "barman"


def test_a_local_restore_has_no_other_side():
    assert staging(GZIP, NEW, server(staging_path="/srv/s", staging_location="remote"), ssh=None).side == "barman"


def test_a_plain_backup_is_not_unpacked():
    assert staging(PLAIN, OLD) is None and staging(PLAIN, NEW) is None
    assert _staging.restored_bytes(PLAIN) == 1000


def test_two_restores_do_not_share_a_directory():
    paths = {staging(GZIP, NEW, **options).path for options in ({}, dict(ssh="ssh postgres@other"), dict(destination_directory="/pg/other"))}
    assert len(paths) == 3


def test_what_is_left_behind_is_found_whatever_it_was():
    configured = server(staging_path="/srv/s", staging_location="remote", recovery_staging_path="/srv/r", local_staging_path="/srv/l")
    found = _staging.all_stagings(configured, OPTIONS)
    wanted = {(one.side, one.path) for backup in (GZIP, INCREMENTAL, BOTH) for version in (OLD, NEW) for one in [staging(backup, version, configured)]}
    assert wanted <= set(found) and ("barman", _staging.scratch_of(configured, OPTIONS)) in found and len(found) == 5


@pytest.mark.parametrize("backup, version, size", [
    (GZIP, OLD, 1000), (GZIP, NEW, 5000), (INCREMENTAL, OLD, 5000), (BOTH, NEW, 10000), (dict(GZIP, cluster_bytes=None), NEW, 1000),
])
def test_room_for_unpacking(backup, version, size):
    assert staging(backup, version).bytes(backup) == size


def look(*programs, **place):
    host = {f"has_{program}": "yes" for program in programs}
    return dict(host=host, places=[dict(dict(parent="yes", parent_writable="yes", free=10**6), **place)])


def reds(backup, version, found, path_prefix=None, **configured):
    findings = _staging.staging_findings(staging(backup, version), backup, found, dict(configured, path_prefix=path_prefix))
    return {one["check"]: f"{one['found']} {one['fix']}" for one in findings if not one["ok"]}


def test_what_must_be_there_for_unpacking():
    assert reds(GZIP, NEW, look("tar", "gzip")) == {}
    assert "missing there: gzip" in reds(GZIP, OLD, look("tar"))["destination_staging_programs"]
    assert "5.4 KiB are needed" in reds(GZIP, NEW, look("tar", "gzip", free=5000))["staging"]
    assert reds(GZIP, NEW, look("tar", "gzip", free=0, exists="yes")) == {}
    assert "/var/lib/barman/main does not exist" in reds(GZIP, NEW, dict(host=dict(has_tar="", has_gzip=""), places=[dict(free=10**6)]))["staging"]
    assert "gpg" in reds(dict(GZIP, encryption="gpg"), NEW, look("tar", "gzip"), encryption_passphrase_command="cat /p")["staging_programs"]
    assert "is not set" in reds(dict(GZIP, encryption="gpg"), NEW, look("tar", "gzip", "gpg"))["staging_passphrase"]


@pytest.mark.parametrize("version, ok", [("17.6", True), ("16.9", False), (None, False)])
def test_the_program_that_combines(version, ok, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(_staging.shutil, "which", lambda name, path: str(tmp_path / name) if str(tmp_path) in path.split(":") and version else None)
    (tmp_path / "pg_combinebackup").write_text(f"#!/bin/sh\necho 'pg_combinebackup (PostgreSQL) {version}'\n", encoding="ascii")
    (tmp_path / "pg_combinebackup").chmod(0o700)
    assert (reds(INCREMENTAL, OLD, look(), str(tmp_path)) == {}) == ok
    if not ok:
        assert "path_prefix" in reds(INCREMENTAL, OLD, look(), str(tmp_path))["staging_programs"]


def test_a_compressed_backup_is_not_laid_over_other_files():
    assert not _plan.delta_finding(OLD, GZIP)["ok"]
    assert _plan.delta_finding(NEW, GZIP)["ok"] and _plan.delta_finding(OLD, INCREMENTAL)["ok"]


def test_only_what_was_unpacked_is_removed(tmp_path):
    mine, other = tmp_path / f"{_staging.PREFIX}0123456789ab", tmp_path / "base"
    for directory in (mine, other):
        (directory / "inside").mkdir(parents=True)
    Destination().remove([str(mine), str(tmp_path / f"{_staging.PREFIX}gone")])
    assert not mine.exists()
    with pytest.raises(BarmanError):
        Destination().remove([str(other)])
    assert other.exists()
