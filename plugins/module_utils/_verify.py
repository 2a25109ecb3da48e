# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup against its manifest: the manifest of a backup, and what 'barman verify-backup' says about it.

Barman runs pg_verifybackup and hands its words through. It finds it in path_prefix and PATH, where Debian has it not. A
manifest is written by pg_basebackup, or by 'barman generate-manifest', which raises an exception when there is one.
"""
from __future__ import annotations

import glob
import os
import re
from datetime import datetime, timezone

from ._backups import COPIED, moment
from ._barman import BarmanError

MANIFEST = "backup_manifest"
# Where packages put the client programs of a major version: Debian and PGDG's deb, PGDG's rpm.
BINARIES = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin")

LINE = re.compile(r"pg_verifybackup: (?:error|warning|fatal): (?P<text>.*)")
KINDS = (
    ("missing", re.compile(r'"(?P<file>.+)" is present in the manifest but not on disk')),
    ("surplus", re.compile(r'"(?P<file>.+)" is present on disk but not in the manifest')),
    ("size", re.compile(r'"(?P<file>.+)" has size [0-9]+ on disk but size [0-9]+ in the manifest')),
    ("checksum", re.compile(r'checksum mismatch for file "(?P<file>.+)"')),
    ("manifest", re.compile(r"could not parse backup manifest.*|manifest checksum mismatch.*|could not open file \"(?P<file>.+/backup_manifest)\".*")),
)


def data_directory(server, backup):
    """The directory of a backup's files, or BarmanError when pg_verifybackup cannot read them as they lie."""
    name = f"backup {backup['backup_id']} of server {server.name}"
    if backup["status"] not in COPIED:
        raise BarmanError(f"{name} is {backup['status']}, and only a complete copy can be verified. Take another: pgrescue.barman.barman_backup.")
    if backup["type"] == "snapshot" or server.in_cloud:
        raise BarmanError(f"the files of {name} do not lie on this host (snapshot, or object store), so they cannot be verified. Restore it to prove it.")
    path = os.path.join(server.directory("basebackups_directory"), backup["backup_id"], "data")
    packed = [os.path.basename(one) for one in glob.glob(os.path.join(glob.escape(path), "base.tar*"))]
    if packed:
        raise BarmanError(
            f"{name} is compressed or encrypted ({packed[0]}), and pg_verifybackup reads plain files only. Restore it to prove it, "
            f"or take a backup without backup_compression."
        )
    if not os.path.isdir(path):
        raise BarmanError(f"{name} is {backup['status']} in Barman's catalogue, but {path} is no directory: its files are gone.")
    return path


def read_manifest(path, backup):
    """When the manifest in a backup's directory was written, ISO 8601 in UTC, null if there is none; BarmanError for a foreign one.

    A cluster that was made by pg_basebackup carries the manifest of that copy, and rsync copies it with its time.
    """
    file = os.path.join(path, MANIFEST)
    try:
        written = datetime.fromtimestamp(os.stat(file).st_mtime, timezone.utc)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BarmanError(f"{file} cannot be read: {error.strerror}. Run this as the Barman user (become_user: barman).") from error
    if backup["type"] == "rsync" and backup["begin_time"] and written < moment(backup["begin_time"]):
        raise BarmanError(
            f"{file} is of {written.isoformat()}, older than the backup ({backup['begin_time']}): it came with the data directory, which pg_basebackup "
            f"once made, and says nothing about this backup. Remove backup_manifest on the PostgreSQL host, where it is of no use, and here: rm {file}"
        )
    return written.isoformat()


def uncovered(backup):
    """Names of the tablespaces that no manifest covers: Barman makes one of the data directory alone, and rsync keeps tablespaces beside it."""
    return [tablespace["name"] for tablespace in backup["tablespaces"]] if backup["type"] == "rsync" else []


def search_path(major, path, root="/"):
    """PATH with the directories that hold pg_verifybackup: the backup's own major first, newer ones last."""
    own = [os.path.join(root, pattern.format(major=major).lstrip("/")) for pattern in BINARIES]
    others = [found for pattern in BINARIES for found in glob.glob(os.path.join(root, pattern.format(major="[0-9]*").lstrip("/")))]
    newer = sorted((found for found in others if _major(found) > major), key=_major, reverse=True)
    return os.pathsep.join([one for one in own if os.path.isdir(one)] + [path] + newer)


def _major(path):
    return int(re.search(r"[/-]([0-9]+)/bin$", path)[1])


def judge(answer, major):
    """The problems in an Answer of 'barman verify-backup', none if the files match; BarmanError when nothing was verified."""
    said = [line for message in answer.error for line in message.splitlines()]
    if any("pg_verifybackup not found" in line for line in said):
        raise BarmanError(
            f"Barman does not find pg_verifybackup, which does the work. Install PostgreSQL's client programs on this host "
            f"(Debian: apt install postgresql-client-{major}), or set path_prefix to their directory in Barman's configuration.", cmd=answer.cmd,
        )
    problems = [_problem(found["text"]) for found in map(LINE.match, said) if found]
    if not problems and (answer.rc or answer.skipped or not any("successfully verified" in line for line in answer.info)):
        hint = " Barman before 3.17 does not look at an inactive server; set active = true for it." if answer.skipped else ""
        raise BarmanError(f"nothing was verified: {answer.skipped or answer.reason}.{hint}", cmd=answer.cmd, rc=answer.rc, stderr=answer.stderr)
    return problems


def _problem(text):
    for kind, pattern in KINDS:
        found = pattern.fullmatch(text)
        if found:
            return dict(kind=kind, file=found["file"] if "file" in pattern.groupindex else None, message=text)
    return dict(kind="other", file=None, message=text)
