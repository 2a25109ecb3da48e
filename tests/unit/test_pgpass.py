# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import os

import pytest
from ansible_collections.pgrescue.barman.plugins.modules import barman_pgpass as pgpass


def entry(**more):
    return dict(dict(host="db", port="*", database="*", user="barman", password=None), **more)


class Module:
    _diff = True

    def __init__(self, home, entries, check_mode=False):
        self.check_mode = check_mode
        self.params = dict(path=str(home / ".pgpass"), verifiers_path=str(home / ".pgrescue" / "verifiers.json"), entries=entries)


def test_fields_are_escaped_as_libpq_reads_them():
    fields = ["fe80::1", "5432", "*", "us\\er", "p:w\\"]
    assert pgpass.join(fields) == "fe80\\:\\:1:5432:*:us\\\\er:p\\:w\\\\"
    assert pgpass.split(pgpass.join(fields)) == fields
    assert pgpass.split("# a:b:c:d:e") is None
    assert pgpass.split("a:b") is None


def test_verifier_of_the_rfcs_example():
    # Password and salt of the example in RFC 7677.
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    assert pgpass.verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_generated_once_and_stable(tmp_path):
    first = pgpass.run(Module(tmp_path, [entry()]))
    again = pgpass.run(Module(tmp_path, [entry()]))
    assert first["changed"] and not again["changed"]
    assert first["verifiers"] == again["verifiers"] and first["verifiers"][0]["verifier"].startswith("SCRAM-SHA-256$4096:")
    for name in (".pgpass", ".pgrescue/verifiers.json"):
        assert os.stat(tmp_path / name).st_mode & 0o777 == 0o600
    password = pgpass.split((tmp_path / ".pgpass").read_text().strip())[4]
    assert len(password) >= 40
    assert password not in str(first) and password not in str(again)


def test_check_mode_writes_nothing_and_promises_no_verifier(tmp_path):
    found = pgpass.run(Module(tmp_path, [entry()], check_mode=True))
    assert found["changed"] and found["verifiers"][0]["verifier"] is None
    assert list(tmp_path.iterdir()) == []
    pgpass.run(Module(tmp_path, [entry()]))
    assert not pgpass.run(Module(tmp_path, [entry()], check_mode=True))["changed"]


def test_given_password_replaces_ours_and_other_lines_stay(tmp_path):
    (tmp_path / ".pgpass").write_text("# mine\nother:5432:*:me:secret\n")
    pgpass.run(Module(tmp_path, [entry()]))
    changed = pgpass.run(Module(tmp_path, [entry(password="sesame")]))
    assert (tmp_path / ".pgpass").read_text() == "# mine\nother:5432:*:me:secret\ndb:*:*:barman:sesame\n"
    assert changed["changed"] and "sesame" not in str(changed)
    assert pgpass.fits(changed["verifiers"][0]["verifier"], "sesame")
    assert not pgpass.run(Module(tmp_path, [entry(password="sesame")]))["changed"]


def test_the_line_that_libpq_would_take_counts(tmp_path):
    (tmp_path / ".pgpass").write_text("*:*:*:barman:old\n")
    os.chmod(tmp_path / ".pgpass", 0o600)
    kept = pgpass.run(Module(tmp_path, [entry()]))
    assert pgpass.fits(kept["verifiers"][0]["verifier"], "old")
    pgpass.run(Module(tmp_path, [entry(password="new")]))
    assert (tmp_path / ".pgpass").read_text() == "db:*:*:barman:new\n*:*:*:barman:old\n"


def test_a_file_that_others_can_read_is_mended(tmp_path):
    pgpass.run(Module(tmp_path, [entry()]))
    os.chmod(tmp_path / ".pgpass", 0o644)
    assert pgpass.run(Module(tmp_path, [entry()]))["changed"]
    assert os.stat(tmp_path / ".pgpass").st_mode & 0o777 == 0o600


@pytest.mark.parametrize("bad", [dict(password="a\nb"), dict(password="ñ"), dict(host=""), dict(user="a\nb")])
def test_what_cannot_be_a_line_is_refused(tmp_path, bad):
    with pytest.raises(pgpass.PgpassError):
        pgpass.run(Module(tmp_path, [entry(**bad)]))
    assert list(tmp_path.iterdir()) == []
