# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One directory that is set aside to make room for a restore, and brought back.

A directory is renamed where it lies. Where that cannot be done, its entries move into a subdirectory and back: the root of a mounted
file system, and a directory above which this user must not write. Every step is a rename or can be repeated, and how far it went is
seen from the names that are there, so what was cut off anywhere goes on.
"""
from __future__ import annotations

import os
import re
import shutil
import subprocess

from ansible_collections.pgrescue.barman.plugins.module_utils._filesystem import IDENTITY, mount_points, mounted_at

JOURNAL = ".pgrescue-aside.json"
# PostgreSQL's directory in that of a tablespace, of its major version and catalogue version.
VERSION = re.compile(r"PG_[0-9]+_[0-9]+")
# Barman and pg_basebackup leave out whatever begins with pgsql_tmp, so what is set aside inside a data directory does not swell its backups.
INSIDE = "pgsql_tmp"
OURS = re.compile(INSIDE + r"\.[a-z]+-[0-9]{8}T[0-9]{6}Z(\..+)?")

WHAT = {"data": "The data directory", "wal": "The WAL directory", "tablespace": "The tablespace"}


def identity(path):
    """The identity of a directory, null if it is not there."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return None
    # What is there and cannot be told is no "not there": a directory without a marker would pass for ours.
    command = ["sh", "-c", IDENTITY + 'identity "$1"', "pgrescue", path]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.strip()


def inode(path):
    """The inode of a directory, null if it is not there."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


def vacant(path):
    """Whether a path is absent or an empty directory."""
    return not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path))


def entries(path):
    """What a directory holds, without what is set aside in it, what comes with a file system and the roots of other ones."""
    if not os.path.isdir(path):
        return []
    mounted = mount_points()
    return [
        name for name in os.listdir(path)
        if name != "lost+found" and not name.startswith(JOURNAL) and not OURS.fullmatch(name) and os.path.join(path, name) not in mounted
    ]


def sync(path):
    """Make what was renamed in a directory outlive a crash of the host."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def rename(source, target):
    """Rename on one file system, and make it outlive a crash of the host."""
    os.rename(source, target)
    sync(os.path.dirname(target))


def make(path, like):
    """Make a directory, if it is not there, for the owner of another one."""
    if not os.path.isdir(path):
        owner = os.stat(like)
        os.mkdir(path, 0o700)
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)


def move(names, source, target, into_place):
    """Move entries. PostgreSQL starts only with pg_control, so 'global' is the first to leave a place and the last to come."""
    for name in sorted(names, key=lambda name: ((name == "global") == into_place, name)):
        os.rename(os.path.join(source, name), os.path.join(target, name))
    sync(source)
    sync(target)


def moves_inside(path):
    """Whether a directory cannot be renamed, so that its entries have to move."""
    parent = os.path.dirname(path)
    return os.path.isdir(path) and (
        not os.access(parent, os.W_OK | os.X_OK) or any(point == path or point.startswith(path + "/") for point in mount_points())
    )


def holder(path):
    """The nearest directory above a path that belongs to a cluster, as its names say: data, WAL or tablespace; null if there is none."""
    above = os.path.dirname(os.path.realpath(path))
    while above != "/":
        names = os.listdir(above) if os.access(above, os.R_OK | os.X_OK) else []
        if {"PG_VERSION", "archive_status"} & set(names) or any(map(VERSION.fullmatch, names)):
            return above
        above = os.path.dirname(above)
    return None


def obstacle(kind, path, aside=None):
    """Why a directory of a cluster cannot be set aside, and what to do about it; null if it can."""
    parent = os.path.dirname(path)
    mounted = [point for point in mount_points() if point.startswith(path + "/") and point != os.path.join(path, "pg_wal")]
    if not os.path.isdir(path):
        if kind != "data" or os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK):
            return None
        above = f"this user must not write in {parent}" if os.path.isdir(parent) else f"so is {parent} above it"
        return f"{WHAT[kind]} {path} is absent, and {above}. Make it for the owner of the data: install -d -m 0700 -o postgres -g postgres {path}"
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return (
                f"{WHAT[kind]} {path} cannot be set aside, because its file system is mounted read-only. See what the kernel says of that disk (dmesg), and "
                f"when it is sound: mount -o remount,rw {mounted_at(path)[0]}"
            )
        return (
            f"{WHAT[kind]} {path} cannot be set aside, because this user must not write in it. Make it the data's owner's: chown postgres {path}; if it is, "
            f"see whether it is immutable: lsattr -d {path}"
        )
    if mounted:
        return (
            f"{WHAT[kind]} {path} cannot be set aside, because another file system is mounted below it, at {mounted[0]}. Mount it elsewhere and let a "
            f"symlink stand in its place."
        )
    if aside and os.path.lexists(aside):
        return f"{aside} exists already and is not a data directory that was set aside here. Move it away."
    return None


class Whole:
    """A directory that is renamed. was: full, empty or absent, when it was first seen."""

    def __init__(self, path, stamp, was="full"):
        self.path, self.stamp, self.was = path, stamp, was
        self.aside, self.restore = self.named("aside"), path

    def named(self, what):
        """The name of this directory in another state."""
        return f"{self.path}.{what}-{self.stamp}"

    def holder(self):
        """The directory that will be, is or was the one set aside."""
        return self.aside if self.was != "full" or os.path.isdir(self.aside) else self.path

    def is_away(self):
        """Whether it is set aside."""
        return os.path.isdir(self.aside)

    def is_home(self):
        """Whether there is nothing to bring back and nothing to take out."""
        return not os.path.isdir(self.aside) and (self.was == "full" or vacant(self.path))

    def anchor(self):
        """What tells the old content from what is restored in its place while that is there too: a name in the directory and its inode. Null where
        there is nothing of the kind."""
        return ["", inode(self.path)] if self.was == "full" else None

    def is_lost(self, anchor):
        """Whether what lies in the place is not the old content. To be asked of a directory that is home by its names."""
        return bool(anchor) and inode(os.path.join(self.path, anchor[0])) != anchor[1]

    def leave(self):
        """Set it aside."""
        if self.was == "full" and not self.is_away():
            rename(self.path, self.aside)

    def make_room(self):
        """An empty directory for the restore, where there was a directory."""
        if self.was != "absent":
            make(self.restore, self.aside if self.is_away() else self.path)

    def restored(self):
        """Whether something lies in the place while this directory is not."""
        return not vacant(self.path)

    def is_ours(self, inodes):
        """Whether that is the directory which a restore has noted."""
        return inodes.get(self.path) == identity(self.path)

    def put_out(self, suffix):
        """Take out of the place what was restored."""
        if self.restored():
            rename(self.path, self.named(suffix))

    def come_back(self):
        """Bring it back."""
        if self.was == "full" and self.is_away():
            if os.path.isdir(self.path):
                os.rmdir(self.path)
            rename(self.aside, self.path)
        elif self.was == "empty" and not os.path.isdir(self.path):
            os.mkdir(self.path, 0o700)
        elif self.was == "absent" and os.path.isdir(self.path):
            os.rmdir(self.path)

    def arrived(self):
        """The directory in which the restored data lies by now."""
        return self.path

    def arrive(self):
        """Move the restored data into the place."""

    def debris(self):
        """What may be deleted when this directory is back."""
        return [self.named("removing")]

    def husks(self):
        """Directories of ours that are empty in the end."""
        return [self.aside]


class Within(Whole):
    """A directory whose entries move. leaving -> aside -> returning; restore -> placing; removing or failed."""

    def named(self, what):
        return os.path.join(self.path, f"{INSIDE}.{what}-{self.stamp}")

    def __init__(self, path, stamp, was="full"):
        super().__init__(path, stamp, was)
        self.restore, self.leaving, self.returning, self.placing = (self.named(what) for what in ("restore", "leaving", "returning", "placing"))

    def holder(self):
        return next((one for one in (self.aside, self.returning) if os.path.isdir(one)), self.leaving)

    def is_home(self):
        return not any(os.path.isdir(one) for one in (self.leaving, self.aside, self.returning))

    def anchor(self):
        name = min((name for name in entries(self.path) if os.path.isdir(os.path.join(self.path, name))), default=None)
        return [name, inode(os.path.join(self.path, name))] if name else None

    def leave(self):
        if not self.is_away():
            make(self.leaving, self.path)
            move(entries(self.path), self.path, self.leaving, into_place=False)
            rename(self.leaving, self.aside)

    def make_room(self):
        if not os.path.isdir(self.placing):
            make(self.restore, self.path)

    def restored(self):
        return self.is_away() and bool(entries(self.path) or any(os.path.isdir(one) and os.listdir(one) for one in (self.restore, self.placing)))

    def is_ours(self, inodes):
        return (self.restore in inodes or self.path in inodes) and not (entries(self.path) and os.path.isdir(self.restore))

    def put_out(self, suffix):
        if self.is_away() and entries(self.path):
            make(self.named(suffix), self.path)
            move(entries(self.path), self.path, self.named(suffix), into_place=False)

    def come_back(self):
        for stage in (self.leaving, self.aside):
            if os.path.isdir(stage):
                rename(stage, self.returning)
        if os.path.isdir(self.returning):
            move(set(os.listdir(self.returning)) - {JOURNAL}, self.returning, self.path, into_place=True)
            if not os.listdir(self.returning):
                os.rmdir(self.returning)

    def arrived(self):
        return next((one for one in (self.placing, self.restore) if os.path.isdir(one)), self.path)

    def arrive(self):
        if os.path.isdir(self.restore):
            rename(self.restore, self.placing)
        if os.path.isdir(self.placing):
            move(entries(self.placing), self.placing, self.path, into_place=True)
            shutil.rmtree(self.placing)  # a lost+found at most

    def debris(self):
        return [self.named("removing"), self.restore, self.placing]

    def husks(self):
        return [self.leaving, self.returning]
