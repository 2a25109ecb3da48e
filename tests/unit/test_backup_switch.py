# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closing a segment and knowing that it is archived, on what Barman 3.4, 3.13 and 3.20 said."""
from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _switch as switch
from ansible_collections.pgrescue.barman.plugins.module_utils._archive import Archive
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import Answer, BarmanError, parse
from ansible_collections.pgrescue.barman.plugins.module_utils._config import ServerConfiguration

RECORDINGS = Path(__file__).parent / "recordings"
VERSIONS = ("3.4.0", "3.13.3", "3.20.1")
SERVER = ServerConfiguration("main", dict(active="true", disabled="false", errors_directory="/errors"))


def recorded(version, name, rc=0):
    return parse(["barman"], rc, (RECORDINGS / version / f"{name}.json").read_text(), "")


class Tool:
    """A barman that gives prepared answers and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def call(self, *args, **_options):
        self.asked.append(args)
        return self.answers.pop(0)


def archive(*names, duplicates=()):
    return Archive("/wals", {name: (1, 0.0, None) for name in names}, dict.fromkeys(names, 1), (), [(name, None) for name in duplicates])


def wal(number, timeline=1):
    return f"{timeline:08X}{number:016X}"


@pytest.fixture(name="archives")
def _archives(monkeypatch):
    """read_archive() gives these, the last one for ever; nobody sleeps, and PostgreSQL is not asked."""
    given = []
    monkeypatch.setattr(switch, "read_archive", lambda server: given.pop(0) if len(given) > 1 else given[0])
    monkeypatch.setattr(switch, "ask_archiver", lambda conninfo: "THE ARCHIVER")
    monkeypatch.setattr(switch.time, "sleep", lambda seconds: None)
    return given


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded(version):
    closed = switch.closed_segment(recorded(version, "switch-wal"))
    assert closed.startswith("0000000300000000000000")
    assert switch.close_segment(Tool(recorded(version, "switch-wal")), "main", 20) == closed
    with pytest.raises(BarmanError, match="Unable to perform pg_switch_wal.*Does PostgreSQL run"):
        switch.close_segment(Tool(recorded(version, "switch-wal-down", 1)), "main", 20)


def closed(number, timeline=1):
    return Answer(["barman"], 0, info=[f"The WAL file {wal(number, timeline)} has been closed on server 'main'"])


def test_without_checkpoint_there_is_a_plain_switch():
    denied = Answer(["barman"], 1, error=["Barman switch-wal --force requires superuser rights or the 'pg_checkpoint' role"])
    tool = Tool(denied, closed(5))
    assert switch.close_segment(tool, "main", 20.9) == wal(5)
    assert tool.asked == [("switch-wal", "--force", "--archive", "--archive-timeout", 20, "main"), ("switch-wal", "main")]


def test_a_postgresql_that_does_not_answer_is_not_waited_for_past_the_deadline(monkeypatch):
    class Slow(Tool):
        def call(self, *args, **options):
            assert 0 < options["timeout"] <= 7
            return super().call(*args, **options)

    monkeypatch.setattr(switch.time, "monotonic", lambda: 100)
    assert switch.close_segment(Slow(closed(5)), "main", 20, deadline=107) == wal(5)


@pytest.mark.parametrize("line", ["No switch performed because server 'main' is a standby.", "Skipping inactive server 'main'"])
def test_nothing_is_switched_though_the_exit_code_is_0(line):
    with pytest.raises(BarmanError, match="no WAL of server main was switched"):
        switch.close_segment(Tool(Answer(["barman"], 0, info=[line])), "main", 20)


def test_archived_at_once(archives):
    archives += [archive(wal(4)), archive(wal(4), wal(5))]
    assert switch.archive_written(Tool(closed(5)), SERVER) == switch.Written(True, wal(5), wal(5), True)


def test_archived_later(archives):
    archives += [archive(wal(3)), archive(wal(3)), archive(wal(3), wal(4)), archive(wal(3), wal(4), wal(5))]
    tool = Tool(closed(5), Answer([], 0), Answer([], 0))
    assert switch.archive_written(tool, SERVER, stall=60).last_archived == wal(5)
    assert tool.asked[1:] == [("archive-wal", "main")] * 2


def test_nothing_to_close(archives):
    archives += [archive(wal(4), wal(5))]
    status = Answer([], 0, data={"main": dict(current_xlog=wal(6), xlog_segment_size=16777216, conninfo="password=secret")})
    tool = Tool(Answer([], 0, info=["No switch required for server 'main'"]), status)
    assert switch.archive_written(tool, SERVER) == switch.Written(False, None, wal(5), False)


def test_nothing_to_close_after_a_fork(archives):
    archives += [archive(wal(5))]
    status = Answer([], 0, data={"main": dict(current_xlog=wal(6, 2), xlog_segment_size=16777216)})
    assert not switch.archive_written(Tool(Answer([], 0, info=["No switch required for server 'main'"]), status), SERVER).switched


def test_segment_of_the_same_number_on_an_older_timeline_is_not_enough(archives):
    archives += [archive(wal(5))]
    with pytest.raises(BarmanError, match="closed but not archived"):
        switch.archive_written(Tool(closed(5, 2)), SERVER, deadline=time.monotonic())


def test_listed_but_not_on_the_disk_is_not_archived():
    assert not switch.is_archived(wal(5), Archive("/wals", {wal(5): (1, 0.0, None)}, {}))


def test_never_archived(archives):
    archives += [archive(wal(4))]
    with pytest.raises(BarmanError, match=rf"{wal(5)} .* not archived.*goes to {wal(4)}. THE ARCHIVER"):
        switch.archive_written(Tool(closed(5)), SERVER, deadline=time.monotonic())


def test_a_cluster_that_is_not_the_archives(archives):
    archives += [archive(wal(5), wal(9))]
    with pytest.raises(BarmanError, match="not the cluster, or not the timeline"):
        switch.archive_written(Tool(closed(5)), SERVER)


def test_two_clusters(archives):
    archives += [archive(wal(4)), archive(wal(4), wal(5), duplicates=[wal(5)])]
    with pytest.raises(BarmanError, match="arrived twice"):
        switch.archive_written(Tool(closed(5)), SERVER)


@pytest.mark.parametrize("options, says", [(dict(active="false"), "inactive"), (dict(disabled="true"), "inactive"),
                                           (dict(primary_ssh_command="ssh other"), "passive")])
def test_inactive(options, says):
    with pytest.raises(BarmanError, match=says):
        switch.refuse_inactive(ServerConfiguration("main", dict(SERVER.options, **options)))
