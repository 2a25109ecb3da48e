# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups a task means, and the words for Barman."""
from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _selection as selection
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
PARAMS = dict(name=None, reuse_backup=None, jobs=None, bandwidth_limit=None, immediate_checkpoint=True, extra_args=[])


def backup(hour, status="DONE", **changes):
    end = f"2026-11-23T{hour:02d}:00:00+00:00" if status == "DONE" else None
    made = dict(backup_id=f"20261123T{hour:02d}0000", name=None, status=status, type="rsync", parent_backup_id=None, end_time=end, keep="none",
                good=status == "DONE")
    return dict(made, **changes)


CATALOGUE = [
    backup(1, name="weekly"), backup(2, "FAILED", name="nightly"), backup(3, "STARTED"), backup(4, name="nightly"),
    backup(5, "WAITING_FOR_WALS", name="late"), backup(6, good=False), backup(7, "STARTED"),
]


def ids(backups):
    return [entry["backup_id"][9:11] for entry in backups]


@pytest.mark.parametrize("text, expected", [
    ("30m", timedelta(minutes=30)), ("12h", timedelta(hours=12)), ("7d", timedelta(days=7)), ("90 s", timedelta(seconds=90)), (" 2w ", timedelta(days=14)),
])
def test_age(text, expected):
    assert selection.parse_age(text) == expected


@pytest.mark.parametrize("text", ["", "7", "d", "1.5h", "-1h", "1h30m", "12H", "1 month", "1h\n;"])
def test_no_age(text):
    with pytest.raises(BarmanError, match="for example 30m, 12h or 7d"):
        selection.parse_age(text)


@pytest.mark.parametrize("name, max_age, expected", [
    (None, None, None),                                    # an event: always a new one
    ("nightly", None, "04"),                               # not the failed one of that name
    ("late", None, None), ("unknown", None, None),
    (None, timedelta(hours=9), "04"),                      # the newest good one; DONE alone does not make it good
    (None, timedelta(hours=8), "04"), (None, timedelta(hours=7, minutes=59), None),
])
def test_present(name, max_age, expected):
    found = selection.present_backup(CATALOGUE, name, max_age, NOW)
    assert (found and found["backup_id"][9:11]) == expected


def test_present_in_an_empty_catalogue():
    assert selection.present_backup([], None, timedelta(days=1), NOW) is None


def test_waiting():
    assert selection.waiting_backup(CATALOGUE, "late")["backup_id"] == "20261123T050000"
    assert selection.waiting_backup(CATALOGUE, "nightly") is None
    assert selection.waiting_backup(CATALOGUE, None) is None


@pytest.mark.parametrize("name", ["before-migration", "v1.2_3", "nightly", "x" * 63])
def test_backup_name(name):
    selection.check_backup_name(name)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\nb", "a'b", 'a"b', "a;b", "x" * 64, "latest", "oldest", "auto", "failed", "last-f", "20261123T010000"])
def test_no_backup_name(name):
    with pytest.raises(BarmanError, match="Type "):
        selection.check_backup_name(name)


@pytest.mark.parametrize("value", ["latest", "nightly", "--release", "20261123T010000\n", "2026", ""])
def test_no_backup_id(value):
    with pytest.raises(BarmanError, match="YYYYMMDDTHHMMSS"):
        selection.check_backup_id(value)


@pytest.mark.parametrize("value", ["-w", "--", "retry", "--wait", "--w", "--wait-timeout=3", "--wait-t", "", "\n--x"])
def test_no_extra_argument(value):
    with pytest.raises(BarmanError, match="extra_args"):
        selection.check_extra_args([value])


def test_extra_arguments():
    selection.check_extra_args(["--retry-times=3", "--manifest", "--check-timeout=5"])


def test_arguments():
    assert selection.backup_arguments(PARAMS, None) == ["--immediate-checkpoint"]
    everything = dict(name="n", reuse_backup="link", jobs=2, bandwidth_limit=100, immediate_checkpoint=False, extra_args=["--no-retry"])
    assert selection.backup_arguments(everything, "20261123T010000") == [
        "--incremental", "20261123T010000", "--name", "n", "--reuse-backup=link", "--jobs", 2, "--bwlimit", 100, "--no-immediate-checkpoint", "--no-retry",
    ]


def test_parent_of_incremental():
    catalogue = [backup(1, type="full"), backup(2, type="incremental", parent_backup_id="20261123T010000"), backup(3), backup(4, "FAILED", type="full")]
    assert selection.parent_of_incremental(catalogue, None) is None
    assert selection.parent_of_incremental(catalogue, "auto") == "20261123T020000"
    assert selection.parent_of_incremental(CATALOGUE, "auto") is None
    assert selection.parent_of_incremental(catalogue, "20261123T010000") == "20261123T010000"
    for wish in ("20261123T030000", "20261123T040000", "20261123T090000"):
        with pytest.raises(BarmanError, match="Usable: 20261123T010000, 20261123T020000"):
            selection.parent_of_incremental(catalogue, wish)


@pytest.mark.parametrize("wanted, statuses, lock_held, expected", [
    (["20261123T010000"], [], False, ["01"]), (["20200101T000000"], [], False, []),
    ([], ["FAILED"], False, ["02"]), ([], ["STARTED"], False, ["03", "07"]),
    ([], ["STARTED"], True, ["03"]),                       # the newest one may be alive
    (["20261123T040000"], ["FAILED", "STARTED"], False, ["02", "03", "04", "07"]),
])
def test_doomed(wanted, statuses, lock_held, expected):
    assert ids(selection.doomed_backups(CATALOGUE, wanted, statuses, lock_held)) == expected


def test_a_running_backup_is_not_deleted():
    with pytest.raises(BarmanError, match="is being taken right now"):
        selection.doomed_backups(CATALOGUE, ["20261123T070000"], [], True)


def test_incrementals_go_with_what_they_build_on():
    catalogue = [backup(1), backup(2, parent_backup_id="20261123T010000"), backup(3, parent_backup_id="20261123T020000"), backup(4)]
    assert selection.with_descendants(catalogue, catalogue[1:2]) == ["20261123T020000", "20261123T030000"]
    assert selection.with_descendants(catalogue, catalogue[:1]) == ["20261123T010000", "20261123T020000", "20261123T030000"]


def test_refused_deletions():
    catalogue = [backup(1), backup(2, keep="standalone"), backup(3, "FAILED"), backup(4, parent_backup_id="20261123T010000")]
    selection.check_deletion(catalogue, ["20261123T010000"], 1)
    selection.check_deletion(catalogue, ["20261123T030000", "20261123T040000"], 5)      # neither counts
    selection.check_deletion(catalogue, [], 5)
    with pytest.raises(BarmanError, match="barman_keep"):
        selection.check_deletion(catalogue, ["20261123T020000"], 0)
    with pytest.raises(BarmanError, match="1 complete backups would be left, and minimum_redundancy is 2"):
        selection.check_deletion(catalogue, ["20261123T010000"], 2)
