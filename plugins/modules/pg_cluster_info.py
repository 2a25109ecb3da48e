#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cluster_info
version_added: 0.1.0
short_description: Identity and condition of a PostgreSQL cluster, without a database connection
description:
  - Says what a PostgreSQL data directory is, whether it runs and what room there is, from files and C(pg_controldata) alone.
  - An absent or an empty data directory is an answer, not an error, since a lost host is asked too.
  - Knows Debian's layout, with the configuration in C(/etc/postgresql), and a plain data directory.
options:
  size:
    description:
      - Also add up the bytes that the data directory, C(pg_wal) and the tablespaces take. This reads every directory.
    type: bool
    default: false
  directories:
    description:
      - Further directories to look at, for example those into which the tablespaces of a clone are to be restored. They may be absent.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - pgrescue.barman.postgresql
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the same answer, since nothing is changed.
    support: full
  diff_mode:
    description: Nothing is changed, so there is no difference to show.
    support: none
  async:
    description: Can be run with C(async).
    support: full
  platform:
    description: Linux.
    platforms: posix
    support: full
author:
  - pgrescue contributors (@pgrescue)
seealso:
  - module: pgrescue.barman.pg_aside
  - module: pgrescue.barman.barman_catalog_info
"""

EXAMPLES = r"""
- name: The only cluster of the host
  pgrescue.barman.pg_cluster_info:
  become: true
  become_user: postgres
  register: found

- name: One of several, by Debian's name, with its size
  pgrescue.barman.pg_cluster_info:
    version: "17"
    cluster: main
    size: true
  become: true
  become_user: postgres

- name: A data directory
  pgrescue.barman.pg_cluster_info:
    data_directory: /srv/restored
  become: true
  become_user: postgres
"""

RETURN = r"""
data_directory:
  description: The data directory as it was given or configured.
  returned: success
  type: str
  sample: /var/lib/postgresql/17/main
real_data_directory:
  description: The same with all symlinks followed.
  returned: success
  type: str
exists:
  description: Whether it is a directory.
  returned: success
  type: bool
empty:
  description: Whether it holds nothing, or does not exist. What comes with a file system (C(lost+found)) and what was set aside in it does not count.
  returned: success
  type: bool
mount_point:
  description: Whether it is the root of a mounted file system, a bind mount too, and so cannot be renamed.
  returned: success
  type: bool
obstacles:
  description: Why the data directory, its WAL or its tablespaces could not be set aside for a recovery, a sentence each; empty if they can be.
  returned: success
  type: list
  elements: str
set_aside:
  description:
    - What recoveries that ended have left beside the data directory, its WAL and its tablespaces, or inside those that cannot be renamed, the oldest
      first. Nothing deletes it by itself. What belongs to a recovery that is under way, or is not proven to have ended, is not in it.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The directory, C(<path>.aside-<stamp>) as it was before a recovery, C(<path>.failed-<stamp>) as a recovery made it that was undone.
      type: str
    expires:
      description: Until when it is said to be needed (ISO 8601, UTC), null if nothing was said.
      type: str
    expired:
      description: Whether that time is over, by the clock of this host.
      type: bool
system_identifier:
  description: PostgreSQL's identity of the cluster, a number as text. Null where there is no cluster.
  returned: success
  type: str
  sample: "7711000000000000001"
version:
  description: The major version that made the data directory, as C(PG_VERSION) says it. Null where there is no cluster.
  returned: success
  type: str
  sample: "17"
state:
  description: The state in C(pg_control), in PostgreSQL's words, for example V(in production), V(shut down) or V(in archive recovery).
  returned: success
  type: str
timeline:
  description: The timeline of the latest checkpoint.
  returned: success
  type: int
checkpoint_lsn:
  description: The WAL location of the latest checkpoint.
  returned: success
  type: str
redo_lsn:
  description: The WAL location from which a crash recovery would start.
  returned: success
  type: str
checkpoint_time:
  description: The time of the latest checkpoint, ISO 8601 in UTC.
  returned: success
  type: str
minimum_recovery_lsn:
  description: The WAL location up to which a recovery must go before the data is consistent, null if it is.
  returned: success
  type: str
wal_segment_bytes:
  description: The bytes of one WAL segment.
  returned: success
  type: int
data_checksums:
  description: Whether data pages carry checksums.
  returned: success
  type: bool
running:
  description: The process id of the living postmaster, null if none lives. A C(postmaster.pid) left by a crash is not one.
  returned: success
  type: int
status:
  description:
    - What that postmaster says of itself in the last line of C(postmaster.pid), null if none lives. See C(PM_STATUS_) in PostgreSQL's
      C(src/include/utils/pidfile.h).
  returned: success
  type: str
  sample: ready
strangers:
  description:
    - The process ids of other PostgreSQL servers that work in the data directory, though its C(postmaster.pid) does not name them. They were started
      in a container, or somebody removed the file.
  returned: success
  type: list
  elements: int
signal:
  description: V(recovery) or V(standby) if the signal file of that name is there, else null.
  returned: success
  type: str
size_bytes:
  description: The bytes that data directory, WAL and tablespaces take on disk. Null unless O(size=true).
  returned: success
  type: int
free_bytes:
  description: The bytes that are free where the data directory is, or would be.
  returned: success
  type: int
directories:
  description: The data directory, followed by O(directories), and what is around each.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The directory, with all symlinks of the data directory followed, the others as given.
      type: str
    mount_point:
      description: Where the file system that holds it, or would, is mounted.
      type: str
    free_bytes:
      description: The bytes that are free there.
      type: int
    inside:
      description: The data directory, WAL directory or tablespace of a cluster in which it lies, the nearest one above it; null if it lies in none.
      type: str
tablespaces:
  description: The tablespaces. Their names are in the database only.
  returned: success
  type: list
  elements: dict
  contains:
    oid:
      description: The object id, the name of the link in C(pg_tblspc).
      type: int
    location:
      description: The directory.
      type: str
    free_bytes:
      description: The bytes that are free there.
      type: int
wal_directory:
  description: The directory that holds the WAL, if C(pg_wal) is a symlink or the root of a mounted file system; null if it is an ordinary directory.
  returned: success
  type: str
filesystem:
  description: The file system that holds the data directory.
  returned: success
  type: dict
  contains:
    type:
      description: The kernel's name for it.
      type: str
      sample: xfs
    reflink:
      description: Whether it clones files without copying them, tried, not guessed.
      type: bool
config_file:
  description: The C(postgresql.conf), null if there is none.
  returned: success
  type: str
real_config_file:
  description: The same with all symbolic links resolved.
  returned: success
  type: str
bin_directory:
  description: The directory of the binaries of that major version, null if they are not installed.
  returned: success
  type: str
version_directory_major:
  description: The major version of those binaries, null if they are not installed.
  returned: success
  type: int
service:
  description: Debian's systemd unit of the cluster, null for a plain data directory.
  returned: success
  type: str
  sample: postgresql@17-main.service
start_conf:
  description: Debian's C(start.conf) of the cluster, which says whether anything may start it, null for a plain data directory.
  returned: success
  type: str
start:
  description: What C(start.conf) says, V(auto), V(manual) or V(disabled).
  returned: success
  type: str
port:
  description: The port in the configuration, PostgreSQL's default if none is there.
  returned: success
  type: int
socket_directory:
  description: The first directory of C(unix_socket_directories), the package's default if none is configured.
  returned: success
  type: str
timezone:
  description: The C(timezone) in the configuration, null if none is there.
  returned: success
  type: str
archive_command:
  description: The C(archive_command) in the configuration, null if none is there.
  returned: success
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils import _filesystem, _postgres
from ansible_collections.pgrescue.barman.plugins.module_utils._aside import belongings, left_over, obstacles
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError
from ansible_collections.pgrescue.barman.plugins.module_utils._directory import entries, holder
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import POSTGRESQL_ARGUMENTS, PostgresError

CONTROL = ("system_identifier", "state", "timeline", "checkpoint_lsn", "redo_lsn", "checkpoint_time", "minimum_recovery_lsn",
           "wal_segment_bytes", "data_checksums")


def start_line(path):
    """The first word in start.conf that is not a comment; Debian's default for a missing file is auto."""
    try:
        with open(path, encoding="utf-8") as lines:
            words = [line.split("#")[0].strip() for line in lines]
    except OSError:
        return "auto"
    return next((word for word in words if word), "auto")


def configured(place):
    """What the configuration and Debian's layout say."""
    settings = place["settings"]
    debian = bool(place["config_file"]) and place["config_file"].startswith(_postgres.DEBIAN + "/")
    start_conf = os.path.join(os.path.dirname(place["config_file"]), "start.conf") if debian else None
    sockets = [one.strip() for one in settings.get("unix_socket_directories", "").split(",") if one.strip()]
    return dict(
        config_file=place["config_file"],
        real_config_file=os.path.realpath(place["config_file"]) if place["config_file"] else None,
        service=f"postgresql@{place['version']}-{place['cluster']}.service" if debian else None,
        start_conf=start_conf,
        start=start_line(start_conf) if debian else None,
        port=int(settings.get("port") or 5432),
        socket_directory=sockets[0] if sockets else "/var/run/postgresql" if os.path.isdir("/var/run/postgresql") else "/tmp",
        timezone=settings.get("timezone") or None,
        archive_command=settings.get("archive_command") or None,
    )


def run(params):
    place = _postgres.layout(params["data_directory"], params["version"], params["cluster"])
    data = place["data_directory"]
    real = os.path.realpath(data)
    try:
        names = entries(real)
    except PermissionError as error:
        raise PostgresError(f"{real} cannot be read by this user: run as its owner (become_user: postgres).") from error
    major = _postgres.major_of(real)
    wanted = major or place["version"] or next((str(one) for one in _postgres.majors()), None)
    bin_path = _postgres.bin_directory(wanted) if wanted else None
    control = dict.fromkeys(CONTROL)
    if major and bin_path and os.path.exists(os.path.join(real, "global", "pg_control")):
        control = {key: value for key, value in _postgres.controldata(bin_path, real).items() if key in CONTROL}
    spaces = [dict(one, free_bytes=_filesystem.free_bytes(one["location"])) for one in _postgres.tablespaces(real)]
    wal = _postgres.external_wal(real)
    paths = [real] + [one["location"] for one in spaces] + ([wal] if wal else [])
    running = _postgres.postmaster(real)
    return dict(
        control,
        **configured(place),
        data_directory=data,
        real_data_directory=real,
        exists=os.path.isdir(real),
        empty=not names,
        mount_point=real in _filesystem.mount_points(),
        obstacles=obstacles(real, belongings(real, {})),
        set_aside=left_over(real),
        version=major,
        running=running,
        status=_postgres.postmaster_file(real)[7] or None if running else None,
        strangers=_postgres.strangers(real),
        signal=next((kind for kind in ("standby", "recovery") if f"{kind}.signal" in names), None),
        size_bytes=_filesystem.size_bytes(*paths) if params["size"] else None,
        free_bytes=_filesystem.free_bytes(real),
        tablespaces=spaces,
        wal_directory=wal,
        directories=[
            dict(path=path, mount_point=_filesystem.mounted_at(path)[0], free_bytes=_filesystem.free_bytes(path), inside=holder(path))
            for path in [real, *(_postgres.check_path(path, "directories") for path in params["directories"])]
        ],
        filesystem=dict(type=_filesystem.filesystem_type(real), reflink=_filesystem.reflink(real)),
        bin_directory=bin_path,
        version_directory_major=int(wanted) if bin_path else None,
    )


def main():
    module = AnsibleModule(
        argument_spec=dict(POSTGRESQL_ARGUMENTS, size=dict(type="bool", default=False), directories=dict(type="list", elements="str", default=[])),
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module.params))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
