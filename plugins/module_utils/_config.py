# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Barman's configuration, read from its files and from nothing else.

No process is started and no host is contacted, so this works while PostgreSQL is down or swallows packets. The rules are
those of barman/config.py: one main file, then *.conf of configuration_files_directory in order of their names, then
BARMAN_HOME/.barman.auto.conf; the later value wins.
"""
from __future__ import annotations

import configparser
import glob
import os
import re
from dataclasses import dataclass, field

from ._barman import BarmanError

SEARCH_PATH = ("~/.barman.conf", "/etc/barman.conf", "/etc/barman/barman.conf")

# Options of [barman] which no server inherits (KEYS minus BARMAN_KEYS in barman/config.py, and the global ones).
NOT_INHERITED = frozenset("""
    active backup_directory basebackups_directory cloud_upload_max_archive_size cloud_upload_min_chunk_size cluster conninfo
    description disabled errors_directory gcp_zone incoming_wals_directory keepalive_interval primary_checkpoint_timeout
    primary_conninfo snapshot_disks snapshot_instance snapshot_zone ssh_command streaming_conninfo streaming_wals_directory
    wal_conninfo wal_streaming_conninfo wals_directory
    barman_home barman_user barman_lock_directory lock_directory_cleanup configuration_files_directory config_changes_queue
    log_file log_format log_level
""".split())

# Defaults that other code asks for; the directories refer to each other, so the order matters.
DEFAULTS = {
    "active": "true",
    "disabled": "false",
    "backup_method": "rsync",
    "archiver": "off",
    "streaming_archiver": "off",
    "minimum_redundancy": "0",
    "backup_directory": "%(barman_home)s/%(name)s",
    "basebackups_directory": "%(backup_directory)s/base",
    "wals_directory": "%(backup_directory)s/wals",
    "incoming_wals_directory": "%(backup_directory)s/incoming",
    "streaming_wals_directory": "%(backup_directory)s/streaming",
    "errors_directory": "%(backup_directory)s/errors",
    "xlogdb_directory": "%(wals_directory)s",
}

TRUE = ("true", "t", "yes", "1", "on")       # parse_boolean in barman/config.py
QUOTED = re.compile(r"""(["'])(.*)\1""", re.DOTALL)
REFERENCE = re.compile(r"%\(([^)]+)\)s")


@dataclass
class ServerConfiguration:
    """One server of Barman: its options as text, inherited and default ones included, unset ones left out."""

    name: str
    options: dict

    def directory(self, option):
        """An option that is a directory, as an absolute path without '~'."""
        return os.path.abspath(os.path.expanduser(self.options[option]))

    def flag(self, option):
        """An option that is on or off."""
        return self.options.get(option, "").lower() in TRUE

    @property
    def active(self):
        """False when Barman skips this server (active = false, or disabled)."""
        return self.flag("active") and not self.flag("disabled")

    @property
    def passive(self):
        """True on a node that copies another Barman: backups are taken there, not here."""
        return bool(self.options.get("primary_ssh_command"))

    @property
    def meta_directory(self):
        """Where Barman from 3.13.2 on keeps backup.info files and annotations."""
        return os.path.join(self.directory("backup_directory"), "meta")

    @property
    def in_cloud(self):
        """True when base backups or WAL lie in an object store (Barman 3.18), where no file can be read."""
        return any("://" in self.options[option] for option in ("basebackups_directory", "wals_directory"))


@dataclass
class Configuration:
    """What Barman's files say."""

    path: str
    home: str
    globals: dict
    servers: dict = field(default_factory=dict)
    unreadable: list = field(default_factory=list)   # dicts path, reason: Barman ignores such a file without a word

    def server(self, name):
        """The server called name, or BarmanError with the names that exist."""
        if name in self.servers:
            return self.servers[name]
        known = ", ".join(sorted(self.servers)) or "none"
        hidden = "".join(f" {entry['path']} could not be read ({entry['reason']}), Barman ignores its servers." for entry in self.unreadable)
        raise BarmanError(f"Barman has no server {name!r} in {self.path}. Servers: {known}.{hidden} Type one of these names.")

    def lock_file(self, what):
        """The file that a process of Barman locks while it is at work, for example SERVER-backup or SERVER-receive-wal."""
        return os.path.join(os.path.expanduser(self.globals.get("barman_lock_directory") or self.home), f".{what}.lock")


def read_configuration(path=None):
    """Read Barman's configuration: path, or the file that Barman itself would find.

    Raises BarmanError when there is no readable main file, when a file is not INI, or when barman_home is missing.
    """
    path = _main_file(path)
    unreadable = []
    parser = configparser.ConfigParser(interpolation=None, strict=False, default_section="\0")
    _read(parser, path, unreadable)
    if unreadable:
        raise BarmanError(
            f"Barman's configuration {path} cannot be read: {unreadable[0]['reason']}. "
            f"Run the task as the Barman user (become: true, become_user: barman), or name another file as barman_config."
        )
    main = _section(parser, "barman", {})
    home = main.get("barman_home")
    if not home:
        raise BarmanError(f"{path} has no barman_home in a section [barman], so it is not a configuration of Barman.")
    home = os.path.expanduser(home)
    for extra in _included(main.get("configuration_files_directory")) + [os.path.join(home, ".barman.auto.conf")]:
        _read(parser, extra, unreadable, optional=True)
    main = _section(parser, "barman", {})
    configuration = Configuration(path=path, home=home, globals=main, unreadable=unreadable)
    models = {}
    for name in parser.sections():
        if name == "barman":
            continue
        options = _server_options(parser, name, main, home)
        (models if options.get("model", "").lower() in TRUE else configuration.servers)[name] = options
    for name, options in configuration.servers.items():
        server = ServerConfiguration(name, options)
        options.update(_active_model(parser, server, models))
        configuration.servers[name] = server
    return configuration


def _main_file(path):
    asked = path or os.environ.get("BARMAN_CONFIG_FILE")
    if asked:
        return os.path.expanduser(asked)
    candidates = [os.path.expanduser(candidate) for candidate in SEARCH_PATH]
    found = next((candidate for candidate in candidates if os.path.exists(candidate)), None)
    if found:
        return found
    raise BarmanError(
        f"No configuration of Barman on this host: none of {', '.join(candidates)} exists. "
        f"Install Barman (role barman_server), or name the file as barman_config."
    )


def _read(parser, path, unreadable, optional=False):
    if optional and not os.path.lexists(path):
        return
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as source:
            parser.read_file(source, source=path)
    except OSError as error:
        unreadable.append(dict(path=path, reason=error.strerror))
    except configparser.Error as error:
        raise BarmanError(f"{path} is not a configuration of Barman: {' '.join(str(error).split())}") from error


def _included(directory):
    if not directory:
        return []
    return sorted(glob.glob(os.path.join(glob.escape(os.path.expanduser(directory)), "*.conf")))


def _section(parser, name, names):
    """The options of one section; '' means 'set to nothing', which also stops inheritance."""
    if not parser.has_section(name):
        return {}
    written = dict(parser.items(name))
    return {option: _value(text, dict(names, **written)) for option, text in written.items()}


def _value(text, names, depth=0):
    """A value as Barman takes it: references resolved, one pair of quotes off, None and nothing alike.

    A literal % is written %% up to Barman 3.9 and %%%% from 3.10 on; both come out as one %.
    """
    text = (text or "").strip()

    def resolve(match):
        other = names.get(match.group(1).lower())
        return match.group(0) if other is None or depth > 9 else _value(other, names, depth + 1)

    text = REFERENCE.sub(resolve, text)
    text = re.sub(r"%%(%%)?", "%", text)
    if text == "None":
        return ""
    quoted = QUOTED.fullmatch(text)
    return quoted.group(2) if quoted else text


def _server_options(parser, name, main, home):
    names = dict(main, barman_home=home, name=name)
    options = {option: value for option, value in main.items() if option not in NOT_INHERITED}
    options.update(_section(parser, name, names))
    names.update((option, value) for option, value in options.items() if value)
    for option, default in DEFAULTS.items():
        if not options.get(option):
            options[option] = _value(default, names)
        names[option] = options[option]
    return {option: value for option, value in options.items() if value}


def _active_model(parser, server, models):
    """What 'barman config-switch' laid over the server (Barman 3.10): the model's own options."""
    try:
        with open(os.path.join(server.directory("backup_directory"), ".active-model.auto"), encoding="utf-8") as source:
            model = source.read().strip()
    except OSError:
        return {}
    if model not in models:
        return {}
    return {option: value for option, value in models[model].items() if parser.has_option(model, option) and option not in ("model", "cluster")}
