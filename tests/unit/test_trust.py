# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in Barman's authorized_keys and known_hosts after runs of some of the hosts: the role's own tasks, on files of the test."""
from __future__ import annotations

import getpass
import grp
import json
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
USER = getpass.getuser()
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: %s, tasks_from: trust}
      loop: "{{ runs }}"
      loop_control: {loop_var: barman_server_servers}
"""


def node(name, key, beside=()):
    return dict(address=name, host_keys=[f"ssh-ed25519 HOST{name}"], public_key=f"ssh-ed25519 {key} postgres@{name}", beside=list(beside))


def server(name, *nodes, **options):
    return dict(name=name, host="x", nodes=list(nodes), **options)


@pytest.fixture(name="trust")
def _trust(tmp_path):
    if USER not in {group.gr_name for group in grp.getgrall()}:
        pytest.skip("needs a group of the user's own")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "play.yml").write_text(PLAY % (TREE / "roles" / "barman_server"))

    def run(*runs):
        """The two files after these runs, and how much they changed."""
        variables = dict(
            runs=runs, __barman_server_user_home=str(tmp_path), barman_server_user=USER, ansible_connection="local",
            ansible_python_interpreter=sys.executable,
        )
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-e", json.dumps(variables), tmp_path / "play.yml"],
            capture_output=True, text=True, check=False, cwd=TREE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        read = {file.name: [line for line in file.read_text().splitlines() if not line.startswith("#")] for file in (tmp_path / ".ssh").iterdir()}
        return read["authorized_keys"], read["known_hosts"], done.stdout.count("changed: ")
    return run


def gate(servers, name, key):
    return f'restrict,command="/usr/local/lib/pgrescue/wal-gate {servers}" ssh-ed25519 {key} postgres@{name}'


def test_a_standby_that_is_silent_keeps_its_lines(trust):
    both = server("main", node("a", "KEYA"), node("b", "KEYB"))
    alone = server("main", node("a", "KEYC"), nodes_complete=False)
    keys, hosts, changes = trust([both], [alone])
    assert keys == [gate("main", "a", "KEYC"), gate("main", "a", "KEYA"), gate("main", "b", "KEYB")]
    assert hosts == ["a ssh-ed25519 HOSTa", "b ssh-ed25519 HOSTb"]
    keys, hosts, changes = trust([alone])
    assert changes == 0
    keys, hosts, changes = trust([both])
    assert (keys, hosts) == ([gate("main", "a", "KEYA"), gate("main", "b", "KEYB")], ["a ssh-ed25519 HOSTa", "b ssh-ed25519 HOSTb"])
