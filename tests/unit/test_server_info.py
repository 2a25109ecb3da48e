# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""barman_server_info on what real Barman printed, and secrets that must not get out."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._secret import REDACTED, redact
from ansible_collections.pgrescue.barman.plugins.module_utils._status import FOUND_OUT, read_server, typed

RECORDINGS = Path(__file__).parent / "recordings"
SECRETS = ("sekret", "sek_ret", "sek%40ret")
recorded = pytest.mark.parametrize("version", ("3.4.0", "3.13.3", "3.20.1"))


def servers(version, name="show-servers"):
    printed = json.loads((RECORDINGS / version / f"{name}.json").read_text())
    return {name: read_server(entry, dict(description="written")) for name, entry in printed.items() if not name.startswith("_")}


@recorded
def test_no_password_leaves(version):
    printed = (RECORDINGS / version / "show-servers.json").read_text()
    assert all(secret.replace("%40", "%%40" if version == "3.4.0" else "%40") in printed for secret in SECRETS)
    text = json.dumps(servers(version))
    assert not any(secret in text for secret in SECRETS) and "sek" not in text
    assert text.count(REDACTED) >= 6


@recorded
def test_configuration_has_types(version):
    server = servers(version)["main"]
    configuration = server["configuration"]
    assert configuration["conninfo"] == f"host=bd-principal user=barman dbname=postgres password={REDACTED}"
    assert configuration["backup_options"] == ["concurrent_backup"] and configuration["recovery_options"] == []
    assert configuration["archiver"] is True and configuration["minimum_redundancy"] == 0
    assert configuration["last_backup_maximum_age"] is None and configuration["retention_policy"] is None
    assert not FOUND_OUT.intersection(configuration) and "msg_list" not in configuration
    assert (server["active"], server["passive"], server["answers"], server["problems"]) == (True, False, True, [])
    assert server["description"] == "written"


@recorded
def test_status_has_types(version):
    status = servers(version)["pgb"]["status"]
    assert status["replication_slot"]["slot_name"] == "pgb" and status["replication_slot"]["active"] is True
    assert isinstance(status["current_size"], int) and status["max_wal_senders"] == 10
    assert status["data_checksums"] is False and status["synchronous_standby_names"] == []
    assert isinstance(status["postgres_systemid"], str) and "." in status["server_txt_version"]
    main = servers(version)["main"]["status"]
    assert isinstance(main["current_archived_wals_per_second"], float) and main["last_archived_time"][10] == "T"
    assert main["last_failed_time"] is None and main["archive_mode"] == "on"


@recorded
def test_nothing_is_left_as_python_shows_it(version):
    text = json.dumps(servers(version))
    assert '"None"' not in text and "Options(" not in text and "Record(" not in text


@recorded
def test_a_server_whose_postgresql_is_down_is_an_answer(version):
    server = servers(version, "show-servers-down")["main"]
    assert server["active"] and server["answers"] is False
    assert server["status"]["current_lsn"] is None if "current_lsn" in server["status"] else True


@recorded
def test_an_inactive_server_was_not_asked(version):
    server = servers(version)["uri"]
    assert server["active"] is False and server["answers"] is None
    assert server["configuration"]["conninfo"] == f"postgresql://barman:{REDACTED}@bd-principal/postgres"


def test_ages_are_those_that_were_written():
    entry = dict(name="main", active=True, last_backup_maximum_age="1 day (WARNING! latest backup is 3 days old)", last_wal_maximum_age="1:00:00")
    configuration = read_server(entry, dict(last_backup_maximum_age="1 DAYS"))["configuration"]
    assert configuration["last_backup_maximum_age"] == "1 DAYS" and configuration["last_wal_maximum_age"] is None


@pytest.mark.parametrize("key, value, expected", [
    ("slot_name", "123", "123"),
    ("anything", "None", None),
    ("recovery_options", "RecoveryOptions({'get-wal', 'delta-restore'})", ["delta-restore", "get-wal"]),
    ("hot_standby", "on", True),
    ("archive_mode", "always", "always"),
    ("stats_reset", "2026-11-23 04:01:03.821052+01:00", "2026-11-23T04:01:03.821052+01:00"),
    ("max_wal_senders", "Unknown", "Unknown"),
    ("replication_slot", "Record(slot_name='a', active=False, restart_lsn=None)", dict(slot_name="a", active=False, restart_lsn=None)),
])
def test_typed(key, value, expected):
    assert typed(key, value) == expected


@pytest.mark.parametrize("text, expected", [
    ("host=h password=s3 port=1", "host=h password=# port=1"),
    ("password='s3 s3' host=h", "password=# host=h"),
    (r"password = 's3\'s3 s3' host=h", "password = # host=h"),
    (r"password=s3\ s3 host=h", "password=# host=h"),
    ("host=h password='s3 s3", "host=h password=#"),
    ("PASSWORD=s3", "PASSWORD=#"),
    ("sslpassword=s3 oauth_client_secret=s3", "sslpassword=# oauth_client_secret=#"),
    ("postgresql://u:s3@h:5432/db", "postgresql://u:#@h:5432/db"),
    ("postgres://u:s3@s3@h/db?password=s3&sslmode=require", "postgres://u:#@h/db?password=#&sslmode=require"),
    ("postgresql:///db?user=u&password=s3", "postgresql:///db?user=u&password=#"),
    ("cannot connect: \"host=h password='s3'\" is not valid", 'cannot connect: "host=h password=#" is not valid'),
    ("PGPASSWORD=s3 hook --token s3 --api-token=s3 -v", "PGPASSWORD=# hook --token # --api-token=# -v"),
    ("ssh -o PasswordAuthentication=no postgres@h", "ssh -o PasswordAuthentication=no postgres@h"),
    ("postgresql://u@h/db", "postgresql://u@h/db"),
    ("sshpass -p geheim ssh postgres@db", "sshpass -p # ssh postgres@db"),
    ('{"password": "x y", "user": "u"}', '{"password": "#", "user": "u"}'),
    ("host=h passfile=/x user=u", "host=h passfile=/x user=u"),
])
def test_redact(text, expected):
    expected = expected.replace("#", REDACTED)
    assert redact(text) == expected and redact(expected) == expected


def test_redact_goes_into_data_and_knows_options_that_are_secrets():
    data = dict(aws_sse_customer_key="s3", encryption_passphrase_command="echo s3", a=[dict(b="password=s3")], n=1, empty=dict(aws_sse_customer_key=None))
    got = redact(data)
    assert "s3" not in json.dumps(got) and got["n"] == 1 and got["empty"] == dict(aws_sse_customer_key=None)
