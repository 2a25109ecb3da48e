# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of recorded Barman homes: two recoveries, so a tree of three branches; then with parts damaged."""
from __future__ import annotations

import gzip
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _archive, _backups, _windows
from ansible_collections.pgrescue.barman.plugins.module_utils._archive import read_archive
from ansible_collections.pgrescue.barman.plugins.module_utils._catalog import choose_backup, reachable, read_backups, read_catalog, required_wal
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._reach import extend
from ansible_collections.pgrescue.barman.plugins.module_utils._timeline import Tree, by_timeline, is_damaged, read_timelines
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import commit_after, format_lsn, last_commit, parse_lsn, segment_name
from ansible_collections.pgrescue.barman.plugins.module_utils._windows import WalEnds

from recorded import SEGMENT_BYTES, VERSIONS, home, ledger, segment, shown


@pytest.fixture(name="world", params=VERSIONS)
def _world(request, tmp_path, recorded_wal, monkeypatch):
    recorded_wal(request.param)
    path = home(request.param, tmp_path)
    moments = {name: datetime.fromisoformat(text) for name, text in ledger(request.param).items()}

    class Clock(datetime):
        """That of the day of the recording: what a RECOVERY WINDOW holds depends on it."""

        @classmethod
        def now(cls, tz=None):
            return max(moments.values()).astimezone(tz)

    monkeypatch.setattr(_backups, "datetime", Clock)
    return SimpleNamespace(
        version=request.param, directory=tmp_path, wals=tmp_path / "main" / "wals", configuration=read_configuration(path),
        server=lambda **options: read_catalog(read_configuration(path), ["main"], **options)[0],
        moments=moments,
    )


def target(kind, **values):
    return SimpleNamespace(**dict(dict(type=kind, value=None, utc=None, timeline=None, exclusive=False), **values))


def segments(world, timeline):
    return sorted(world.wals.glob(f"{timeline:08X}*/{timeline:08X}*"))


def test_all_servers_by_name(world):
    assert [server["name"] for server in read_catalog(world.configuration)] == ["corriente", "dormida", "main"]


def test_every_field_that_list_backups_shows(world):
    ours = {backup["backup_id"]: backup for backup in world.server()["backups"]}
    theirs = shown(world.version, "list-backups-failed")["main"]
    assert list(ours) == [entry["backup_id"] for entry in reversed(theirs)]
    for entry in theirs:
        backup = ours[entry["backup_id"]]
        assert (backup["status"], backup["name"], backup["type"]) == (entry["status"], entry.get("backup_name"), entry.get("backup_type", "rsync"))
        if entry["status"] == "DONE":
            assert (backup["size_bytes"], backup["wal_bytes"]) == (entry["size_bytes"], entry["wal_size_bytes"])
            assert int(datetime.fromisoformat(backup["end_time"]).timestamp()) == int(entry["end_time_timestamp"])
            assert 500_000 < backup["copied_bytes"] < 30_000_000 and 0 < backup["copy_seconds"] < 60
            assert backup["retention_status"] in ("VALID", entry["retention_status"])


def test_every_field_that_show_backup_shows(world):
    done = [backup for backup in world.server()["backups"] if backup["status"] == "DONE"]
    assert len(done) == 3
    for backup in done:
        theirs = shown(world.version, f"show-backup-main-{backup['backup_id']}")["main"]
        base = theirs["base_backup_information"]
        assert [backup[key] for key in ("begin_lsn", "begin_wal", "end_lsn", "end_wal", "timeline")] == [
            base[key] for key in ("begin_lsn", "begin_wal", "end_lsn", "end_wal", "timeline")]
        for key in ("begin_time", "end_time"):
            assert datetime.fromisoformat(backup[key]) == datetime.fromisoformat(base[key])
        assert backup["postgresql_version"] == theirs["postgresql_version"]
        assert backup["tablespaces"] == [{"name": entry["name"], "oid": entry["oid"], "location": entry["location"]} for entry in theirs["tablespaces"]]
        assert backup["retention_status"] == theirs["catalog_information"]["retention_policy"]
        assert backup["system_identifier"] == theirs.get("system_id", backup["system_identifier"])


def test_retention_by_redundancy(world):
    server = world.configuration.server("main")
    server.options["retention_policy"] = "REDUNDANCY 2"
    ours = {backup["backup_id"]: backup["retention_status"] for backup in read_backups(server)}
    for entry in shown(world.version, "list-backups-redundancy")["main"]:
        assert ours[entry["backup_id"]] == (entry["retention_status"] if entry["retention_status"] != "-" else "VALID")


@pytest.mark.parametrize("policy, minimum, expected", [
    ("REDUNDANCY 1", 0, ["KEEP:STANDALONE", "OBSOLETE", "VALID", "-", "-"]),
    ("redundancy 1", 2, ["KEEP:STANDALONE", "VALID", "VALID", "-", "-"]),
    ("RECOVERY WINDOW OF 1 WEEKS", 0, ["KEEP:STANDALONE", "OBSOLETE", "VALID", "-", "-"]),
    ("RECOVERY WINDOW OF 1 day", 2, ["KEEP:STANDALONE", "OBSOLETE*", "VALID", "-", "-"]),
    ("", 0, [None] * 5), ("nonsense", 0, [None] * 5),
])
def test_retention_policies(world, policy, minimum, expected):
    server = world.configuration.server("main")
    server.options.update(retention_policy=policy, minimum_redundancy=str(minimum))
    later = datetime.now(timezone.utc) + timedelta(days=365)
    assert [backup["retention_status"] for backup in read_backups(server, now=later)] == expected


def test_failed_and_orphaned_backups_are_data(world):
    failed, orphan = world.server()["backups"][-2:]
    assert (failed["status"], failed["good"]) == ("FAILED", False) and failed["error"]
    assert (orphan["status"], orphan["good"], orphan["wal_bytes"]) == ("STARTED", False, None)


def test_an_empty_backup_info_is_no_backup(world):
    """Barman says EMPTY of it and goes on."""
    path = sorted(world.directory.glob("main/**/*backup.info"))[0]
    path.write_bytes(b"")
    server = world.server()
    assert [backup["status"] for backup in server["backups"][:2]] == ["EMPTY", "DONE"]
    path.unlink()
    assert world.server()["backups"][0]["backup_id"] == server["backups"][1]["backup_id"]


@pytest.mark.parametrize("text", [
    "status\n", "status=DONE\nbegin_time=yesterday\n", "status=DONE\ntimeline=x\n", "status=DONE\ntablespaces=[('a',\n",
    "status=DONE\nbegin_xlog=7\n", "\udcff",
])
def test_a_damaged_backup_info_is_data(world, text):
    path = sorted(world.directory.glob("main/**/*backup.info"))[0]
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    server = world.server()
    assert (server["backups"][0]["status"], server["backups"][0]["good"]) == ("UNREADABLE", False)
    assert str(path) in server["backups"][0]["error"]
    assert [backup["status"] for backup in server["backups"][1:3]] == ["DONE", "DONE"]


def test_keep(world):
    assert [backup["keep"] for backup in world.server()["backups"]] == ["standalone", "none", "none", "none", "none"]


def test_the_tree_of_branches(world):
    timelines = world.server()["timelines"]
    assert [(entry["timeline"], entry["parent"], entry["current"]) for entry in timelines] == [(1, None, False), (2, 1, False), (3, 1, True)]
    for entry in timelines[1:]:
        number, lsn, reason = (world.wals / f"{entry['timeline']:08X}.history").read_text().strip().split("\t")
        assert (entry["parent"], entry["switch_lsn"], entry["reason"]) == (int(number), lsn, reason)


def test_a_damaged_history_is_told_by_that_of_a_descendant(world):
    entries = world.server()["timelines"]
    own = (world.wals / "00000002.history").read_text()
    (world.wals / "00000003.history").write_text(own + "2\t0/C00200\tas if it had left timeline 2\n")
    for text in ("", "garbage\n", "1\tgarbage\n"):
        (world.wals / "00000002.history").write_text(text)
        again = world.server(windows=False)["timelines"]
        assert [(entry["timeline"], entry["parent"]) for entry in again] == [(1, None), (2, 1), (3, 2)]
        assert [again[1][key] for key in ("parent", "switch_lsn", "reason")] == [entries[1][key] for key in ("parent", "switch_lsn", "reason")]
    (world.wals / "00000003.history").unlink()
    assert [(entry["timeline"], entry["parent"]) for entry in world.server(windows=False)["timelines"]] == [(1, None), (2, None), (3, None)]


def test_windows(world):
    server = world.server()
    first, second, third = [backup for backup in server["backups"] if backup["good"]]
    assert [(window["timeline"], window["backup_ids"]) for window in server["windows"]] == [
        (1, [first["backup_id"]]), (2, [first["backup_id"], second["backup_id"]]), (3, [first["backup_id"], third["backup_id"]])]
    begins = [first["end_time"]] + [entry["begin_time"] for entry in server["timelines"][1:]]
    assert [window["begin_time"] for window in server["windows"]] == begins
    assert all(window["begin_time"] < window["end_time"] and window["note"] is None for window in server["windows"])


@pytest.mark.parametrize("moment, timeline", [("T1", 1), ("TX", 1), ("T2", 2), ("T3", 3)])
def test_each_branch_is_reached_from_the_first_backup(world, moment, timeline):
    server = world.server(include_wal=True)
    first = server["backups"][0]
    instant = world.moments[moment]
    verdict = reachable(server, instant)
    assert verdict["reachable"] and (verdict["backup_id"], verdict["timeline"]) == (first["backup_id"], timeline), verdict["why"]
    assert choose_backup(server, target("time", utc=instant))[:2] == (first, timeline)
    wal = required_wal(server, first, target("time", utc=instant), timeline)
    assert wal["missing"] == [] and wal["first"] == first["begin_wal"] and wal["bytes"] == wal["required"] * SEGMENT_BYTES


def test_a_moment_is_insisted_on_another_branch(world):
    server = world.server()
    assert reachable(server, world.moments["T1"], timeline=3)["timeline"] == 3
    assert not reachable(server, world.moments["T3"], timeline=1)["reachable"]
    assert "timeline 1 was at" in reachable(server, world.moments["T3"], timeline=1)["why"]


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
def test_the_ends_of_the_calendar_are_refused(world, moment, exclusive):
    server = world.server()
    server["windows"][0]["end_time"] = None
    backup, _timeline, why = choose_backup(server, target("time", utc=moment.replace(tzinfo=timezone.utc), exclusive=exclusive))
    assert backup is None and ("is before the end of the first good backup" if moment == datetime.min else "the last commit that can be reached") in why


def test_moments_out_of_reach(world):
    server = world.server()
    first, ends = server["backups"][0], [datetime.fromisoformat(window["end_time"]) for window in server["windows"]]
    tiny = timedelta(microseconds=1)
    before = reachable(server, datetime.fromisoformat(first["end_time"]) - tiny)
    assert not before["reachable"] and "before the end of the first good backup" in before["why"]
    assert reachable(server, datetime.fromisoformat(first["end_time"]))["reachable"]
    assert reachable(server, ends[2] - tiny)["reachable"]
    for number, end in enumerate(ends, 1):
        after = reachable(server, end)
        assert not after["reachable"] and f"timeline {number} was at {end.isoformat()}" in after["why"]
        assert f"target_latest=true{'' if number == 3 else f' target_timeline={number}'} for" in after["why"]


@pytest.mark.parametrize("kind, value", [("time", {}), ("lsn", dict(value="0/1000000")), ("latest", {}), ("immediate", {})])
def test_a_timeline_that_does_not_exist(world, kind, value):
    wanted = target(kind, timeline="99", utc=world.moments["T3"], **value)
    assert choose_backup(world.server(), wanted) == (None, 99, "there is no timeline 99 in the archive; there are: 1, 2, 3")


def test_insisting_on_a_backup(world):
    server = world.server()
    first, second, third, failed = server["backups"][:4]
    instant = datetime.fromisoformat(server["windows"][2]["end_time"]) - timedelta(microseconds=1)
    assert reachable(server, instant)["backup_id"] == third["backup_id"]
    assert reachable(server, instant, backup_id=first["backup_id"])["backup_id"] == first["backup_id"]
    for backup_id, why in ((second["backup_id"], "no whole WAL leads"), (failed["backup_id"], "status FAILED"), ("20200101T000000", "there is no backup")):
        verdict = reachable(server, instant, backup_id=backup_id)
        assert not verdict["reachable"] and why in verdict["why"]


def test_other_targets(world):
    server = world.server(include_wal=True)
    first, second, third = [backup for backup in server["backups"] if backup["good"]]
    assert choose_backup(server, target("latest"))[:2] == (third, 3)
    assert choose_backup(server, target("latest", timeline=2))[:2] == (second, 2)
    assert choose_backup(server, target("immediate"))[:2] == (third, 3)
    assert choose_backup(server, target("immediate"), first["backup_id"])[:2] == (first, 1)
    without = dict(server, windows=[dict(one, backup_ids=[name for name in one["backup_ids"] if name != third["backup_id"]]) for one in server["windows"]])
    assert choose_backup(without, target("immediate"))[:2] == (first, 1)                   # the second one is on a branch that was abandoned
    assert choose_backup(without, target("immediate"), second["backup_id"])[:2] == (second, 2)
    assert choose_backup(server, target("lsn", value=third["end_lsn"]))[:2] == (third, 3)
    assert choose_backup(server, target("lsn", value=third["begin_lsn"]))[:2] == (first, 3)
    assert choose_backup(server, target("lsn", value=server["timelines"][1]["switch_lsn"], timeline=2))[:2] == (first, 2)
    assert choose_backup(server, target("name", value="x"))[:2] == (first, 3)
    for kind, timeline, value in (("lsn", None, "F/0"), ("lsn", None, "0/28"), ("latest", 9, None), ("immediate", 9, None)):
        backup, _timeline, why = choose_backup(server, target(kind, value=value, timeline=timeline))
        assert backup is None and why
    wal = required_wal(server, third, target("immediate"), 3)
    assert (wal["first"], wal["last"], wal["required"]) == (third["begin_wal"], third["end_wal"], 1)
    assert required_wal(server, third, target("latest"), 3)["last"] == segments(world, 3)[-1].name
    assert required_wal(server, first, target("lsn", value=third["begin_lsn"]), 3)["last"] == third["begin_wal"]


def test_files_that_came_late_do_not_end_what_is_required(world):
    """As after an outage of streaming, or barman rebuild-xlogdb in a copied archive: the record at which PostgreSQL stops tells, not the file's time."""
    server = world.server(include_wal=True)
    first, _second, third = [backup for backup in server["backups"] if backup["good"]]
    for entry in server["wal"]["segments"]:
        entry["file_time"] = 4e9
    moment = target("time", utc=datetime.fromisoformat(third["end_time"]))
    assert required_wal(server, first, moment, 3)["required"] == 1
    assert required_wal(server, first, moment, 3, third["begin_lsn"])["last"] == third["begin_wal"]


def test_an_lsn_in_the_last_record_before_a_branch_is_sought_on_the_branch(world):
    """Inclusive, PostgreSQL stops after the first record that begins at the LSN or later, and on the ancestor that is an abandoned one."""
    server = world.server()
    switch = server["timelines"][1]["switch_lsn"]
    near = format_lsn(parse_lsn(switch) - 1)
    assert choose_backup(server, target("lsn", value=near, timeline=2))[1] == 2
    assert choose_backup(server, target("lsn", value=near, timeline=2, exclusive=True))[1] == 1
    assert choose_backup(server, target("lsn", value=format_lsn(parse_lsn(switch) - SEGMENT_BYTES), timeline=2))[1] == 1
    assert choose_backup(server, target("xid", value="700", timeline=2), place=near)[1] == 1
    for path in segments(world, 2):
        path.unlink()
    rebuilt(world)
    server = world.server()
    backup, timeline, why = choose_backup(server, target("lsn", value=near, timeline=2))
    assert (backup, timeline) == (None, 2) and "Type target_exclusive=true to stop before that record, or target_timeline=1" in why
    assert choose_backup(server, target("lsn", value=near, timeline=2, exclusive=True))[1] == 1
    assert choose_backup(server, target("lsn", value=near, timeline=1))[1] == 1


def rebuilt(world):
    """As 'barman rebuild-xlogdb' leaves it: what is on the disk is listed."""
    listing = next(world.wals.glob("*xlog.db"))
    kept = [line for line in listing.read_text().splitlines() if len(line.split()[0]) != 24 or (world.wals / line[:16] / line[:24]).exists()]
    listing.write_text("\n".join(kept) + "\n")


@pytest.mark.parametrize("how, reason", [
    ("gone", "the file is gone"), ("rebuilt", "never archived, or deleted"), ("cut", "another size"), ("unlisted", "type barman rebuild-xlogdb"),
])
def test_a_hole_ends_the_window(world, how, reason):
    victim = segments(world, 3)[-3]
    if how == "cut":
        segment(victim, SEGMENT_BYTES // 2)
    else:
        victim.unlink()
    if how in ("rebuilt", "unlisted"):
        rebuilt(world)
    if how == "unlisted":
        segment(victim, SEGMENT_BYTES)
    server = world.server(include_wal=True)
    hole = server["wal"]["missing"]
    assert [(entry["timeline"], entry["first"], entry["last"], entry["count"]) for entry in hole] == [(3, victim.name, victim.name, 1)]
    assert reason in hole[0]["reason"]
    third = [backup for backup in server["backups"] if backup["good"]][-1]
    assert server["windows"][2]["end_time"] < server["backups"][-1]["begin_time"]
    backup, timeline, why = choose_backup(server, target("latest"))
    assert backup is None and victim.name in why
    wal = required_wal(server, third, target("latest"), 3)
    assert [entry["first"] for entry in wal["missing"]] == [victim.name] and wal["missing"][0]["reason"] == hole[0]["reason"]
    verdict = reachable(server, datetime.now(timezone.utc) + timedelta(days=1))
    assert not verdict["reachable"] and victim.name in verdict["why"]


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("damage, reason", [
    (lambda data: bytes(len(data)), "not a whole WAL segment"), (lambda data: gzip.compress(os.urandom(len(data)))[:len(data) // 2], "cannot be read"),
    (lambda _data: b"\x1f\x8b\x08", "cannot be read"),
], ids=["zeros", "half of a gzip file", "3 bytes of a gzip file"])
def test_damage_at_the_end_leaves_what_is_before_it_in_reach(world, damage, reason, count):
    cut = segments(world, 3)[:-count]
    before, listing = world.server()["windows"], next(world.wals.glob("*xlog.db"))
    for path in segments(world, 3)[-count:]:
        path.write_bytes(damage(path.read_bytes()))
    listing.write_text(listing.read_text().replace("\tNone", "\tgzip"))      # else another size is a hole
    server = world.server(include_wal=True)
    window, last = server["windows"][-1], last_commit([str(path) for path in cut], "pg_waldump")
    assert server["windows"][:-1] == before[:-1] and server["wal"]["missing"] == []
    assert (window["end_time"], window["end_lsn"]) == (last.commit_time.isoformat(timespec="microseconds"), last.lsn)
    assert parse_lsn(window["end_lsn"]) < parse_lsn(before[-1]["end_lsn"]) and segments(world, 3)[-1].name in window["note"] and reason in window["note"]
    inside = last.commit_time - timedelta(microseconds=1)
    assert choose_backup(server, target("time", utc=inside))[1] == choose_backup(server, target("lsn", value=last.commit_lsn))[1] == 3
    verdict = reachable(server, last.commit_time)
    assert not verdict["reachable"] and f"at {window['end_time']}" in verdict["why"] and segments(world, 3)[-1].name in verdict["why"]


def test_damage_that_is_long_is_not_passed_over(world, monkeypatch):
    monkeypatch.setattr(_windows, "DAMAGED", 1)
    for path in segments(world, 3)[-2:]:
        path.write_bytes(bytes(SEGMENT_BYTES))
    window = world.server()["windows"][-1]
    assert (window["end_time"], window["end_lsn"]) == (None, None) and segments(world, 3)[-1].name in window["note"]


def test_one_look_at_the_end_of_each_window_that_can_be_read(world, monkeypatch):
    looks = []
    monkeypatch.setattr(_windows, "last_commit", lambda paths, *rest: looks.append(paths[-1]) or last_commit(paths, *rest))
    assert len(world.server()["windows"]) == len(looks) == len(set(looks)) == 3


def test_a_hole_before_the_fork_cuts_off_the_first_backup(world):
    first, second, third = [backup["backup_id"] for backup in world.server()["backups"] if backup["good"]]
    [path for path in segments(world, 1) if path.name > world.server()["backups"][0]["end_wal"]][0].unlink()
    rebuilt(world)
    server = world.server()
    assert [(window["timeline"], window["backup_ids"]) for window in server["windows"]] == [(1, [first]), (2, [second]), (3, [third])]
    assert server["windows"][0]["end_time"] is None and "no commit or abort" in server["windows"][0]["note"]
    assert not reachable(server, world.moments["T2"])["reachable"]


def test_without_the_first_segment_of_a_backup_it_leads_nowhere(world):
    server = world.server()
    third = [backup for backup in server["backups"] if backup["good"]][-1]
    (world.wals / third["begin_wal"][:16] / third["begin_wal"]).unlink()
    server = world.server()
    assert third["backup_id"] not in [number for window in server["windows"] for number in window["backup_ids"]]
    assert third["begin_wal"] in [hole["first"] for hole in server["wal"]["missing"]]


@pytest.mark.parametrize("own, good", [(True, False), (False, True)])
def test_duplicates(world, own, good):
    third = [backup for backup in world.server()["backups"] if backup["good"]][-1]
    identifier = int(third["system_identifier"] or 0) if own else 4711
    segment(world.directory / "main" / "errors" / f"{third['begin_wal']}.20261123T050000Z.duplicate", SEGMENT_BYTES, identifier)
    server = world.server()
    assert [backup["good"] for backup in server["backups"]][:3] == [True, True, good]
    assert (third["backup_id"] in [number for window in server["windows"] for number in window["backup_ids"]]) is good


@pytest.mark.parametrize("own", [True, False])
def test_what_follows_a_segment_that_came_twice_is_not_counted(world, own):
    """The plan is red there (wal_twice), so the moment must not be called reachable; a backup that began after it is good again."""
    server = world.server()
    first, _second, third = [backup for backup in server["backups"] if backup["good"]]
    window, twice = server["windows"][2], segments(world, 3)[0].name
    identifier = int(third["system_identifier"] or 0) if own else 4711
    segment(world.directory / "main" / "errors" / f"{twice}.20261123T050000Z.duplicate", SEGMENT_BYTES, identifier)
    after = world.server(include_wal=True)
    assert after["wal"]["missing"] == [] and after["windows"][:2] == server["windows"][:2]
    if not own:
        assert after["windows"][2:] == [window]
        return
    led_in, later = after["windows"][2:]
    assert led_in["backup_ids"] == [first["backup_id"]] and led_in["note"].startswith(f"{twice} came once more")
    assert later["backup_ids"] == [third["backup_id"]] and (later["end_time"], later["end_lsn"], later["note"]) == (window["end_time"], window["end_lsn"], None)
    between = datetime.fromisoformat(third["end_time"]) - timedelta(microseconds=1)
    assert reachable(server, between)["reachable"]
    verdict = reachable(after, between)
    assert not verdict["reachable"] and twice in verdict["why"]
    assert choose_backup(after, target("lsn", value=window["end_lsn"]))[0] == third


@pytest.mark.parametrize("parent, good", [("second", True), ("none", False)])
def test_an_incremental_backup_is_as_good_as_what_it_builds_on(world, parent, good):
    second, third = [backup["backup_id"] for backup in world.server()["backups"] if backup["good"]][1:]
    parent = dict(second=second, none="20200101T000000")[parent]
    info = next(path for path in world.directory.rglob("*backup.info") if third in str(path))
    info.write_text(info.read_text() + f"parent_backup_id={parent}\n")
    server = world.server()
    assert {backup["backup_id"]: backup["good"] for backup in server["backups"]}[third] is good
    chosen, _timeline, why = choose_backup(server, target("latest"), third)
    assert (chosen is not None) is good
    assert good or f"backup {parent}, on which it builds, is not good or not there" in why


def test_what_was_received_and_not_archived_is_reachable_too(world):
    before = world.server()
    name = before["wal"]["last"]
    (world.directory / "main" / "streaming").mkdir(exist_ok=True)
    partial = world.directory / "main" / "streaming" / f"{name}.partial"
    (world.wals / name[:16] / name).rename(partial)
    listing = next(world.wals.glob("*xlog.db"))
    listing.write_text("".join(line for line in listing.read_text().splitlines(True) if not line.startswith(name)))
    after = world.server()
    assert before["wal"]["received"] == []
    assert after["wal"]["last"] < name
    assert after["wal"]["received"] == [dict(name=name, path=str(partial))]
    assert after["windows"] == before["windows"]
    partial.write_bytes(b"")
    marked = world.server()
    assert marked["wal"]["received"] == []
    assert marked["windows"][-1]["end_lsn"] < before["windows"][-1]["end_lsn"]


def test_wal_that_the_caller_adds_is_reachable(world):
    server = world.server()
    window = server["windows"][-1]
    late = datetime.fromisoformat(window["end_time"]) + timedelta(seconds=5)
    more = dict(timeline=window["timeline"], end_lsn="FF/0", end_time=(late + timedelta(seconds=1)).isoformat())
    assert choose_backup(server, target("time", utc=late))[0] is None
    extend(server, dict(more, timeline=1))
    assert choose_backup(server, target("time", utc=late))[0] is None
    extend(server, more)
    assert choose_backup(server, target("time", utc=late))[:2] == choose_backup(server, target("latest"))[:2]
    extend(server, dict(more, end_lsn="0/1", end_time=None))
    assert server["windows"][-1]["end_lsn"] == "FF/0"


def test_without_pg_waldump_the_windows_say_so(tmp_path, monkeypatch):
    configuration = read_configuration(home("3.13.3", tmp_path))
    monkeypatch.setattr("ansible_collections.pgrescue.barman.plugins.module_utils._windows.find_waldump", lambda *args: None)
    server = read_catalog(configuration, ["main"])[0]
    assert [window["end_time"] for window in server["windows"]] == [None] * 3
    assert server["windows"][0]["note"] == "there is no pg_waldump of PostgreSQL 17 here: type apt install postgresql-17"
    assert "apt install postgresql-17" in reachable(server, datetime.fromisoformat(server["windows"][0]["begin_time"]))["why"]


def test_a_server_that_has_nothing_yet(world):
    server = read_catalog(world.configuration, ["dormida"], include_wal=True)[0]
    assert (server["backups"], server["timelines"], server["windows"]) == ([], [], [])
    assert server["wal"] == dict(first=None, last=None, count=0, bytes=0, missing=[], segment_bytes=16 << 20, segments=[], received=[])
    assert "no good backup" in reachable(server, datetime.now(timezone.utc))["why"]
    assert choose_backup(server, target("latest"))[0] is None


def test_without_xlogdb_the_disk_counts(world):
    before = world.server()
    next(world.wals.glob("*xlog.db")).unlink()
    after = world.server()
    assert (after["wal"]["first"], after["wal"]["count"], after["wal"]["missing"]) == (before["wal"]["first"], before["wal"]["count"], [])


def test_a_segment_on_its_way_is_no_hole(world):
    last, first = segments(world, 3)[-1], segments(world, 1)[0]
    coming = last.with_name(f"{int(last.name, 16) + 1:024X}")
    segment(coming, SEGMENT_BYTES)
    listing = next(world.wals.glob("*xlog.db"))
    before = f"{int(first.name, 16) - 1:024X}"
    listing.write_text(f"{before}\t{SEGMENT_BYTES}\t1.0\tNone\n" + listing.read_text() + "000000030000000000000")
    server = world.server()
    assert server["wal"]["missing"] == [] and len(server["windows"]) == 3


def test_a_lost_last_segment_is_a_hole(world):
    last = segments(world, 3)[-1]
    last.unlink()
    server = world.server()
    assert [hole["first"] for hole in server["wal"]["missing"]] == [last.name]
    assert choose_backup(server, target("latest"))[0] is None


def test_when_a_branch_was_written_to_again(world):
    server = world.configuration.server("main")
    archive = read_archive(server)
    backups = read_backups(server, archive)
    tree = Tree(read_timelines(archive, backups), SEGMENT_BYTES, by_timeline(archive.available, SEGMENT_BYTES))
    ends = WalEnds(server, archive, backups, tree)
    (first, last), moment = tree.runs[1][-1], world.moments["T1"]
    again = ends.resumed(1, first, moment)
    assert again and again == commit_after([archive.path(segment_name(1, number, SEGMENT_BYTES)) for number in range(first, last + 1)], "pg_waldump", moment)
    assert again > moment and ends.resumed(1, first, again - timedelta(microseconds=1)) == again
    # What was archived before the moment cannot hold it, and a segment that is not there holds nothing.
    assert ends.resumed(1, first, moment + timedelta(days=1)) is None and ends.resumed(1, last + 1, moment) is None


def test_what_barman_would_copy_and_is_gone(world):
    """Barman copies what xlog.db lists of other branches too, and every history file; one that is gone ends the copy."""
    archive = read_archive(world.configuration.server("main"))
    assert archive.gone(archive.names) == [] and archive.history(2) == ("00000002.history", None)
    lost = segments(world, 1)[-1]
    lost.unlink()
    (world.wals / "00000003.history").unlink()
    archive = read_archive(world.configuration.server("main"))
    assert archive.gone(archive.names) == [lost.name, "00000003.history"] and archive.gone([]) == ["00000003.history"]
    assert archive.history(3)[1].startswith("never archived")


def xlogdbs(world):
    return [path for path in {world.wals / "xlog.db", *world.directory.rglob("main-xlog.db")} if path.exists()]


def test_lines_at_which_barman_ends(world):
    """Half a line of a full disk, a blank one, and files of other kinds that are listed and gone."""
    name = segments(world, 1)[-1].name
    before = read_archive(world.configuration.server("main"))
    assert before.broken == ()
    for path in xlogdbs(world):
        path.write_text(path.read_text() + f"{name}.00000028.backup\t300\t1795922000.0\tNone\n{name}.partial\t9\t1.5\tNone\tNone\n\n{name[:20]}")
    archive = read_archive(world.configuration.server("main"))
    assert archive.broken == ["", name[:20]] and archive.names == before.names
    assert archive.gone(archive.others[-2:]) == [f"{name}.00000028.backup", f"{name}.partial"]


def test_what_barman_deletes_while_it_is_read(world, monkeypatch):
    lost, scan = segments(world, 1)[0], os.scandir

    def deleting(path):
        entries = list(scan(path))
        if str(path) == str(lost.parent):
            lost.unlink(missing_ok=True)
        return entries

    monkeypatch.setattr(_archive.os, "scandir", deleting)
    assert read_archive(world.configuration.server("main")).faults == {_archive.GONE: [lost.name]}


def test_a_history_file_that_is_not_listed_is_not_copied(world):
    for path in xlogdbs(world):
        path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("00000002.history")))
    archive = read_archive(world.configuration.server("main"))
    assert archive.gone(archive.names) == [] and "not in xlog.db" in archive.history(2)[1] and archive.history(3)[1] is None


@pytest.mark.parametrize("content, damaged", [
    (b"1\t0/5000000\tno recovery target specified\n", False), (b"", True), (b"not a history\n", True), (b"\x85\x02\x0c\x03" * 40, False),
])
def test_a_history_file_that_cannot_be_judged_is_not_damaged(tmp_path, content, damaged):
    """An encrypted one tells nothing here, and PostgreSQL reads it all the same: Barman decrypts it."""
    (tmp_path / "00000002.history").write_bytes(content)
    assert is_damaged(str(tmp_path / "00000002.history")) is damaged


def test_a_backup_info_that_is_not_whole_concerns_its_backup_alone(world):
    """DONE without an end, and statistics that are none: nothing of the others is lost."""
    server = world.server()
    paths = sorted(world.directory.glob("main/**/*backup.info"))
    for path, line in zip(paths, ("end_time=None", "copy_stats=[1]")):
        name = line.partition("=")[0]
        path.write_text("".join(f"{line}\n" if one.startswith(f"{name}=") else one for one in path.read_text().splitlines(True)))
    again = world.server()
    assert [one["backup_id"] for one in again["backups"]] == [one["backup_id"] for one in server["backups"]]


def test_the_table_says_why_something_is_not_known():
    """catalog.yml: a window without an end, a hole, a backup whose WAL came twice, a server that is not read whole."""
    backup = dict(backup_id="20261123T035013", name=None, status="DONE", good=False, keep="none", size_bytes=1, timeline=1, end_time="2026-11-23", error=None)
    window = dict(begin_time="2026-11-23", end_time=None, end_lsn=None, timeline=1, backup_ids=[], note="there is no pg_waldump of PostgreSQL 15 here")
    server = dict(
        name="main", problem="WAL lies in an object store", timelines=[], backups=[backup], windows=[window, dict(window, end_lsn="0/3000028", note=None)],
        wal=dict(missing=[dict(first="0A", last="0B", reason="damaged")], count=1, bytes=1, first="09", last="0C"),
    )
    template = Path(__file__).parents[2] / "playbooks" / "templates" / "catalog.txt.j2"
    text = jinja2.Environment(autoescape=False, trim_blocks=True).from_string(template.read_text()).render(pgrescue_servers=[server])
    said = [" ".join(line.split()) for line in text.splitlines()]
    assert said[2].endswith("1 2026-11-23, not good: some of its WAL came twice and was refused") and said[3] == "WAL lies in an object store"
    assert said[5:9] == [
        "from 2026-11-23 to before an end that is not known timeline 1 0 backups", "there is no pg_waldump of PostgreSQL 15 here",
        "from 2026-11-23 to before its first commit timeline 1 0 backups", "WAL missing: 0A to 0B: damaged",
    ]
