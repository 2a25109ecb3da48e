# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.pgrescue.barman.plugins.filter.server_items import server_items
from ansible_collections.pgrescue.barman.plugins.filter.server_map import server_map


def read(hosts, barman=("copia",), postgres=("bd",)):
    return server_map({**dict.fromkeys(barman, {}), **dict.fromkeys(postgres, {}), **hosts}, list(barman), list(postgres))


def test_ten_lines_are_enough():
    found = read({"copia": {"ansible_host": "10.0.0.2"}, "bd": {"ansible_host": "10.0.0.3"}})
    assert found["problems"] == []
    server = found["servers"]["bd"]
    assert (server["postgres_host"], server["barman_host"], server["barman_address"], server["address"]) == ("bd", "copia", "10.0.0.2", "10.0.0.3")
    assert server["options"] == {"name": "bd", "host": "10.0.0.3", "ssh_port": 22}
    assert server["remote_ssh_command"] == "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 postgres@10.0.0.3"


def test_barman_connects_to_the_database_that_lets_it_in():
    assert read({"bd": {"pg_primary_barman_database": "monitor"}})["servers"]["bd"]["options"]["database"] == "monitor"


def test_inventory_names_are_the_last_resort():
    assert read({})["servers"]["bd"]["barman_address"] == "copia"


def test_another_port_of_ssh():
    found = read({"bd": {"ansible_port": 2222}, "copia": {"barman_server_ssh_port": 2022, "ansible_port": 22}})
    assert found["servers"]["bd"]["remote_ssh_command"].endswith("-p 2222 postgres@bd")
    assert found["nodes"]["bd"]["barman_ssh_port"] == 2022


def test_standbys_several_servers_and_several_barman_hosts():
    found = read(
        {
            "bd1": {"pg_primary_server_name": "main", "pg_primary_barman_host": "copia"},
            "bd2": {"pg_primary_server_name": "main", "pg_primary_barman_host": "copia", "pg_primary_role": "standby"},
            "otra": {"pg_primary_barman_host": "segunda"},
        },
        barman=("copia", "segunda"), postgres=("bd1", "bd2", "otra"),
    )
    assert found["problems"] == []
    assert found["servers"]["main"]["standbys"] == ["bd2"]
    assert found["servers"]["otra"]["barman_host"] == "segunda"


def test_items_are_laid_over_what_the_inventory_says():
    found = read({
        "copia": {"barman_server_servers": [{"name": "bd", "schedule": {"every": "1m"}}, {"name": "old", "state": "absent"}]},
        "bd": {"pg_primary_barman_server": {"schedule": {"every": "1h"}, "minimum_redundancy": 2}},
    })
    assert found["problems"] == []
    assert found["servers"]["bd"]["options"]["schedule"] == {"every": "1m"}
    assert found["servers"]["bd"]["options"]["minimum_redundancy"] == 2
    assert found["servers"]["old"]["options"] == {"name": "old", "state": "absent"}


@pytest.mark.parametrize("hosts, groups, words", [
    ({}, dict(barman=()), ["No Barman host", "barman_group"]),
    ({}, dict(barman=("copia", "segunda")), ["several Barman hosts", "pg_primary_barman_host"]),
    ({"bd": {"pg_primary_barman_host": "otro"}}, {}, ["'otro'", "copia"]),
    ({"bd": {"pg_primary_server_name": "main"}, "bd2": {"pg_primary_server_name": "main"}}, dict(postgres=("bd", "bd2")), ["both primary", "standby"]),
    ({"bd": {"pg_primary_role": "standby"}}, {}, ["no primary"]),
    ({"bd": {"pg_primary_role": "boss"}}, {}, ["'boss'", "standby"]),
    ({"bd": {"pg_primary_server_name": "-x"}}, {}, ["pg_primary_server_name", "'-x'"]),
    ({"bd": {"pg_primary_server_name": "a b"}}, {}, ["'a b'"]),
    ({"bd": {"pg_primary_address": "a;b"}}, {}, ["pg_primary_address"]),
    ({"bd": {"pg_primary_server_name": "a\nb"}}, {}, ["pg_primary_server_name"]),
    ({"copia": {"barman_server_servers": [{"name": "bd", "retention_polcy": "REDUNDANCY 2"}]}}, {}, ["'retention_polcy'", "'retention_policy'"]),
    ({"copia": {"barman_server_servers": [{"name": "bd", "xyzzy": 1}]}}, {}, ["'xyzzy'", "schedule", "settings"]),
    ({"bd": {"pg_primary_barman_server": {"shedule": "x"}}}, {}, ["'shedule'", "'schedule'"]),
    ({"copia": {"barman_server_servers": [{"name": "x"}]}}, {}, ["server x", "'host'"]),
    ({"copia": {"barman_server_servers": [{"name": "bd", "state": "absent"}]}}, {}, ["absent", "bd"]),
    ({"copia": {"barman_server_servers": [{"name": "-rf"}]}}, {}, ["'-rf'"]),
    ({"copia": {"barman_server_servers": "x"}}, {}, ["copia", "'x'", "list"]),
    ({"copia": {"barman_server_servers": {"name": "bd"}}}, {}, ["copia", "list"]),
    ({"copia": {"barman_server_servers": ["bd"]}}, {}, ["copia", "list"]),
    ({"bd": {"pg_primary_barman_server": "every: 1h"}}, {}, ["bd", "pg_primary_barman_server", "dict"]),
    ({"bd": {"ansible_port": "ssh"}}, {}, ["bd: ansible_port is 'ssh'", "65535"]),
    ({"bd": {"pg_primary_ssh_port": 70000}}, {}, ["pg_primary_ssh_port is '70000'"]),
    ({"copia": {"ansible_port": "22x"}}, {}, ["copia: ansible_port is '22x'"]),
])
def test_what_does_not_fit_is_named(hosts, groups, words):
    problems = " ".join(read(hosts, **groups)["problems"])
    assert problems
    for word in words:
        assert word in problems


def test_another_cluster_of_the_same_host_is_known_without_its_own_answer():
    here = dict(pg_primary_barman_host="copia", ansible_host="10.0.0.5")
    found = read({"a": dict(here), "b": dict(here, pg_primary_cluster="b"), "c": dict(here, ansible_port=2222)}, barman=("copia",), postgres=("a", "b", "c"))
    assert found["problems"] == []
    identity = dict(port=5433, version="17", host_keys=[], public_key="ssh-ed25519 BBBB", system_identifier="7")
    items = server_items(found, "copia", {"a": {"pg_primary_identity": identity}, "b": {}, "c": {}})
    assert [(item["name"], item["nodes"][0]["beside"]) for item in items] == [("a", ["b"])]


def test_items_of_one_barman_host():
    found = read({"bd": {"pg_primary_barman_host": "copia"}, "bd2": {"pg_primary_barman_host": "segunda"}}, barman=("copia", "segunda"), postgres=("bd", "bd2"))
    assert [item["name"] for item in server_items(found, "copia")] == ["bd"]
    assert server_items(found, "copia", {"bd": {}}) == []
    identity = dict(port=5433, version="17", host_keys=["ssh-ed25519 AAAA"], public_key="ssh-ed25519 BBBB", system_identifier="7")
    item = server_items(found, "copia", {"bd": {"pg_primary_identity": identity}})[0]
    assert (item["port"], item["postgresql_version"]) == (5433, "17")
    assert item["nodes"] == [dict(address="bd", ssh_port=22, host_keys=["ssh-ed25519 AAAA"], public_key="ssh-ed25519 BBBB", beside=[])]


def test_a_standby_that_is_silent_is_not_forgotten():
    found = read({"bd2": {"pg_primary_server_name": "bd", "pg_primary_role": "standby"}}, postgres=("bd", "bd2"))
    identity = dict(port=5432, version="17", host_keys=[], public_key="", system_identifier="7")
    told = {"bd": {"pg_primary_identity": identity}, "bd2": {}}
    assert [(len(item["nodes"]), item["nodes_complete"]) for item in server_items(found, "copia", told)] == [(1, False)]
    told["bd2"] = told["bd"]
    assert [(len(item["nodes"]), item["nodes_complete"]) for item in server_items(found, "copia", told)] == [(2, True)]


def test_passwords_are_not_in_the_map():
    hosts = {
        "copia": {"barman_server_servers": [{"name": "bd", "passwords": {"user": "one"}}, {"name": "far", "host": "far", "passwords": {"user": "two"}}]},
        "bd": {"pg_primary_barman_server": {"passwords": {"user": "other"}}},
        "bd2": {"pg_primary_barman_server": {"passwords": {"user": "three"}}}, "bd3": {},
    }
    found = read(hosts, postgres=("bd", "bd2", "bd3"))
    assert found["problems"] == [] and "passwords" not in str(found)
    given = {item["name"]: item.get("passwords", {}).get("user") for item in server_items(found, "copia", secrets=hosts)}
    assert given == {"bd": "one", "far": "two", "bd2": "three", "bd3": None}
    assert "passwords" not in str(server_items(found, "copia"))


@pytest.mark.parametrize("conninfo", ["host=bd user=barman password=geheim", "postgresql://barman:geheim@bd/postgres"])
def test_a_password_in_the_settings_is_refused_and_not_shown(conninfo):
    settings = {"streaming_conninfo": conninfo, "path_prefix": "/opt/bin"}
    found = read({"copia": {"barman_server_servers": [{"name": "bd", "settings": settings}]}})
    assert [problem.startswith("server bd: 'settings' has a password in streaming_conninfo") for problem in found["problems"]] == [True]
    assert "geheim" not in str(found) and found["servers"]["bd"]["options"]["settings"]["path_prefix"] == "/opt/bin"


def test_settings_without_a_password_are_as_they_were_given():
    settings = {"conninfo": "host=bd user=barman passfile=/etc/barman.pgpass", "custom_compression_filter": "gzip -9"}
    found = read({"copia": {"barman_server_servers": [{"name": "bd", "settings": settings}]}})
    assert found["problems"] == [] and found["servers"]["bd"]["options"]["settings"] == settings
