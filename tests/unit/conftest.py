# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for all unit tests."""
from __future__ import annotations

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils import _wal, _windows

from recorded import RECORDINGS, major, waldump


@pytest.fixture
def recorded_wal(monkeypatch):
    """A function that puts the recorded records of one version in the place of pg_waldump."""

    def use(version, records=None):
        records = records or RECORDINGS / version / "waldump"
        monkeypatch.setattr(_wal, "run_waldump", waldump(records, major(version)))
        monkeypatch.setattr(_windows, "find_waldump", lambda *_args: "pg_waldump")
        return records

    return use
