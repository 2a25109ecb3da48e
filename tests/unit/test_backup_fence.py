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
from ansible_collections.pgrescue.barman.plugins.module_utils import _incident as incident
from ansible_collections.pgrescue.barman.plugins.modules.barman_fence import check_removal, wanted_marker, with_pin

TARGET = dict(type="time", value="2026-09-15T14:30:00+02:00")


def marker(**changes):
    return dict(fence.new_marker("main", "maria@controller", "1", dict(target=TARGET)), **changes)


def params(**changes):
    return dict(dict(server="main", holder="maria@controller", run_id="1", takes_over=None, details=dict(target=TARGET)), **changes)


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
    with pytest.raises((OSError, fence.FenceError), match="No space left"):
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


def test_the_one_who_paused_moves_on_and_nobody_else():
    other = dict(target=dict(type="time", value="2026-09-15T14:40:00+02:00"))
    assert wanted_marker(params(run_id="2", details=other), marker(phase="paused"))[1]
    with pytest.raises(fence.FenceError, match="commit.yml makes it final, undo.yml takes it back"):
        wanted_marker(params(run_id="2", holder="joe", details=other), marker(phase="paused"))


@pytest.mark.parametrize("clone, undo", [(None, "or undo.yml takes it back"), ("desk:/srv/clone", "or undo.yml with the same destination takes it back")])
def test_plain_undo_is_the_way_back_of_the_server_and_not_of_its_clone(clone, undo):
    with pytest.raises(fence.FenceError, match=f"repeats the same recover.yml command.*{undo}"):
        wanted_marker(params(holder="joe", run_id="2", clone=clone), marker(clone=clone, phase="commit"))


def test_a_colleague_takes_over_and_the_first_run_has_lost_it():
    left = marker(phase="paused")
    found, adopted = wanted_marker(params(holder="joe", run_id="2", takes_over="1", details=dict(phase="commit")), left)
    assert adopted and found == dict(left, run_id="2", phase="commit") and found["holder"] == "maria@controller"
    assert wanted_marker(params(holder="joe", run_id="2", takes_over="1", details=dict(phase="serve")), found) == (dict(found, phase="serve"), False)
    for late in (params(holder="joe", run_id="3", takes_over="1"), params(holder="maria@controller", run_id="1", takes_over="0")):
        with pytest.raises(fence.FenceError, match="is being recovered by maria"):
            wanted_marker(late, found)
    with pytest.raises(fence.FenceError, match="somebody else has ended it"):
        wanted_marker(params(run_id="2", takes_over="1"), None)


def test_a_run_whose_marker_was_ended_by_somebody_else_does_not_make_it_again():
    """It says that it has had it by naming itself."""
    mine = params(run_id="2", takes_over="2", details=dict(phase="replay"))
    with pytest.raises(fence.FenceError, match="somebody else has ended it meanwhile"):
        wanted_marker(mine, None)
    found, adopted = wanted_marker(mine, marker(run_id="2"))
    assert (found["phase"], adopted) == ("replay", False)


def test_records_there_and_back(tmp_path):
    home = str(tmp_path)
    assert incident.read_records(home, "main") == []
    first = incident.merge([], "main", dict(stamp="20260915T123000Z", outcome="committed", reason="ticket\n4711", target=dict(type="time", value="x")))
    incident.write_record(home, first)
    incident.write_record(home, incident.merge([], "main", dict(stamp="20260916T123000Z", outcome="failed")))
    incident.write_record(home, incident.merge([], "main.old", dict(stamp="20260917T123000Z")))
    fence.create_marker(home, marker())
    (tmp_path / ".pgrescue" / "main.20260918T123000Z.json").write_text("{")
    found = incident.read_records(home, "main")
    assert [one["outcome"] for one in found] == ["failed", "committed"]
    undone = incident.merge(found, "main", dict(stamp="20260915T123000Z", outcome="undone", server="main"))
    assert undone == dict(first, outcome="undone")
    files = sorted((tmp_path / ".pgrescue").glob("main.2026091[56]*"))
    assert [(file.suffix, stat.S_IMODE(file.stat().st_mode)) for file in files] == [(".json", 0o600), (".md", 0o600)] * 2
    assert files[1].read_text() == (
        "# Recovery of main, 20260915T123000Z\n\n- **State:** committed\n- **Server:** main\n- **Why:** ticket 4711\n- **Asked for:** type time, value x\n")


@pytest.mark.parametrize("stamp", [None, "", "2026", "../../x", "20260915T123000Z/"])
def test_a_record_needs_its_instant(stamp):
    with pytest.raises(fence.FenceError, match="not an instant"):
        incident.record_path("/nowhere", "main", stamp)


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


def test_what_the_others_hold(tmp_path):
    home = str(tmp_path)
    for changes in ({}, dict(clone="a:/one"), dict(clone="b:/two"), dict(server="other")):
        fence.create_marker(home, marker(**changes))
    assert [other.get("clone") for other in fence.other_markers(home, "other")] == []
    assert sorted(other["clone"] for other in fence.other_markers(home, "main")) == ["a:/one", "b:/two"]
    assert sorted(other.get("clone") or "" for other in fence.other_markers(home, "main", "a:/one")) == ["", "b:/two"]


@pytest.mark.parametrize("mine, others, found", [
    ({}, [], "full"),
    ({}, [dict(pinned="20260915T120000", keep_found="none")], "none"),
    ({}, [dict(pinned="20260914T120000", keep_found="none")], "full"),
    (dict(pinned="20260915T120000", keep_found="standalone"), [dict(pinned="20260915T120000", keep_found="none")], "standalone"),
])
def test_how_a_pinned_backup_was_kept(mine, others, found):
    after = with_pin(marker(**mine), dict(backup_id="20260915T120000", keep="full"), [marker(**other) for other in others])
    assert (after["pinned"], after["keep_found"]) == ("20260915T120000", found)
