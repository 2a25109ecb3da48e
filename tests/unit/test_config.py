# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Barman's configuration, read as Barman reads it."""
from __future__ import annotations

import os

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration


def write(directory, main, **extra):
    """A main file, and files of conf.d by name; {home} is the Barman home."""
    home = directory / "home"
    (home / "conf.d").mkdir(parents=True, exist_ok=True)
    path = directory / "barman.conf"
    path.write_text(main.replace("{home}", str(home)))
    for name, text in extra.items():
        (home / "conf.d" / f"{name}.conf").write_text(text.replace("{home}", str(home)))
    return str(path)


MAIN = """
[barman]
barman_home = {home}
configuration_files_directory = {home}/conf.d
compression = gzip
retention_policy = REDUNDANCY 2
conninfo = host=nowhere
"""


def test_servers_inherit_and_override(tmp_path):
    servers = read_configuration(write(tmp_path, MAIN, a="[a]\ncompression = xz\n", b="[b]\nbackup_method = postgres\n")).servers
    assert sorted(servers) == ["a", "b"]
    assert (servers["a"].options["compression"], servers["b"].options["compression"]) == ("xz", "gzip")
    assert (servers["a"].options["backup_method"], servers["b"].options["backup_method"]) == ("rsync", "postgres")


def test_server_options_of_the_global_section_are_not_inherited(tmp_path):
    options = read_configuration(write(tmp_path, MAIN, a="[a]\n")).servers["a"].options
    assert "conninfo" not in options and "barman_home" not in options


def test_none_and_nothing_stop_inheritance(tmp_path):
    servers = read_configuration(write(tmp_path, MAIN, a="[a]\ncompression = None\nretention_policy =\n")).servers
    assert "compression" not in servers["a"].options and "retention_policy" not in servers["a"].options


def test_default_directories_build_on_each_other(tmp_path):
    home = str(tmp_path / "home")
    servers = read_configuration(write(tmp_path, MAIN, a="[a]\n", b="[b]\nbackup_directory = /srv/b\nxlogdb_directory = /srv/x\n")).servers
    assert servers["a"].directory("wals_directory") == f"{home}/a/wals"
    assert servers["a"].directory("xlogdb_directory") == f"{home}/a/wals"
    assert servers["b"].directory("basebackups_directory") == "/srv/b/base"
    assert servers["b"].directory("xlogdb_directory") == "/srv/x"
    assert servers["b"].meta_directory == "/srv/b/meta"


@pytest.mark.parametrize("written, meant", [
    ('"with quotes"', "with quotes"), ("'single'", "single"), ("'half", "'half"), ("a = b", "a = b"),
    ("%(barman_home)s/x", "{home}/x"), ("%(name)s", "a"), ("50%% off", "50% off"), ("50%%%% off", "50% off"), ("  spaced  ", "spaced"),
])
def test_values(tmp_path, written, meant):
    options = read_configuration(write(tmp_path, MAIN, a=f"[a]\ndescription = {written}\n")).servers["a"].options
    assert options["description"] == meant.replace("{home}", str(tmp_path / "home"))


def test_later_files_win_and_the_automatic_one_comes_last(tmp_path):
    path = write(tmp_path, MAIN, a="[s]\nssh_command = one\ndescription = one\n", b="[s]\nssh_command = two\n")
    (tmp_path / "home" / ".barman.auto.conf").write_text("[s]\ndescription = auto\n")
    (tmp_path / "home" / "conf.d" / "z.conf-template").write_text("[template]\n")
    configuration = read_configuration(path)
    assert list(configuration.servers) == ["s"]
    assert (configuration.servers["s"].options["ssh_command"], configuration.servers["s"].options["description"]) == ("two", "auto")


def test_switches(tmp_path):
    text = "[off]\nactive = false\n[out]\ndisabled = on\n[copy]\nprimary_ssh_command = ssh x\n[plain]\n"
    servers = read_configuration(write(tmp_path, MAIN, a=text)).servers
    assert {name: (server.active, server.passive) for name, server in servers.items()} == {
        "off": (False, False), "out": (False, False), "copy": (True, True), "plain": (True, False),
    }


def test_models_are_no_servers_and_the_active_one_counts(tmp_path):
    path = write(tmp_path, MAIN, a="[s]\ncluster = c\ncompression = xz\n[m]\nmodel = true\ncluster = c\ncompression = bzip2\n")
    assert list(read_configuration(path).servers) == ["s"]
    (tmp_path / "home" / "s").mkdir()
    (tmp_path / "home" / "s" / ".active-model.auto").write_text("m\n")
    server = read_configuration(path).servers["s"]
    assert server.options["compression"] == "bzip2" and server.options["backup_method"] == "rsync" and "model" not in server.options


def test_object_stores_are_known(tmp_path):
    assert read_configuration(write(tmp_path, MAIN, a="[a]\nwals_directory = s3://bucket/x\n")).servers["a"].in_cloud


def test_unknown_server_names_the_known_and_the_unreadable(tmp_path):
    path = write(tmp_path, MAIN, a="[a]\n", b="[b]\n")
    os.symlink("/nonexistent", tmp_path / "home" / "conf.d" / "c.conf")
    configuration = read_configuration(path)
    assert configuration.unreadable == [{"path": str(tmp_path / "home" / "conf.d" / "c.conf"), "reason": "No such file or directory"}]
    with pytest.raises(BarmanError, match="no server 'nadie'.*Servers: a, b.*c.conf could not be read"):
        configuration.server("nadie")


@pytest.mark.parametrize("text, message", [
    ("[barman]\nlog_level = INFO\n", "no barman_home"), ("barman_home = /x\n", "is not a configuration of Barman"), ("[other]\n", "no barman_home"),
])
def test_what_is_not_a_configuration(tmp_path, text, message):
    with pytest.raises(BarmanError, match=message):
        read_configuration(write(tmp_path, text))


def test_missing_file(tmp_path):
    with pytest.raises(BarmanError, match="cannot be read: No such file"):
        read_configuration(str(tmp_path / "none.conf"))


def test_search_path(tmp_path, monkeypatch):
    monkeypatch.delenv("BARMAN_CONFIG_FILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path, MAIN, a="[a]\n")
    os.rename(path, tmp_path / ".barman.conf")
    assert read_configuration().path == str(tmp_path / ".barman.conf")
    monkeypatch.setenv("BARMAN_CONFIG_FILE", str(tmp_path / "other.conf"))
    with pytest.raises(BarmanError, match="other.conf"):
        read_configuration()
