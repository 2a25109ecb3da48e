# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a long task tells of itself."""
from __future__ import annotations

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _plan, _progress


@pytest.mark.parametrize(("done", "total", "seconds", "said"), [
    (0, 1000, 5, "0 bytes of 1000 bytes, 0 %"),
    (250_000_000, 1_000_000_000, 10, "238.4 MiB of 953.7 MiB, 25 %, 23.8 MiB/s, 30 s left"),
    (1_200_000_000, 1_000_000_000, 10, "953.7 MiB of 953.7 MiB, 100 %, 95.4 MiB/s, 0 s left"),
    (999, None, 10, "999 bytes"),
    (7, 10, 0, "7 bytes of 10 bytes, 70 %"),
])
def test_how_far_it_is(done, total, seconds, said):
    assert _plan.share(done, total, seconds) == said


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


def test_measuring_takes_a_twentieth_of_the_time(tmp_path, monkeypatch):
    """Looked at every second for 100 s; each measure takes one, and the third one has nothing to say."""
    path, clock, measured = tmp_path / "progress", [0.0], []
    monkeypatch.setenv(_progress.VARIABLE, str(path))
    monkeypatch.setattr(_progress.atexit, "register", lambda *words: None)
    monkeypatch.setattr(_progress.time, "monotonic", lambda: clock[0])

    def measure(seconds):
        measured.append(seconds)
        clock[0] += 1
        return f"after {seconds:.0f} s" if len(measured) != 3 else None

    look = _progress.telling(measure)
    while clock[0] < 60:
        look("whatever Barman.call says")
        clock[0] += 1
    assert measured == [0, 20, 40]
    assert path.read_text(encoding="utf-8") == "after 20 s"
