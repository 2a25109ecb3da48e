# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be committed, undone, or moved on, and why not."""
from __future__ import annotations

import re

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._way_back import recovery_left, recovery_move

PLAN = dict(server="main", backup_id="20260915T020000", target_timeline=2, restore_bytes=10, feasible=False, findings=[
    dict(check="target", ok=True, found="", meaning=None, fix=None),
    dict(check="wal", ok=True, found="", meaning=None, fix=None),
    dict(check="destination", ok=False, found="is not empty", meaning="", fix=""),
])
MARKER = dict(server="main", host="db", holder="maria@controller", since="2026-09-15T12:30:01+00:00", phase="paused", run_id="1", plan=PLAN,
              stopped_at=dict(time="2026-09-15T12:29:59.5+00:00", lsn="0/5000100"))


def record(outcome, stamp="20260914T120000Z", **changes):
    return dict(dict(outcome=outcome, stamp=stamp, began=f"began {stamp}", host="db", found=dict(empty=False), undone_by="joe", undone_at="later"), **changes)


def left(verb, found=None, *records, **changes):
    facts = dict(verb=verb, server="main", host="db", found=found, elsewhere=[], records=list(records), pause=False, confirm="", clone={}, gone="")
    return recovery_left(dict(facts, **changes))


@pytest.mark.parametrize("verb, found, records, words", [
    ("commit", None, [], "nothing to commit"),
    ("commit", None, [record("committed")], "is committed already"),
    ("commit", None, [record("failed"), record("committed")], "has failed"),
    ("commit", dict(MARKER, phase="restore"), [], "maria@controller repeats the same recover.yml"),
    ("commit", dict(MARKER, phase="undo"), [], "being taken back"),
    ("commit", dict(MARKER, host="other"), [], "a recovery on other"),
    ("undo", None, [], "nothing to undo"),
    ("undo", None, [record("failed")], "nothing to undo"),
    ("undo", None, [record("failed", "20260915T120000Z"), record("committed")], "put everything back itself.*the one before it as well, add -e confirm=main"),
    ("undo", None, [record("undone")], "taken back already, by joe"),
    ("undo", None, [record("abandoned", "20260915T120000Z"), record("committed")], "20260915.*To take back the one before it as well, add -e confirm=main"),
    ("undo", None, [record("committed", found=dict(empty=True))], "there was no data on db"),
    ("undo", None, [record("committed", host="other")], "a recovery on other"),
    ("undo", dict(MARKER, host="other"), [record("committed")], "a recovery on other"),
    ("recover", dict(MARKER, phase="undo"), [], "Finish it first: ansible-playbook playbooks/undo.yml -e server=main"),
])
def test_refused(verb, found, records, words):
    assert re.search(words, left(verb, found, *records)["refusal"])


def test_what_was_under_way_on_a_host_that_is_gone():
    clone = dict(MARKER, clone="test:/srv/clone", target=dict(type="time"))
    standby = dict(MARKER, clone="other:/srv/main", target=dict(type="standby"))
    assert left("undo", MARKER, elsewhere=[clone, standby], gone="db") == dict(left=MARKER, unfinished=True, refusal=None, gone=[MARKER])
    assert left("undo", MARKER, elsewhere=[clone, standby], gone="test")["gone"] == [clone]
    assert left("undo", None, elsewhere=[clone, standby], gone="other", host="db")["gone"] == [standby]
    refused = left("undo", MARKER, elsewhere=[clone], gone="db2")
    assert refused["gone"] == [] and re.search("Nothing of main is being recovered on db2.*Under way: on db and on test. Nothing was", refused["refusal"])
    assert "undo.yml -e server=main -e gone=other" in left("undo", dict(MARKER, host="other"))["refusal"]
    assert left("commit", MARKER, gone="db")["gone"] == []


def test_a_pause_comes_too_late():
    assert "cannot pause" in left("recover", dict(MARKER, phase="serve"), pause=True)["refusal"]
    assert left("recover", dict(MARKER, phase="serve"))["refusal"] is None
    assert left("recover", MARKER, pause=True)["refusal"] is None


@pytest.mark.parametrize("phase", ["paused", "commit", "serve"])
def test_anybody_commits(phase):
    assert left("commit", dict(MARKER, phase=phase), record("committed")) == dict(left=dict(MARKER, phase=phase), unfinished=True, refusal=None, gone=[])


@pytest.mark.parametrize("phase", ["fence", "aside", "restore", "replay", "paused", "commit", "serve", "undo"])
def test_what_is_under_way_is_taken_back_first(phase):
    assert left("undo", dict(MARKER, phase=phase), record("undone")) == dict(left=dict(MARKER, phase=phase), unfinished=True, refusal=None, gone=[])


def test_a_finished_one_is_taken_back_and_an_earlier_one_only_when_it_is_said():
    last, before = record("committed", "20260915T120000Z"), record("committed")
    assert left("undo", None, last, before) == dict(left=last, unfinished=False, refusal=None, gone=[])
    assert left("undo", None, record("failed", "20260916T120000Z"), last, before, confirm="main") == dict(left=last, unfinished=False, refusal=None, gone=[])
    taken = dict(last, outcome="undone")
    assert "taken back already" in left("undo", None, taken, before)["refusal"]
    assert left("undo", None, taken, before, confirm="main") == dict(left=before, unfinished=False, refusal=None, gone=[])
    assert "taken back already" in left("undo", None, taken, confirm="main")["refusal"]


CLONE = dict(MARKER, clone="lab:/srv/clone", phase="restore", target=dict(type="latest"))


@pytest.mark.parametrize("directory", ["", "/srv/clone"])
def test_a_clone_that_was_begun_is_taken_back(directory):
    other = dict(CLONE, clone="elsewhere:/srv/clone")
    place = dict(host="lab", directory=directory)
    assert left("undo", MARKER, record("committed"), elsewhere=[other, CLONE], clone=place) == dict(left=CLONE, unfinished=True, refusal=None, gone=[])


@pytest.mark.parametrize("elsewhere, place, words", [
    ([], dict(host="lab", directory=""), "No clone of main to lab was begun and is not finished.*pg_dropcluster"),
    ([CLONE], dict(host="lab", directory="/srv"), "No clone of main to lab:/srv was begun.*Not finished: lab:/srv/clone[.]"),
    ([CLONE], dict(host="la", directory=""), "No clone of main to la was begun"),
    ([CLONE, dict(CLONE, clone="lab:/srv/two")], dict(host="lab", directory=""),
     "2 clones.*-e destination_directory=/srv/clone; .*-e destination_host=lab -e destination_directory=/srv/two$"),
    ([dict(CLONE, target=dict(type="standby"))], dict(host="lab", directory=""), "No clone of main to lab was begun and is not finished, so"),
])
def test_another_clone_is_never_meant(elsewhere, place, words):
    assert re.search(words, left("undo", None, record("committed"), elsewhere=elsewhere, clone=place)["refusal"])


def test_after_a_clone_was_cut_off_nobody_means_the_server_unsaid():
    committed, undo = record("committed"), "playbooks/undo.yml -e server=main -e"
    said = left("undo", None, committed, elsewhere=[CLONE])["refusal"]
    assert f"{undo} destination_host=lab -e destination_directory=/srv/clone. The recovery of began" in said and f"{undo} confirm=main. Nothing" in said
    assert left("undo", None, committed, elsewhere=[CLONE], confirm="main")["refusal"] is None
    assert left("undo", MARKER, committed, elsewhere=[CLONE])["refusal"] is None
    assert left("undo", None, committed, elsewhere=[dict(CLONE, target=dict(type="standby"))])["refusal"] is None
    assert re.search("A clone of main.*destination_host=lab.*nothing to undo", left("undo", elsewhere=[CLONE])["refusal"])


def test_a_clone_that_was_being_taken_back_is_finished_first():
    assert "undo.yml -e server=main -e destination_host=lab -e" in left("recover", dict(CLONE, phase="undo"))["refusal"]


def move(plan=None, standing=None, **given):
    targets = {f"target_{kind}": value for kind, value in given.items()}
    return recovery_move(dict(targets=targets, timeline="", exclusive=False, plan=plan or PLAN, standing=standing or MARKER))


@pytest.mark.parametrize("given", [
    dict(time="2026-09-15T12:29:59.5Z"), dict(time="2026-09-15T14:40:00+02:00"), dict(lsn="0/5000100"), dict(lsn="1/0"), dict(latest="true"), dict(xid="741"),
    dict(name="before_upgrade"),
])
def test_later_goes_on(given):
    found = move(**given)
    assert found["plan"]["feasible"] and [one["check"] for one in found["plan"]["findings"]] == ["target", "wal", "restored_copy"]
    assert found["settings"]["recovery_target_timeline"] == "2" and found["settings"]["recovery_target_action"] == "pause"


@pytest.mark.parametrize("given", [dict(time="2026-09-15T12:29:59.4Z"), dict(lsn="0/50000FF"), dict(immediate="true")])
def test_earlier_is_refused_with_what_to_type(given):
    red = [one for one in move(**given)["plan"]["findings"] if not one["ok"]]
    assert [one["check"] for one in red] == ["restored_copy"] and "after the target" in red[0]["found"]
    assert red[0]["fix"].startswith("Take it back with ansible-playbook playbooks/undo.yml -e server=main")


@pytest.mark.parametrize("plan, standing, words", [
    (dict(PLAN, target_timeline=3), MARKER, "of backup"),
    (dict(PLAN, backup_id="20260915T030000"), MARKER, "of backup"),
    (PLAN, dict(MARKER, promoted=True), "has ended its recovery"),
    (PLAN, dict(MARKER, all_wal=False), "without pause=true"),
])
def test_another_copy_is_needed(plan, standing, words):
    red = [one for one in move(plan, standing, time="2026-09-15T14:40:00+02:00")["plan"]["findings"] if not one["ok"]]
    assert [one["check"] for one in red] == ["restored_copy"] and words in red[0]["found"]


def test_what_the_archive_lacks_stays_red():
    plan = dict(PLAN, backup_id=None, target_timeline=None, findings=[dict(check="target", ok=False, found="no", meaning="m", fix="f")])
    found = move(plan, time="2026-09-15T14:40:00+02:00")
    assert not found["plan"]["feasible"] and found["settings"] == {}


def test_a_copy_that_stands_at_its_beginning():
    assert move(standing=dict(MARKER, stopped_at=dict(time=None, lsn="0/5000100")), time="2026-09-15T12:00:00Z")["plan"]["feasible"]
