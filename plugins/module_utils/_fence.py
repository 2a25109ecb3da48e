# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery marker: one recovery per Barman server, and everybody can see whose.

It is the file HOME/.pgrescue/SERVER.recovery.json on the Barman host, HOME being barman_home. It exists from the first
step of a recovery to its commit or undo, and outlives the run that wrote it, so a run that was cut off can be taken up
by the same command. The file appears and changes whole: there is no moment at which half of it can be read. Its run_id
is that of the run at work; a run that finds another one there has lost the server and must not touch it any more.

A clone, a recovery elsewhere, leaves the server alone. Its marker, SERVER.clone-HASH.json, holds only the place of the clone.

A marker names the backup that is pinned, and how it was kept before. Several recoveries may need one backup: what the first
has found goes on to the others, and the last one puts it back.
"""
from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from datetime import datetime, timezone

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError

# What every marker tells; a run adds to it what it needs to be taken up again.
KEYS = ("server", "holder", "run_id", "since", "host", "target", "phase", "backup_id", "pinned", "keep_found", "stamp", "aside")


class FenceError(BarmanError):
    """Another recovery holds the server, or the marker cannot be read or written."""


def marker_path(home, server, clone=None):
    """Where the marker of a server, or of a clone of it, lies."""
    kind = f"clone-{hashlib.sha256(clone.encode()).hexdigest()[:12]}" if clone else "recovery"
    return os.path.join(home, ".pgrescue", f"{server}.{kind}.json")


def new_marker(server, holder, run_id, details, now=None):
    """The content of a marker that begins now."""
    marker = dict.fromkeys(KEYS)
    marker["aside"] = []
    marker.update(details)
    since = (now or datetime.now(timezone.utc)).isoformat(timespec="seconds")
    marker.update(server=server, holder=holder, run_id=run_id, since=since)
    return marker


@contextmanager
def alone(home):
    """Keep every other run from reading and writing markers in between; a dead process lets go by itself."""
    directory = os.open(_directory(os.path.join(home, ".pgrescue")), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def read_marker(home, server, clone=None):
    """The marker of a server or of a clone as a dict, or None when no recovery holds it."""
    return _read(marker_path(home, server, clone), server)


def other_markers(home, server, clone=None):
    """The markers of the other recoveries of this server: of its clones, and of the server itself when this is a clone."""
    pattern = os.path.join(home, ".pgrescue", f"{server}.clone-*.json")
    paths = {marker_path(home, server), *glob.glob(pattern)} - {marker_path(home, server, clone)}
    return [marker for marker in (_read(path, server) for path in sorted(paths)) if marker is not None]


def _read(path, server):
    try:
        with open(path, encoding="utf-8") as file:
            marker = json.load(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FenceError(f"the recovery marker {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise FenceError(
            f"the recovery marker {path} is not JSON ({error}): this collection never leaves it so, something else has "
            f"written it. See that no recovery of {server} is running, then remove the file."
        ) from error
    return dict(dict.fromkeys(KEYS), **marker)


def create_marker(home, marker):
    """Write a marker that must not exist yet; FenceError when another run was faster."""
    path = marker_path(home, marker["server"], marker.get("clone"))
    draft = _draft(path, _as_text(marker))
    try:
        os.link(draft, path)
    except FileExistsError:
        raise FenceError(held(read_marker(home, marker["server"], marker.get("clone")) or marker)) from None
    finally:
        os.unlink(draft)
    _settle(path)


def write_marker(home, marker):
    """Replace the marker of a server as a whole."""
    write_whole(marker_path(home, marker["server"], marker.get("clone")), _as_text(marker))


def remove_marker(home, server, clone=None):
    """Remove the marker of a server or of a clone; it may be gone already."""
    path = marker_path(home, server, clone)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    _settle(path)


def same_run(marker, holder, target):
    """Whether a marker was left by the same command: the same person on the same controller asking for the same target.

    A recovery that this person left paused is theirs to move on, to another target too.
    """
    return marker["holder"] == holder and (marker["target"] == target or marker["phase"] == "paused")


def held(marker):
    """The sentence for whoever finds the server taken."""
    phase = f", now in phase {marker['phase']}" if marker["phase"] else ""
    advice = {
        "paused": f"It waits there for a decision: commit.yml makes it final, undo.yml takes it back, {marker['holder']} may move on with recover.yml.",
        "undo": "It is being taken back; if that run is dead, undo.yml again finishes it.",
    }.get(marker["phase"], (
        f"Wait for its end; if that run is dead, {marker['holder']} repeats the same recover.yml command, which takes it up again"
        f", or undo.yml{' with the same destination' if marker.get('clone') else ''} takes it back."
    ))
    return (
        f"server {marker['server']} is being recovered{' to ' + marker['clone'] if marker.get('clone') else ''} by {marker['holder']} since {marker['since']}"
        f"{phase} (target: {_readable(marker['target'])}). {advice}"
    )


def _readable(target):
    if isinstance(target, dict):
        return " ".join(str(value) for value in (target.get("type"), target.get("value")) if value is not None)
    return target or "not known"


def _directory(directory):
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritable(directory, error) from error
    return directory


def _unwritable(directory, error):
    return FenceError(
        f"the recovery marker cannot be written below {directory}: {error.strerror}. Make room, or run this as the Barman user "
        f"(become_user=barman), who owns that directory."
    )


def write_whole(path, text):
    """Write a text file whole or not at all, for its owner only, and make it outlive a power failure."""
    os.rename(_draft(path, text), path)
    _settle(path)


def _as_text(marker):
    return json.dumps(marker, indent=1, sort_keys=True) + "\n"


def _draft(path, text):
    directory = _directory(os.path.dirname(path))
    try:
        handle, draft = tempfile.mkstemp(prefix=".draft-", dir=directory)
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:                                   # as on a full disk
        os.unlink(draft)
        raise _unwritable(directory, error) from error
    return draft


def _settle(path):
    """See to it that the name of the marker, not only its content, survives a power failure."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
