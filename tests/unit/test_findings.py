# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a recovery: what the hosts have answered, and which finding each answer is."""
from __future__ import annotations

import copy

import pytest

from ansible_collections.pgrescue.barman.plugins.filter.recovery_plan import FilterModule
from ansible_collections.pgrescue.barman.plugins.module_utils import _findings

# As the modules answered in the lab (trixie), without what no finding asks for.
CLUSTER = dict(
    timeline=1, port=5432,
    real_data_directory="/var/lib/postgresql/17/main", data_directory="/var/lib/postgresql/17/main", exists=True, empty=False, mount_point=False,
    obstacles=[], filesystem=dict(type="ext4", reflink=False),
    system_identifier="7711", version="17", state="in production", version_directory_major=17, free_bytes=10 << 30, running=4711, tablespaces=[], strangers=[],
    set_aside=[],
)
LIVE = dict(in_recovery=False, clients=2, who="2 of app in shop from 10.0.0.9", standbys="", slots="", subscriptions=0, prepared=0, ready=0, bytes=1024,
            seconds=12, lsn="0/5000200", next_xid="800")
NEVER = _findings.finding("target", False, "not in the archive.")
BACKUP = dict(
    backup_id="20261123T034949", timeline=1, system_identifier="7711", postgresql_version=170006, end_time="2026-11-23T03:49:52+00:00",
    tablespaces=[], keep="none",
)
PLAN = dict(
    server="main", backup_id=BACKUP["backup_id"], why="", target=dict(type="time", value="", utc="2026-11-23T04:00:00+00:00"), target_timeline=1,
    wal=dict(required=3, missing=[], tablespaces=[]), new_timeline=2, restore_bytes=1 << 30, directories=[], estimate_seconds=None, feasible=True,
    findings=[_findings.finding("target", True, "reachable"), _findings.finding("wal", True, "3 segments")],
)
WINDOW = dict(timeline=1, end_time="2026-11-23T04:10:00.5+00:00", end_lsn="0/4000100", backup_ids=[BACKUP["backup_id"]])
FACTS = dict(
    standbys=[],
    server="main", host="lab", confirm="", asked="target_time=", drop={}, clone={}, archived=False,
    barman_address="barman", postgres_user="postgres", tablespaces={},
    data="keep", cluster=CLUSTER, live=LIVE, under_way="", records=[], wanted=dict(type="latest"), arms=False, archive_timeout=180,
    live_said="",
    catalogue=dict(
        name="main", active=True, passive=False, backups=[BACKUP], windows=[WINDOW], wal=dict(segment_bytes=1 << 24),
        timelines=[dict(timeline=1, current=True, begin_time=None, last_wal="000000010000000000000004")],
    ),
    unarchived={},
    to_barman=dict(rc=0, cmd=["barman-wal-archive", "--test"], stderr=""), processes=["/sbin/init", "-bash"], host_wal={}, full=[], wal_tablespaces=[],
    now="2026-11-23T04:20:00+00:00", restore=PLAN, latest={},
)


def red(check, found):
    """A red finding of barman_restore."""
    return _findings.finding(check, False, found, "meaning", "fix")


def judge(**changes):
    """The judgement of FACTS with some of them changed; cluster, live, plan and backup name changes of those. What does not run is not live."""
    facts = copy.deepcopy(FACTS)
    for name, inner in (("cluster", facts["cluster"]), ("live", facts["live"]), ("plan", facts["restore"]), ("backup", facts["catalogue"]["backups"][0])):
        inner.update(changes.pop(name, {}))
    facts.update(changes, **({} if facts["cluster"]["running"] else dict(live={})))
    return FilterModule().filters()["recovery_plan"](facts)


def one(check, **changes):
    """One finding, and that it is the only red one if it is red."""
    findings = judge(**changes)["plan"]["findings"]
    assert {entry["check"] for entry in findings if not entry["ok"]} <= {check}
    found, = (entry for entry in findings if entry["check"] == check)
    return found


def test_nothing_is_wrong():
    found = judge()
    assert found["latest"] is None
    assert found["plan"]["feasible"]
    assert [entry["check"] for entry in found["plan"]["findings"] if not entry["ok"]] == []
    assert len({entry["check"] for entry in found["plan"]["findings"]}) == len(found["plan"]["findings"])


BRANCHES = [dict(timeline=1, current=False, begin_time=None, last_wal="000000010000000000000004"),
            dict(timeline=2, current=True, begin_time="2026-11-23T04:01:00+00:00", last_wal="000000020000000000000004")]


@pytest.mark.parametrize("changes, red", [
    ({}, True),
    (dict(wanted=dict(type="latest", timeline=2)), False),             # it was said
    (dict(plan=dict(target_timeline=1)), False),                       # the target is on the server's own
    (dict(cluster=dict(timeline=2, running=None)), False),             # and so is this
    (dict(cluster=dict(timeline=3, running=None)), False),             # nothing of that branch is archived yet
    (dict(cluster=dict(running=4711)), False),                         # the fence archives what it has, and that is the newest then
    (dict(cluster=dict(system_identifier="1", running=None), confirm="main"), False),
])
def test_the_server_was_on_another_branch_than_the_archives_newest(changes, red):
    """As when a clone that was made by hand archives under the server's name: nobody guesses which is meant."""
    changes = dict(dict(cluster=dict(running=None), plan=dict(target_timeline=2)), **changes)
    window = dict(WINDOW, timeline=2)
    found = judge(catalogue=dict(FACTS["catalogue"], timelines=BRANCHES, windows=[WINDOW, window]), **changes)["plan"]["findings"]
    said = [one for one in found if one["check"] == "servers_branch"]
    assert [one["ok"] for one in said] == [False] * red
    assert not red or "-e target_timeline=1 for the server's own, or -e target_timeline=2" in said[0]["fix"]


@pytest.mark.parametrize("said, ok", [
    ("", True),
    ("FATAL:  sorry, too many clients already", True),
    ('FATAL:  Peer authentication failed for user "postgres"', False),
    ('FATAL:  role "postgres" does not exist', False),
    ("fe_sendauth: no password supplied", False),
    ('FATAL:  database "postgres" does not exist', False),
    ('connection to server on socket "/var/run/postgresql/.s.PGSQL.5432" failed: timeout expired', False),
])
def test_a_server_that_does_not_answer(said, ok):
    """One that will never let us in would not do so while it replays either; one that is frozen could not be stopped."""
    found = FilterModule().filters()["recovery_plan"](dict(copy.deepcopy(FACTS), live={}, live_said=said))["plan"]
    told = next(entry for entry in found["findings"] if entry["check"] == "running_server")
    assert (told["ok"], found["feasible"]) == (ok, ok) and " ".join(said.split()) in told["found"]


def test_commits_wait_for_standbys_that_come_back_later():
    assert "every commit waits for one of them: synchronous_standby_names is bd_replica" in one("standbys", live=dict(synchronous="bd_replica"))["meaning"]


def test_the_same_recovery_again_is_said():
    done = dict(outcome="committed", asked=dict(type="latest"), finished_by="maria@a", ended="2026-11-23T04:19:00+00:00")
    found = one("done_before", records=[dict(outcome="cloned"), done])
    assert found["ok"] and "by maria@a at 2026-11-23T04:19" in found["found"]
    for records in ([dict(done, asked=dict(type="time"))], [dict(outcome="undone", timeline=9), done], [dict(outcome="failed"), done]):
        assert "done_before" not in [entry["check"] for entry in judge(records=records)["plan"]["findings"]]


@pytest.mark.parametrize("record, wanted, told", [
    ({}, {}, True),
    (dict(found=dict(was_running=True, foreign=True)), {}, True),
    (dict(found=dict(was_running=True, foreign=False)), {}, False),     # it has committed since, so the archive tells its branch
    (dict(outcome="committed"), {}, False),
    (dict(timeline=2), {}, False),
    ({}, dict(timeline="1"), False),
    (dict(timeline="1"), {}, True),                                     # as ansible-core before 2.19 writes it
])
def test_a_branch_that_was_taken_back_is_not_taken_unasked(record, wanted, told):
    record = dict(dict(outcome="undone", timeline=1, began="2026-11-23T04:00:00+00:00", plan=dict(target_timeline=7), asked={},
                       found=dict(was_running=False, foreign=False)), **record)
    judged = judge(records=[dict(outcome="abandoned"), record], wanted=dict(dict(type="latest", timeline=""), **wanted))["plan"]
    found = [one for one in judged["findings"] if one["check"] == "undone_branch"]
    assert bool(found) == told == (not judged["feasible"])
    assert not told or "-e target_timeline=7, or -e target_timeline=1" in found[0]["fix"]


def test_all_red_findings_are_told_at_once():
    found = judge(
        cluster=dict(system_identifier="9", version_directory_major=15, free_bytes=0, strangers=[42]), processes=["patroni"],
        to_barman=dict(rc=1, stderr="no", cmd=["ssh", "barman"]), under_way="server main is being recovered by maria@a since 3",
        catalogue=dict(FACTS["catalogue"], active=False), live=dict(in_recovery=True),
    )["plan"]
    assert not found["feasible"]
    red = [entry for entry in found["findings"] if not entry["ok"]]
    assert [entry["check"] for entry in red] == [
        "server_active", "other_recovery", "running_elsewhere", "system_identifier", "cluster_major", "space", "running_server", "ssh_to_barman", "manager",
    ]
    assert all(entry["found"] and entry["meaning"] and entry["fix"] for entry in red)


@pytest.mark.parametrize("check, changes, ok, words", [
    ("data_directory", dict(cluster=dict(mount_point=True)), True, "the root of a mounted file system, holds PostgreSQL 17"),
    ("data_directory", dict(cluster=dict(obstacles=["The tablespace /srv/t cannot be set aside, because."])), False, "/srv/t cannot be set aside"),
    ("private_socket", dict(cluster=dict(real_data_directory="/srv/" + "x" * 90)), False, "/.s.PGSQL.5432 has 109 bytes"),
    ("data", dict(data="delta"), False, "ext4 cannot clone files"),
    ("data", dict(data="delta", cluster=dict(filesystem=dict(type="xfs", reflink=True))), True, "only what differs"),
    ("data", dict(data="delta", cluster=dict(empty=True)), True, "everything is copied"),
    ("data_directory", dict(cluster=dict(exists=False, empty=True, running=None)), True, "is absent"),
    ("data_directory", dict(cluster=dict(empty=True)), True, "is empty"),
    ("data_directory", {}, True, "holds PostgreSQL 17, in production"),
    ("system_identifier", dict(cluster=dict(system_identifier=None)), True, "none on this host"),
    ("system_identifier", dict(cluster=dict(system_identifier="9")), False, "belongs to another cluster (9) than the backup (7711)"),
    ("system_identifier", dict(cluster=dict(system_identifier="9"), confirm="true"), False, "another cluster"),
    ("system_identifier", dict(cluster=dict(system_identifier="9"), confirm="main"), True, "another cluster"),
    ("cluster_major", dict(cluster=dict(version_directory_major=15)), False, "of PostgreSQL 15, the backup of 17"),
    ("cluster_major", dict(cluster=dict(version_directory_major=None)), False, "no installed version"),
    ("space", dict(plan=dict(restore_bytes=10 << 30)), False, "11.0 GiB needed"),
    ("space", dict(plan=dict(restore_bytes=None)), True, "not known"),
    ("space", dict(plan=dict(findings=[_findings.finding("space", False, "1 of 2 in /", "x", "y")])), False, "1 of 2 in /"),
    ("server_active", dict(catalogue=dict(FACTS["catalogue"], active=False)), False, "active = false"),
    ("server_active", dict(catalogue=dict(FACTS["catalogue"], passive=True)), False, "is passive on this Barman host"),
    ("other_recovery", dict(under_way="server main is being recovered by maria@a since 3"), False, "by maria@a since 3"),
    ("running_elsewhere", dict(cluster=dict(strangers=[42, 43])), False, "process 42, 43, and its postmaster.pid does not say so"),
    ("running_server", dict(live=dict(in_recovery=True)), False, "a standby"),
    ("running_server", {}, True, "2 clients connected (2 of app in shop from 10.0.0.9)"),
    ("running_server", dict(cluster=dict(running=None)), True, "not running"),
    ("standbys", dict(live=dict(standbys="10.0.0.4 as bd-replica")), True, "10.0.0.4 as bd-replica"),
    ("standbys", dict(standbys=[dict(host="bd-replica", follows=True, said="")]), True, "of the inventory: bd-replica"),
    ("standbys", dict(live=dict(synchronous="bd_replica", standbys="10.0.0.4 as bd_replica")), True, "attached: 10.0.0.4"),
    ("standbys", dict(standbys=[dict(host="bd-replica", follows=False, said="ssh: no route")]), True, "bd-replica of the inventory: ssh: no route"),
    ("lost_with_old_data", dict(live=dict(slots="barman")), True, "slots: barman; subscriptions: 0"),
    ("not_archived_yet", {}, True, "1024 bytes, 0 finished segments, 12 seconds"),
    ("not_archived_yet", dict(live=dict(bytes=None, seconds=None)), True, "an unknown number of bytes, 0 finished segments, unknown seconds"),
    ("archiving", dict(arms=True), True, "made anew"),
    ("archiving", dict(cluster=dict(archive_command="barman-wal-archive main")), True, "by barman-wal-archive main"),
    ("archiving", dict(live=dict(refused_wal="00000001000000000000000D", refused_seconds=38)), True, "fails: the last time 38 seconds ago with 0000000"),
    ("archiving", dict(live=dict(refused_wal=None, refused_seconds=3800)), True, "not by archive_command"),
    ("manager", dict(processes=["/usr/bin/python3 /usr/bin/patroni /etc/patroni/config.yml"]), False, "patroni"),
    ("manager", dict(processes=["repmgrd -d", "/usr/lib/postgresql/17/bin/pg_autoctl run"]), False, "repmgrd, pg_autoctl"),
    ("manager", dict(processes=["/usr/sbin/pacemakerd -f"]), False, "pacemakerd"),
    ("manager", dict(processes=["vi /etc/patroni", "less -S /var/log/patroni"]), True, "none"),
])
def test_finding(check, changes, ok, words):
    found = one(check, **changes)
    assert found["ok"] is ok
    assert words in found["found"]


# What OpenSSH 9 and 10 printed in the lab.
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
The fingerprint for the ED25519 key sent by the remote host is
SHA256:8mG6vGq6pDfMfp2XbT6zZ1sYq3m1hVYH0x8b5mV1ZkA.
Host key verification failed."""


@pytest.mark.parametrize("code, stderr, words", [
    (255, CHANGED, ["another one than the one that is known (it shows SHA256:8mG6", "made anew", "playbooks/site.yml"]),
    (255, "No ED25519 host key is known for barman and you have requested strict checking.", ["is not known", "playbooks/site.yml"]),
    (255, "ssh: Could not resolve hostname barman: Name or service not known", ["the name barman cannot be resolved", "pg_primary_barman_address"]),
    (255, "barman@barman: Permission denied (publickey).", ["does not accept the SSH key", "playbooks/site.yml"]),
    (255, "ssh: connect to host barman port 22: Connection refused", ["nobody answers on the SSH port", "Start sshd"]),
    (255, "ssh: connect to host barman port 22: Connection timed out", ["cannot be reached by SSH", "firewall"]),
    (255, "something new", ["does not take WAL: something new", "See that this works as postgres: ssh barman"]),
    (1, "ERROR: Unknown server 'main'", ["does not take WAL: ERROR: Unknown server", "See that this works"]),
])
def test_the_way_to_barman(code, stderr, words):
    found = one("ssh_to_barman", to_barman=dict(rc=code, stderr=stderr, cmd=["ssh", "barman"]))
    assert not found["ok"]
    for word in words:
        assert word in " ".join((found["found"], found["meaning"], found["fix"]))


def test_another_cluster_archives_nothing():
    assert judge()["archives"]
    assert not judge(cluster=dict(system_identifier="9"), confirm="main")["archives"]
    assert not judge(live=dict(in_recovery=True))["archives"]


def test_a_server_that_does_not_answer():
    found = _findings.recovery_plan(dict(FACTS, live={}))["plan"]
    assert "process 4711, but it does not answer" in next(entry for entry in found["findings"] if entry["check"] == "running_server")["found"]
    assert found["feasible"]


def test_what_is_set_aside_is_no_obstacle():
    findings = [red("destination", "/pg is not empty on db: something else"), red("space", "1 of 2")]
    found = judge(plan=dict(findings=findings))["plan"]
    assert [entry["found"] for entry in found["findings"] if not entry["ok"]] == ["1 of 2"]


LATE = dict(
    backup_id=None, target=dict(type="time", value="", utc="2026-11-23T04:20:00+00:00"), findings=[red("target", "late"), red("clocks", "apart")],
)


def test_a_moment_that_only_the_running_server_holds():
    found = judge(plan=LATE)
    assert found["latest"] == dict(backup_id=BACKUP["backup_id"], timeline=1)
    clocks = _findings.finding("clocks", True, "apart, but the target is no time")
    found = judge(plan=LATE, latest=dict(PLAN, findings=[clocks]))["plan"]
    assert [entry for entry in found["findings"] if entry["check"] == "clocks"] == [LATE["findings"][1]]
    assert found["backup_id"] == BACKUP["backup_id"] and found["target"] == dict(LATE["target"], asked=FACTS["asked"])
    assert "in the WAL that the running server holds" in next(entry for entry in found["findings"] if entry["check"] == "target")["found"]


@pytest.mark.parametrize("changes", [
    dict(archived=True), dict(cluster=dict(running=None)), dict(cluster=dict(system_identifier="9")), dict(live=dict(in_recovery=True)),
    dict(backup=dict(end_time="2026-11-23T05:00:00+00:00")),
    dict(catalogue=dict(FACTS["catalogue"], windows=[])),
    dict(catalogue=dict(FACTS["catalogue"], windows=[dict(WINDOW, end_time="2026-11-23T04:30:00+00:00")])),
])
def test_a_moment_that_nobody_holds(changes):
    assert judge(plan=LATE, **changes)["latest"] is None


def test_behind_a_hole_the_running_server_is_no_help():
    """What it has not archived yet lies behind WAL that is gone, so the way to the archive's end ends there too."""
    first = judge(plan=LATE)
    assert first["latest"]
    hole = dict(PLAN, backup_id=None, feasible=False, findings=[red("target", "WAL 000000010000000000000006 is missing")])
    found = judge(plan=LATE, latest=hole)["plan"]
    assert not found["feasible"] and [entry["found"] for entry in found["findings"] if not entry["ok"]] == ["WAL 000000010000000000000006 is missing", "apart"]


@pytest.mark.parametrize("named, there", [("", True), (BACKUP["backup_id"], True), ("20200101T000000", False)])
def test_a_backup_that_is_named_counts_after_the_archive_too(named, there):
    found = judge(plan=dict(LATE, findings=[NEVER]), wanted=dict(type="time", backup_id=named))
    assert bool(found["latest"]) == there and found["plan"]["feasible"] == there


@pytest.mark.parametrize("number, timelines, backups, ok", [
    (2, [], [], True),
    (2, [dict(timeline=2, last_wal="000000020000000000000004")], [], False),       # its history file was lost
    (2, [dict(timeline=2, last_wal=None)], [], True),
    (2, [], [dict(BACKUP, timeline=2)], False),
    (3, [dict(timeline=2, last_wal="000000020000000000000004")], [], True),
    (None, [], [], True),
])
def test_the_new_timeline_is_new(number, timelines, backups, ok):
    found = _findings.new_timeline(dict(name="main", timelines=timelines, backups=backups), number)
    assert found["ok"] == ok and (ok or "00000002.history" in found["fix"])


@pytest.mark.parametrize("begun, ended, there", [
    ("2026-11-23T04:15:00+00:00", None, True), ("2026-11-23T04:25:00+00:00", None, False), (None, "2026-11-23T04:25:00+00:00", False),
])
def test_a_moment_before_the_live_branch(begun, ended, there):
    """Nothing of the live branch is archived yet, so when it began is not known; other branches, with smaller numbers, were there before it."""
    timelines = [dict(timeline=number, current=number == 3, begin_time=begun if number == 2 else None, last_wal=None) for number in (1, 2, 3)]
    windows = [dict(WINDOW, timeline=2, end_time=ended), dict(WINDOW, timeline=3, end_time=None)]
    found = judge(plan=dict(LATE, target_timeline=None), catalogue=dict(FACTS["catalogue"], timelines=timelines, windows=windows))
    assert found["latest"] == (dict(backup_id=BACKUP["backup_id"], timeline=3) if there else None)


@pytest.mark.parametrize("fork, backup_end, latest", [
    ("0/4000080", "0/3000100", dict(backup_id=BACKUP["backup_id"], timeline=1)), ("0/4000080", "0/4000090", None), ("0/9000000", "0/3000100", None),
    ("0/5000080", "0/3000100", dict(backup_id=BACKUP["backup_id"], timeline=1)),     # after a failover the parent's last segment is a .partial
])
def test_a_live_branch_of_which_nothing_is_archived(fork, backup_end, latest):
    """As after a recovery by hand: its history file is archived with the promotion, its first segment when that is full."""
    timelines = [dict(timeline=1, current=False, begin_time=None, last_wal=None),
                 dict(timeline=2, current=True, begin_time=None, last_wal=None, parent=1, switch_lsn=fork)]
    catalogue = dict(FACTS["catalogue"], timelines=timelines, windows=[dict(WINDOW, begin_lsn="0/3000028")], backups=[dict(BACKUP, end_lsn=backup_end)])
    found = judge(plan=dict(LATE, target_timeline=None), catalogue=catalogue)
    assert found["latest"] == latest
    if latest:
        told = judge(plan=dict(LATE, target_timeline=None), catalogue=catalogue, latest=PLAN)["plan"]
        assert told["target_timeline"] == 2 and [entry["ok"] for entry in told["findings"] if entry["check"] == "target"] == [True]


DROP = dict(commit_time="2026-11-23T04:20:00.000000+00:00", commits_between=0, summary="transaction 747, which dropped public.customer")


@pytest.mark.parametrize("between, meaning", [(0, None), (2, "2 others committed")])
def test_before_drop(between, meaning):
    found = one("before_drop", drop=dict(DROP, commits_between=between))
    assert found["ok"] and found["found"] == DROP["summary"] and (found["meaning"] or "").startswith(meaning or "")


@pytest.mark.parametrize("commit_time, latest", [("2026-11-23T04:20:00.000000+00:00", True), ("2026-11-23T04:05:00.000000+00:00", False)])
def test_a_drop_that_is_not_archived_yet(commit_time, latest):
    """Its LSN is not in the archive; the time of its commit tells whether the running server has it."""
    drop = dict(DROP, commit_time=commit_time)
    found = judge(drop=drop, asked="before_drop=customer", plan=dict(backup_id=None, target=dict(type="lsn", value="0/5000028", utc=None)))
    assert bool(found["latest"]) == latest
    assert found["plan"]["drop"] == drop and found["plan"]["target"] == dict(type="lsn", value="0/5000028", utc=None, asked="before_drop=customer")


@pytest.mark.parametrize("kind, value, there", [
    ("lsn", "0/4000101", True), ("lsn", "0/5000200", True), ("lsn", "0/4000100", False), ("lsn", "0/5000201", False),
    ("xid", "799", True), ("xid", "800", False), ("xid", "4294968095", True), ("name", "before_upgrade", True), ("latest", "latest", False),
])
def test_another_target_that_only_the_running_server_holds(kind, value, there):
    late = dict(LATE, target=dict(type=kind, value=value, utc=None))
    found = judge(plan=late)
    assert found["latest"] == (dict(backup_id=BACKUP["backup_id"], timeline=1) if there else None)
    assert judge(plan=dict(late, target_timeline=2))["latest"] is None
    told = next(entry for entry in found["plan"]["findings"] if entry["check"] == "target")
    assert told["ok"] == there and ("the running server holds" in told["found"]) == there


READ = dict(first="000000010000000000000003", last="000000010000000000000009", last_lsn="0/50001D0")
POINTS = [dict(name="before_upgrade", lsn="0/4100028", timeline=1)]


@pytest.mark.parametrize("lsn, searched, there, words", [
    ("0/4100028", [READ], True, "after the last archived commit (2026-11-23T04:10:00.5+00:00), in the WAL that the running server holds"),
    ("0/4000100", [READ], False, "not in the archive"),                                                    # of what is archived the archive says it
    (None, [READ], False, "not in the archive. Nor is it in the WAL that the running server holds. The most similar names there: before_upgrade."),
    (None, [dict(READ, last_lsn="0/4FFFFD8")], True, "not archived; it may be in the WAL that the running server holds"),       # not read to its end
    (None, [dict(READ, first="000000010000000000000006")], True, "not archived; it may be"),                                    # not from the beginning
    (None, [], True, "not archived; it may be"),
    (None, [dict(READ, last_lsn=None)], True, "not archived; it may be"),
    (None, [dict(READ, last_lsn="0/4FFFFD8"), dict(READ, first="000000020000000000000005")], False,
     "not in the archive. Nor is it in the WAL that the running server holds. The most similar names there: before_upgrade."),
    (None, [dict(READ, last_lsn="0/40001D0"), dict(READ, first="000000020000000000000006")], True, "not archived; it may be"),  # a hole
])
@pytest.mark.parametrize("kind, value", [("xid", "799"), ("name", "before_upgrad")])
def test_what_a_search_of_the_running_server_tells(kind, value, lsn, searched, there, words):
    unarchived = dict(target_lsn=lsn, restore_points=POINTS, searched=searched)
    found = judge(plan=dict(LATE, target=dict(type=kind, value=value, utc=None), findings=[NEVER]), unarchived=unarchived)
    told = next(entry for entry in found["plan"]["findings"] if entry["check"] == "target")
    assert told["ok"] == there and bool(found["latest"]) == there and told["found"].startswith(words.partition(" The most")[0])
    assert ("The most similar" in told["found"]) == (kind == "name" and "The most similar" in words)


def test_a_server_that_has_just_begun_a_segment():
    """After pg_switch_wal() it holds its header only, and stays so while nobody writes."""
    unarchived = dict(target_lsn=None, restore_points=[], searched=[dict(READ, last_lsn="0/4FFFFD8")])
    late = dict(LATE, target=dict(type="name", value="nobody", utc=None))
    assert [bool(judge(plan=late, unarchived=unarchived, live=dict(lsn=lsn))["latest"]) for lsn in ("0/5000028", "0/5000060")] == [False, True]


@pytest.mark.parametrize("full, own, clone, ok, words", [
    ([], [], False, True, "again by replay: /srv/hist"),
    (["/srv/hist"], ["/srv/hist"], False, True, "again by replay"),     # it is set aside with the cluster
    (["/srv/hist"], [], False, False, "Move what lies there away."),
    (["/srv/hist"], ["/srv/hist"], True, False, "Choose a host"),       # the living server's own
    ([], [], True, True, "again by replay"),
])
@pytest.mark.parametrize("read", [True, False])
def test_tablespaces_of_wal(full, own, clone, ok, words, read):
    made = [dict(oid=16394, location="/srv/hist")]
    cluster = dict(VACANT if clone else {}, tablespaces=[dict(oid=16394, location=path) for path in own])
    changes = dict(clone=CLONE) if clone else {}
    # After the fence WAL is not read again; what the first plan has found still counts.
    plan = dict(wal=dict(required=3, missing=[], tablespaces=made if read else []), findings=[red("tablespace of WAL /srv/hist", "is not there")])
    found = judge(plan=plan, wal_tablespaces=made, full=full, cluster=cluster, **changes)
    assert found["plan"]["feasible"] == ok
    told = next(entry for entry in found["plan"]["findings"] if entry["check"] == "tablespaces_of_wal")
    assert told["ok"] == ok and words in f"{told['found']} {told['fix']}" and found["plan"]["wal"]["tablespaces"] == made


CLONE = dict(configuration="", parent=dict(exists=True, pw_name="postgres"), tablespaces=[], port="", port_taken=False, directories=[
    dict(path="/var/lib/postgresql/17/main_clone", mount_point="/", free_bytes=2 << 30, inside=None)])
VACANT = dict(port=5432, real_data_directory="/var/lib/postgresql/17/main_clone", exists=False, empty=True, system_identifier=None, running=None,
              config_file=None, version_directory_major=None)


@pytest.mark.parametrize("check, cluster, clone, found", [
    (None, {}, {}, None),
    (None, {}, dict(parent=dict(exists=False)), None),
    ("data_directory", dict(exists=True, empty=False), {}, "not empty"),
    ("private_socket", dict(real_data_directory="/srv/" + "x" * 90), dict(port="54321"), "has 110 bytes"),
    ("cluster", dict(config_file="/etc/postgresql/17/main/postgresql.conf"), {}, "belongs to the cluster of /etc/postgresql/17/main/"),
    ("cluster", {}, dict(configuration="/etc/postgresql/17/main_clone"), "belongs to the cluster of /etc/postgresql/17/main_clone"),
    ("parent", {}, dict(parent=dict(exists=True, pw_name="root")), "belongs to root"),
    ("tablespaces_elsewhere", {}, dict(tablespaces=["/srv/history"]), "not empty: /srv/history"),
    ("port", {}, dict(port="5432", port_taken=True), "port 5432 is taken"),
    ("space", {}, dict(directories=[dict(CLONE["directories"][0], free_bytes=1)]), "needed"),
    ("inside", {}, dict(directories=[dict(CLONE["directories"][0], inside="/var/lib/postgresql/17/main")]), "lies in /var/lib/postgresql/17/main"),
])
def test_clone(check, cluster, clone, found):
    """What the backup's host would be asked is not asked, and what barman_restore said of the Barman host does not count."""
    said = [*PLAN["findings"], _findings.finding("destination", False, "is not empty"), _findings.finding("postgresql_major", False, "not installed"),
            _findings.finding("tablespace history", False, "is not empty")]
    judged = judge(clone=dict(CLONE, **clone), cluster=dict(VACANT, **cluster), plan=dict(findings=said), processes=["patroni"])
    red = [entry for entry in judged["plan"]["findings"] if not entry["ok"]]
    assert [entry["check"] for entry in red] == ([check] if check else [])
    assert not found or found in red[0]["found"]
    assert judged["latest"] is None


@pytest.mark.parametrize("free, small, red", [(300, 900, []), (300, 700, ["space /srv"]), (200, 900, ["space"])])
def test_the_room_of_a_clone_is_judged_on_each_file_system(free, small, red):
    """The data directory on one, a tablespace on another; each has to hold its part only."""
    directories = [dict(CLONE["directories"][0], free_bytes=free), dict(path="/srv/history", mount_point="/srv", free_bytes=small, inside=None)]
    parts = [dict(path="/var/lib/postgresql/17/main_clone", bytes=250), dict(path="/srv/history", bytes=750)]
    plan = judge(clone=dict(CLONE, directories=directories), cluster=VACANT, plan=dict(restore_bytes=1000, directories=parts))["plan"]
    assert [entry["check"] for entry in plan["findings"] if not entry["ok"]] == red


def test_what_earlier_recoveries_have_left():
    """Until when it is needed, and that nobody else deletes it."""
    left = [dict(path="/srv/a.aside-20260901T123000Z", expires="2026-09-08T12:30:00+00:00", expired=True),
            dict(path="/srv/a.failed-20260915T123000Z", expires=None, expired=False)]
    found = one("set_aside", cluster=dict(set_aside=left))
    assert found["ok"] and "/srv/a.aside-20260901T123000Z, needed until 2026-09-08T12:30:00+00:00, which is over; /srv/a.failed-" in found["found"]
    assert "set_aside" not in [entry["check"] for entry in judge()["plan"]["findings"]]


@pytest.mark.parametrize("host, told", [("lab", True), ("elsewhere", False)])
def test_a_clone_that_is_there_already(host, told):
    """As after a run that was cut off when all was done."""
    records = [dict(outcome="cloned", host=host, directory=VACANT["real_data_directory"], finished_by="maria@controller", ended="2026-09-15T12:30:01+00:00")]
    findings = judge(clone=CLONE, cluster=dict(VACANT, exists=True, empty=False), records=records)["plan"]["findings"]
    found = next(one for one in findings if one["check"] == "data_directory")
    assert not found["ok"]
    assert ("finished there already, by maria@controller at 2026-09-15T12:30:01+00:00" in found["found"]) == told
    assert found["fix"].startswith("Use that one" if told else "Give another")


def test_the_plan_of_a_standby_sets_its_old_data_aside():
    full = red("destination", "/var/lib/postgresql/17/main is not empty on bd-replica: something else (PG_VERSION)")
    facts = dict(plan=dict(PLAN, findings=[full], restore_bytes=1000), cluster=dict(CLUSTER, free_bytes=10**9), backup=BACKUP)
    plan = _findings.standby_plan(facts)
    assert plan["feasible"] and [one["check"] for one in plan["findings"]] == ["cluster_major", "space"]
    tight = _findings.standby_plan(dict(facts, cluster=dict(CLUSTER, free_bytes=10)))
    assert not tight["feasible"] and [one["check"] for one in tight["findings"] if not one["ok"]] == ["space"]
    missing = _findings.standby_plan(dict(facts, plan=dict(facts["plan"], findings=[red("wal", "1 is missing")])))
    assert not missing["feasible"]


def space(oid, name, location):
    """A tablespace as the catalogue has it."""
    return dict(oid=oid, name=name, location=location)


@pytest.mark.parametrize("own, mapped, confirm, identifier, told", [
    ([], {}, "", "7711", True), (["/ts"], {}, "", "7711", False), (["/ts/"], {}, "", "7711", False),
    (["/ts"], {"t": "/elsewhere"}, "", "7711", True), (["/elsewhere"], {"t": "/elsewhere"}, "", "7711", False),
    ([], {}, "main", "7711", False), ([], {}, "", None, False),     # somebody knows it; there is no cluster that could have it elsewhere
])
def test_a_tablespace_that_is_not_the_servers_is_not_set_aside(own, mapped, confirm, identifier, told):
    full = red("tablespace t", "/ts is not empty on lab: something else (PG_17_202406281)")
    judged = judge(
        plan=dict(findings=[*PLAN["findings"], full]), backup=dict(tablespaces=[dict(name="t", oid=1, location="/ts")]), tablespaces=mapped, confirm=confirm,
        cluster=dict(system_identifier=identifier, tablespaces=[dict(oid=1, location=path, free_bytes=1 << 40) for path in own]),
    )["plan"]
    found = [one for one in judged["findings"] if one["check"] == "tablespace t"]
    assert bool(found) == told and (not told or "-e confirm=main" in found[0]["fix"])


OCCUPIED = [red("tablespace t", "/ts is not empty on bd-replica: something else (PG_17_202406281 )")]


@pytest.mark.parametrize("own, spaces, made, findings, elsewhere, refused", [
    ([(16384, "/ts")], [space(16384, "t", "/ts")], [], OCCUPIED, {}, []),
    ([(16384, "/ts_s")], [space(16384, "t", "/ts")], [], OCCUPIED, {"t": "/ts_s"}, []),          # planned again with it, /ts is left alone
    ([], [space(16384, "t", "/ts")], [], OCCUPIED, {}, ["tablespace t"]),                        # another server's, or nobody knows whose
    ([(16390, "/ts")], [space(16384, "t", "/ts")], [], OCCUPIED, {}, []),                        # made again on a branch that was left
    ([(16384, "/b"), (16385, "/a")], [space(16384, "t", "/a"), space(16385, "u", "/b")], [], OCCUPIED, {}, []),
    ([(16384, "/b")], [space(16384, "t", "/a"), space(16385, "u", "/b")], [], [], {}, []),
    ([], [], ["/ts"], [red("tablespace of WAL /ts", "/ts is not empty")], {}, ["tablespace of WAL /ts"]),
    ([(16384, "/ts")], [], ["/ts"], [red("tablespace of WAL /ts", "/ts is not empty")], {}, []),
])
def test_a_standby_sets_aside_only_its_own_tablespaces(own, spaces, made, findings, elsewhere, refused):
    cluster = dict(CLUSTER, tablespaces=[dict(oid=oid, location=path, free_bytes=1) for oid, path in own])
    wal = dict(PLAN["wal"], tablespaces=[dict(oid="16384", location=path) for path in made])
    plan = _findings.standby_plan(dict(plan=dict(PLAN, wal=wal, findings=findings), cluster=cluster, backup=dict(BACKUP, tablespaces=spaces)))
    assert plan["tablespaces"] == elsewhere
    assert [one["check"] for one in plan["findings"] if not one["ok"]] == refused
    assert plan["feasible"] is (not refused)
    assert all("if nobody needs it" in one["fix"] for one in plan["findings"] if not one["ok"])
