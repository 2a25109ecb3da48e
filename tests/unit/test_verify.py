# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""barman_verify: what pg_verifybackup said through Barman (3.4.0, 3.13.3 and 3.20.1 print the same), and what cannot be verified."""
from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError, parse
from ansible_collections.pgrescue.barman.plugins.module_utils._verify import data_directory, judge, read_manifest, search_path, uncovered

FAILURE = "verify backup failure on directory '/var/lib/barman/pgb/base/20261123T035235/data'"
STARTED = ["Verifying backup '20261123T035235' on server ['pgb']", "Calling pg_verifybackup"]
BACKUP = dict(backup_id="20261123T035235", status="DONE", type="rsync", begin_time="2026-11-23T03:52:35+00:00", tablespaces=[], postgresql_version=170012)


def said(rc, **messages):
    return parse(["barman", "verify-backup"], rc, json.dumps({f"_{key.upper()}": lines for key, lines in messages.items()}), "")


def words(*lines):
    return said(1, info=STARTED, error=[FAILURE, "".join(f"pg_verifybackup: error: {line}\n" for line in lines)])


def test_verified():
    assert judge(said(0, info=STARTED + ["backup successfully verified"]), 17) == []


def test_each_problem_is_data():
    got = judge(words(
        '"base/1/1249" has size 524289 on disk but size 524288 in the manifest', '"a b" is present on disk but not in the manifest',
        '"base/1/1259" is present in the manifest but not on disk', 'checksum mismatch for file "PG_VERSION"',
        "could not parse backup manifest: unexpected object end", "manifest checksum mismatch",
        'could not open directory "/b/data/base/1": Permission denied',
    ), 17)
    assert [(problem["kind"], problem["file"]) for problem in got] == [
        ("size", "base/1/1249"), ("surplus", "a b"), ("missing", "base/1/1259"), ("checksum", "PG_VERSION"),
        ("manifest", None), ("manifest", None), ("other", None)]
    assert got[3]["message"] == 'checksum mismatch for file "PG_VERSION"'


@pytest.mark.parametrize("answer, expected", [
    (said(1, info=STARTED, error=["pg_verifybackup not found"]), "postgresql-client-17"),
    (said(0, info=["Skipping inactive server 'off'"]), "Skipping inactive server 'off'. Barman before 3.17"),
    (said(1, error=["Unknown backup 'x' for server 'main'"]), "Unknown backup"),
    (said(0, info=STARTED), "nothing was verified"),
    (said(1, info=STARTED, error=[FAILURE, ""]), "verify backup failure"),
])
def test_what_verified_nothing_is_no_success(answer, expected):
    with pytest.raises(BarmanError) as caught:
        judge(answer, 17)
    assert expected in str(caught.value)


def server(tmp_path, in_cloud=False):
    return SimpleNamespace(name="main", in_cloud=in_cloud, directory=lambda option: str(tmp_path))


@pytest.mark.parametrize("change, expected", [
    (dict(status="FAILED"), "is FAILED"), (dict(status="STARTED"), "is STARTED"), (dict(type="snapshot"), "do not lie on this host"), ({}, "is no directory"),
])
def test_what_cannot_be_verified(tmp_path, change, expected):
    with pytest.raises(BarmanError) as caught:
        data_directory(server(tmp_path), dict(BACKUP, **change))
    assert expected in str(caught.value)


def test_packed_backups_cannot_be_verified(tmp_path):
    data = tmp_path / BACKUP["backup_id"] / "data"
    data.mkdir(parents=True)
    assert data_directory(server(tmp_path), BACKUP) == str(data)
    (data / "base.tar.gz").touch()
    with pytest.raises(BarmanError) as caught:
        data_directory(server(tmp_path), BACKUP)
    assert "base.tar.gz" in str(caught.value)


def test_a_manifest_that_rsync_brought_along_is_refused(tmp_path):
    assert read_manifest(str(tmp_path), BACKUP) is None
    file = tmp_path / "backup_manifest"
    file.touch()
    os.utime(file, (1795405956, 1795405956))                              # a second after the backup began
    assert read_manifest(str(tmp_path), BACKUP) == "2026-11-23T03:52:36+00:00"
    os.utime(file, (1795405954, 1795405954))
    assert read_manifest(str(tmp_path), dict(BACKUP, type="full")) == "2026-11-23T03:52:34+00:00"
    with pytest.raises(BarmanError) as caught:
        read_manifest(str(tmp_path), BACKUP)
    assert f"rm {file}" in str(caught.value)


def test_tablespaces_beside_an_rsync_backup_are_in_no_manifest():
    spaces = [dict(name="history", location="/srv/history")]
    assert uncovered(dict(BACKUP, tablespaces=spaces)) == ["history"]
    assert uncovered(dict(BACKUP, tablespaces=spaces, type="full")) == []


def test_the_program_of_the_own_major_comes_first(tmp_path):
    for major in (15, 17, 18, 9):
        (tmp_path / f"usr/lib/postgresql/{major}/bin").mkdir(parents=True)
    got = search_path(17, "/usr/bin:/bin", str(tmp_path)).replace(str(tmp_path), "").split(":")
    assert got == ["/usr/lib/postgresql/17/bin", "/usr/bin", "/bin", "/usr/lib/postgresql/18/bin"]
