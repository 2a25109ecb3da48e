# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One restore with Barman: read the catalogue and the destination, plan, act, look again."""
from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from itertools import count

from ansible_collections.pgrescue.barman.plugins.module_utils import _plan
from ansible_collections.pgrescue.barman.plugins.module_utils._archive import GONE, read_archive
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BACKUP_ID, Barman, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._catalog import choose_backup, read_server, required_wal
from ansible_collections.pgrescue.barman.plugins.module_utils._check import is_locked
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._destination import Destination, check_ssh, running_restores
from ansible_collections.pgrescue.barman.plugins.module_utils._filesystem import size_bytes
from ansible_collections.pgrescue.barman.plugins.module_utils._locate import elsewhere, half_dropped, locate, stops_by
from ansible_collections.pgrescue.barman.plugins.module_utils._postgres import check_path
from ansible_collections.pgrescue.barman.plugins.module_utils._progress import telling
from ansible_collections.pgrescue.barman.plugins.module_utils._reach import extend, followed, line_of, windows_of
from ansible_collections.pgrescue.barman.plugins.module_utils._segments import examine
from ansible_collections.pgrescue.barman.plugins.module_utils._staging import all_stagings, restored_bytes, scratch_of, staging_findings, staging_of
from ansible_collections.pgrescue.barman.plugins.module_utils._target import parse_target
from ansible_collections.pgrescue.barman.plugins.module_utils._timeline import is_damaged
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import (
    WalError, find_waldump, format_lsn, parse_lsn, segment_name, segment_number, segment_timeline,
)
from ansible_collections.pgrescue.barman.plugins.module_utils._walstream import of_server

# Of how much WAL it is asked whether commits are in the order of their times.
ORDERED_BYTES = 1 << 30


def check_tablespace(name):
    """Return the name of a tablespace when Barman takes it in --tablespace NAME:LOCATION, else raise BarmanError. PostgreSQL allows nearly any name."""
    if re.fullmatch(r"[^-:\x00-\x1f\x7f][^:\x00-\x1f\x7f]*", name):
        return name
    raise BarmanError(
        f"tablespace {name[:80]!r} cannot be mapped: Barman takes no name that is empty, holds ':' or begins with '-'. Take it out of tablespaces."
    )


def checked(params):
    """The options, each one fit for Barman's command line; BarmanError for the first that is not."""
    check_name(params["server"], "server")
    if params["backup_id"] != "auto" and not BACKUP_ID.fullmatch(params["backup_id"]):
        raise BarmanError(
            f"backup_id {params['backup_id'][:80]!r} is not a backup's id. Type it as barman_catalog_info shows it (20260915T020000), or leave it out."
        )
    for option in ("jobs", "bandwidth_limit"):
        if params[option] is not None and params[option] < 1:
            raise BarmanError(f"{option} is {params[option]}, and must be 1 or more.")
    destination = check_path(params["destination_directory"], "destination_directory")
    if ":" in destination:
        raise BarmanError(f"destination_directory {destination!r} holds ':', which Barman refuses.")
    for word in params["extra_args"]:
        if not re.fullmatch(r"[\x20-\x7e]+", word):
            raise BarmanError(f"extra_args holds {word[:80]!r}, and a word for Barman is printable and not empty.")
        if word.startswith(_plan.OWN_OPTIONS):
            raise BarmanError(f"extra_args holds {word!r}, and that is said with an option of this module. Take it out of extra_args.")
    return dict(
        params,
        destination_directory=destination,
        staging_path=check_path(params["staging_path"], "staging_path") if params["staging_path"] else None,
        tablespaces={check_tablespace(name): check_path(path, f"tablespace {name}") for name, path in params["tablespaces"].items()},
        ssh=check_ssh(params["remote_ssh_command"]),
        barman_address=check_name(params["barman_address"], "barman_address") if params["barman_address"] else None,
    )


class Restore:
    """One request: read the state, plan, act."""

    def __init__(self, params):
        self.options = checked(params)
        self.target = parse_target(params)
        self.barman = Barman(params["barman_executable"], params["barman_config"])
        self.destination = Destination(self.options["ssh"])
        self.state = self.look = self.request = self.backup = self.timeline = self.places = self.staging = self.bound = self.scratch = self.source = None
        self.received, self.spaces, self.directories = [], {}, []

    def plan(self):
        """Everything known beforehand, as the contract's plan."""
        options, configuration = self.options, read_configuration(self.options["barman_config"])
        configured = configuration.server(options["server"])
        self.scratch = scratch_of(configured, options)
        archive = read_archive(configured)
        server = read_server(configured, archive, include_wal=True)
        if options["additional_wal"]:
            extend(server, options["additional_wal"])
        backup, timeline, why, place = self._choose(configured, archive, server)
        wal, disorder = required_wal(server, backup, self.target, timeline, place) if backup else None, None
        if wal and self.target.type == "time":
            place, disorder = self._stops_by(configured, archive, backup, timeline, wal)
            wal = required_wal(server, backup, self.target, timeline, place) if place else wal
        findings = _plan.catalogue_findings(server, configured.active, backup, why, wal, self.barman.version)
        if backup:
            refused = sorted(archive.refused(backup["system_identifier"]).intersection(wal["names"][:-1]))
            findings += filter(None, [
                _plan.snapshot_finding(backup, options["extra_args"]), _plan.twice_finding(refused, configured.directory("errors_directory")),
                _plan.order_finding(backup, place, disorder), self._half_dropped(configured, archive, timeline, place)])
        if backup and not server["problem"]:
            findings += self._archive_findings(configuration, backup, wal)
        if options["delta"]:
            findings.append(_plan.delta_finding(self.barman.version, backup))
        size = end = new_timeline = None
        if backup:
            if self.target.type == "latest":
                end = windows_of(server, timeline)[-1]["end_lsn"]
            self.bound = self._bound(archive, backup, timeline, wal, place)
            size = (restored_bytes(backup) or 0) + self._to_copy(server, archive, backup, timeline, wal, findings) * backup["wal_segment_bytes"]
            new_timeline = next(number for number in count(timeline + 1) if archive.history(number)[1])
            self.staging = staging_of(backup, self.barman.version, configured, options)
            self.backup, self.timeline = backup, timeline
            self.received = [one for one in server["wal"]["received"] if segment_timeline(one["name"]) == timeline]
        # The destination is looked at without a backup that leads to the target too: all findings at once.
        looked = backup or next((one for one in reversed(server["backups"]) if one["postgresql_version"]), None)
        if looked:
            findings += self._destination_findings(configuration, looked, size)
        return _plan.assemble(
            options["server"], backup, why, self.target, timeline, wal and dict(wal, end_lsn=end), size, findings, self.spaces, self.directories, new_timeline,
        )

    def _choose(self, configured, archive, server):
        """backup, timeline, why, and the place of a transaction or restore point, which WAL itself tells."""
        backup_id, place = None if self.options["backup_id"] == "auto" else self.options["backup_id"], None
        if self.target.type in ("xid", "name"):
            timeline = line_of(server, self.target)
            try:
                source, backups = self._source(configured, archive), followed(server, timeline, backup_id)
                names, more = set(), self.options["additional_wal"] or {}
                place, there, here = locate(source, backups, timeline, self.target, names), more.get("target"), more.get("timeline") == timeline
                if there and here:
                    place = place or there["lsn"]
                    names.update(there["restore_points"])
                # Of what was not looked into only replay can tell.
                if not place and backups and (there or not here):
                    others = elsewhere(source, timeline, self.target) + ([more["timeline"]] if there and there["lsn"] and not here else [])
                    return None, timeline, _plan.not_there(self.target, timeline, backups[0], others, names, there), None
            except WalError:
                pass                                           # then only replay can tell
        return *choose_backup(server, self.target, backup_id, place), place

    def _source(self, configured, archive):
        """The archived WAL, looked through once; WalError where it cannot be read."""
        self.source = self.source or of_server(configured, archive)
        return self.source

    def _stops_by(self, configured, archive, backup, timeline, wal):
        """The LSN of the commit at which PostgreSQL stops for a time, null when nobody knows, and what is out of order before that (stops_by of _locate).

        Files are not as old as what is in them, as when they came late, or xlog.db was made anew.
        """
        size, most = backup["wal_segment_bytes"], self.options["read_wal_bytes"]
        guess = wal["last"] and (segment_timeline(wal["last"]), segment_number(wal["last"], size))
        most = min(most or ORDERED_BYTES, ORDERED_BYTES) // size if self.options["read_wal"] else 0
        with suppress(WalError):
            position, disorder = stops_by(self._source(configured, archive), timeline, backup, self.target, guess, most)
            return format_lsn(position) if position else None, disorder
        return None, None

    def _half_dropped(self, configured, archive, timeline, place):
        """A finding where the target lies within a DROP DATABASE. An LSN was chosen with that in sight."""
        if not place or self.target.type not in ("time", "xid"):
            return None
        included = self.target.type == "xid" and not self.target.exclusive
        with suppress(WalError):
            return _plan.half_dropped_finding(half_dropped(self._source(configured, archive), timeline, place, included), place)
        return None

    def _bound(self, archive, backup, timeline, wal, place):
        """The LSN, as a number, up to which Barman shall copy WAL; None for all of it, as when replay may go on later, or nobody knows.

        Replay reads the whole record at which it stops, and that can go on in the next segment.
        """
        if self.options["all_wal"] or self.target.type in ("latest", "immediate"):
            return None
        position = self.target.value if self.target.type == "lsn" else place
        if not position or self.target.type == "time" and not self.barman.can("copies_all_wal_for_a_time"):
            return None
        size, bound = backup["wal_segment_bytes"], parse_lsn(position) + backup["wal_segment_bytes"]
        late = _plan.comes_too_late(archive.listed, wal["names"], timeline, segment_name(timeline, bound // size, size))
        return parse_lsn(_plan.LAST_LSN) if late else bound

    def _to_copy(self, server, archive, backup, timeline, wal, findings):
        """How many segments are copied before PostgreSQL starts, or fetched while it replays. What is found of their files is added to the findings."""
        name, why = archive.history(timeline)
        if timeline != backup["timeline"]:                     # else PostgreSQL is told to stay where the backup is, and asks for none
            if not why and is_damaged(archive.path(name)):
                why = "damaged: it does not say where the timeline began"
            findings.append(_plan.history_finding(timeline, name, why, server["name"]))
        if self.options["wal_delivery"] == "get":
            return wal["required"]
        there = [entry["name"] for entry in server["wal"]["segments"]]
        there += archive.faults.get(GONE, [])
        copied = [
            _plan.copied_segments(names, backup, self.target, timeline, self.options, self.barman.version, self.bound) for names in (there, archive.others)
        ]
        gone = [one for one in archive.gone(sum(copied, [])) if not any(hole["first"] <= one <= hole["last"] for hole in wal["missing"])]
        findings.append(_plan.listed_finding(gone, archive.broken, server["name"]))
        packed = [name for name in copied[0] if name in archive.listed and archive.listed[name][2]]
        home, size = os.path.dirname(self.scratch), backup["wal_segment_bytes"]
        findings += filter(None, [_plan.packed_finding(packed, size, home, shutil.disk_usage(home).free)])
        return len(copied[0])

    def _archive_findings(self, configuration, backup, wal):
        """What is read of the WAL and of the backup themselves."""
        server = configuration.server(self.options["server"])
        findings = [_plan.deleted_finding(backup, is_locked(configuration, f"{server.name}-{backup['backup_id']}"))]
        if self.options["read_wal"]:
            wals, size = server.directory("wals_directory"), backup["wal_segment_bytes"]
            program = find_waldump(backup["postgresql_version"] // 10000, server.options.get("path_prefix"))
            paths = [path for name in wal["names"] for path in [os.path.join(wals, name[:16], name)] if os.path.exists(path)]
            content = examine(paths, size, backup["system_identifier"], program, backup["begin_lsn"], self.options["read_wal_bytes"])
            findings.append(_plan.content_finding(content, len(paths)))
            self.spaces = content.spaces
        return findings

    def _sizes(self, configuration, backup, places, size):
        """The bytes of the data directory and of each tablespace: those are directories of the backup, beside its data."""
        server, oids = configuration.server(self.options["server"]), {one["name"]: str(one["oid"]) for one in backup["tablespaces"]}
        paths = [os.path.join(server.directory("basebackups_directory"), backup["backup_id"], oids[name]) for name in places]
        found = [size_bytes(path) if os.path.isdir(path) and not self.staging else None for path in paths]
        return [max(0, size - sum(one or 0 for one in found)), *found]

    def _destination_findings(self, configuration, backup, size):
        options = self.options
        places, unknown = _plan.tablespace_places(backup, options["tablespaces"])
        findings = []
        if unknown:
            names = ", ".join(one["name"] for one in backup["tablespaces"]) or "none"
            findings.append(_plan.finding(
                "tablespaces", False, f"the backup has no tablespace {', '.join(unknown)}; it has: {names}", "Barman would end with an error.",
                "Take the name out of tablespaces, or write it as it is."))
        for name, path in places.items():
            check_path(path, f"the backup's tablespace {name}, which can be mapped with tablespaces,")
        try:
            made = {f"of WAL {path}": path for path in self.spaces.values()}
            self.look = self.destination.look(backup["postgresql_version"] // 10000, [options["destination_directory"], *places.values(), *made.values()])
        except BarmanError as error:
            return findings + [_plan.finding(
                "destination_reachable", False, str(error), error.details.get("meaning", "Barman would not reach it either."),
                error.details.get("fix", f"See that this works on the Barman host as its user: {options['ssh']} true"))]
        if options["ssh"]:
            findings.append(_plan.clock_finding(self.target, self.look["host"]))
        self.places = places
        if size is not None:
            sizes = self._sizes(configuration, backup, places, size)
            self.directories = [dict(path=path, bytes=one) for path, one in zip([options["destination_directory"], *places.values()], sizes)]
        self.request = _plan.request(options["server"], backup, self.timeline, self.target, places, options)
        self.state = _plan.condition(self.look["places"][0], self.request)
        running = running_restores(self.look["places"][0]["real"], options["server"])
        findings += _plan.destination_findings(self.look, self.state, backup, dict(options, tablespace_names=[*places, *made]), options["ssh"], running)
        if self.state not in ("complete", "incomplete") and not options["delta"]:
            findings += _plan.space_findings(self.look["places"], [one["bytes"] for one in self.directories]) if self.directories else []
        if self.staging and self.state != "complete":
            look = self._staging_host().look(backup["postgresql_version"] // 10000, [self.staging.path])
            findings += staging_findings(self.staging, backup, look, configuration.server(options["server"]).options)
        return findings

    def _staging_host(self):
        return self.destination if self.staging.side == "destination" else Destination()

    @contextmanager
    def _unpacking(self):
        """What Barman is told of the directory in which it unpacks the backup (nothing for a plain one), and its environment.

        That directory and the one for its temporary files are empty in the beginning and gone in the end.
        """
        places = [(Destination(), self.scratch)] + ([(self._staging_host(), self.staging.path)] if self.staging else [])
        for host, path in places:
            host.remove([path])
            host.make([path])
        try:
            yield self.staging.words if self.staging else [], dict(TMPDIR=self.scratch)
        finally:
            for host, path in places:
                # An end that was reached must not be lost to this, nor the reason of another; what stays goes with the next restore there.
                with suppress(BarmanError):
                    host.remove([path])

    def act(self, total):
        """Restore that many bytes; returns the contract's restore."""
        begin = time.monotonic()
        data, paths = self.look["places"][0], [place["real"] for place in self.look["places"]]
        inodes = dict(zip(paths, self.destination.make(paths)))
        if self.options["delta"]:
            self.destination.forget(data["real"])
        elif self.state == "incomplete" and (self.barman.can("refuses_full_destination") or data["marker"]["request"] != self.request):
            self.destination.empty(inodes)
        marker = dict(inodes=inodes, request=self.request, complete=False)
        self.destination.write_marker(data["real"], marker)
        try:
            with self._unpacking() as (staging, environment):
                options = dict(self.options, staging=staging)
                words = _plan.barman_arguments(self.target, self.timeline, options, self.barman.version, self.bound)
                answer = self.barman.call("recover", *words, options["server"], self.backup["backup_id"], data["real"],
                                          watch=telling(lambda seconds: self._told(paths, total, seconds)), environment=environment)
            self._add_received(data["real"])
            after = self._finish(data["real"])
        except BarmanError as error:
            raise BarmanError(
                f"{error}. The restore into {data['real']} is incomplete, and marked as such: it must not be started; the same task run again redoes it.",
                **error.details
            ) from error
        segments, size = self.destination.measure(paths)
        self.destination.write_marker(data["real"], dict(marker, complete=True, inodes=dict(zip(paths, (place["inode"] for place in after["places"])))))
        said = answer.data
        return dict(
            elapsed=round(time.monotonic() - begin, 3), bytes=size, wal_segments=segments,
            settings_changed=[_setting(one) for one in said.get("changes", [])], settings_of_note=[_setting(one) for one in said.get("warnings", [])],
            missing_files=[str(one) for one in said.get("missing_files", [])], warnings=answer.warning,
        )

    def _told(self, paths, total, seconds):
        """How far the copy is; None for a delta, whose files are all there from the beginning, and when it cannot be measured."""
        if self.options["delta"]:
            return None
        try:
            return "Restored " + _plan.share(self.destination.measure(paths)[1], total, seconds)
        except BarmanError:
            return None

    def _add_received(self, real):
        """Bring what Barman has received and not archived; PostgreSQL looks into pg_wal for what restore_command does not find."""
        for one in self.received:
            try:
                self.destination.put_wal(real, one["name"], one["path"])
            except FileNotFoundError:
                continue                                       # it was archived in the meantime, and Barman has restored it

    def _finish(self, real):
        """Say where to stop, and see that what Barman left is the cluster that was asked for."""
        major = self.backup["postgresql_version"] // 10000
        look = self.destination.look(major, [place["real"] for place in self.look["places"]])
        data = look["places"][0]
        wrong = [text for text, ok in (
            ("no backup_label", "has_backup_label" in data),
            (f"PG_VERSION {data.get('version')!r} instead of {major}", data.get("version") == str(major)),
            (f"system identifier {data.get('identifier')!r} instead of {self.backup['system_identifier']}",
             not self.backup["system_identifier"] or data.get("identifier") == self.backup["system_identifier"]),
        ) if not ok]
        if wrong:
            raise BarmanError(f"barman recover ended without an error, but left {', '.join(wrong)} in {real}")
        # A number has PostgreSQL ask for the history file, which an archive that was begun on the timeline does not have.
        timeline = "current" if self.timeline == self.backup["timeline"] else self.timeline
        settings = self.target.settings(timeline, self.options["target_action"])
        if self.options["wal_delivery"] == "get" and self.options["barman_address"]:
            user = read_configuration(self.options["barman_config"]).globals.get("barman_user") or "barman"
            settings["restore_command"] = f"barman-wal-restore -P -U {user} {self.options['barman_address']} {self.options['server']} %f %p"
        elif "has_recovery.signal" not in data:
            # The WAL lies in pg_wal, where PostgreSQL looks when the command fails.
            settings["restore_command"] = f"cp {real}/barman_wal/%f %p" if "has_barman_wal" in data else "/bin/false"
            settings["recovery_end_command"] = ""
        self.destination.finish(real, settings)
        return look


def remove_stagings(params):
    """Remove what restores into a destination have unpacked and left behind; returns the hosts where that cannot be seen to, with the reason."""
    options, problems = checked(params), []
    server = read_configuration(options["barman_config"]).server(options["server"])
    for side, host in (("barman", Destination()), ("destination", Destination(options["ssh"]))):
        paths = [path for there, path in all_stagings(server, options) if there == side]
        try:
            host.remove(paths)
        except BarmanError as error:
            problems.append(f"{', '.join(paths)}: {error}")
    return problems


def _setting(entry):
    """One of Barman's [file, line, setting, value]."""
    name, line, setting, value = (list(entry) + [None] * 4)[:4]
    return dict(file=os.path.basename(str(name)), line=line, setting=setting, value=value)
