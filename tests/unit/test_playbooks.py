# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the playbooks, on hosts that nobody connects to."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
END = f"""
- hosts: localhost
  gather_facts: false
  vars_files: [{PLAYBOOKS}/vars/site.yml]
  tasks:
    - ansible.builtin.set_fact:
        pgrescue_map:
          nodes: {{db1: {{}}, db2: {{}}}}
          servers: {{one: {{name: one, barman_host: b1, postgres_host: db1, standbys: [db2]}}}}
    - ansible.builtin.set_fact: {{pgrescue_reached: archive}}
      delegate_to: "{{{{ item }}}}"
      delegate_facts: true
      loop: [db1, b1]
    - ansible.builtin.import_tasks: {PLAYBOOKS}/tasks/site_result.yml
"""


def play(directory, *arguments, **environment):
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", *arguments], capture_output=True, text=True, check=False, cwd=directory,
        env=dict(os.environ, ANSIBLE_CONFIG=str(PLAYBOOKS.parent / "ansible.cfg"), **environment),
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("limit, outcome", [
    ((), "FAILED-SAFE"), (("-l", "localhost,db1,db2"), "FAILED-SAFE"), (("-l", "localhost:b1:db1"), "DONE"), (("-l", "@limit"), "DONE"),
])
def test_a_host_of_the_run_that_was_not_reached_is_missing(tmp_path, limit, outcome):
    (tmp_path / "end.yml").write_text(END)
    (tmp_path / "limit").write_text("localhost\ndb1\n")
    said = play(tmp_path, "-i", "localhost,db1,db2,b1,", *limit, "end.yml")
    assert f'"msg": "{outcome}' in said, said
    assert ("not finished on db2" in said) == (outcome != "DONE")


def test_a_strategy_of_ones_own(tmp_path):
    """Every verb begins like this one, which ends there: Barman's host cannot be reached."""
    inventory = dict(barman=dict(hosts=dict(b1=dict(ansible_host="127.0.0.1", ansible_port=9))), postgres=dict(hosts=dict(db1={})))
    (tmp_path / "inventory.json").write_text(json.dumps(dict(all=dict(children=inventory))))
    said = play(tmp_path, "-i", "inventory.json", PLAYBOOKS / "catalog.yml", "-e", "server=db1", ANSIBLE_STRATEGY="free")
    assert "b1" in said and "UNREACHABLE" in said, said
