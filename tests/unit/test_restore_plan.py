# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a restore: what is green, what is red, and what Barman is told on each version."""
from __future__ import annotations

import shutil
import signal
import subprocess
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _plan
from ansible_collections.pgrescue.barman.plugins.module_utils._archive import Archive
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError
from ansible_collections.pgrescue.barman.plugins.module_utils._destination import (
    Destination, check_ssh, clock_distance, end_restores, parse_look, running_restores)
from ansible_collections.pgrescue.barman.plugins.module_utils._restore import checked
from ansible_collections.pgrescue.barman.plugins.module_utils._segments import Content
from ansible_collections.pgrescue.barman.plugins.module_utils._target import parse_target

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=timezone.utc)
BACKUP = dict(backup_id="20261123T033928", system_identifier="7711", postgresql_version=170006, size_bytes=1000, wal_segment_bytes=16777216,
              copied_bytes=800, copy_seconds=4.1, tablespaces=[dict(name="history", location="/srv/history")])
OPTIONS = dict(
    server="main", backup_id="auto", destination_directory="/pg/new", remote_ssh_command="ssh postgres@db", target_action="pause", tablespaces={}, jobs=None,
    bandwidth_limit=None, wal_delivery="copy", barman_address=None, all_wal=False, delta=False, staging_path=None, extra_args=[],
)
SSH = "ssh postgres@db -o StrictHostKeyChecking=yes -o BatchMode=yes"


def target(**given):
    return parse_target({f"target_{kind}": value for kind, value in given.items()}, NOW)


def words(version, wanted, bound=None, **changes):
    return [str(word) for word in _plan.barman_arguments(wanted, 1, dict(dict(OPTIONS, ssh=SSH, staging=[]), **changes), version, bound)]


@pytest.mark.parametrize("required, refused", [
    (["08", "09", "0A"], ["08", "09"]), (["08", "09"], ["08"]), (["08"], []), (["0A", "0B", "0C"], []), (["0B", "0C", "0D"], ["0C"]),
])
def test_two_histories_under_the_same_names(required, refused):
    """A target in the segment that was refused is of the first history; a segment of another cluster says nothing."""
    archive = Archive("/wals", duplicates=[("08", "7711"), ("09", None), ("0B", "42"), ("0C", "7711")])
    found = sorted(archive.refused("7711").intersection(required[:-1]))
    assert found == refused
    told = _plan.twice_finding(found, "/errors")
    assert bool(told) == bool(refused) and (not told or not told["ok"] and f"move {refused[0]}.*.duplicate" in told["fix"])


@pytest.mark.parametrize("version, given, expected", [
    ((3, 13, 3), dict(time="2026-11-23 03:30:00.25+02"), ["--target-time", "2026-11-23 01:30:00.250000+00:00", "--target-action", "pause"]),
    ((3, 4, 0), dict(time="2026-11-23 03:30:00.25+02"), ["--target-time", "2100-01-01 00:00:00.000000+00:00", "--target-action", "pause"]),
    ((3, 20, 1), dict(xid="741", exclusive=True), ["--target-xid", "741", "--exclusive", "--target-action", "pause"]),
    ((3, 4, 0), dict(name="before_upgrade"), ["--target-name", "before_upgrade", "--target-action", "pause"]),
    ((3, 4, 0), dict(immediate=True), ["--target-immediate", "--target-action", "pause"]),
    ((3, 4, 0), dict(latest=True), []),
])
def test_words_for_barman(version, given, expected):
    delta = ["--no-delta-restore"] if version > (3, 17) else []
    assert words(version, target(**given)) == ["--target-tli", "1", *expected, "--no-get-wal", "--remote-ssh-command", SSH, *delta]


@pytest.mark.parametrize("given, expected", [
    (dict(lsn="0/4000158"), ["--target-lsn", "FFFFFFFF/FF000000"]),
    (dict(immediate=True), ["--target-lsn", "FFFFFFFF/FF000000"]),
    (dict(time="2026-11-23 03:30:00+02"), ["--target-time", "2026-11-23 01:30:00.000000+00:00"]),
    (dict(name="before_upgrade"), ["--target-name", "before_upgrade"]),
])
def test_words_for_a_restore_that_may_go_on(given, expected):
    assert words((3, 13, 3), target(**given), all_wal=True)[2:4] == expected


@pytest.mark.parametrize("given, exclusive", [
    (dict(lsn="0/4000158"), []), (dict(time="2026-11-23 03:30:00+02", exclusive=True), ["--exclusive"]), (dict(xid="741"), []), (dict(name="a"), []),
])
def test_no_more_wal_is_copied_than_the_target_needs(given, exclusive):
    assert words((3, 13, 3), target(**given), bound=0x5000158)[2:-5] == ["--target-lsn", "0/5000158", *exclusive]


NAMES = ["000000010000000000000003", "000000010000000000000004", "000000010000000000000005", "000000020000000000000004", "000000020000000000000005",
         "000000030000000000000004"]


@pytest.mark.parametrize("given, timeline, bound, version, all_wal, count", [
    (dict(latest=True), 1, None, (3, 13, 3), False, 2),
    (dict(latest=True), 2, None, (3, 13, 3), False, 4),                     # also what timeline 1 has after the fork
    (dict(time="2026-11-23 03:30:00Z"), 2, 0x4000158, (3, 13, 3), False, 3),
    (dict(time="2026-11-23 03:30:00Z"), 2, None, (3, 13, 3), False, 4),
    (dict(lsn="0/4000158"), 2, 0x4000158, (3, 4, 0), False, 4),             # it does not look at LSNs
    (dict(immediate=True), 1, None, (3, 13, 3), False, 1),
    (dict(immediate=True), 1, None, (3, 13, 3), True, 2),
])
def test_the_segments_that_barman_copies(given, timeline, bound, version, all_wal, count):
    backup = dict(BACKUP, begin_wal=NAMES[1], end_wal=NAMES[1])
    assert len(_plan.copied_segments(NAMES, backup, target(**given), timeline, dict(OPTIONS, all_wal=all_wal), version, bound)) == count


@pytest.mark.parametrize("order, timeline, last, late", [
    ([0, 1, 2], 1, 1, False),
    ([0, 2, 1], 1, 1, True),                # 1 came after 2
    ([0, 2, 1], 1, 2, False),               # 2 is needed as well, so Barman has not ended there
    ([2, 0, 1], 1, 1, True),
    ([0, 3, 1, 2], 1, 1, False),            # what is of a later timeline does not end it
    ([0, 1, 3, 4, 2], 2, 4, False),
])
def test_a_segment_that_came_after_later_ones(order, timeline, last, late):
    listed = [NAMES[index] for index in order]
    assert _plan.comes_too_late(listed, NAMES[:2], timeline, NAMES[last]) is late


def test_all_other_words():
    found = words((3, 17, 0), target(latest=True), tablespaces={"history": "/srv/h"}, jobs=4, bandwidth_limit=1000,
                  staging=["--staging-path", "/srv/stage"], delta=True, wal_delivery="get", extra_args=["--network-compression"])
    assert found == ["--target-tli", "1", "--get-wal", "--tablespace", "history:/srv/h", "--remote-ssh-command", SSH, "--jobs", "4", "--bwlimit", "1000",
                     "--staging-path", "/srv/stage", "--delta-restore", "--staging-location", "local", "--network-compression"]


@pytest.mark.parametrize("given, expected", [
    (None, None), ("", None), ("ssh postgres@db", SSH),
    ("ssh -p 2222 postgres@db", "ssh -p 2222 postgres@db -o StrictHostKeyChecking=yes -o BatchMode=yes"),
    ("ssh -o StrictHostKeyChecking=yes postgres@db", "ssh -o StrictHostKeyChecking=yes postgres@db -o BatchMode=yes"),
    ("/usr/bin/ssh -oBatchMode=yes -oStrictHostKeyChecking=yes db", "/usr/bin/ssh -oBatchMode=yes -oStrictHostKeyChecking=yes db"),
])
def test_ssh_checks_host_keys(given, expected):
    assert check_ssh(given) == expected


@pytest.mark.parametrize("command", [
    "ssh -o StrictHostKeyChecking=no postgres@db",
    "ssh -oStrictHostKeyChecking=accept-new db", "ssh -o 'StrictHostKeyChecking no' db", "ssh", "rsh db", "ssh db; id",
    "ssh $(id)", "ssh 'a b'", "ssh \"db", "ssh db\nid", "sudo ssh db",
])
def test_ssh_refused(command):
    with pytest.raises(BarmanError, match="remote_ssh_command"):
        check_ssh(command)


@pytest.mark.parametrize("option, value", [
    ("server", "a b"), ("server", "-x"), ("server", "a\nb"), ("server", "a'b"), ("backup_id", "latest"), ("backup_id", "20261123T033928; id"), ("jobs", 0),
    ("bandwidth_limit", -1), ("destination_directory", "/srv/my data"), ("destination_directory", "data"), ("destination_directory", "/a:b"),
    ("destination_directory", "/a\nb"), ("destination_directory", "/srv/'x'"), ("destination_directory", "-rf"), ("tablespaces", {"history": "/a b"}),
    ("tablespaces", {"-x": "/srv/a"}), ("staging_path", "stage"), ("extra_args", ["--target-time=now"]), ("extra_args", ["--remote-ssh-command"]),
    ("extra_args", ["a\nb"]), ("extra_args", [""]), ("barman_address", "a b"),
])
def test_options_that_must_not_reach_barman(option, value):
    with pytest.raises(BarmanError) as refusal:
        checked(dict(OPTIONS, **{option: value}))
    assert "\n" not in str(refusal.value)


def test_options_that_may():
    assert checked(dict(OPTIONS, tablespaces={"history": "/srv/h/"}, destination_directory="/pg//new/"))["destination_directory"] == "/pg/new"


def place(**known):
    found = dict(path="/pg/new", real="/pg/new", entries=[], free=10**9, marker=None, filesystem="/", parent="yes", parent_writable="yes")
    return dict(found, **known)


def full(**known):
    return place(exists="yes", writable="yes", inode="1:2", entries=["PG_VERSION", "base"], version="17", identifier="7711", owner="postgres", **known)


def marked(complete=True, inode="1:2", wanted="the request"):
    return dict(complete=complete, inodes={"/pg/new": inode}, request=wanted)


@pytest.mark.parametrize("found, state", [
    (place(), "vacant"),
    (place(exists="yes", inode="1:2", writable="yes"), "vacant"),
    (place(exists="yes", inode="1:2", writable="yes", marker=marked(complete=False)), "vacant"),
    (place(other="yes"), "foreign"),
    (full(), "foreign"),
    (full(marker=marked(inode="1:3")), "foreign"),
    (full(marker=marked(complete=False)), "incomplete"),
    (full(marker=marked(), has_backup_label="yes"), "complete"),
    (full(marker=marked(wanted="another"), has_backup_label="yes"), "other"),
    (full(marker=marked()), "other"),
    (dict(full(marker=marked(), has_backup_label="yes"), **{"has_postmaster.opts": "yes"}), "started"),
    (dict(full(marker=marked(complete=False)), **{"has_postmaster.pid": "yes"}), "started"),
])
def test_condition_of_a_destination(found, state):
    assert _plan.condition(found, "the request") == state


def red(data, state=None, host=None, running=(), delta=False, tablespace=None):
    look = dict(host=dict(dict(user="postgres", name="db", machine="x86_64", binaries="/usr/lib/postgresql/17/bin", rsync="yes"), **(host or {})),
                places=[data, tablespace or place(real="/srv/history")])
    state = state or _plan.condition(data, "the request")
    findings = _plan.destination_findings(look, state, BACKUP, dict(OPTIONS, delta=delta, tablespace_names=["history"]), "ssh postgres@db", list(running))
    assert all(one["meaning"] and one["fix"] for one in findings if not one["ok"])
    return {one["check"]: one["found"] for one in findings if not one["ok"]}


def test_green_destination():
    assert red(place()) == {}
    assert red(full(marker=marked(complete=False))) == {}


def test_red_destinations():
    assert list(red(full())) == ["destination"]
    assert "PG_VERSION, base, system identifier 7711" in red(full())["destination"]
    assert "started since" in red(full(marker=marked()), "started")["destination"]
    assert "another target or backup" in red(full(marker=marked()), "other")["destination"]
    assert "neither does the directory above" in red({key: value for key, value in place().items() if key != "parent"})["destination"]
    assert "must not write" in red({key: value for key, value in place().items() if key != "parent_writable"})["destination"]
    assert "belongs to root" in red(place(exists="yes", owner="root"))["destination"]


def test_running_postgresql():
    found = red(dict(full(pid="4711", living="yes"), **{"has_postmaster.pid": "yes"}))
    assert "process 4711, which runs" in found["running"] and "destination" in found


def test_other_major():
    assert list(red(dict(full(), version="16"))) == ["major_of_destination", "destination"]
    assert red(place(), host=dict(binaries=None))["postgresql_major"] == "PostgreSQL 17: not installed"


def test_other_reds():
    assert "processes 42, 43" in red(place(), running=[42, 43])["restore_running"]
    assert "tablespace history" in red(place(), tablespace=full(real="/srv/history"))
    assert list(red(place(), host=dict(rsync=None))) == ["rsync"]


@pytest.mark.parametrize("version, able", [
    ((3, 4, 0), True), ((3, 13, 3), True), ((3, 15, 0), False), ((3, 16, 2), False), ((3, 17, 0), True), ((3, 20, 1), True),
])
def test_delta_by_version(version, able):
    assert _plan.delta_finding(version, None)["ok"] == able
    if able:
        assert ("--delta-restore" in words(version, target(latest=True), delta=True)) == (version >= (3, 17, 0))
        assert ("--no-delta-restore" in words(version, target(latest=True))) == (version >= (3, 17, 0))


def test_delta_takes_the_same_cluster_only():
    assert red(full(), delta=True, tablespace=full(real="/srv/history")) == {}
    assert list(red(dict(full(), identifier="9"), delta=True)) == ["destination"]
    assert "running" in red(dict(full(pid="1"), **{"has_postmaster.pid": "yes"}), delta=True)


def room(free, filesystem="/", real="/pg/new"):
    return place(free=free, filesystem=filesystem, real=real)


@pytest.mark.parametrize("places, sizes, red", [
    ([room(1100), room(1100)], [1000, 0], []),
    ([room(1099), room(1099)], [900, 100], ["space"]),
    ([room(1100), room(100, "/srv")], [1000, 90], []),
    ([room(5000), room(100, "/srv")], [1000, 200], ["space /srv"]),
    ([room(100), room(5000, "/srv")], [1000, 200], ["space"]),
    ([room(100), room(100, "/srv"), room(100, "/mnt")], [1000, 200, 200], ["space", "space /srv", "space /mnt"]),
    ([room(600), room(600, "/srv")], [1000, None], []),
    ([room(100), room(600, "/srv")], [1000, None], ["space"]),
])
def test_space_on_each_file_system(places, sizes, red):
    found = _plan.space_findings(places, sizes)
    assert [one["check"] for one in found if not one["ok"]] == red
    assert found[0]["check"] == "space"


@pytest.mark.parametrize("theirs, apart", [
    ("1000.5", 0.0), ("999.9", -0.1), ("1003.0", 2.0), ("1001.1", 0.1), ("990.0", -10.0), ("1000.N", 0.0), (None, 0.0), ("", 0.0),
])
def test_clocks(theirs, apart):
    assert clock_distance(theirs, 1000.0, 1001.0) == apart
    found = _plan.clock_finding(target(time="2026-11-23 03:30:00Z"), dict(name="db", apart=apart))
    assert found["ok"] == (abs(apart) <= 1)
    assert _plan.clock_finding(target(latest=True), dict(name="db", apart=apart))["ok"]


def test_clocks_say_which_is_ahead():
    wanted = target(time="2026-11-23 03:30:00Z")
    assert "of db is 2.0 seconds ahead of Barman's" in _plan.clock_finding(wanted, dict(name="db", apart=2.0))["found"]
    assert "of db is 10.0 seconds behind Barman's" in _plan.clock_finding(wanted, dict(name="db", apart=-10.0))["found"]


def test_catalogue_findings():
    server = dict(name="main", problem=None, backups=[dict(status="DONE", error=None)])
    wal = dict(required=3, missing=[dict(first="A", last="B", reason="never archived")])
    assert [one["check"] for one in _plan.catalogue_findings(server, True, None, "it is before the end", None, (3, 13, 3)) if not one["ok"]] == ["target"]
    assert [one["check"] for one in _plan.catalogue_findings(server, False, BACKUP, "why", wal, (3, 13, 3)) if not one["ok"]] == ["server_active", "wal"]
    assert [one["check"] for one in _plan.catalogue_findings(server, False, BACKUP, "why", dict(wal, missing=[]), (3, 17, 0)) if not one["ok"]] == []


def test_a_backup_info_at_which_barman_ends():
    found = _plan.unreadable_finding([dict(status="DONE", error=None), dict(status="UNREADABLE", error="/b/meta/1-backup.info cannot be read")])
    assert not found["ok"] and "/b/meta/1-backup.info" in found["found"]


@pytest.mark.parametrize("names, free, ok", [(NAMES[:3], 60 << 20, True), (NAMES, 60 << 20, True), (NAMES[:3], 50 << 20, False)])
def test_room_for_wal_that_barman_unpacks(names, free, ok):
    """Segments of one log lie unpacked side by side."""
    assert _plan.packed_finding(names, 1 << 24, "/var/lib/barman/main", free)["ok"] is ok
    assert _plan.packed_finding([], 1 << 24, "/var/lib/barman/main", 0) is None


@pytest.mark.parametrize("content, ok, words", [
    (Content([], 4, 4), True, "of 4 segments is right, all records can be read"),
    (Content([], 4, 2), True, "all records of the first 2 segments can be read"),
    (Content([], 1, 1), True, "the other 3 are packed or encrypted in a way that is not read here"),
    (Content([(NAMES[0], "it ends after 20 bytes")], 4, 0), False, "Put whole copies of these segments"),
    (Content([(NAMES[0], "it is of another cluster (system identifier 42)")], 4, 0), False, "made anew or upgraded under the same name"),
])
def test_what_wal_holds(content, ok, words):
    found = _plan.content_finding(content, 4)
    assert found["ok"] is ok and words in f"{found['found']} {found['fix']}"


def test_findings_of_what_is_copied():
    gone = _plan.listed_finding([f"00000001000000000000000{number}" for number in range(7)], ["0000000100"], "main")
    assert not gone["ok"] and "and 2 more" in gone["found"] and gone["fix"].endswith("barman rebuild-xlogdb main")
    assert "1 lines that Barman cannot read" in gone["found"] and _plan.listed_finding([], (), "main")["ok"]
    assert _plan.history_finding(2, "00000002.history", None, "main")["ok"]
    history = _plan.history_finding(2, "00000002.history", "never archived, or deleted", "main")
    assert history["found"] == "00000002.history is never archived, or deleted" and "recovery target timeline 2 does not exist" in history["meaning"]
    snapshot = dict(BACKUP, type="snapshot")
    assert [_plan.snapshot_finding(snapshot, words)["ok"] for words in ([], ["--snapshot-recovery-instance=db"])] == [False, True]
    assert _plan.snapshot_finding(dict(BACKUP, type="full"), []) is None


def test_plan_and_complaint():
    findings = [_plan.finding("target", True, "fine"), _plan.finding("wal", False, "a hole.", "It would end.", "Do this."),
                _plan.finding("space", False, "full", "No.", "Make room.")]
    wal = dict(required=3, missing=[], end_lsn=None)
    plan = _plan.assemble("main", BACKUP, "why", target(time="2026-11-23 03:30:00Z"), 2, wal, 5, findings, {16394: "/srv/hist"}, [], 3)
    assert not plan["feasible"]
    assert (plan["target"]["utc"], plan["target_timeline"], plan["wal"]) == ("2026-11-23T03:30:00+00:00", 2, dict(
        required=3, missing=[], end_lsn=None, tablespaces=[dict(oid=16394, location="/srv/hist")]))
    assert _plan.complaint(plan) == "Nothing was changed. wal: a hole. It would end. Do this. space: full. No. Make room."


@pytest.mark.parametrize("changes, size, seconds", [
    ({}, 1000, 6),
    (dict(copied_bytes=400), 1000, None),
    (dict(copied_bytes=None), 1000, None),
    (dict(copy_seconds=None), 1000, None),
    ({}, None, None),
])
def test_the_estimate_is_of_the_backups_own_rate(changes, size, seconds):
    assert _plan.estimate(dict(BACKUP, **changes), size) == seconds


def test_tablespaces():
    assert _plan.tablespace_places(BACKUP, {"history": "/srv/h", "nope": "/x"}) == ({"history": "/srv/h"}, ["nope"])
    assert _plan.tablespace_places(BACKUP, {}) == ({"history": "/srv/history"}, [])


@pytest.fixture
def here(tmp_path):
    return Destination(), tmp_path


def test_look_at_this_host(here):
    destination, directory = here
    full_one = directory / "full"
    (full_one / "global").mkdir(parents=True)
    (full_one / "PG_VERSION").write_text("17\n")
    (full_one / "global" / "pg_control").write_bytes((7711).to_bytes(8, "little") + b"\0" * 100)
    (directory / "link").symlink_to(full_one)
    look = destination.look(17, [str(directory / "link"), str(directory / "absent"), str(directory / "no" / "parent")])
    first, second, third = look["places"]
    assert (first["real"], first["version"], first["identifier"], first["entries"]) == (str(full_one), "17", "7711", ["PG_VERSION", "global"])
    assert "exists" not in second and second["parent"] == "yes" and second["free"] > 0
    assert "parent" not in third
    assert look["host"]["user"] and look["host"]["apart"] == 0


def test_marker_and_emptying(here):
    destination, directory = here
    path = str(directory / "new")
    inodes = dict(zip([path], destination.make([path])))
    destination.write_marker(path, dict(complete=False, inodes=inodes, request="r|s"))
    (directory / "new" / "base").mkdir()
    (directory / "new" / "base" / "1").write_text("x")
    assert destination.look(17, [path])["places"][0]["marker"] == dict(complete=False, inodes=inodes, request="r|s")
    with pytest.raises(BarmanError):
        destination.empty({path: "1:1"})
    destination.empty(inodes)
    assert list((directory / "new").iterdir()) == []
    (directory / "new" / "postmaster.pid").write_text("1\n")
    with pytest.raises(BarmanError):
        destination.empty(inodes)


def test_finish_appends_and_measures(here):
    destination, directory = here
    (directory / "barman_wal").mkdir()
    (directory / "barman_wal" / ("0" * 24)).write_text("x")
    (directory / "postgresql.auto.conf").write_text("work_mem = '1MB'\n")
    destination.finish(str(directory), dict(recovery_target_lsn="0/3000028"))
    lines = (directory / "postgresql.auto.conf").read_text().splitlines()
    assert lines[0] == "work_mem = '1MB'" and lines[-1] == "recovery_target_lsn = '0/3000028'"
    assert (directory / "recovery.signal").exists()
    assert destination.measure([str(directory)])[0] == 1


def test_look_survives_odd_answers():
    look = parse_look("host|user|postgres\n0|real|/a|b\n0|marker|{not json\n0|free|\n", ["/a"])
    assert look["places"][0] == dict(path="/a", real="/a|b", marker=None, free=0, entries=[])


def test_running_restore_is_seen(tmp_path):
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "cmdline").write_bytes(
        b"/usr/bin/python3\0/usr/bin/barman\0-f\0json\0recover\0--remote-ssh-command\0ssh postgres@db\0main\0X\0/pg/new\0")
    (tmp_path / "43").mkdir()
    (tmp_path / "43" / "cmdline").write_bytes(b"vi\0/pg/new\0")
    (tmp_path / "self").mkdir()
    assert running_restores("/pg/new", "main", proc=str(tmp_path)) == [42]
    assert running_restores("/pg/new", "main", "ssh postgres@db", str(tmp_path)) == [42]
    assert running_restores("/pg/new", "main", "ssh postgres@other", str(tmp_path)) == []
    assert running_restores("/pg/new", "other", proc=str(tmp_path)) == []
    assert running_restores("/pg/other", "main", proc=str(tmp_path)) == []


@pytest.mark.parametrize("given, others, names, dead, end", [
    (dict(name="before-releas"), [], {"nightly", "before-release", "barman_1"}, None,
     "Barman has. The most similar names there: before-release, barman_1, nightly."),
    (dict(name="before-releas"), [], set(), dict(lsn=None), "Barman or the server's host has."),
    (dict(name="before-releas"), [3, 4], {"before-release"}, None, "Barman has. It is on timeline 3, 4: type target_timeline=3."),
    (dict(xid="741"), [], {"before-release"}, None, "Barman has."),
])
def test_a_record_that_is_nowhere(given, others, names, dead, end):
    assert _plan.not_there(target(**given), 2, dict(backup_id="20261128T143032"), others, names, dead).endswith(f"to the last WAL that {end}")


def test_a_restore_is_ended_with_its_children_even_when_it_does_not_listen():
    with subprocess.Popen(["sh", "-c", "trap '' INT TERM; sleep 600 & echo up; wait"], start_new_session=True, stdout=subprocess.PIPE) as shell:
        assert shell.stdout.readline() == b"up\n"
        end_restores([shell.pid, shell.pid], grace=1)
        assert shell.stdout.read() == b""
    assert shell.returncode == -signal.SIGKILL
    end_restores([shell.pid])


@pytest.mark.skipif(not shutil.which("dash"), reason="dash, Debian's sh, is not here")
def test_scripts_are_posix():
    from ansible_collections.pgrescue.barman.plugins.module_utils import _destination

    for name in ("LOOK", "MAKE", "EMPTY", "WRITE", "FINISH", "MEASURE"):
        assert subprocess.run(["dash", "-n", "-c", getattr(_destination, name)], check=False).returncode == 0


@pytest.mark.parametrize("inside, fix", [(True, "pg_wal_search_info"), (False, "target_lsn=0/A00068 target_exclusive=true")])
def test_commits_that_are_not_in_the_order_of_their_times(inside, fix):
    disorder = dict(lsn="0/C00068", time=datetime(2026, 11, 30, tzinfo=timezone.utc), inside=inside)
    told = _plan.order_finding(dict(backup_id="20261130T000000"), "0/A00068", disorder)
    assert (told["check"], told["ok"]) == ("commit_times", False) and "0/C00068 ended at 2026-11-30T00:00:00+00:00" in told["found"] and fix in told["fix"]
    assert _plan.order_finding(dict(backup_id="20261130T000000"), "0/A00068", None) is None


def test_a_target_within_a_drop_database():
    drop = SimpleNamespace(databases=["1663/16425", "16430/16425"], undone_lsn="0/00C004C8", commit_time=datetime(2026, 11, 30, tzinfo=timezone.utc))
    told = _plan.half_dropped_finding(drop, "0/C008E0")
    assert not told["ok"] and "oid 16425 " in told["found"] and "target_lsn=0/C004C8 target_exclusive=true instead" in told["fix"]
    assert _plan.half_dropped_finding(None, "0/C008E0") is None
