# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a long task tells of itself."""
from __future__ import annotations

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _progress


@pytest.mark.parametrize(("done", "total", "seconds", "said"), [
    (0, 1000, 5, "0 bytes of 1.0 kB, 0 %"),
    (250_000_000, 1_000_000_000, 10, "250.0 MB of 1.0 GB, 25 %, 25.0 MB/s, 30 s left"),
    (1_200_000_000, 1_000_000_000, 10, "1.0 GB of 1.0 GB, 100 %, 100.0 MB/s, 0 s left"),
    (999, None, 10, "999 bytes"),
    (7, 10, 0, "7 bytes of 10 bytes, 70 %"),
])
def test_how_far_it_is(done, total, seconds, said):
    assert _progress.share(done, total, seconds) == said


def test_the_newest_line_is_told_and_goes_at_the_end(tmp_path, monkeypatch):
    path, ends = tmp_path / "progress", []
    monkeypatch.setenv(_progress.VARIABLE, str(path))
    monkeypatch.setattr(_progress.atexit, "register", lambda call, *words: ends.append((call, words)))
    _progress.tell("one")
    _progress.tell("two")
    assert path.read_text(encoding="utf-8") == "two" and len(ends) == 1
    for call, words in ends:
        call(*words)
    assert not list(tmp_path.iterdir())


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.delenv(_progress.VARIABLE, raising=False)
    _progress.tell("one")
    monkeypatch.setenv(_progress.VARIABLE, str(tmp_path / "no" / "folder"))
    _progress.tell("one")
    assert not list(tmp_path.iterdir())
