# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster is set aside and brought back, cut off at every file operation; it is never lost and never there twice."""
from __future__ import annotations

import json
import os
import shutil

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _aside, _postgres
from ansible_collections.pgrescue.barman.plugins.module_utils._aside import Aside, inode
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import PostgresError

STAMP = "20260915T123000Z"
OLD = {"PG_VERSION": "17\n", "base": "old rows"}


class Cut(Exception):
    """The host dies here."""


@pytest.fixture
def cluster(tmp_path):
    """A cluster behind a symlink, with its WAL elsewhere and a tablespace."""
    for name in ("real", "wal", "space"):
        (tmp_path / name).mkdir()
    data = tmp_path / "real"
    for name, text in OLD.items():
        (data / name).write_text(text)
    (tmp_path / "wal" / "000000010000000000000001").write_text("wal")
    (tmp_path / "space" / "PG_17").write_text("rows")
    (data / "pg_tblspc").mkdir()
    (data / "pg_tblspc" / "16400").symlink_to(tmp_path / "space")
    (data / "pg_wal").symlink_to(tmp_path / "wal")
    (tmp_path / "main").symlink_to(data)
    return tmp_path


def intact(directory):
    return directory.is_dir() and (directory / "base").exists() and (directory / "base").read_text() == "old rows"


def aside(cluster, **named):
    one = Aside(str(cluster / "main"), STAMP)
    journal = one.plan("main", named, True)
    pending = one.pending(journal)
    one.away(journal)
    return pending


def back(cluster):
    one = Aside(str(cluster / "main"), STAMP)
    steps = one.way_back()
    return one.back(steps) if steps else None


def restore(cluster, complete=True, promoted=False):
    """What barman_restore and PostgreSQL leave in the place."""
    data, space = cluster / "real", cluster / "space"
    data.mkdir(exist_ok=True)
    (data / "PG_VERSION").write_text("17\n")
    (data / "base").write_text("new rows")
    (data / ("backup_label.old" if promoted else "backup_label")).write_text("")
    if promoted:
        (data / "postmaster.opts").write_text("")
    (space / "PG_17").write_text("new rows")
    marker = dict(complete=complete, request={}, inodes={str(one): inode(str(one)) for one in (data, space)})
    (cluster / "real.pgrescue-restore.json").write_text(json.dumps(marker))


def snapshot(cluster):
    found = {}
    for top, _names, files in os.walk(cluster, followlinks=False):
        for name in files:
            path = os.path.join(top, name)
            if os.path.islink(path):
                continue
            with open(path, encoding="utf-8") as file:
                found[os.path.relpath(path, cluster)] = file.read()
    return found


def test_there_and_back(cluster):
    before = snapshot(cluster)
    assert [one["kind"] for one in aside(cluster)] == ["data", "wal", "tablespace"]
    assert intact(cluster / f"real.aside-{STAMP}")
    assert (cluster / "main").is_symlink() and list((cluster / "real").iterdir()) == []
    assert list((cluster / "space").iterdir()) == [] and not (cluster / "wal").exists()
    assert (cluster / f"space.aside-{STAMP}" / "PG_17").read_text() == "rows"
    assert aside(cluster) == []
    assert back(cluster) == []
    assert snapshot(cluster) == before
    assert back(cluster) is None


def test_what_was_restored_goes(cluster):
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster, complete=False)
    assert back(cluster) == []
    assert snapshot(cluster) == before


def test_what_was_promoted_stays(cluster):
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster, promoted=True)
    assert back(cluster) == [str(cluster / f"{name}.failed-{STAMP}") for name in ("real", "space")]
    after = snapshot(cluster)
    assert after[f"real.failed-{STAMP}/base"] == "new rows" and f"real.failed-{STAMP}.pgrescue-restore.json" in after
    assert {path: text for path, text in after.items() if ".failed-" not in path} == before


def test_what_came_from_an_earlier_recovery_keeps_its_proof(cluster):
    (cluster / "real.pgrescue-restore.json").write_text(json.dumps(dict(complete=True, inodes={str(cluster / "real"): inode(str(cluster / "real"))})))
    before = snapshot(cluster)
    aside(cluster)
    assert (cluster / f"real.aside-{STAMP}.pgrescue-restore.json").exists()
    restore(cluster)
    assert aside(cluster) == [] and (cluster / "real.pgrescue-restore.json").exists()
    back(cluster)
    assert snapshot(cluster) == before


def test_the_foreign_is_refused(cluster):
    aside(cluster)
    (cluster / "real" / "PG_VERSION").write_text("17\n")
    before = snapshot(cluster)
    with pytest.raises(PostgresError, match="no restore of this collection"):
        back(cluster)
    (cluster / "real.pgrescue-restore.json").write_text(json.dumps(dict(complete=True, inodes={str(cluster / "real"): "1:1"})))
    with pytest.raises(PostgresError, match="no restore of this collection"):
        back(cluster)
    (cluster / "real.pgrescue-restore.json").unlink()
    assert snapshot(cluster) == before


def test_a_foreign_tablespace_is_refused(cluster):
    aside(cluster)
    restore(cluster)
    marker = json.loads((cluster / "real.pgrescue-restore.json").read_text())
    del marker["inodes"][str(cluster / "space")]
    (cluster / "real.pgrescue-restore.json").write_text(json.dumps(marker))
    with pytest.raises(PostgresError, match="space lies something"):
        back(cluster)
    assert (cluster / "real" / "base").read_text() == "new rows"


def test_a_running_postgresql_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(_postgres, "postmaster", lambda path: 4711)
    before = snapshot(cluster)
    with pytest.raises(PostgresError, match="process 4711"):
        aside(cluster)
    assert snapshot(cluster) == before


def test_a_mount_point_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path).endswith("/space"))
    before = snapshot(cluster)
    with pytest.raises(PostgresError, match="mounted file system"):
        aside(cluster)
    assert snapshot(cluster) == before


@pytest.mark.parametrize("exists", [False, True])
def test_a_lost_host(tmp_path, exists):
    """Nothing to set aside is noted, and back removes what was restored."""
    (tmp_path / "main").symlink_to(tmp_path / "real")
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "PG_17").write_text("rows of a lost cluster")
    if exists:
        (tmp_path / "real").mkdir()
    assert [one["kind"] for one in aside(tmp_path, history=str(tmp_path / "space"))] == ["data", "tablespace"]
    assert aside(tmp_path) == []
    assert (tmp_path / "real").exists() == exists
    (tmp_path / "space").mkdir(exist_ok=True)
    restore(tmp_path)
    assert back(tmp_path) == []
    assert (tmp_path / "real").exists() == exists
    assert snapshot(tmp_path) == {"space/PG_17": "rows of a lost cluster"}


def test_no_such_stamp(cluster):
    aside(cluster)
    with pytest.raises(PostgresError, match=STAMP):
        Aside(str(cluster / "main"), "20270101T000000Z").way_back()


def cut_after(monkeypatch, number):
    """Let so many file operations happen, and cut the next one off."""
    left = [number]

    def limited(function):
        def call(*args, **options):
            if left[0] == 0:
                raise Cut()
            left[0] -= 1
            return function(*args, **options)
        return call

    for module, name in ((os, "rename"), (os, "mkdir"), (os, "rmdir"), (os, "replace"), (os, "unlink"), (shutil, "rmtree")):
        monkeypatch.setattr(module, name, limited(getattr(module, name)))


@pytest.mark.parametrize("promoted", [False, True])
def test_cut_off_anywhere(cluster, monkeypatch, promoted):
    """At every point exactly one intact cluster, and the same call again finishes."""
    before, number = snapshot(cluster), 0
    while True:
        with monkeypatch.context() as patch:
            cut_after(patch, number)
            try:
                aside(cluster)
                restore(cluster, promoted=promoted)
                back(cluster)
                finished = True
            except Cut:
                finished = False
        places = [one for one in cluster.iterdir() if not one.is_symlink() and intact(one)]
        assert len(places) == 1, f"after {number} operations: {places}"
        if not finished:
            if not (cluster / "real" / "base").exists() and not (cluster / "real.pgrescue-restore.json").exists():
                aside(cluster)  # the play that was cut off in the middle of it, run again
            back(cluster)
        assert {path: text for path, text in snapshot(cluster).items() if ".failed-" not in path} == before, f"after {number} operations"
        for left_over in cluster.glob("*.failed-*"):
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
        if finished:
            assert number > 10
            return
        number += 1


def test_journal_is_whole_or_absent(tmp_path):
    path = str(tmp_path / "x.json")
    _aside.write_json(path, dict(a=1))
    assert _aside.read_json(path) == dict(a=1)
    (tmp_path / "x.json").write_text("{")
    assert _aside.read_json(path) is None
    assert os.listdir(tmp_path) == ["x.json"]
