# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory in which Barman unpacks a backup that is compressed, encrypted or incremental, before or instead of copying it.

Without one Barman up to 3.14 refuses such a backup when PostgreSQL is stopped already, and later ones fill /tmp (barman/cli.py, recover).
Each restore has one of its own, made before it and removed after it: a Barman that is killed leaves there what it has unpacked.
"""
from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from dataclasses import dataclass

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import SINCE
from ansible_collections.pgrescue.barman.plugins.module_utils._plan import SPARE, finding, human
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import program_major

PREFIX = ".pgrescue-staging-"


@dataclass
class Staging:
    """What is done (decrypted, decompressed, combined), on which side (barman or destination), in which directory, and what Barman is told."""

    steps: list
    side: str
    path: str
    words: list

    def bytes(self, backup):
        """How much lies there at a time: every step makes a copy, but up to 3.14 a compressed backup is unpacked right into the destination."""
        return backup["size_bytes"] or 0 if self.words[0] == "--recovery-staging-path" else (restored_bytes(backup) or 0) * len(self.steps)


def restored_bytes(backup):
    """The bytes of a backup when it is unpacked; those that Barman has stored where it did not note them (before 3.11)."""
    return backup["cluster_bytes"] or backup["size_bytes"] if _steps(backup) else backup["size_bytes"]


def staging_of(backup, version, server, options):
    """The Staging of one restore, None for a backup that is copied as it is. server: its ServerConfiguration; options: those of the module."""
    steps, configured = _steps(backup), server.options
    if not steps:
        return None
    home, side, location = server.directory("backup_directory"), "barman", []
    if version < SINCE["staging_path"] and "decompressed" in steps:
        option, side = "--recovery-staging-path", "destination"
        base = options["staging_path"] or configured.get("recovery_staging_path") or os.path.dirname(options["destination_directory"])
    elif version < SINCE["staging_path"]:
        option, base = "--local-staging-path", options["staging_path"] or configured.get("local_staging_path") or home
    else:
        option, base = "--staging-path", options["staging_path"] or configured.get("staging_path") or configured.get("local_staging_path") or home
        theirs = not options["staging_path"] and configured.get("staging_path") and configured.get("staging_location") == "remote"
        if theirs and options["ssh"] and "decrypted" not in steps and not options["delta"]:
            side = "destination"
        location = ["--staging-location", "remote" if side == "destination" else "local"]
    path = os.path.join(base, _name(options))
    return Staging(steps, side, path, [option, path, *location])


def scratch_of(server, options):
    """Where Barman has its temporary files during a restore, as the WAL that it unpacks: beside the backups, where there is more room than in /tmp."""
    return os.path.join(server.directory("backup_directory"), _name(options) + "-tmp")


def _name(options):
    return PREFIX + hashlib.sha256(f"{options['ssh']} {options['destination_directory']}".encode()).hexdigest()[:12]


def all_stagings(server, options):
    """Side and path of every directory that any restore into this destination may have had."""
    kinds = [dict(zip(("encryption", "compression", "parent_backup_id"), kind)) for kind in itertools.product((None, "yes"), repeat=3)]
    found = [staging_of(kind, version, server, options) for kind in kinds for version in ((0, 0, 0), SINCE["staging_path"])]
    return sorted({(one.side, one.path) for one in found if one} | {("barman", scratch_of(server, options))})


def staging_findings(staging, backup, look, configured):
    """Whether a backup can be unpacked there: the directory, its room, and the programs. look: that host, and the one directory; configured: the
    server's options in Barman's configuration."""
    place, where = look["places"][0], "the Barman host" if staging.side == "barman" else "the destination host"
    check, base = "staging" if staging.side == "barman" else "destination_staging", os.path.dirname(staging.path)
    what = f"backup {backup['backup_id']} is {' and '.join(staging.steps)} in {base} on {where}"
    missing = [program for program in _programs(backup) if f"has_{program}" not in look["host"]]
    if "combined" in staging.steps and staging.side == "barman":
        missing += _combine_is_missing(backup["postgresql_version"] // 10000, configured.get("path_prefix"))
    findings = [finding(
        f"{check}_programs", not missing, f"{what}; {'missing there: ' + ', '.join(missing) if missing else 'the programs for it are there'}",
        "Barman would end with an error in the middle of the restore.",
        f"Install it on {where}" + (
            f"; for pg_combinebackup of PostgreSQL {backup['postgresql_version'] // 10000} set path_prefix of the server in Barman's configuration to its "
            f"directory, for example /usr/lib/postgresql/{backup['postgresql_version'] // 10000}/bin." if "pg_combinebackup" in missing else "."),
    )]
    if "decrypted" in staging.steps:
        asks = configured.get("encryption_passphrase_command")
        findings.append(finding(
            f"{check}_passphrase", asks, f"backup {backup['backup_id']} is encrypted, and encryption_passphrase_command is {'' if asks else 'not '}set",
            "Barman asks for the passphrase that way only, and would end with an error.",
            "Set it for the server in Barman's configuration.",
        ))
    need = int(staging.bytes(backup) * SPARE)
    writable = "exists" in place or ("parent" in place and "parent_writable" in place)
    # What lies there from a restore that was cut off goes first, and gives room.
    roomy = "exists" in place or need <= place["free"]
    findings.append(finding(
        check, writable and roomy,
        f"{what}; " + (f"{human(need)} are needed there for the time of the restore, {human(place['free'])} are free" if writable else
                       f"{base} {'is not writable for this user' if 'parent' in place else 'does not exist'}"),
        "Barman could not unpack it." if not writable else "The disk would be full before the end.",
        f"Give a directory with room on {where} as staging_path, or another backup_id.",
    ))
    return findings


def _steps(backup):
    done = dict(decrypted=backup["encryption"], decompressed=backup["compression"], combined=backup["parent_backup_id"])
    return [step for step, needed in done.items() if needed]


def _programs(backup):
    """What unpacks on that host; a compression of 'none' is a tar all the same."""
    known = dict(gzip=["tar", "gzip"], lz4=["tar", "lz4"], zstd=["tar", "zstd"], none=["tar"])
    return known.get(backup["compression"], []) + (["gpg"] if backup["encryption"] else [])


def _combine_is_missing(major, path_prefix):
    """pg_combinebackup where Barman looks for it, and of this major version. path_prefix is Barman's option."""
    search = os.pathsep.join([*(path_prefix or "").split(os.pathsep), os.environ.get("PATH", "")]).strip(os.pathsep)
    program = shutil.which("pg_combinebackup", path=search)
    return [] if program and program_major(program) == major else ["pg_combinebackup"]
