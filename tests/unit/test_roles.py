# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a role have the same names and defaults wherever they are written down."""
from __future__ import annotations

import ast
import re
from datetime import datetime, timezone
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.pgrescue.barman.plugins.filter.server_map import SERVER_OPTIONS

ROLES = sorted((Path(__file__).parents[2] / "roles").iterdir())


def load(role, path):
    file = role / path
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file.exists() else {}


def entry_points(role):
    return load(role, "meta/argument_specs.yml")["argument_specs"]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_are_those_of_the_specs(role):
    options = {}
    for spec in entry_points(role).values():
        options.update(spec.get("options", {}))
    documented = {name: option["default"] for name, option in options.items() if "default" in option}
    defaults = load(role, "defaults/main.yml")
    # An expression is computed where the role runs; its description says how.
    computed = [name for name, value in defaults.items() if str(value).startswith("{{") and name not in documented]
    assert set(computed) <= set(options)
    assert {name: value for name, value in defaults.items() if name not in computed} == documented


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_entry_point_is_a_file_and_says_what_it_does(role):
    for name, spec in entry_points(role).items():
        assert (role / "tasks" / f"{name}.yml").exists()
        assert spec["short_description"] and spec["description"]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_names_carry_the_role(role):
    names = list(load(role, "defaults/main.yml"))
    for file in (role / "vars").glob("*.yml"):
        names += [name.removeprefix("__") for name in load(role, file.relative_to(role))]
    assert [name for name in names if not name.startswith(f"{role.name}_")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_families_have_the_same_keys(role):
    keys = [set(load(role, file.relative_to(role))) for file in (role / "vars").glob("*.yml") if file.name != "main.yml"]
    assert all(one == keys[0] for one in keys)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_roles_read_no_inventory_groups(role):
    for file in (role / "tasks").rglob("*.yml"):
        assert not re.search(r"\bgroups\[|\bgroups\.|\bhostvars\b", file.read_text(encoding="utf-8")), file


def test_the_filter_knows_the_options_of_a_server():
    role = next(role for role in ROLES if role.name == "barman_server")
    options = entry_points(role)["main"]["options"]["barman_server_servers"]["options"]
    assert sorted(SERVER_OPTIONS) == sorted(options)


def test_grants_cover_the_supported_majors():
    role = next(role for role in ROLES if role.name == "pg_primary")
    grants = load(role, "vars/main.yml")["__pg_primary_grants"]
    assert list(grants) == ["13", "14", "15", "16", "17", "18"]
    for major, grant in grants.items():
        assert ("pg_checkpoint" in grant["roles"]) == (int(major) >= 15)
        assert not {"pg_write_all_data", "pg_read_all_data", "pg_read_server_files", "pg_execute_server_program"} & set(grant["roles"])


def test_a_phase_that_is_entered_twice_has_the_seconds_of_both():
    role = next(role for role in ROLES if role.name == "pitr")
    clock = [dict(phase=phase, at=at) for phase, at in [("plan", 0.0), ("fence", 2.5), ("fence", 100.0), ("aside", 110.25), ("serve", 120.0)]]
    durations = jinja2.Environment(autoescape=False).from_string(load(role, "vars/main.yml")["__pitr_durations"])
    told = durations.render(__pitr_clock=clock, now=lambda: datetime.fromtimestamp(123, tz=timezone.utc))
    assert ast.literal_eval(told.strip()) == dict(plan=2.5, fence=107.8, aside=9.8, serve=3.0)


@pytest.mark.parametrize("stopped, distance, drop, words", [
    (dict(time="2026-11-28T16:37:54.115296+00:00", reason="before commit of transaction 820"), 6.4, {},
     "2026-11-28T16:37:54.115296+00:00 (LSN 0/1800EEA0), the last transaction before the moment asked for, 6.4 seconds earlier"),
    (dict(time="2026-11-28T16:37:54.115296+00:00", reason="no recovery target specified"), None, {},
     "2026-11-28T16:37:54.115296+00:00 (LSN 0/1800EEA0), as asked for"),
    (dict(time=None, reason="before commit of transaction 820, time 2026-11-28 16:42:38.035453+00"), None, {},
     "LSN 0/1800EEA0 (before commit of transaction 820, time 2026-11-28 16:42:38.035453+00), as asked for"),
    (dict(time=None, reason="after reaching consistency"), None, dict(summary="DROP of public.t"), "LSN 0/1800EEA0 (after reaching consistency), "
     "just before DROP of public.t"),
    (dict(time=None, reason="no recovery target specified"), None, {}, "the end of the archive (LSN 0/1800EEA0), as asked for"),
    (dict(time=None, reason=None), None, {}, "the end of the archive (LSN 0/1800EEA0), as asked for"),
])
def test_where_a_recovery_stopped(stopped, distance, drop, words):
    """Nothing is called the end of the archive that is not."""
    role = next(role for role in ROLES if role.name == "pitr")
    where = jinja2.Environment(autoescape=False).from_string(load(role, "vars/main.yml")["__pitr_where"])
    said = where.render(__pitr_stopped=dict(stopped, lsn="0/1800EEA0"), __pitr_distance=distance, pitr_plan=dict(drop=drop))
    assert " ".join(said.split()) == words
