# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as it lies on disk: layouts, pg_controldata of two majors, paths that Barman can take, file systems."""
from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _filesystem, _postgres
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import PostgresError, check_path

RECORDINGS = pathlib.Path(__file__).parent / "recordings" / "postgresql"


@pytest.mark.parametrize("major, expected", [
    ("15", dict(state="in production", timeline=1, data_checksums=False, wal_segment_bytes=16777216)),
    ("17", dict(state="in production", timeline=1, data_checksums=False, wal_segment_bytes=16777216, checkpoint_lsn="0/50000B8", redo_lsn="0/5000060",
                system_identifier="7711206424886607273", checkpoint_time="2026-11-23T03:53:23+00:00", minimum_recovery_lsn=None)),
])
def test_controldata(major, expected):
    found = _postgres.parse_controldata((RECORDINGS / f"pg_controldata-{major}.txt").read_text())
    assert {key: found[key] for key in expected} == expected
    assert found["system_identifier"].isdigit()


@pytest.mark.parametrize("text", ["", "pg_control version number: 1700\n", "Estado del cluster: en produccion\n"])
def test_controldata_of_something_else(text):
    with pytest.raises(PostgresError, match="unexpected"):
        _postgres.parse_controldata(text)


@pytest.mark.parametrize("path, tidy", [
    ("/var/lib/postgresql/17/main", "/var/lib/postgresql/17/main"), ("/srv//pg/", "/srv/pg"), ("//srv/pg", "/srv/pg"),
    ("/srv/a.b_c-d@e+f=1,2", "/srv/a.b_c-d@e+f=1,2"),
])
def test_good_paths(path, tidy):
    assert check_path(path, "destination_directory") == tidy


@pytest.mark.parametrize("path", [
    "", "relative/path", "~/data", "/srv/my data", "/srv/a'b", '/srv/a"b', "/srv/a\nb", "/srv/a;id", "/srv/$HOME", "/srv/../etc", "/srv/-rf", "-rf", "/srv/a:b",
    "/srv/a%fb", "/srv/a*", "/srv/a\\b", "/srv/é", "/", "//", "/srv/a\n",
])
def test_bad_paths(path):
    with pytest.raises(PostgresError) as refusal:
        check_path(path, "destination_directory")
    assert "destination_directory" in str(refusal.value) and "Type" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.fixture
def debian(tmp_path):
    """Two of Debian's clusters, the second one with a setting in conf.d that wins."""
    root = tmp_path / "etc"
    for version, cluster, text in (
        ("15", "old", "data_directory = '/srv/old'  # moved\nport = 5433\n"),
        ("17", "main", "data_directory = '/var/lib/postgresql/17/main'\t\t# use data in another directory\nport = 5432\n"
                       "#timezone = 'GMT'\ntimezone = 'Europe/Madrid'\nshared_buffers 128MB\ninclude_dir = 'conf.d'\n"),
    ):
        place = root / version / cluster
        place.mkdir(parents=True)
        (place / "postgresql.conf").write_text(text)
    (root / "17" / "main" / "conf.d").mkdir()
    (root / "17" / "main" / "conf.d" / "50-pgrescue.conf").write_text("port = 5499\narchive_command = 'it''s %p'\n")
    return str(root)


def test_layout_by_name_and_by_directory(debian):
    main = _postgres.layout(version="17", root=debian)
    assert (main["cluster"], main["data_directory"]) == ("main", "/var/lib/postgresql/17/main")
    assert main["settings"]["port"] == "5499"
    assert main["settings"]["archive_command"] == "it's %p"
    assert (main["settings"]["timezone"], main["settings"]["shared_buffers"]) == ("Europe/Madrid", "128MB")
    assert _postgres.layout(data_directory="/srv/old/", root=debian)["version"] == "15"


@pytest.mark.parametrize("asked", [{}, dict(version="16"), dict(cluster="nope")])
def test_layout_names_what_there_is(debian, asked):
    with pytest.raises(PostgresError, match=r"15/old \(/srv/old\), 17/main .*Give data_directory, or version and cluster"):
        _postgres.layout(root=debian, **asked)


def test_a_clone_beside_its_origin_is_not_taken_for_it(debian):
    clone = pathlib.Path(debian) / "17" / "clone" / "postgresql.conf"
    clone.parent.mkdir()
    clone.write_text(f"{_postgres.CLONE}main. Settings\ndata_directory = '/srv/clone'\n")
    assert _postgres.layout(version="17", root=debian)["cluster"] == "main"
    assert _postgres.layout(version="17", cluster="clone", root=debian)["data_directory"] == "/srv/clone"


def test_layout_of_a_plain_directory(tmp_path):
    (tmp_path / "postgresql.conf").write_text("port = 5432\n")
    (tmp_path / "postgresql.auto.conf").write_text("port = '5440'\n")
    place = _postgres.layout(data_directory=str(tmp_path), root=str(tmp_path / "none"))
    assert (place["settings"]["port"], place["config_file"]) == ("5440", str(tmp_path / "postgresql.conf"))
    assert _postgres.layout(data_directory="/absent/pg", root=str(tmp_path / "none"))["config_file"] is None


def test_postmaster_needs_a_living_process_at_home_there(tmp_path):
    assert _postgres.postmaster(str(tmp_path)) is None
    pid = tmp_path / "postmaster.pid"
    for text in ("", "x\n", "4194303\n"):
        pid.write_text(text)
        assert _postgres.postmaster(str(tmp_path)) is None
    assert _postgres.postmaster_file(str(tmp_path))[7] == ""
    pid.write_text("17\n/data\n1763900000\n5432\n/run/postgresql\n*\n 5432001  32768\nstopping\n")
    assert _postgres.postmaster_file(str(tmp_path))[7] == "stopping"
    pid.write_text(f"{os.getpid()}\n")
    assert _postgres.postmaster(str(tmp_path)) is None  # another program that has got the number
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        assert _postgres.postmaster(str(tmp_path)) == os.getpid()
    finally:
        os.chdir(here)


def test_what_belongs_to_a_cluster(tmp_path):
    data = tmp_path / "data"
    (data / "pg_tblspc").mkdir(parents=True)
    (data / "pg_tblspc" / "16400").symlink_to("/srv/ts")
    (tmp_path / "wal").mkdir()
    (data / "pg_wal").symlink_to(tmp_path / "wal")
    (data / "PG_VERSION").write_text("17\n")
    assert _postgres.tablespaces(str(data)) == [dict(oid=16400, location="/srv/ts")]
    assert _postgres.external_wal(str(data)) == str(tmp_path / "wal")
    assert _postgres.major_of(str(data)) == "17"
    assert _postgres.major_of(str(tmp_path)) is None


def test_filesystem(tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 8:2 / /srv/pg\\040data rw shared:1 - xfs /dev/sdb rw\n31 22 8:3 / /srv rw - tmpfs none rw\n")
    assert _filesystem.filesystem_type("/absent", str(mounts)) == "ext4"
    assert _filesystem.filesystem_type("/srv/absent", str(mounts)) == "tmpfs"
    (tmp_path / "a").write_bytes(b"x" * 8192)
    os.link(tmp_path / "a", tmp_path / "b")
    assert 8192 <= _filesystem.size_bytes(str(tmp_path)) < 32768
    assert _filesystem.free_bytes(str(tmp_path / "absent" / "deeper")) > 0
    assert os.listdir(tmp_path) and _filesystem.reflink(str(tmp_path)) in (True, False)
