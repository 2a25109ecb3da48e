# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory, read once: which PostgreSQL host belongs to which Barman server on which Barman host."""
from __future__ import annotations

DOCUMENTATION = r"""
name: server_map
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: Which PostgreSQL host belongs to which Barman server on which Barman host
description:
  - Reads the variables C(pg_primary_*) of the PostgreSQL hosts and C(barman_server_*) of the Barman hosts, fills in the
    defaults that this collection documents, and names what does not fit.
  - It is the only place where the collection's playbooks read inventory groups. Roles never do.
  - It never fails because of the inventory. Whatever is wrong is a sentence in C(problems), for the playbook to refuse with.
positional: barman_hosts, postgres_hosts
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  barman_hosts:
    description: The Barman hosts, inventory names.
    type: list
    elements: str
    required: true
  postgres_hosts:
    description: The PostgreSQL hosts, inventory names.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Read the inventory
  ansible.builtin.set_fact:
    pgrescue_map: "{{ hostvars | pgrescue.barman.server_map(groups['barman'], groups['postgres']) }}"
"""

RETURN = r"""
_value:
  description: The map.
  type: dict
  contains:
    problems:
      description: What does not fit, one sentence each; empty when all is well.
      type: list
      elements: str
    servers:
      description:
        - The Barman servers by name. Each has C(name), C(postgres_host) (inventory name of the primary, null if there is none),
          C(standbys) (inventory names),
          C(barman_host) (inventory name), C(barman_address), C(address), C(ssh_port), C(remote_ssh_command) and
          C(options) (its item of C(barman_server_servers), without C(passwords)).
      type: dict
    nodes:
      description:
        - The PostgreSQL hosts by inventory name. Each has C(server), C(role), C(barman_host), C(barman_address), C(barman_ssh_port), C(address), C(ssh_port),
          C(remote_ssh_command).
      type: dict
"""

import difflib
import re
from collections.abc import Mapping

from ansible_collections.pgrescue.barman.plugins.module_utils._secret import redact

NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,62}")
ADDRESS = re.compile(r"[A-Za-z0-9_.:][A-Za-z0-9_.:%-]{0,252}")

# Twin: the options of barman_server_servers in roles/barman_server/meta/argument_specs.yml.
SERVER_OPTIONS = (
    "archive_method", "backup_method", "database", "host", "minimum_redundancy", "name", "nodes", "nodes_complete", "passwords", "port", "postgresql_version",
    "retention_policy", "schedule", "settings", "ssh_port", "ssh_user", "state", "streaming_user", "user",
)


def ssh_command(address, port):
    """How Barman reaches a PostgreSQL host. Barman appends StrictHostKeyChecking=no; ssh takes the first value it reads.

    Twin: roles/barman_server/templates/server.conf.j2
    """
    return f"ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 {'' if port == 22 else f'-p {port} '}postgres@{address}"


def server_map(hostvars, barman_hosts, postgres_hosts):
    """Return the map of the inventory; see RETURN."""
    problems, nodes, servers = [], {}, {}
    barman_hosts = list(barman_hosts or [])
    if not barman_hosts:
        problems.append("No Barman host: the group of Barman hosts (barman_group, default 'barman') is empty or missing. Put one host into it.")
    for host in postgres_hosts or []:
        nodes[host] = _node(host, hostvars, barman_hosts, problems)
        _add_node(servers, host, nodes[host], problems)
    for host in barman_hosts:
        items = hostvars[host].get("barman_server_servers") or []
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, Mapping) for item in items):
            problems.append(f"{host}: barman_server_servers is {str(items)[:100]!r}; it is a list of items such as {{name: main, host: db1}}.")
            continue
        for item in items:
            _add_item(servers, host, item, problems)
    for server in servers.values():
        _finish(server, hostvars, problems)
    # What is wrong with a Barman host is found again by each of its PostgreSQL hosts.
    return dict(problems=list(dict.fromkeys(problems)), servers=servers, nodes=nodes)


def _node(host, hostvars, barman_hosts, problems):
    said = hostvars[host]
    node = dict(
        server=str(said.get("pg_primary_server_name") or host),
        role=str(said.get("pg_primary_role") or "primary"),
        barman_host=said.get("pg_primary_barman_host") or (barman_hosts[0] if len(barman_hosts) == 1 else None),
        address=str(said.get("pg_primary_address") or said.get("ansible_host") or host),
        ssh_port=_port(host, said, problems),
        barman_address=None, barman_ssh_port=None,
    )
    if node["role"] not in ("primary", "standby"):
        problems.append(f"{host}: pg_primary_role is {node['role']!r}; it can be 'primary' or 'standby'.")
    for what, value, pattern in (("pg_primary_server_name", node["server"], NAME), ("pg_primary_address", node["address"], ADDRESS)):
        _check(host, what, value, pattern, problems)
    barman = node["barman_host"]
    if barman in barman_hosts:
        node["barman_address"] = str(said.get("pg_primary_barman_address") or hostvars[barman].get("ansible_host") or barman)
        node["barman_ssh_port"] = _port(barman, hostvars[barman], problems)
        _check(host, "pg_primary_barman_address", node["barman_address"], ADDRESS, problems)
    elif barman:
        problems.append(f"{host}: pg_primary_barman_host is {barman!r}, which is no Barman host. Those are: {', '.join(barman_hosts) or 'none'}.")
    elif barman_hosts:
        problems.append(f"{host}: there are several Barman hosts ({', '.join(barman_hosts)}); say which is its own by pg_primary_barman_host.")
    node["remote_ssh_command"] = ssh_command(node["address"], node["ssh_port"])
    return node


def _add_node(servers, host, node, problems):
    server = servers.setdefault(node["server"], _server(node["server"], node["barman_host"]))
    if node["barman_host"] != server["barman_host"]:
        problems.append(
            f"{host}: server {node['server']} would be on two Barman hosts, {server['barman_host']} and {node['barman_host']}. "
            f"Give its hosts the same pg_primary_barman_host, or other server names."
        )
    if node["role"] == "standby":
        server["standbys"].append(host)
    elif server["postgres_host"]:
        problems.append(
            f"{server['postgres_host']} and {host} are both primary of server {node['server']}. "
            f"Give one of them pg_primary_role: standby, or a pg_primary_server_name of its own."
        )
    else:
        server["postgres_host"] = host
        server.update((key, node[key]) for key in ("address", "ssh_port", "barman_address", "remote_ssh_command"))


def _add_item(servers, host, item, problems):
    name = str(item.get("name") or "")
    if not NAME.fullmatch(name):
        _check(host, "a name in barman_server_servers", name, NAME, problems)
        return
    server = servers.setdefault(name, _server(name, host))
    if server["barman_host"] != host:
        problems.append(f"{host}: barman_server_servers names server {name}, which belongs to Barman host {server['barman_host']}. Move the item there.")
    if server["postgres_host"] and item.get("state") == "absent":
        problems.append(
            f"{host}: server {name} is state: absent, but host {server['postgres_host']} still belongs to it. End its archiving there (remove "
            f"60-pgrescue-archive.conf from conf.d, reload PostgreSQL), and take that host out of its group."
        )
    server["options"].update(item)


def _finish(server, hostvars, problems):
    """The item of barman_server_servers: what the inventory says of the host, under what was written as an item."""
    host, name = server["postgres_host"], server["name"]
    options = {}
    if host:
        said = hostvars[host]
        options.update(host=server["address"], ssh_port=server["ssh_port"])
        for option, variable in (
            ("user", "pg_primary_barman_user"), ("streaming_user", "pg_primary_streaming_user"), ("archive_method", "pg_primary_archive_method"),
            ("database", "pg_primary_barman_database"),
        ):
            if said.get(variable):
                options[option] = said[variable]
        more = said.get("pg_primary_barman_server") or {}
        if isinstance(more, Mapping):
            options.update(more)
        else:
            problems.append(f"{host}: pg_primary_barman_server is {str(more)[:100]!r}; it is a dict of options such as {{schedule: {{every: 1h}}}}.")
    elif server["standbys"]:
        problems.append(f"server {name} has standbys ({', '.join(server['standbys'])}) and no primary. Give one of them pg_primary_role: primary.")
    options.update(server["options"], name=name)
    for option in options:
        if option not in SERVER_OPTIONS:
            near = difflib.get_close_matches(option, SERVER_OPTIONS, 1)
            advice = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(SERVER_OPTIONS)}."
            problems.append(f"server {name}: {option!r} is not an option of barman_server_servers. {advice} (Options of Barman itself go into its 'settings'.)")
    if not options.get("host") and options.get("state") != "absent":
        problems.append(f"server {name}: no PostgreSQL host belongs to it. Give its item of barman_server_servers a 'host', or state: absent.")
    # What is no secret is shown by a verbose run and kept as a fact; the filter server_items brings the passwords where they are needed.
    options.pop("passwords", None)
    settings = options.get("settings")
    for option, value in dict(settings if isinstance(settings, Mapping) else {}).items():
        if str(option).endswith("conninfo") and redact(value) != value:
            problems.append(f"server {name}: 'settings' has a password in {option}, which would stand in logs. Take it out, and give it in 'passwords'.")
            options["settings"] = redact(dict(settings))
    server["options"] = options


def _server(name, barman_host):
    return dict(
        name=name, barman_host=barman_host, postgres_host=None, standbys=[], address=None, ssh_port=None, barman_address=None,
        remote_ssh_command=None, options={},
    )


def _port(host, said, problems):
    for variable in ("pg_primary_ssh_port", "barman_server_ssh_port", "ansible_port"):
        value = said.get(variable)
        if value:
            if re.fullmatch(r"[0-9]{1,5}", str(value)) and 0 < int(value) < 65536:
                return int(value)
            problems.append(f"{host}: {variable} is {str(value)[:100]!r}; a port is a number from 1 to 65535.")
            break
    return 22


def _check(host, what, value, pattern, problems):
    if not pattern.fullmatch(value):
        problems.append(f"{host}: {what} {value[:100]!r} has characters that are not allowed, or begins with '-'. Letters, digits, '_', '.' and '-' are.")


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"server_map": server_map}
