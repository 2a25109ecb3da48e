# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in Barman's authorized_keys and known_hosts after runs of some of the hosts: the role's own tasks, on files of the test."""
from __future__ import annotations

import getpass
import grp
import json
import os
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
    - ansible.builtin.include_tasks: run.yml
      loop: "{{ runs }}"
      loop_control: {loop_var: barman_server_servers, index_var: number}
"""
RUN = """
- ansible.builtin.debug: {msg: NEXT}
- ansible.builtin.include_role: {name: %s, tasks_from: trust}
- ansible.builtin.command: cp -r .ssh {{ number }}
  changed_when: false
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
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "run.yml").write_text(RUN % (TREE / "roles" / "barman_server"))

    def run(*runs):
        """After each of these runs the lines of the two files, and how many tasks it has changed."""
        variables = dict(
            runs=runs, __barman_server_user_home=str(tmp_path), barman_server_user=USER, ansible_connection="local",
            ansible_python_interpreter=sys.executable,
        )
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-e", json.dumps(variables), "play.yml"],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=dict(os.environ, ANSIBLE_CONFIG=str(TREE / "ansible.cfg"), ANSIBLE_PIPELINING="1"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        changes = [text.count("changed: [") for text in done.stdout.split('"msg": "NEXT"')[1:]]
        return [[*(_lines(tmp_path / str(number) / file) for file in ("authorized_keys", "known_hosts")), count] for number, count in enumerate(changes)]
    return run


def _lines(file):
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


def gate(servers, name, key):
    return f'restrict,command="/usr/local/lib/pgrescue/wal-gate {servers}" ssh-ed25519 {key} postgres@{name}'


def test_a_standby_that_is_silent_keeps_its_lines(trust):
    both = [server("main", node("a", "KEYA"), node("b", "KEYB"))]
    alone = [server("main", node("a", "KEYC"), nodes_complete=False)]
    keys, hosts = [gate("main", "a", "KEYA"), gate("main", "b", "KEYB")], ["a ssh-ed25519 HOSTa", "b ssh-ed25519 HOSTb"]
    more = [gate("main", "a", "KEYC"), *keys]
    assert trust(both, alone, alone, both) == [[keys, hosts, 2], [more, hosts, 1], [more, hosts, 0], [keys, hosts, 1]]


def test_a_cluster_under_a_new_name_gets_through(trust):
    old, new = [server("old", node("a", "KEYA"))], [server("new", node("a", "KEYA"))]
    gone = [dict(name="old", state="absent"), server("bare", dict(address="b", public_key=""))]
    states = trust(old, new, new, old, gone, old + new)
    olds, news = [gate("old", "a", "KEYA")], [gate("new", "a", "KEYA")]
    assert [state[0] for state in states] == [olds, news, news, olds, [], [gate("new old", "a", "KEYA")] * 2]
    assert [bool(state[2]) for state in states] == [True, True, False, True, True, True]


def test_two_clusters_of_one_host_get_through_whatever_the_limit_is(trust):
    one, two = server("one", node("a", "KEYA", ["two"])), server("two", node("a", "KEYA", ["one"]))
    states = trust([one], [one, two], [two])
    line = gate("one two", "a", "KEYA")
    assert [(state[0], bool(state[2])) for state in states] == [([line], True), ([line] * 2, True), ([line] * 2, False)]
