# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL cluster as it lies on disk: where it is, what it is, whether it runs. No database connection."""
from __future__ import annotations

import glob
import os
import re
import subprocess
from datetime import datetime, timezone

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError
from ansible_collections.pgrescue.barman.plugins.module_utils._filesystem import mount_points

# Twin: plugins/doc_fragments/postgresql.py
POSTGRESQL_ARGUMENTS = dict(
    data_directory=dict(type="str"),
    version=dict(type="str"),
    cluster=dict(type="str"),
)
# Twin: LOGIN in plugins/doc_fragments/postgresql.py
LOGIN_ARGUMENTS = dict(
    login_unix_socket=dict(type="str"),
    login_port=dict(type="int"),
    login_user=dict(type="str", default="postgres"),
    login_db=dict(type="str", default="postgres"),
)

DEBIAN = "/etc/postgresql"
# Where packages put the binaries of a major version: Debian and PGDG's deb, PGDG's rpm, Alpine.
BINARIES = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/usr/libexec/postgresql{major}")
# Twin: __pitr_clone_files in roles/pitr/vars/main.yml
CLONE = "# Written by Ansible: a clone of server "
LISTENS = ("port", "unix_socket_directories")
SAFE_PATH = re.compile(r"/[A-Za-z0-9_./@+=,-]*")
SETTING = re.compile(r"\s*(?P<name>[A-Za-z_][A-Za-z0-9_.]*)\s*(?:=\s*|\s)(?P<value>'(?:[^']|'')*'|[^#\s]*)")


class PostgresError(BarmanError):
    """What is on disk is not what was asked for."""


def check_path(value, what):
    """Return an absolute, tidy path that Barman, PostgreSQL and a shell can take unquoted, else raise PostgresError.

    Barman writes "recovery_end_command = 'rm -fr <path>/barman_wal'" as it is, so a space there removes another directory.
    """
    text = str(value)
    if not SAFE_PATH.fullmatch(text) or any(part == ".." or part.startswith("-") for part in text.split("/")):
        raise PostgresError(
            f"{what} {text[:200]!r} cannot be used: it must be an absolute path of letters, digits and _ . / @ + = , - without '..' and without "
            f"a part that begins with '-', because Barman writes it unquoted into commands. Type such a path, or a symlink to it."
        )
    tidy = "/" + os.path.normpath(text).lstrip("/")
    if tidy == "/":
        raise PostgresError(f"{what} cannot be the root directory. Type the path of a directory of its own.")
    return tidy


def read_settings(path, depth=0):
    """The settings in a PostgreSQL configuration file as a dict of text, includes followed, the last one wins."""
    settings = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            text = lines.read()
    except OSError:
        return settings
    for line in text.splitlines():
        found = SETTING.match(line)
        if not found:
            continue
        name, value = found["name"].lower(), found["value"]
        value = value[1:-1].replace("''", "'") if value.startswith("'") else value
        if name in ("include", "include_if_exists", "include_dir") and depth < 10:
            target = os.path.join(os.path.dirname(path), value)
            for included in sorted(glob.glob(os.path.join(target, "*.conf"))) if name == "include_dir" else [target]:
                settings.update(read_settings(included, depth + 1))
        else:
            settings[name] = value
    return settings


def clusters(root=DEBIAN):
    """Debian's clusters of this host: version, cluster, config_file, settings, data_directory."""
    found = []
    for config in sorted(glob.glob(os.path.join(root, "*", "*", "postgresql.conf"))):
        version, cluster = config.split(os.sep)[-3:-1]
        settings = read_settings(config)
        data = settings.get("data_directory") or os.path.dirname(config)
        # Where ALTER SYSTEM has said that it listens; but of what is being restored that is the origin's word.
        said = {} if os.path.exists(os.path.join(data, "recovery.signal")) else read_settings(os.path.join(data, "postgresql.auto.conf"))
        settings.update({name: said[name] for name in LISTENS if name in said})
        found.append(dict(version=version, cluster=cluster, config_file=config, settings=settings, data_directory=data))
    return found


def is_clone(config_file):
    """Whether a configuration is that of a clone which a recovery has made."""
    try:
        with open(config_file, encoding="utf-8", errors="replace") as lines:
            return lines.readline().startswith(CLONE)
    except OSError:
        return False


def layout(data_directory=None, version=None, cluster=None, root=DEBIAN):
    """Where the cluster that is meant lies: one dict of clusters(); config_file is null for a plain data directory."""
    known = clusters(root)
    if data_directory:
        data_directory = check_path(data_directory, "data_directory")
        known = [one for one in known if os.path.realpath(one["data_directory"]) == os.path.realpath(data_directory)]
        if known:
            return dict(known[0], data_directory=data_directory)
        config = os.path.join(data_directory, "postgresql.conf")
        settings = dict(read_settings(config), **read_settings(os.path.join(data_directory, "postgresql.auto.conf")))
        return dict(version=version, cluster=cluster, config_file=config if os.path.exists(config) else None, settings=settings, data_directory=data_directory)
    matching = [one for one in known if version in (None, "", one["version"]) and cluster in (None, "", one["cluster"])]
    if len(matching) > 1:                                 # a clone beside its origin is named when it is meant
        matching = [one for one in matching if not is_clone(one["config_file"])] or matching
    if len(matching) == 1:
        check_path(matching[0]["data_directory"], "data_directory")
        return matching[0]
    names = ", ".join(f"{one['version']}/{one['cluster']} ({one['data_directory']})" for one in known) or "none"
    raise PostgresError(
        f"{'No cluster' if not matching else 'More than one cluster'} fits version={version or 'any'}, cluster={cluster or 'any'}; "
        f"the clusters of this host in {root} are: {names}. Give data_directory, or version and cluster."
    )


def bin_directory(major):
    """The directory of the binaries of a major version, or null."""
    for pattern in BINARIES:
        path = pattern.format(major=major)
        if os.path.exists(os.path.join(path, "postgres")):
            return path
    return None


def majors():
    """The major versions whose binaries this host has, newest first."""
    found = set()
    for pattern in BINARIES:
        for path in glob.glob(os.path.join(pattern.format(major="*"), "postgres")):
            found.update(int(number) for number in re.findall(r"(?:postgresql/|pgsql-|postgresql)([0-9]+)/", path)[:1])
    return sorted(found, reverse=True)


def run(binary, *arguments, timeout=60):
    """Run one of PostgreSQL's own programs and return what it printed; nothing else here starts a process."""
    cmd = [binary, *arguments]
    try:
        done = subprocess.run(
            cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", timeout=timeout, cwd="/",
            env=dict(os.environ, LC_ALL="C", TZ="UTC"), check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PostgresError(f"{' '.join(cmd)} cannot be run: {error}", cmd=cmd) from error
    if done.returncode:
        raise PostgresError(f"{' '.join(cmd)} failed: {done.stderr.strip()[:600]}", cmd=cmd, rc=done.returncode, stderr=done.stderr, stdout=done.stdout)
    return done.stdout


def parse_controldata(text):
    """The output of pg_controldata (LC_ALL=C, TZ=UTC) as data; raises PostgresError if it is something else."""
    lines = dict((part.strip() for part in line.split(":", 1)) for line in text.splitlines() if ":" in line)
    try:
        when = datetime.strptime(lines["Time of latest checkpoint"], "%a %b %d %H:%M:%S %Y").replace(tzinfo=timezone.utc)
        return dict(
            system_identifier=lines["Database system identifier"],
            state=lines["Database cluster state"],
            timeline=int(lines["Latest checkpoint's TimeLineID"]),
            checkpoint_lsn=lines["Latest checkpoint location"],
            redo_lsn=lines["Latest checkpoint's REDO location"],
            checkpoint_time=when.isoformat(),
            minimum_recovery_lsn=None if lines["Minimum recovery ending location"] == "0/0" else lines["Minimum recovery ending location"],
            wal_segment_bytes=int(lines["Bytes per WAL segment"]),
            data_checksums=lines["Data page checksum version"] != "0",
        )
    except (KeyError, ValueError) as error:
        raise PostgresError(f"pg_controldata printed something unexpected ({error}): {text[:300]!r}", stdout=text) from error


def controldata(bin_path, data_directory):
    """What pg_control says of a cluster."""
    return parse_controldata(run(os.path.join(bin_path, "pg_controldata"), "-D", data_directory))


def postmaster_file(data_directory):
    """The lines of postmaster.pid, padded to all eight that PostgreSQL knows (its src/include/utils/pidfile.h)."""
    try:
        with open(os.path.join(data_directory, "postmaster.pid"), encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (FileNotFoundError, NotADirectoryError):
        lines = []
    except PermissionError as error:
        raise PostgresError(f"postmaster.pid of {data_directory} cannot be read ({error.strerror}). Run this as the owner of the data directory.") from error
    return lines + [""] * (8 - len(lines))


def postmaster(data_directory):
    """The process id of the living postmaster of a data directory, else null. The file alone proves nothing: it survives a crash."""
    try:
        pid = abs(int(postmaster_file(data_directory)[0]))
        os.kill(pid, 0)
    except (ProcessLookupError, ValueError):
        return None
    except PermissionError:
        pass
    try:
        # The number may belong to another program by now. A postmaster's working directory is its data directory.
        if os.stat(f"/proc/{pid}/cwd").st_ino != os.stat(data_directory).st_ino:
            return None
    except OSError:
        pass
    return pid


def login(data_directory, params):
    """psycopg2's host, port, user and dbname by LOGIN_ARGUMENTS; what they leave open is where the postmaster says that it listens."""
    lines = postmaster_file(data_directory)
    return dict(
        host=params["login_unix_socket"] or lines[4] or "/var/run/postgresql", port=params["login_port"] or lines[3] or 5432,
        user=params["login_user"], dbname=params["login_db"], application_name="pgrescue",
    )


def strangers(data_directory, proc="/proc"):
    """The postmasters that work in a data directory without being the one of its postmaster.pid: started in a container, or its file was removed.

    A process of PostgreSQL has the data directory as its working directory; a postmaster is one whose parent is not such a process.
    """
    parents = {}
    try:
        place = os.stat(data_directory)
    except OSError:
        return []
    for name in filter(str.isdigit, os.listdir(proc)):
        try:
            here = os.stat(f"{proc}/{name}/cwd")
            with open(f"{proc}/{name}/stat", encoding="utf-8", errors="replace") as file:
                program, _bracket, rest = file.read().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if (here.st_dev, here.st_ino) == (place.st_dev, place.st_ino) and program in ("postgres", "postmaster"):
            parents[int(name)] = int(rest.split()[1])
    known = postmaster(data_directory)
    return sorted(pid for pid, parent in parents.items() if parent not in parents and pid != known)


def major_of(data_directory):
    """The major version that made a data directory, as PG_VERSION says it, else null."""
    try:
        with open(os.path.join(data_directory, "PG_VERSION"), encoding="utf-8") as lines:
            return lines.read().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None


def tablespaces(data_directory):
    """The tablespaces of a cluster as its links show them: oid and location. Their names are in the database only."""
    found = []
    for link in sorted(glob.glob(os.path.join(data_directory, "pg_tblspc", "*"))):
        if os.path.islink(link):
            found.append(dict(oid=int(os.path.basename(link)), location=os.readlink(link)))
    return found


def external_wal(data_directory):
    """The directory that holds the WAL if pg_wal is a symlink or the root of a file system of its own, else null."""
    place = os.path.join(data_directory, "pg_wal")
    return os.path.realpath(place) if os.path.islink(place) or place in mount_points() else None
