# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster is set aside and brought back, cut off at every file operation; it is never lost and never there twice."""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _aside, _directory, _filesystem, _postgres
from ansible_collections.pgrescue.barman.plugins.module_utils._aside import Aside, identity, left_over
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import PostgresError

STAMP = "20260915T123000Z"
OLD = {"PG_VERSION": "17\n", "base/1/16384": "old rows", "global/pg_control": "old", "postgresql.auto.conf": "old"}
EARLIER = "pgsql_tmp.aside-20250101T000000Z"
# Which directories are roots of mounted file systems.
WHOLE, INSIDE, WAL_MOUNT = (), ("real", "wal", "space"), ("real/pg_wal",)


class Cut(Exception):
    """The host dies here."""


def mount(monkeypatch, *paths):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no crash of the host is tried here, and the disk is slow
    points = {"/": "ext4", **{str(path): "xfs" for path in paths}}
    for module in (_directory, _filesystem, _postgres):
        monkeypatch.setattr(module, "mount_points", lambda mounts=None: points)


@pytest.fixture(params=[WHOLE, INSIDE, ("real",), ("space",), WAL_MOUNT], ids=lambda names: "+".join(names) or "none")
def mounted(request, monkeypatch, tmp_path):
    mount(monkeypatch, *(tmp_path / name for name in request.param))
    return request.param


@pytest.fixture
def cluster(mounted, tmp_path):
    """A cluster behind a symlink, with its WAL elsewhere and a tablespace."""
    for name in ("real/global", "real/base/1", "real/pg_tblspc", "wal", "space"):
        (tmp_path / name).mkdir(parents=True)
    data = tmp_path / "real"
    for name, text in OLD.items():
        (data / name).write_text(text)
    if mounted == WAL_MOUNT:
        (tmp_path / "wal").rename(data / "pg_wal")
    else:
        (data / "pg_wal").symlink_to("../wal")
    (data / "pg_wal" / "000000010000000000000001").write_text("wal")
    (data / "pg_wal" / "archive_status").mkdir()
    (tmp_path / "space" / "PG_17").mkdir()
    (tmp_path / "space" / "PG_17" / "16401").write_text("rows")
    (data / "pg_tblspc" / "16400").symlink_to(tmp_path / "space")
    (tmp_path / "main").symlink_to(data)
    for name in mounted:
        (tmp_path / name / "lost+found").mkdir()
        (tmp_path / name / EARLIER).mkdir()
    return tmp_path


def aside(cluster, **named):
    one = Aside(str(cluster / "main"), STAMP)
    journal = one.plan("main", named, True)
    pending = one.pending(journal)
    one.away(journal)
    return pending


def place(cluster):
    one = Aside(str(cluster / "main"), STAMP)
    pairs = one.unplaced()
    if pairs:
        one.place()
    return pairs


def back(cluster):
    one = Aside(str(cluster / "main"), STAMP)
    steps = one.way_back()
    return one.back(steps) if steps else None


def places(cluster):
    """Where the restore writes to, by kind."""
    return {one["kind"]: one["restore"] for one in Aside(str(cluster / "main"), STAMP).journal["paths"]}


def restore(cluster, complete=True):
    """What barman_restore leaves."""
    to = places(cluster)
    data, space = (pathlib.Path(to[kind]) for kind in ("data", "tablespace"))
    inodes = {}
    for one in (data, space):
        one.mkdir(exist_ok=True)
        inodes[str(one)] = identity(str(one))
    marker = pathlib.Path(f"{data}.pgrescue-restore.json")
    marker.write_text(json.dumps(dict(complete=False, request={}, inodes=inodes)))
    for name in ("global", "base/1", "pg_tblspc", "pg_wal"):
        (data / name).mkdir(parents=True)
    for name in OLD:
        (data / name).write_text("new")
    (data / "pg_tblspc" / "16400").symlink_to(space)
    (data / "pg_wal" / "000000010000000000000009").write_text("new wal")
    (data / "pg_wal" / "archive_status").mkdir()
    (data / "postgresql.auto.conf").write_text(f"restore_command = 'cp {data}/barman_wal/%f %p'")
    (data / "backup_label").write_text("")
    (space / "PG_17").mkdir()
    (space / "PG_17" / "16401").write_text("new rows")
    if complete:
        marker.write_text(json.dumps(dict(complete=True, request={}, inodes=inodes)))


def promote(cluster):
    """What PostgreSQL leaves."""
    (cluster / "real" / "backup_label").rename(cluster / "real" / "backup_label.old")
    (cluster / "real" / "postmaster.opts").write_text("")


def snapshot(cluster, inside=""):
    """Every file with its text, every link with its target."""
    found = {}
    for top, names, files in os.walk(cluster / inside):
        for name in files + names:
            path = os.path.join(top, name)
            if os.path.islink(path):
                found[os.path.relpath(path, cluster)] = os.readlink(path)
            elif name in files:
                with open(path, encoding="utf-8") as file:
                    found[os.path.relpath(path, cluster)] = file.read()
    return found


def set_aside(cluster):
    return next(one for one in (cluster / f"real.aside-{STAMP}", cluster / "real" / f"pgsql_tmp.aside-{STAMP}") if one.exists())


def test_there_and_back(cluster, mounted):
    before = snapshot(cluster)
    assert [one["kind"] for one in aside(cluster)] == ["data", "wal", "tablespace"]
    assert all((set_aside(cluster) / name).read_text() == text for name, text in OLD.items())
    assert (cluster / "main").is_symlink()
    for kind, path in places(cluster).items():
        assert path is None if kind == "wal" else os.listdir(path) == []
    if mounted == INSIDE:
        assert set(os.listdir(cluster / "real")) == {"lost+found", EARLIER, f"pgsql_tmp.aside-{STAMP}", f"pgsql_tmp.restore-{STAMP}"}
    assert aside(cluster) == []
    assert back(cluster) == []
    assert snapshot(cluster) == before
    assert back(cluster) is None


def test_what_was_restored_goes(cluster):
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster, complete=False)
    if any("pgsql_tmp" in path for path in places(cluster).values() if path):
        with pytest.raises(PostgresError, match="no complete restore"):
            place(cluster)
    assert back(cluster) == []
    assert snapshot(cluster) == before


def test_what_was_restored_takes_the_place(cluster, mounted):
    """The cluster is where it was, with its WAL and its tablespace where they were, and nothing names where Barman wrote to."""
    aside(cluster)
    restore(cluster)
    assert place(cluster)
    assert place(cluster) == []
    data = cluster / "real"
    assert all((data / name).read_text() == "new" for name in OLD if name != "postgresql.auto.conf")
    assert (data / "postgresql.auto.conf").read_text() == f"restore_command = 'cp {data}/barman_wal/%f %p'"
    assert os.readlink(data / "pg_tblspc" / "16400") == str(cluster / "space")
    assert (cluster / "space" / "PG_17" / "16401").read_text() == "new rows"
    assert (data / "pg_wal").is_symlink() == (mounted != WAL_MOUNT)
    assert os.path.realpath(data / "pg_wal") == str(data / "pg_wal" if mounted == WAL_MOUNT else cluster / "wal")
    assert (data / "pg_wal" / "000000010000000000000009").read_text() == "new wal"
    assert not (data / "pg_wal" / "000000010000000000000001").exists()
    assert [one for one in cluster.rglob("*") if "placing" in one.name or "restore-" in one.name and one.is_dir() or one.name.startswith("pgsql_tmp.wal")] == []


def test_what_was_placed_goes(cluster):
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster)
    place(cluster)
    assert back(cluster) == []
    assert snapshot(cluster) == before


def settle(cluster, expires=None):
    one = Aside(str(cluster / "main"), STAMP)
    journal = one.settled(expires)
    if journal:
        one.settle(journal)
    return journal


def test_what_stays_can_still_be_taken_back(cluster):
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster)
    place(cluster)
    assert settle(cluster) is None  # it was never promoted
    assert left_over(str(cluster / "real")) == []  # nor is it over, and whose the others are is not known
    promote(cluster)
    journal = settle(cluster, "2026-09-22T12:30:00+00:00")
    told = left_over(str(cluster / "real"))
    assert [one["path"] for one in told] == sorted(one["aside"] for one in Aside(str(cluster / "main"), STAMP).journal["paths"])
    assert {(one["expires"], one["expired"]) for one in told} == {(journal and "2026-09-22T12:30:00+00:00", bool(journal))}
    assert settle(cluster, "2026-09-22T12:30:00+00:00") is None
    if journal:  # else the data directory cannot be renamed, and its marker stays
        assert not [path for path in snapshot(cluster) if "pgrescue-restore" in path]
        assert journal["expires"] == "2026-09-22T12:30:00+00:00" == Aside(str(cluster / "main"), STAMP).journal["expires"]
    assert len(back(cluster)) == 3
    assert {path: text for path, text in snapshot(cluster).items() if ".failed-" not in path} == before


def test_what_was_promoted_stays(cluster):
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster)
    place(cluster)
    promote(cluster)
    kept = back(cluster)
    assert len(kept) == 3 and all(f"failed-{STAMP}" in path for path in kept)
    assert left_over(str(cluster / "real")) == [dict(path=path, expires=None, expired=False) for path in sorted(kept)]
    after = snapshot(cluster)
    assert sorted(text for path, text in after.items() if ".failed-" in path and path.endswith(("16384", "16401", "0009"))) == ["new", "new rows", "new wal"]
    assert not [path for path in after if "pgrescue-restore" in path]
    assert {path: text for path, text in after.items() if ".failed-" not in path} == before


def led(cluster, directory):
    """The texts that the links of a data directory lead to."""
    return {
        str(path.relative_to(directory)): (path / name).read_text()
        for path, name in ((directory / "pg_tblspc" / "16400", "PG_17/16401"), (directory / "pg_wal", "000000010000000000000001"),
                           (directory / "pg_wal", "000000010000000000000009")) if path.is_symlink() and (path / name).exists()
    }


def test_who_looks_into_what_lies_beside_finds_its_own_files(cluster):
    """PostgreSQL started on the old data, or on what was kept, must not work on the tablespaces and the WAL of what serves."""
    aside(cluster)
    restore(cluster)
    place(cluster)
    promote(cluster)
    linked = (cluster / "real" / "pg_wal").is_symlink()
    assert led(cluster, set_aside(cluster)) == {"pg_tblspc/16400": "rows", **({"pg_wal": "wal"} if linked else {})}
    assert led(cluster, cluster / "real") == {"pg_tblspc/16400": "new rows", **({"pg_wal": "new wal"} if linked else {})}
    kept = next(pathlib.Path(path) for path in back(cluster) if path.startswith(str(cluster / "real")))
    assert led(cluster, kept) == {"pg_tblspc/16400": "new rows", **({"pg_wal": "new wal"} if linked else {})}
    assert led(cluster, cluster / "real") == {"pg_tblspc/16400": "rows", **({"pg_wal": "wal"} if linked else {})}


def test_what_an_earlier_version_has_begun_to_set_aside_comes_back_whole(cluster):
    """Its journal does not tell how the links were."""
    before = snapshot(cluster)
    one = Aside(str(cluster / "main"), STAMP)
    journal = one.plan("main", {}, True)
    del journal["links"]
    one.away(journal)
    assert back(cluster) == [] and snapshot(cluster) == before


def test_the_old_data_does_not_come_back_while_somebody_looks_into_it(cluster, monkeypatch):
    aside(cluster)
    old = str(set_aside(cluster))
    before = snapshot(cluster)
    monkeypatch.setattr(_postgres, "postmaster", lambda path: 4711 if path == old else None)
    with pytest.raises(PostgresError, match="process 4711.*Stop it there first: pg_ctl -D .*aside-.* stop. Nothing was changed") as caught:
        back(cluster)
    assert "running" not in caught.value.details
    assert snapshot(cluster) == before


def test_a_standby_that_was_rebuilt_and_never_promoted_is_not_kept(cluster):
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster)
    place(cluster)
    promote(cluster)
    (cluster / "real" / "standby.signal").write_text("")
    assert Aside(str(cluster / "main"), STAMP).occupant() == "following"
    settle(cluster)
    assert back(cluster) == []
    assert snapshot(cluster) == before


@pytest.mark.parametrize("kind", ["wal", "tablespace"])
def test_without_a_part_of_the_old_data_there_is_no_way_back(cluster, kind):
    """Somebody deleted what was set aside of it, for its room: the old data directory must not come back to the WAL or rows of the new one."""
    aside(cluster)
    restore(cluster)
    place(cluster)
    promote(cluster)
    gone = next(one["aside"] for one in Aside(str(cluster / "main"), STAMP).journal["paths"] if one["kind"] == kind)
    shutil.rmtree(gone)
    before = snapshot(cluster)
    with pytest.raises(PostgresError, match=f"{gone}, which is no longer there"):
        back(cluster)
    assert snapshot(cluster) == before


def test_a_second_recovery_and_both_ways_back(cluster):
    """What came from an earlier recovery keeps its proof, so that it can be taken back as well."""
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster)
    place(cluster)
    promote(cluster)
    between = snapshot(cluster)
    later = Aside(str(cluster / "main"), "20260915T130000Z")
    later.away(later.plan("main", {}, True))
    later = Aside(str(cluster / "main"), "20260915T130000Z")
    later.back(later.way_back())
    assert snapshot(cluster) == between
    back(cluster)
    assert {path: text for path, text in snapshot(cluster).items() if ".failed-" not in path} == before


def test_the_foreign_is_refused(cluster):
    aside(cluster)
    (cluster / "real" / "PG_VERSION").write_text("17\n")
    before = snapshot(cluster)
    with pytest.raises(PostgresError, match="no restore of this collection"):
        back(cluster)
    marker = pathlib.Path(places(cluster)["data"] + ".pgrescue-restore.json")
    marker.write_text(json.dumps(dict(complete=True, inodes={str(cluster / "real"): "1:1"}, placed="1:1")))
    with pytest.raises(PostgresError, match="no restore of this collection"):
        back(cluster)
    marker.unlink()
    assert snapshot(cluster) == before


def test_a_cluster_made_in_the_place_is_foreign(cluster):
    """Somebody emptied the place after the recovery and made another cluster there."""
    aside(cluster)
    restore(cluster)
    place(cluster)
    (cluster / "real" / "global").rename(cluster / "gone")
    (cluster / "real").rename(cluster / "other") if _is_whole(cluster) else None
    (cluster / "real" / "global").mkdir(parents=True)
    with pytest.raises(PostgresError, match="no restore of this collection"):
        back(cluster)


def _is_whole(cluster):
    return (cluster / f"real.aside-{STAMP}").exists()


def test_a_foreign_tablespace_is_refused(cluster):
    aside(cluster)
    restore(cluster)
    place(cluster)
    marker_path = pathlib.Path(places(cluster)["data"] + ".pgrescue-restore.json")
    marker = json.loads(marker_path.read_text())
    del marker["inodes"][places(cluster)["tablespace"]]
    marker_path.write_text(json.dumps(marker))
    with pytest.raises(PostgresError, match="space lies something"):
        back(cluster)
    assert (cluster / "real" / "base" / "1" / "16384").read_text() == "new"


def test_a_tablespace_that_only_replay_has_made_goes(cluster):
    """The backup does not have it; WAL makes it after the restore, where it was."""
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster)
    space = pathlib.Path(places(cluster)["tablespace"])
    marker_path = pathlib.Path(places(cluster)["data"] + ".pgrescue-restore.json")
    marker = json.loads(marker_path.read_text())
    del marker["inodes"][str(space)]
    marker_path.write_text(json.dumps(marker))
    shutil.rmtree(space / "PG_17")
    place(cluster)
    (cluster / "space" / "PG_17_202406281" / "5").mkdir(parents=True)
    (cluster / "space" / "notes").write_text("of somebody")
    with pytest.raises(PostgresError, match="space lies something"):
        back(cluster)
    (cluster / "space" / "notes").unlink()
    assert back(cluster) == []
    assert snapshot(cluster) == before


def test_a_clone_sets_nothing_aside(cluster):
    """Another directory, and tablespaces that are those of its origin."""
    before = snapshot(cluster)
    clone = Aside(str(cluster / "clone"), STAMP)
    with pytest.raises(PostgresError, match="space is not empty, and nothing may be set aside"):
        clone.plan("main", {"space": str(cluster / "space")}, False, empty=True)
    assert len(clone.plan("main", {"space": str(cluster / "elsewhere")}, False, empty=True)["paths"]) == 2
    assert snapshot(cluster) == before


def test_a_running_postgresql_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(_postgres, "postmaster", lambda path: 4711)
    before = snapshot(cluster)
    with pytest.raises(PostgresError, match="process 4711"):
        aside(cluster)
    assert snapshot(cluster) == before


@pytest.mark.parametrize("point, says", [("real/base/1/x", "another file system is mounted below it"), ("space/PG_17", "mounted below it")])
@pytest.mark.parametrize("mounted", [WHOLE], indirect=True)
def test_a_mount_point_below_is_refused(cluster, monkeypatch, point, says):
    mount(monkeypatch, cluster / point)
    before = snapshot(cluster)
    with pytest.raises(PostgresError, match=says):
        aside(cluster)
    assert snapshot(cluster) == before


@pytest.mark.parametrize("link, directory, says", [
    ("16390", "space/inner", "space lies above .*/space/inner, and both belong to the cluster"),
    ("16410", "", "lies above .*/real, and both belong to the cluster"),
])
@pytest.mark.parametrize("mounted", [WHOLE], indirect=True)
def test_a_directory_above_another_one_is_refused(cluster, link, directory, says):
    """It would carry the other one away with it."""
    (cluster / directory).mkdir(exist_ok=True)
    (cluster / "real" / "pg_tblspc" / link).symlink_to(cluster / directory)
    before = snapshot(cluster)
    with pytest.raises(PostgresError, match=says):
        aside(cluster)
    assert snapshot(cluster) == before


@pytest.mark.parametrize("mounted", [WHOLE], indirect=True)
def test_a_tablespace_that_two_clusters_share_is_refused(cluster):
    (cluster / "space" / "PG_18_202506291").mkdir()
    before = snapshot(cluster)
    with pytest.raises(PostgresError, match="another cluster's files lie in it too .PG_18_202506291."):
        aside(cluster)
    assert snapshot(cluster) == before
    (cluster / "space" / "PG_18_202506291").rename(cluster / "space" / "PG_17_202406281")
    aside(cluster)


@pytest.mark.parametrize("mounted", [WHOLE], indirect=True)
def test_without_the_right_to_rename(cluster, monkeypatch):
    """A directory above which this user must not write is emptied as a mount point is; one in which it must not write is refused."""
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(cluster) and allowed(path, mode))
    before = snapshot(cluster)
    aside(cluster)
    restore(cluster)
    place(cluster)
    assert (cluster / "real" / f"pgsql_tmp.aside-{STAMP}" / "base" / "1" / "16384").read_text() == "old rows"
    back(cluster)
    assert snapshot(cluster) == before
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(cluster / "space") and allowed(path, mode))
    with pytest.raises(PostgresError, match="space cannot be set aside, because this user must not write in it"):
        aside(cluster)
    assert snapshot(cluster) == before


@pytest.mark.parametrize("mounted", [WHOLE, INSIDE], indirect=True)
def test_a_clone_is_left_for_the_restore(cluster, monkeypatch):
    """Relation files only, and marked as ours, so that the restore takes them and the way back removes them."""
    for name in ("base/pgsql_tmp/pgsql_tmp1.0", "base/1/pg_internal.init", "base/1/t3_16385"):
        (cluster / "real" / name).parent.mkdir(exist_ok=True)
        (cluster / "real" / name).write_text("not in a backup")
    os.utime(cluster / "real" / "base" / "1" / "16384", ns=(1, 1234567890123456789))
    before = snapshot(cluster)
    one = Aside(str(cluster / "main"), STAMP)
    with pytest.raises(PostgresError, match="does not clone files"):
        one.plan("main", {}, True, clone=True)
    assert snapshot(cluster) == before
    # What the kernel does on XFS and btrfs; the lab tries it there.
    monkeypatch.setattr(_filesystem, "reflink", lambda path: True)
    monkeypatch.setattr(_filesystem.fcntl, "ioctl", lambda new, request, old: new.write(os.pread(old, 100, 0)))
    for _again in range(2):
        one = Aside(str(cluster / "main"), STAMP)
        one.away(one.plan("main", {}, True, clone=True))
    to = {kind: pathlib.Path(path) for kind, path in places(cluster).items() if path}
    assert [path.relative_to(to["data"]).as_posix() for path in to["data"].rglob("*") if path.is_file()] == ["base/1/16384"]
    assert (to["data"] / "base" / "1" / "16384").stat().st_mtime_ns == 1234567890123456789
    assert (to["tablespace"] / "PG_17" / "16401").read_text() == "rows"
    marker = json.loads(pathlib.Path(f"{to['data']}.pgrescue-restore.json").read_text())
    assert marker == dict(complete=False, request=None, inodes={str(path): identity(str(path)) for path in to.values()})
    back(cluster)
    assert snapshot(cluster) == before


@pytest.mark.parametrize("where", [(), ("real",), ("real", "space")])
@pytest.mark.parametrize("exists", [False, True])
def test_a_lost_host(tmp_path, monkeypatch, exists, where):
    """Nothing to set aside is noted, and back removes what was restored."""
    (tmp_path / "main").symlink_to(tmp_path / "real")
    (tmp_path / "space" / "PG_17").mkdir(parents=True)
    (tmp_path / "space" / "PG_17" / "16401").write_text("rows of a lost cluster")
    if exists or where:
        (tmp_path / "real").mkdir()
    mount(monkeypatch, *(tmp_path / name for name in where))
    for name in where:
        (tmp_path / name / "lost+found").mkdir()
    before, there = snapshot(tmp_path), (tmp_path / "real").exists()
    assert [one["kind"] for one in aside(tmp_path, history=str(tmp_path / "space"))] == ["data", "tablespace"]
    assert aside(tmp_path) == []
    assert Aside(str(tmp_path / "main"), STAMP).journal["empty"]
    restore(tmp_path)
    place(tmp_path)
    assert (tmp_path / "real" / "global" / "pg_control").read_text() == "new"
    assert (tmp_path / "space" / "PG_17" / "16401").read_text() == "new rows"
    assert back(tmp_path) == []
    assert (tmp_path / "real").exists() == there
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_place_for_a_tablespace(tmp_path, monkeypatch, exists):
    """What was restored to an empty or absent directory goes again."""
    mount(monkeypatch)
    (tmp_path / "main").mkdir()
    if exists:
        (tmp_path / "space").mkdir()
    aside(tmp_path, history=str(tmp_path / "space"))
    assert (tmp_path / "space").exists() == exists
    restore(tmp_path)
    place(tmp_path)
    assert (tmp_path / "space" / "PG_17" / "16401").read_text() == "new rows"
    back(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["main", "space"] if exists else ["main"]


def test_no_such_stamp(cluster):
    aside(cluster)
    with pytest.raises(PostgresError, match=STAMP):
        Aside(str(cluster / "main"), "20270101T000000Z").way_back()
    with pytest.raises(PostgresError, match="Nothing was set aside"):
        Aside(str(cluster / "main"), "20270101T000000Z").unplaced()


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

    operations = [(os, name) for name in ("rename", "mkdir", "rmdir", "replace", "unlink", "symlink")]
    for module, name in [*operations, (shutil, "rmtree"), (shutil, "copytree")]:
        monkeypatch.setattr(module, name, limited(getattr(module, name)))


def one_intact(cluster):
    """The old cluster is there exactly once, and PostgreSQL cannot be started on half of it."""
    everything = snapshot(cluster)
    for name, text in OLD.items():
        found = [path for path, one in everything.items() if path.endswith("/" + name) and one == text]
        assert len(found) == 1 and not any(word in found[0] for word in ("restore-", "placing-", "removing-", "failed-")), f"{name}: {found}"
    for text in ("old", "new"):
        if everything.get("real/global/pg_control") == text:
            assert all(everything.get(f"real/{name}", "")[:3] == (one if text == "old" else text)[:3] for name, one in OLD.items() if "auto.conf" not in name)


@pytest.mark.parametrize("promoted", [False, True])
def test_cut_off_anywhere(cluster, monkeypatch, promoted):
    """At every point exactly one intact cluster, and the same call again finishes."""
    before, number = snapshot(cluster), 0
    while True:
        restored = backwards = False
        with monkeypatch.context() as patch:
            cut_after(patch, number)
            try:
                aside(cluster)
                restore(cluster)
                restored = True
                place(cluster)
                if promoted:
                    promote(cluster)
                backwards = True
                back(cluster)
                finished = True
            except Cut:
                finished = False
        one_intact(cluster)
        if not finished:
            # What a play does that is run again: it goes on, or takes everything back.
            one = Aside(str(cluster / "main"), STAMP)
            if number % 2 and one.journal and one.data.is_away() and not backwards:
                aside(cluster)
                if restored:
                    if one.unplaced():
                        place(cluster)
                    one_intact(cluster)
            elif not restored:
                aside(cluster)
            back(cluster)
        assert {path: text for path, text in snapshot(cluster).items() if ".failed-" not in path} == before, f"after {number} operations"
        for left_over in [*cluster.rglob("*.failed-*")]:
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


@pytest.mark.parametrize("born, told", [
    ("2523170:1795851947", "2523170:1795851947"), ("2523170:10", "2523170:10"), ("7:0", "66:7"), ("7:-", "66:7"), ("7:?", "66:7"),
])
def test_the_number_of_a_device_counts_only_where_there_are_no_births(tmp_path, monkeypatch, born, told):
    """Another host: when it has started again, its devices may have other numbers."""
    (tmp_path / "stat").write_text(f"#!/bin/sh\n[ \"$3\" = %i:%W ] && echo {born} || echo 66:7\n")
    (tmp_path / "stat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert identity(str(tmp_path)) == told


def test_identity(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    known = identity(str(one))
    one.rename(tmp_path / "renamed")
    assert identity(str(tmp_path / "renamed")) == known != identity(str(other)) and identity(str(one)) is None


def test_an_identity_that_cannot_be_told_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "stat").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "stat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(subprocess.CalledProcessError):
        identity(str(tmp_path))
