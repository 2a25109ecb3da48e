# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster set aside and brought back by rename, so that at every instant exactly one intact cluster exists.

The set-aside data directory carries a journal of everything that belongs to it, so a run that was cut off anywhere is
finished by the same call. What lies in the place is removed only if a restore's marker proves that it came from us.
"""
from __future__ import annotations

import json
import os
import shutil

from ansible_collections.pgrescue.barman.plugins.module_utils import _postgres
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import PostgresError

JOURNAL = ".pgrescue-aside.json"
MARKER_SUFFIX = ".pgrescue-restore.json"  # Twin: plugins/module_utils/_destination.py


def read_json(path):
    """A JSON file as a dict, null if there is none that can be read as one."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def write_json(path, data):
    """Write a JSON file whole or not at all, and make sure that it outlives a crash of the host."""
    temporary = path + ".tmp"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(data, file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def inode(path):
    """Device and inode of a directory, as 'stat -c %d:%i' prints them, null if it is not there."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return f"{found.st_dev}:{found.st_ino}"


def vacant(path):
    """Whether a path is absent or an empty directory."""
    return not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path))


def rename(source, target):
    """Rename on one file system, and make it outlive a crash of the host."""
    os.rename(source, target)
    parent = os.open(os.path.dirname(target), os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


class Aside:
    """One cluster, one stamp."""

    def __init__(self, data_directory, stamp):
        self.data_directory = data_directory
        self.real = os.path.realpath(data_directory)
        self.stamp = stamp
        self.aside = f"{self.real}.aside-{stamp}"
        self.journal = read_json(os.path.join(self.aside, JOURNAL))
        within = read_json(os.path.join(self.real, JOURNAL)) or {}
        self.returned = within if within.get("stamp") == stamp else None  # back already, but not tidied up

    # ---- aside

    def belongings(self, named):
        """Every directory of the cluster that is not below another one of them: data, wal, tablespaces."""
        found = [dict(kind="data", name=None, path=self.real)]
        wal = _postgres.external_wal(self.real)
        if wal:
            found.append(dict(kind="wal", name=None, path=wal))
        names = {os.path.realpath(path): name for name, path in named.items()}
        locations = [os.path.realpath(one["location"]) for one in _postgres.tablespaces(self.real)]
        for path in dict.fromkeys(locations + list(names)):
            if not any(path == one["path"] or path.startswith(one["path"] + "/") for one in found):
                found.append(dict(kind="tablespace", name=names.get(path), path=path))
        return [dict(one, aside=f"{one['path']}.aside-{self.stamp}") for one in found]

    def plan(self, server, named, was_running):
        """The journal of what will be set aside; PostgresError if anything forbids it. Nothing is changed."""
        if self.journal:
            return self.journal
        pid = _postgres.postmaster(self.real)
        if pid:
            raise PostgresError(f"PostgreSQL runs on {self.real} (process {pid}). Stop it first; nothing was changed.")
        paths = self.belongings(named)
        for one in paths:
            self._movable(one)
        return dict(
            server=server, stamp=self.stamp, data_directory=self.data_directory, system_identifier=self._identifier(), was_running=was_running,
            absent=not os.path.isdir(self.real), empty=vacant(self.real),
            paths=[one for one in paths if one["kind"] == "data" or not vacant(one["path"])],
        )

    def pending(self, journal):
        """The paths that still have to be set aside."""
        return [one for one in journal["paths"] if not os.path.isdir(one["aside"])]

    def away(self, journal):
        """Set everything aside; what an earlier, cut off run has done is left as it is."""
        if journal["empty"]:
            if not os.path.isdir(self.aside):
                os.mkdir(self.aside, 0o700)
            write_json(os.path.join(self.aside, JOURNAL), journal)
        elif not os.path.isdir(self.aside):
            write_json(os.path.join(self.real, JOURNAL), journal)
        for one in journal["paths"]:
            owner = os.stat(one["aside"] if os.path.isdir(one["aside"]) else one["path"])
            if not os.path.isdir(one["aside"]):
                rename(one["path"], one["aside"])
            if one["kind"] == "data" and self._marks(self.real, one["aside"]):
                rename(self.real + MARKER_SUFFIX, self.aside + MARKER_SUFFIX)  # it came from an earlier recovery, and keeps its proof
            if one["kind"] != "wal" and not os.path.isdir(one["path"]) and not journal["absent"]:
                os.mkdir(one["path"], 0o700)
                if os.geteuid() == 0:
                    os.chown(one["path"], owner.st_uid, owner.st_gid)

    def _marks(self, place, directory):
        """Whether the restore's marker beside a place is about a directory that has another name by now."""
        marker = read_json(place + MARKER_SUFFIX) or {}
        found = inode(directory)
        return found is not None and marker.get("inodes", {}).get(self.real) == found

    def _movable(self, one):
        path, parent = one["path"], os.path.dirname(one["path"])
        what = {"data": "The data directory", "wal": "The WAL directory", "tablespace": "The tablespace"}[one["kind"]]
        if vacant(path) and (os.path.isdir(path) or one["kind"] != "data"):
            return
        if not os.path.isdir(parent):
            raise PostgresError(f"{what} {path} is absent, and so is {parent} above it. Make that directory for the owner of the data. Nothing was changed.")
        if os.path.ismount(path):
            raise PostgresError(
                f"{what} {path} is the root of a mounted file system and cannot be renamed. Use a directory below the mount point "
                f"(for PostgreSQL's data: stop it, move the files down one level and put a symlink in the old place). Nothing was changed."
            )
        if os.path.lexists(one["aside"]):
            raise PostgresError(f"{one['aside']} exists already and is not a data directory that was set aside here. Move it away. Nothing was changed.")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise PostgresError(
                f"{what} {path} cannot be renamed, because this user must not write in {parent}. Make the parent directory writable for the "
                f"owner of the data ('chown postgres {parent}'), or move the data one level down. Nothing was changed."
            )

    def _identifier(self):
        major = _postgres.major_of(self.real)
        binaries = _postgres.bin_directory(major) if major else None
        if not binaries or not os.path.exists(os.path.join(self.real, "global", "pg_control")):
            return None
        return _postgres.controldata(binaries, self.real)["system_identifier"]

    # ---- back

    def occupant(self):
        """What lies in the place: vacant, restored (ours, never promoted), promoted (ours) or foreign."""
        if vacant(self.real):
            return "vacant"
        marker = read_json(self.real + MARKER_SUFFIX) or {}
        if not self._marks(self.real, self.real):
            return "foreign"
        started = os.path.exists(os.path.join(self.real, "postmaster.opts"))
        replaying = any(os.path.exists(os.path.join(self.real, name)) for name in ("recovery.signal", "backup_label"))
        return "promoted" if started and marker.get("complete") and not replaying else "restored"

    def way_back(self):
        """The steps that are still to be done, PostgresError if anything forbids them. Nothing is changed."""
        if not self.journal:
            return self._leftovers()
        kind = self.occupant()
        if kind == "foreign":
            raise PostgresError(
                f"In {self.real} lies something that no restore of this collection put there, so it is not touched. The cluster set aside is {self.aside}. "
                f"Move {self.real} away by hand and run this again."
            )
        pid = _postgres.postmaster(self.real)
        if pid:
            raise PostgresError(f"PostgreSQL runs on the restored {self.real} (process {pid}). Stop it first; nothing was changed.")
        ours = (read_json(self.real + MARKER_SUFFIX) or {}).get("inodes", {})
        suffix = "failed" if kind == "promoted" else "removing"
        steps = []
        for one in reversed(self.journal["paths"]):
            if not os.path.isdir(one["aside"]):
                continue
            if not vacant(one["path"]) and ours.get(one["path"]) != inode(one["path"]):
                raise PostgresError(f"In {one['path']} lies something that no restore of this collection put there. Move it away by hand; nothing was changed.")
            steps.append(dict(one, out=None if vacant(one["path"]) else f"{one['path']}.{suffix}-{self.stamp}"))
        return steps

    def _leftovers(self):
        if self.returned or os.path.exists(os.path.join(self.real, JOURNAL + ".tmp")):
            return [dict(kind="data", name=None, path=self.real, aside=None, out=None)]
        if not os.path.exists(os.path.join(self.real, "PG_VERSION")):
            raise PostgresError(
                f"Nothing was set aside from {self.real} with the stamp {self.stamp}, and no cluster lies there. "
                f"Type the stamp of one of these: {', '.join(self._others()) or 'there are none'}."
            )
        return []

    def _others(self):
        prefix, parent = os.path.basename(self.real) + ".aside-", os.path.dirname(self.real)
        return sorted(name[len(prefix):] for name in os.listdir(parent) if name.startswith(prefix)) if os.path.isdir(parent) else []

    def back(self, steps):
        """Bring everything back: the data directory last, then what was restored goes, then the journal. Returns what is left over."""
        paths = (self.journal or self.returned or {}).get("paths", [])
        for step in steps:
            if step["out"]:
                rename(step["path"], step["out"])
                if step["kind"] == "data" and ".failed-" in step["out"] and os.path.exists(step["path"] + MARKER_SUFFIX):
                    rename(step["path"] + MARKER_SUFFIX, step["out"] + MARKER_SUFFIX)
            if step["aside"] and not (step["kind"] == "data" and self.journal["empty"]):
                if os.path.isdir(step["path"]):
                    os.rmdir(step["path"])
                rename(step["aside"], step["path"])
        if self.journal and self.journal["empty"]:
            if self.journal["absent"] and os.path.isdir(self.real):
                os.rmdir(self.real)
            elif not self.journal["absent"] and not os.path.isdir(self.real):
                os.mkdir(self.real, 0o700)
        if os.path.exists(self.real + MARKER_SUFFIX) and not self._marks(self.real, self.real):
            os.unlink(self.real + MARKER_SUFFIX)
        if os.path.exists(self.aside + MARKER_SUFFIX):
            rename(self.aside + MARKER_SUFFIX, self.real + MARKER_SUFFIX)
        for one in paths:
            shutil.rmtree(f"{one['path']}.removing-{self.stamp}", ignore_errors=True)
        kept = [f"{one['path']}.{suffix}-{self.stamp}" for one in paths for suffix in ("failed", "removing")]
        for journal in (os.path.join(self.real, JOURNAL + ".tmp"), os.path.join(self.real, JOURNAL), os.path.join(self.aside, JOURNAL)):
            if os.path.exists(journal):
                os.unlink(journal)
        if os.path.isdir(self.aside):
            os.rmdir(self.aside)
        return [path for path in kept if os.path.lexists(path)]
