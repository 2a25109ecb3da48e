# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery marker: whole or not there, and whose it is."""
from __future__ import annotations

import json
import os
import stat

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _fence as fence
from ansible_collections.pgrescue.barman.plugins.modules.barman_fence import check_removal, wanted_marker

TARGET = dict(type="time", value="2026-09-15T14:30:00+02:00")


def marker(**changes):
    return dict(fence.new_marker("main", "maria@controller", "1", dict(target=TARGET)), **changes)


def params(**changes):
    return dict(dict(server="main", holder="maria@controller", run_id="1", details=dict(target=TARGET)), **changes)


def test_there_and_back(tmp_path):
    home = str(tmp_path)
    assert fence.read_marker(home, "main") is None
    fence.create_marker(home, marker())
    assert fence.read_marker(home, "main") == marker(since=fence.read_marker(home, "main")["since"])
    assert fence.read_marker(home, "other") is None
    directory = tmp_path / ".pgrescue"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "main.recovery.json").stat().st_mode) == 0o600
    fence.write_marker(home, marker(phase="restore"))
    assert fence.read_marker(home, "main")["phase"] == "restore"
    fence.remove_marker(home, "main")
    fence.remove_marker(home, "main")
    assert os.listdir(directory) == []


def test_the_second_to_come_is_told_who_was_first(tmp_path):
    fence.create_marker(str(tmp_path), marker(phase="aside"))
    with pytest.raises(fence.FenceError, match=r"maria@controller since .*, now in phase aside \(target: time 2026"):
        fence.create_marker(str(tmp_path), marker(holder="joe"))
    assert fence.read_marker(str(tmp_path), "main")["holder"] == "maria@controller"
    assert os.listdir(tmp_path / ".pgrescue") == ["main.recovery.json"]


@pytest.mark.parametrize("broken", ["link", "rename", "fsync"])
def test_no_half_marker(tmp_path, monkeypatch, broken):
    def fail(*args):
        raise OSError(28, "No space left on device")

    fence.create_marker(str(tmp_path), marker())
    monkeypatch.setattr(fence.os, broken, fail)
    with pytest.raises(OSError):
        fence.write_marker(str(tmp_path), marker(phase="x")) if broken != "link" else fence.create_marker(str(tmp_path), marker(server="other"))
    assert fence.read_marker(str(tmp_path), "main")["phase"] is None
    assert fence.read_marker(str(tmp_path), "other") is None


def test_a_foreign_file_is_named(tmp_path):
    (tmp_path / ".pgrescue").mkdir()
    (tmp_path / ".pgrescue" / "main.recovery.json").write_text("{")
    with pytest.raises(fence.FenceError, match="is not JSON"):
        fence.read_marker(str(tmp_path), "main")


def test_unwritable_home(tmp_path):
    with pytest.raises(fence.FenceError, match="become_user=barman"):
        fence.create_marker("/proc/nowhere", marker())


def test_every_marker_has_all_keys(tmp_path):
    (tmp_path / ".pgrescue").mkdir()
    (tmp_path / ".pgrescue" / "main.recovery.json").write_text(json.dumps(dict(server="main", holder="x", own=1)))
    found = fence.read_marker(str(tmp_path), "main")
    assert set(fence.KEYS) <= set(found) and found["own"] == 1 and found["stamp"] is None


def test_new_update_adopt():
    found, adopted = wanted_marker(params(), None)
    assert (found["holder"], found["phase"], adopted) == ("maria@controller", None, False)
    found, adopted = wanted_marker(params(details=dict(phase="restore")), marker())
    assert (found["phase"], found["target"], adopted) == ("restore", TARGET, False)
    left = marker(run_id="0", phase="restore", stamp="20260915T123000Z")
    assert wanted_marker(params(details=dict(target=TARGET, phase="fence", stamp="new")), left) == (left, True)


@pytest.mark.parametrize("changes", [dict(holder="joe"), dict(details=dict(target=dict(type="latest"))), dict(details={})])
def test_another_run_is_refused(changes):
    with pytest.raises(fence.FenceError, match="is being recovered by maria@controller"):
        wanted_marker(params(run_id="2", **changes), marker())


def test_own_keys_are_not_details():
    with pytest.raises(fence.FenceError, match="holder, since"):
        wanted_marker(params(details=dict(since="1970", holder="joe")), None)


def test_removal():
    check_removal(params(), None)
    check_removal(dict(run_id=None, holder=None), marker())
    check_removal(dict(run_id="1", holder=None), marker())
    for wrong in (dict(run_id="2", holder=None), dict(run_id=None, holder="joe")):
        with pytest.raises(fence.FenceError, match="only"):
            check_removal(wrong, marker())


def test_a_clone_holds_only_its_place(tmp_path):
    home = str(tmp_path)
    fence.create_marker(home, marker(clone="db2:/srv/a"))
    assert fence.read_marker(home, "main") is None
    fence.create_marker(home, marker())
    fence.create_marker(home, marker(clone="db2:/srv/b"))
    with pytest.raises(fence.FenceError, match="recovered to db2:/srv/a by"):
        fence.create_marker(home, marker(clone="db2:/srv/a"))
    fence.remove_marker(home, "main")
    assert fence.read_marker(home, "main", "db2:/srv/a")["clone"] == "db2:/srv/a"
