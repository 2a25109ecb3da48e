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
import re
import shutil
from datetime import datetime, timezone

from ansible_collections.pgrescue.barman.plugins.module_utils import _filesystem, _postgres
from ansible_collections.pgrescue.barman.plugins.module_utils._directory import (
    INSIDE, JOURNAL, VERSION, WHAT, Whole, Within, entries, identity, make, moves_inside, obstacle, rename, vacant,
)
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import PostgresError

MARKER_SUFFIX = ".pgrescue-restore.json"  # Twin: plugins/module_utils/_destination.py
# Only relation files are worth a clone, and these of them are not in a backup.
NOT_CLONED = re.compile(r"pgsql_tmp|pg_internal\.init|t[0-9]+_[0-9]+")
# What lies in the place for good: a server, or a standby that was rebuilt.
STAYS = ("promoted", "following")
LEFT = re.compile(r"(?P<of>.+)\.(?P<what>aside|failed)-(?P<stamp>[0-9]{8}T[0-9]{6}Z)")


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


def belongings(real, named):
    """Every directory of the cluster that is not below another one of them: data, wal, tablespaces."""
    found = [dict(kind="data", name=None, path=real)]
    wal = _postgres.external_wal(real)
    if wal:
        link = os.path.join(real, "pg_wal")
        found.append(dict(kind="wal", name=None, path=wal, link=os.readlink(link) if os.path.islink(link) else None))
    names = {os.path.realpath(path): (name, path) for name, path in named.items()}
    places = {os.path.realpath(one["location"]): one["location"] for one in _postgres.tablespaces(real)}
    for path in dict.fromkeys([*places, *names]):
        if not any(path == one["path"] or path.startswith(one["path"] + "/") for one in found):
            name, location = names.get(path, (None, places.get(path)))
            found.append(dict(kind="tablespace", name=name, path=path, link=location))
    return found


def obstacles(real, found):
    """Why the directories of a cluster cannot be set aside, and what to do about it. found: those of belongings(), with their aside where that is known."""
    reasons = [obstacle(one["kind"], one["path"], one.get("aside")) for one in found]
    paths, major = [one["path"] for one in found], _postgres.major_of(real)
    reasons += [
        f"{high} lies above {low}, and both belong to the cluster, so one of them could not be brought back. Move one of them elsewhere."
        for high in paths for low in paths if low.startswith(high + "/") and low != os.path.join(real, "pg_wal")
    ]
    for path in (one["path"] for one in found if one["kind"] == "tablespace" and major):
        others = [name for name in entries(path) if VERSION.fullmatch(name) and not name.startswith(f"PG_{major}_")]
        reasons += [
            f"The tablespace {path} cannot be set aside, because another cluster's files lie in it too ({', '.join(others)}). Give them a directory of their "
            f"own: stop that cluster, move them, and let its link below pg_tblspc lead there."
        ] if others else []
    return [reason for reason in reasons if reason]


def left_over(real):
    """What recoveries that ended have left of the cluster's directories, the oldest first. Of one that is under way nothing is told."""
    found = []
    for path in (one["path"] for one in belongings(real, {})):
        for directory, stem in (os.path.split(path), (path, INSIDE)):
            for match in filter(None, map(LEFT.fullmatch, os.listdir(directory) if os.access(directory, os.R_OK | os.X_OK) else [])):
                cluster = Aside(real, match["stamp"])
                if match["of"] == stem and (match["what"] == "failed" or cluster.ended()):
                    found.append((match["stamp"], os.path.join(directory, match[0]), (cluster.journal or {}).get("expires")))
    now = datetime.now(timezone.utc)
    return [dict(path=path, expires=expires, expired=bool(expires) and datetime.fromisoformat(expires) <= now) for _stamp, path, expires in sorted(found)]


def replayed(directory, inodes):
    """Whether what lies in the place of a tablespace, into which nothing was restored, is what the replay of its creation makes."""
    return not {directory.path, directory.restore} & set(inodes) and all(VERSION.fullmatch(name) for name in entries(directory.path))


class Aside:
    """One cluster, one stamp."""

    def __init__(self, data_directory, stamp):
        self.data_directory = data_directory
        self.real = os.path.realpath(data_directory)
        self.stamp = stamp
        whole, within = Whole(self.real, stamp), Within(self.real, stamp)
        holders = (whole.aside, within.leaving, within.aside, within.returning)
        self.journal = next((found for found in (read_json(os.path.join(one, JOURNAL)) for one in holders) if found), None)
        self.data = self.directory(self.journal["paths"][0]) if self.journal else within if moves_inside(self.real) else whole
        self.marker = self.data.restore + MARKER_SUFFIX
        inside = read_json(os.path.join(self.real, JOURNAL)) or {}
        self.returned = inside if inside.get("stamp") == stamp else None  # back already, but not tidied up

    def directory(self, one):
        """The directory of one entry of the journal."""
        return (Within if one["within"] else Whole)(one["path"], self.stamp, one["was"])

    # ---- aside

    def belongings(self, named):
        """What belongs to the cluster and what a restore will fill, each with where it goes."""
        found = belongings(self.real, named)
        for one in found:
            inside = moves_inside(one["path"])
            full = os.path.lexists(one["path"]) if inside else not vacant(one["path"])
            one.update(within=inside, was="full" if full else "empty" if os.path.isdir(one["path"]) else "absent")
            directory = self.directory(one)
            one.update(aside=directory.aside, restore=None if one["kind"] == "wal" else directory.restore, anchor=directory.anchor())
        return found

    def plan(self, server, named, was_running, clone=False, empty=False):
        """The journal of what will be set aside; PostgresError if anything forbids it. Nothing is changed."""
        if self.journal:
            if any(os.path.isdir(getattr(self.directory(one), "returning", "")) for one in self.journal["paths"]):
                raise PostgresError(f"{self.real} is being put back from the stamp {self.stamp}. Finish that first, with state=back. Nothing was changed.")
            return self.journal
        pid = _postgres.postmaster(self.real)
        if pid:
            raise PostgresError(f"PostgreSQL runs on {self.real} (process {pid}). Stop it first; nothing was changed.")
        paths = self.belongings(named)
        reasons = obstacles(self.real, paths)
        reasons += [f"{one['path']} is not empty, and nothing may be set aside from there." for one in paths if empty and entries(one["path"])]
        if clone and not vacant(self.real) and not _filesystem.reflink(self.real):
            reasons.append(f"The file system of {self.real} ({_filesystem.filesystem_type(self.real)}) does not clone files, so the old data cannot be cloned.")
        if reasons:
            raise PostgresError(f"{' '.join(reasons)} Nothing was changed.")
        return dict(
            server=server, stamp=self.stamp, data_directory=self.data_directory, system_identifier=self._identifier(), was_running=was_running,
            empty=not entries(self.real), clone=clone, paths=paths, links={name: target for name, target, _place in self._links(self.real)},
        )

    def pending(self, journal):
        """The paths that still have to be set aside."""
        return [one for one in journal["paths"] if (one["was"] == "full" or one["kind"] == "data") and not self.directory(one).is_away()]

    def away(self, journal):
        """Set everything aside; what an earlier, cut off run has done is left as it is."""
        data = self.directory(journal["paths"][0])
        if not data.is_away():
            make(data.holder(), _filesystem.existing(self.real))
            write_json(os.path.join(data.holder(), JOURNAL), journal)
        for one in journal["paths"]:
            directory = self.directory(one)
            directory.leave()
            if one["kind"] == "data" and not one["within"] and self._marks(self.real, one["aside"]):
                rename(self.real + MARKER_SUFFIX, one["aside"] + MARKER_SUFFIX)  # it came from an earlier recovery, and keeps its proof
            if one["kind"] != "wal":
                directory.make_room()
        if "links" in journal:                    # else an earlier version has begun it, and they could not be put back
            self._lead(data.holder(), journal["paths"], "aside")
        if journal["clone"]:
            self._clone(journal)

    # ---- links: who starts PostgreSQL on what was set aside, to look into it, must not work on the files of what serves

    def _links(self, directory):
        """The links of this cluster to directories elsewhere, in whatever directory it lies by now: name, target, and the place that it means."""
        names = ["pg_wal", *(os.path.join("pg_tblspc", name) for name in entries(os.path.join(directory, "pg_tblspc")))]
        targets = [(name, os.readlink(os.path.join(directory, name))) for name in names if os.path.islink(os.path.join(directory, name))]
        return [(name, target, os.path.realpath(os.path.join(self.real, os.path.dirname(name), target))) for name, target in targets]

    def _lead(self, directory, paths, what):
        """Have the links in a directory lead to what has the name of that state, where it is there."""
        for name, _target, place in self._links(directory):
            for one in paths:
                if place == one["path"] or place.startswith(one["path"] + "/"):
                    target = self.directory(one).named(what) + place[len(one["path"]):]
                    if os.path.isdir(target):
                        self._link(directory, name, target)
                    break

    def _link(self, directory, name, target):
        """Have one link lead elsewhere, in one step."""
        link, spare = os.path.join(directory, name), os.path.join(directory, f"{INSIDE}.link-{self.stamp}")
        if os.readlink(link) != target:
            if os.path.lexists(spare):
                os.unlink(spare)
            os.symlink(target, spare)
            os.replace(spare, link)

    def _clone(self, journal):
        """Put clones of the relation files where the restore will find them, marked as an unfinished restore of ours."""
        fitting = [one for one in journal["paths"] if one["restore"] and one["was"] == "full" and _filesystem.reflink(one["aside"])]
        if (read_json(self.marker) or {}).get("inodes", {}).get(self.data.restore) != identity(self.data.restore):
            write_json(self.marker, dict(complete=False, request=None, inodes={one["restore"]: identity(one["restore"]) for one in fitting}))
        for one in fitting:
            for name in ["base"] if one["kind"] == "data" else [name for name in os.listdir(one["aside"]) if name.startswith("PG_")]:
                _filesystem.clone(os.path.join(one["aside"], name), os.path.join(one["restore"], name), NOT_CLONED)

    def _marks(self, place, directory):
        """Whether the restore's marker beside a place is about a directory that has another name by now."""
        marker = read_json(place + MARKER_SUFFIX) or {}
        found = identity(directory)
        return found is not None and marker.get("inodes", {}).get(self.real) == found

    def _identifier(self):
        major = _postgres.major_of(self.real)
        binaries = _postgres.bin_directory(major) if major else None
        if not binaries or not os.path.exists(os.path.join(self.real, "global", "pg_control")):
            return None
        return _postgres.controldata(binaries, self.real)["system_identifier"]

    # ---- place

    def unplaced(self):
        """What was restored, but lies elsewhere than it shall, as pairs of paths; PostgresError if it is not a whole restore. Nothing is changed."""
        if not self.journal:
            raise PostgresError(f"Nothing was set aside from {self.real} with the stamp {self.stamp}, so nothing was restored in its stead.")
        arrived, pairs = self.data.arrived(), []
        for one in self.journal["paths"]:
            source = os.path.join(arrived, "pg_wal") if one["kind"] == "wal" else self.directory(one).arrived()
            if source != one["path"] and not os.path.islink(source):
                pairs.append((source, one["path"]))
        if pairs and not (read_json(self.marker) or {}).get("complete"):
            raise PostgresError(f"{arrived} holds no complete restore. Restore first; nothing was changed.")
        return pairs

    def place(self):
        """Move what was restored to where the cluster had it: WAL, tablespaces, and the data directory last."""
        arrived, marker = self.data.arrived(), read_json(self.marker)
        wal = [one for one in self.journal["paths"] if one["kind"] == "wal"]
        for one in wal:
            make(one["path"], arrived)
            marker["inodes"][one["path"]] = identity(one["path"])
        marker.setdefault("placed", identity(os.path.join(arrived, "global")))
        write_json(self.marker, marker)
        for one in wal:
            self._place_wal(one, os.path.join(arrived, "pg_wal"))
        self._correct_paths(arrived)
        for one in reversed(self.journal["paths"]):
            self.directory(one).arrive()

    def _place_wal(self, one, source):
        done = os.path.join(os.path.dirname(source), f"{INSIDE}.wal-{self.stamp}")
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, one["path"], dirs_exist_ok=True)
            rename(source, done)
        if one["link"] and not os.path.islink(source):
            os.symlink(one["link"], source)
        shutil.rmtree(done, ignore_errors=True)

    def _correct_paths(self, arrived):
        """Barman wrote where it restored to into the links of tablespaces and the settings of the recovery."""
        links = {one["restore"]: one["link"] for one in self.journal["paths"] if one["kind"] == "tablespace" and one["within"]}
        for space in _postgres.tablespaces(arrived):
            if space["location"] in links:
                self._link(arrived, os.path.join("pg_tblspc", str(space["oid"])), links[space["location"]])
        settings = os.path.join(arrived, "postgresql.auto.conf")
        if arrived != self.real and os.path.exists(settings):
            with open(settings, encoding="utf-8") as file:
                text = file.read().replace(f"{self.data.restore}/", f"{self.real}/")
            with open(settings + ".tmp", "w", encoding="utf-8") as file:
                file.write(text)
            shutil.copystat(settings, settings + ".tmp")
            os.replace(settings + ".tmp", settings)

    # ---- settled

    def settled(self, expires):
        """The identity file as it is when the restored data stays, null if there is nothing to be done about it."""
        marked = os.path.exists(self.marker)
        if isinstance(self.data, Within) or self.occupant() not in STAYS or not (self.journal or marked):
            return None
        journal = dict(self.journal or dict(empty=True), restored=self.proof(), expires=expires)
        return journal if marked or journal != self.journal else None

    def settle(self, journal):
        """Move the restore's marker into the identity file; of an empty place nothing is kept."""
        if not journal["empty"]:
            write_json(os.path.join(self.data.aside, JOURNAL), journal)
        elif os.path.isdir(self.data.aside):
            os.unlink(os.path.join(self.data.aside, JOURNAL))
            for one in journal["paths"]:
                aside = self.directory(one).aside
                if os.path.isdir(aside) and not os.listdir(aside):
                    os.rmdir(aside)
        if os.path.exists(self.marker):
            os.unlink(self.marker)

    # ---- back

    def proof(self):
        """What says which directories a restore of ours has filled: its marker, or the identity file once the restored data stays."""
        return read_json(self.marker) or (self.journal or {}).get("restored") or {}

    def ended(self):
        """Whether the recovery that set this aside is proven to have ended; what was settled in place says so only by what was promoted."""
        return bool(self.journal) and ("restored" in self.journal or isinstance(self.data, Within) and self.occupant() in STAYS)

    def occupant(self):
        """What lies in the place: vacant, restored (ours, never served), following (ours, a standby), promoted (ours) or foreign."""
        if not self.data.restored():
            return "vacant"
        marker = self.proof()
        if isinstance(self.data, Within):
            arrived, anchor = self.data.arrived(), identity(os.path.join(self.real, "global"))
            if os.path.isdir(self.data.named("failed")):
                return "promoted"
            if os.path.isdir(self.data.named("removing")) or arrived == self.data.placing or arrived == self.data.restore and not entries(self.real):
                return "restored"
            if arrived != self.real or not anchor or marker.get("placed") != anchor:
                return "foreign"
        elif marker.get("inodes", {}).get(self.real) != identity(self.real):
            return "foreign"
        started = os.path.exists(os.path.join(self.real, "postmaster.opts"))
        replaying = any(os.path.exists(os.path.join(self.real, name)) for name in ("recovery.signal", "backup_label"))
        if not started or not marker.get("complete") or replaying:
            return "restored"
        return "following" if os.path.exists(os.path.join(self.real, "standby.signal")) else "promoted"

    def way_back(self):
        """The steps that are still to be done, PostgresError if anything forbids them. Nothing is changed."""
        if not self.journal:
            return self._leftovers()
        kind = self.occupant()
        if kind == "foreign":
            raise PostgresError(
                f"In {self.real} lies something that no restore of this collection put there, so it is not touched. The cluster set aside is "
                f"{self.data.aside}. Move {self.real} away by hand and run this again."
            )
        ours = self.proof().get("inodes", {})
        steps = []
        for one in reversed(self.journal["paths"]):
            directory = self.directory(one)
            if directory.is_home():
                if one["kind"] != "data" and directory.is_lost(one.get("anchor")):
                    raise PostgresError(
                        f"{WHAT[one['kind']]} {one['path']} was set aside as {one['aside']}, which is no longer there. The old data directory without it is no "
                        f"whole cluster. If there is a copy of {one['aside']}, put it back there and run this again. Nothing was changed.")
                continue
            if one["kind"] != "data" and directory.restored() and not (directory.is_ours(ours) or replayed(directory, ours)):
                raise PostgresError(f"In {one['path']} lies something that no restore of this collection put there. Move it away by hand; nothing was changed.")
            suffix = "failed" if kind == "promoted" else "removing"
            steps.append(dict(one, suffix=suffix, out=directory.named(suffix) if directory.restored() else None))
        pid = _postgres.postmaster(self.data.holder())
        if pid and self.data.holder() != self.real:
            raise PostgresError(
                f"PostgreSQL runs on the old data in {self.data.holder()} (process {pid}), where somebody looks into it. Stop it there first: "
                f"pg_ctl -D {self.data.holder()} stop. Nothing was changed.")
        pid = _postgres.postmaster(self.real)
        if pid:
            raise PostgresError(f"PostgreSQL runs on the restored {self.real} (process {pid}). Stop it first; nothing was changed.", running=pid)
        return steps

    def _leftovers(self):
        if self.returned or os.path.exists(os.path.join(self.real, JOURNAL + ".tmp")) or any(
                os.path.isdir(one) and vacant(one) for one in self.data.husks()):
            return [dict(kind="data", name=None, path=self.real, aside=None, out=None)]
        if not os.path.exists(os.path.join(self.real, "PG_VERSION")):
            raise PostgresError(
                f"Nothing was set aside from {self.real} with the stamp {self.stamp}, and no cluster lies there. "
                f"Type the stamp of one of these: {', '.join(self._others()) or 'there are none'}."
            )
        return []

    def _others(self):
        parent, name = os.path.split(self.data.named("aside")[:-len(self.stamp)])
        return sorted(one[len(name):] for one in os.listdir(parent) if one.startswith(name)) if os.path.isdir(parent) else []

    def back(self, steps):
        """Bring everything back: the data directory last, then what was restored goes, then the journal. Returns what is left over."""
        paths = (self.journal or self.returned or {}).get("paths", [])
        for name, target in (self.journal or {}).get("links", {}).items():
            if os.path.islink(os.path.join(self.data.holder(), name)):
                self._link(self.data.holder(), name, target)
        for step in steps if self.journal else []:
            directory = self.directory(step)
            directory.put_out(step["suffix"])
            if step["kind"] == "data" and os.path.isdir(self.data.named("failed")) and os.path.exists(self.marker):
                os.unlink(self.marker)
            directory.come_back()
        if os.path.isdir(self.data.named("failed")):
            self._lead(self.data.named("failed"), paths, "failed")
        if os.path.exists(self.marker) and not (self.marker == self.real + MARKER_SUFFIX and self._marks(self.real, self.real)):
            os.unlink(self.marker)
        if os.path.exists(self.data.aside + MARKER_SUFFIX):
            rename(self.data.aside + MARKER_SUFFIX, self.real + MARKER_SUFFIX)
        directories = [self.directory(one) for one in paths]
        for path in (path for directory in directories for path in directory.debris()):
            shutil.rmtree(path, ignore_errors=True)
        kept = [path for directory in directories for path in [directory.named("failed"), *directory.debris()]]
        journals = [os.path.join(directory, JOURNAL) for directory in (self.real, *self.data.husks())]
        for path in [self.marker + ".tmp", *(journal + ".tmp" for journal in journals), *journals]:
            if os.path.exists(path):
                os.unlink(path)
        for path in self.data.husks():
            if os.path.isdir(path):
                os.rmdir(path)
        return [path for path in kept if os.path.lexists(path)]
