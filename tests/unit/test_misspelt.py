# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which extra variable was meant for another."""
from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.pgrescue.barman.plugins.lookup.misspelt import misspelt

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
KNOWN = yaml.safe_load((PLAYBOOKS / "vars" / "names.yml").read_text())["pgrescue_names"]
READ = re.compile(r"(?<![.\w])([a-z][a-z_]+) *\| *default\(")
# Of an item, a host or a role, not typed by anybody.
INNER = re.compile(r"pgrescue_|pitr_|pg_primary_|barman_server_|ansible_")


@pytest.mark.parametrize("given, meant", [
    ("target_exclusve", "target_exclusive"), ("exclusive", "target_exclusive"), ("timeline", "target_timeline"), ("target_tme", "target_time"),
    ("target", "target_"), ("servers", "server"), ("destination_dir", "destination_directory"),
    ("table_spaces", "tablespaces"), ("before-drop", "before_drop"), ("bandwidth", "bandwidth_limit"), ("backup", "backup"), ("Target_time", "target_time"),
])
def test_what_was_meant(given, meant):
    assert [entry["meant"].startswith(meant) for entry in misspelt([given, "server"], KNOWN)] == [True]


@pytest.mark.parametrize("given", [
    [], KNOWN, ["awx_job_id", "awx_user_name", "tower_job_template_name", "awx_inventory_id"], ["ansible_user", "ansible_port"],
    ["pg_primary_server_name", "barman_server_user", "pitr_target_time"], ["_raw_params"], ["name", "env", "ticket", "owner", "tpch_scale"],
    ["port", "reports_to"],
])
def test_what_is_no_mistake(given):
    assert misspelt(given, KNOWN) == []


def test_every_variable_that_a_playbook_reads_is_known():
    read = {name for path in PLAYBOOKS.glob("*.yml") for name in READ.findall(path.read_text())}
    assert {name for name in read if not INNER.match(name)} <= set(KNOWN)
