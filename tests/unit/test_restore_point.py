# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_restore_point: names that come back as a target, and servers on which it would be of no use."""
from __future__ import annotations

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import PostgresError
from ansible_collections.pgrescue.barman.plugins.module_utils._target import parse_target
from ansible_collections.pgrescue.barman.plugins.modules.pg_restore_point import check_point_name, check_state


@pytest.mark.parametrize("name", ["before-migration", "v1.2_3", "x" * 63, ".x"])
def test_a_name_that_is_taken_is_a_target(name):
    check_point_name(name)
    assert parse_target(dict(target_name=name)).value == name


@pytest.mark.parametrize("name", ["", "-x", "x" * 64, "a b", "a'b", "a\nb", "ñ", "a/b"])
def test_other_names_are_refused(name):
    with pytest.raises(PostgresError, match="before-migration"):
        check_point_name(name)


def test_states():
    check_state(False, "replica")
    check_state(False, "logical")
    with pytest.raises(PostgresError, match="primary only"):
        check_state(True, "replica")
    with pytest.raises(PostgresError, match="wal_level = replica"):
        check_state(False, "minimal")
