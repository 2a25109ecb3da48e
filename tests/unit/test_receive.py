# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiver of WAL: where it resumes, what is in its way, and who holds its lock."""
from __future__ import annotations

import fcntl
import os

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._receive import holder, in_the_way, resume_at, streams

SIZE = 16 << 20
OLD, NEW = "00000001000000000000000A", "00000002000000000000000A"


@pytest.mark.parametrize("timeline, lsn, known, segment", [
    (2, "0/A000148", [OLD], NEW),                                                        # nothing of the new timeline yet: where it begins
    (2, "0/B000000", [OLD], "00000002000000000000000B"),
    (2, "0/A000148", [OLD, NEW], "00000002000000000000000B"),                            # a run that goes on
    (1, "0/9000028", [OLD, NEW], "00000001000000000000000B"),                            # back on the old branch
    (1, "1/FF000028", ["0000000100000001000000FF"], "000000010000000200000000"),
])
def test_it_resumes_after_what_is_there(timeline, lsn, known, segment):
    assert resume_at(timeline, lsn, SIZE, known) == segment


@pytest.mark.parametrize("files, segment, away", [
    ([f"{OLD}.partial"], OLD, []),
    ([f"{OLD}.partial", "00000002.history", "notes.tmp"], NEW, [f"{OLD}.partial"]),
    (["000000010000000000000009", f"{OLD}.partial"], NEW, [f"{OLD}.partial"]),           # a whole one is archived by Barman
    ([NEW, "00000002000000000000000B.partial"], OLD, [NEW, "00000002000000000000000B.partial"]),
    ([f"{NEW}.partial"], NEW, []),
])
def test_what_is_in_the_way(files, segment, away):
    assert in_the_way(files, segment) == away


def test_the_lock_tells_who_holds_it(tmp_path):
    path = tmp_path / ".main-receive-wal.lock"
    assert holder(path) is None
    path.write_text("4711\n")
    assert holder(path) is None
    with open(path, "r+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder(path) == 4711
        path.write_text("")
        assert holder(path) == 0
    assert not streams(os.getpid())
