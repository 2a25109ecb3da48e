# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the map of the inventory to the variable barman_server_servers of one Barman host."""
from __future__ import annotations

DOCUMENTATION = r"""
name: server_items
author: pgrescue contributors (@pgrescue)
version_added: 0.1.0
short_description: The variable barman_server_servers of one Barman host
description:
  - Takes the servers of one Barman host out of the map that the filter P(pgrescue.barman.server_map#filter) makes, and adds what the
    PostgreSQL hosts told in this run (fact C(pg_primary_identity) of the role P(pgrescue.barman.pg_primary#role)), SSH keys, port and version.
positional: barman_host, _hostvars
options:
  _input:
    description: The map.
    type: dict
    required: true
  barman_host:
    description: The Barman host, an inventory name.
    type: str
    required: true
  _hostvars:
    description:
      - C(hostvars). Given, only servers whose primary has told who it is in this run are returned,
        and servers that are written as items without a host of the inventory.
      - A standby that has not told it, since it is down or outside of C(--limit), is not among C(nodes), and C(nodes_complete) is false.
      - Not given, all servers are returned as the inventory describes them.
    type: dict
  secrets:
    description:
      - C(hostvars). Given, items have their C(passwords), which the map leaves out.
    type: dict
"""

EXAMPLES = r"""
- name: Configure the servers whose hosts are prepared
  ansible.builtin.include_role:
    name: pgrescue.barman.barman_server
    tasks_from: servers
  vars:
    barman_server_servers: "{{ pgrescue_map | pgrescue.barman.server_items(inventory_hostname, hostvars) }}"
"""

RETURN = r"""
_value:
  description: Items of C(barman_server_servers).
  type: list
  elements: dict
"""


def server_items(inventory_map, barman_host, hostvars=None, secrets=None):
    """Return the items of barman_server_servers for one Barman host; see DOCUMENTATION."""
    items = []
    for name, server in sorted(inventory_map["servers"].items()):
        if server["barman_host"] != barman_host:
            continue
        item = dict(server["options"])
        passwords = _passwords(server, secrets) if secrets is not None else None
        if passwords:
            item["passwords"] = passwords
        if hostvars is not None and server["postgres_host"]:
            identity = hostvars[server["postgres_host"]].get("pg_primary_identity")
            if not identity:
                continue
            item = dict(dict(port=identity["port"], postgresql_version=str(identity["version"])), **item)
            nodes = [_node(inventory_map, hostvars, host) for host in [server["postgres_host"]] + list(server["standbys"])]
            item["nodes"] = list(item.get("nodes") or []) + [node for node in nodes if node]
            item["nodes_complete"] = all(nodes)
        items.append(item)
    return items


def _passwords(server, secrets):
    """Those of the last that gives any, in the order of the filter server_map."""
    given = [secrets[server["postgres_host"]].get("pg_primary_barman_server")] if server["postgres_host"] else []
    given += [one for one in secrets[server["barman_host"]].get("barman_server_servers") or [] if one.get("name") == server["name"]]
    return next((dict(one["passwords"]) for one in reversed(given) if one and one.get("passwords")), None)


def _node(inventory_map, hostvars, host):
    identity = hostvars[host].get("pg_primary_identity")
    if not identity:
        return None
    node = inventory_map["nodes"][host]
    # Two clusters of one host have one key, and whether the other one is in this run must not matter.
    place = ("barman_host", "address", "ssh_port")
    beside = sorted({other["server"] for other in inventory_map["nodes"].values() if all(other[key] == node[key] for key in place)} - {node["server"]})
    return dict(
        address=node["address"], ssh_port=node["ssh_port"], host_keys=list(identity["host_keys"]), public_key=identity["public_key"] or "", beside=beside,
    )


class FilterModule:
    """Filters of the collection."""

    def filters(self):
        """The names under which Ansible finds them."""
        return {"server_items": server_items}
