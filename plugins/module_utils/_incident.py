# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The incident record: what a recovery did, for whoever asks later, and for undo.yml.

Two files beside the marker, HOME/.pgrescue/SERVER.STAMP.json and the same as .md, STAMP being the instant in the names of
what was set aside. Nothing removes them.
"""
from __future__ import annotations

import json
import os
import re

from ansible_collections.pgrescue.barman.plugins.module_utils._fence import FenceError, write_whole

STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
# The lines of the Markdown, in its order; a key that is not known, or has no value, has no line.
LINES = (
    ("outcome", "State"), ("server", "Server"), ("host", "PostgreSQL host"), ("data_directory", "Data directory"), ("holder", "Who"),
    ("finished_by", "Finished by"), ("reason", "Why"), ("began", "Began"), ("ended", "Ended"), ("target", "Asked for"), ("backup_id", "Restored backup"),
    ("stopped_at", "Stopped at"), ("difference_seconds", "Seconds before the moment asked for"), ("discarded", "First transaction that is not there"),
    ("loss", "Given up"), ("timeline", "New timeline"), ("replayed_bytes", "Bytes of WAL replayed"),
    ("checksums", "Data checksums"), ("new_backup_id", "New backup"),
    ("durations", "Seconds in each phase"), ("aside", "Where the old data lies"), ("kept", "Where the recovered data lies"), ("undo", "How to undo"),
    ("undo_until", "Until"), ("failure", "Failure"), ("undone_by", "Taken back by"), ("undone_at", "Taken back at"),
    ("undo_backup_id", "New backup after that"),
)


def record_path(home, server, stamp, suffix="json"):
    """Where the record of a recovery lies."""
    if not STAMP.fullmatch(str(stamp)):
        raise FenceError(f"record has the stamp {stamp!r}, and that is not an instant. Type it as YYYYMMDDTHHMMSSZ in UTC, for example 20260915T123000Z.")
    return os.path.join(home, ".pgrescue", f"{server}.{stamp}.{suffix}")


def read_records(home, server):
    """The records of a server, the newest first; what cannot be read as one is left out."""
    directory = os.path.join(home, ".pgrescue")
    found = []
    for name in sorted(os.listdir(directory), reverse=True) if os.path.isdir(directory) else []:
        if name.startswith(f"{server}.") and name.endswith(".json") and STAMP.fullmatch(name[len(server) + 1:-5]):
            try:
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    record = json.load(file)
            except (OSError, ValueError):
                continue
            found += [record] if isinstance(record, dict) else []
    return found


def write_record(home, record):
    """Write both files of a record."""
    server, stamp = record["server"], record["stamp"]
    write_whole(record_path(home, server, stamp), json.dumps(record, indent=1, sort_keys=True) + "\n")
    write_whole(record_path(home, server, stamp, "md"), markdown(record))


def merge(records, server, changes):
    """The record that has the stamp of the changes, with them."""
    known = next((one for one in records if one.get("stamp") == changes.get("stamp")), {})
    return dict(known, **dict(changes, server=server))


def markdown(record):
    """A record as people read it."""
    lines = [f"# Recovery of {record['server']}, {record['stamp']}", ""]
    for key, title in LINES:
        text = _told(record.get(key))
        if text:
            lines.append(f"- **{title}:** {text}")
    return "\n".join(lines) + "\n"


def _told(value):
    """A value in one line, empty for nothing."""
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items() if _told(one))
    if isinstance(value, list):
        return ", ".join(_told(one) for one in value)
    return " ".join(str(value).split())
