# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have everything that PostgreSQL has written so far archived, and know that it is.

Barman's switch-wal closes the segment that is being written. Its exit code is 0 too when it skipped the server, when
nothing was closed, and when the segment that arrived is refused as a duplicate; so what is believed is the archive.
"""
from __future__ import annotations

import re
import time
from dataclasses import dataclass

from ._archive import read_archive
from ._barman import BarmanError
from ._session import ask_archiver
from ._wal import segment_name, segment_number

CLOSED = re.compile(r"The WAL file ([0-9A-F]{24}) has been closed")
FIRST_WAIT = 20           # seconds for which Barman itself waits, in the process that switches
LONGEST_PAUSE = 10


@dataclass
class Written:
    """switched: a segment was closed, whose name is closed; last_archived: the newest archived segment afterwards."""

    switched: bool
    closed: str | None
    last_archived: str | None
    changed: bool


def refuse_inactive(server):
    """Raise BarmanError for a server for which Barman does nothing and exits with 0."""
    if server.passive:
        raise BarmanError(
            f"server {server.name} is passive here (primary_ssh_command is set): Barman would skip it with exit code 0. "
            f"Run this on the Barman host that it copies."
        )
    if not server.active:
        raise BarmanError(
            f"server {server.name} is inactive (active = false or disabled = true in Barman's configuration): Barman would "
            f"skip it with exit code 0. Set active = true for it, or name another server."
        )


def newest(archive):
    """The newest archived segment: the last one of the highest timeline, None in an empty archive."""
    return archive.names[-1] if archive.names else None


def archive_written(barman, server, stall=None, deadline=None):
    """Close the current segment of a server, wait until it is archived, return a Written.

    stall: seconds without a newly archived segment after which this fails; deadline: time.monotonic() at which it fails.
    """
    refuse_inactive(server)
    before = read_archive(server)
    closed = close_segment(barman, server.name, min(_left(stall, deadline), FIRST_WAIT), deadline)
    if closed:
        refuse_known(server.name, closed, before.names)
    wanted = closed or last_closed(barman, server.name, deadline)
    archive = _wait(barman, server, wanted, bool(closed), stall, deadline)
    if closed in [name for name, _identifier in archive.duplicates]:
        raise BarmanError(
            f"segment {closed} of server {server.name} arrived twice with different content; Barman moved one of them to "
            f"{server.directory('errors_directory')}. Two clusters archive to this server: find the other one and stop it."
        )
    return Written(bool(closed), closed, newest(archive), changed=bool(closed) or archive.names != before.names)


def close_segment(barman, name, seconds, deadline=None):
    """Switch, and return the segment that was closed, None when it was empty.

    seconds: how long Barman itself waits for it; deadline: time.monotonic() at which PostgreSQL is waited for no longer.
    --force issues CHECKPOINT, so that there is always something to close. It is refused to a role that
    is no superuser and has no pg_checkpoint (PostgreSQL 15, Barman 3.9); then there is a plain switch.
    """
    answer = barman.call("switch-wal", "--force", "--archive", "--archive-timeout", max(int(seconds), 1), name, accept=(0, 1), timeout=_until(deadline))
    if closed_segment(answer) is None and any("superuser" in line for line in answer.error):
        answer = barman.call("switch-wal", name, accept=(0, 1), timeout=_until(deadline))
    closed = closed_segment(answer)
    if closed:
        return closed
    if answer.skipped or any("is a standby" in line for line in answer.info):
        reason = answer.skipped or "it is a standby without primary_conninfo, and only a primary can close a segment"
        raise BarmanError(f"no WAL of server {name} was switched: {reason}", cmd=answer.cmd, rc=answer.rc)
    if answer.rc:
        raise BarmanError(
            f"no WAL of server {name} was switched: {answer.reason} Does PostgreSQL run, and has Barman's role "
            f"EXECUTE on pg_switch_wal()? 'barman check {name}' tells.", cmd=answer.cmd, rc=answer.rc, stderr=answer.stderr,
        )
    return None


def closed_segment(answer):
    """The segment that an answer of switch-wal names as closed; Barman offers it in a message only."""
    return next((match.group(1) for line in answer.info for match in [CLOSED.match(line)] if match), None)


def last_closed(barman, name, deadline=None):
    """The segment before the one that PostgreSQL writes now. Barman's answer holds passwords: only two keys are taken."""
    status = barman.call("show-servers", name, timeout=_until(deadline)).data.get(name, {})
    current, size = status.get("current_xlog"), status.get("xlog_segment_size")
    if not current or not size:
        raise BarmanError(f"PostgreSQL of server {name} does not tell which segment it writes. 'barman check {name}' tells more.")
    return segment_name(int(current[:8], 16), segment_number(current, int(size)) - 1, int(size))


def refuse_known(server, closed, names):
    """A segment that was open until now cannot be archived already, unless by another cluster or another past."""
    same_timeline = [name for name in names if name[:8] == closed[:8]]
    if same_timeline and closed <= same_timeline[-1]:
        raise BarmanError(
            f"PostgreSQL of server {server} has just closed segment {closed}, but the archive already goes to {same_timeline[-1]}: "
            f"this is not the cluster, or not the timeline, whose WAL the archive holds. What it archives now is thrown out as "
            f"duplicates and nothing of it can be recovered. Recover it onto a new timeline, or give it a server name of its own."
        )


def _wait(barman, server, wanted, exact, stall, deadline):
    pause, since, archive = 0.5, time.monotonic(), read_archive(server)
    while not is_archived(wanted, archive, exact):
        if time.monotonic() - since >= (stall or float("inf")) or _left(None, deadline) <= 0:
            raise BarmanError(
                f"segment {wanted} of server {server.name} has been closed but not archived, {time.monotonic() - since:.0f} seconds after "
                f"the last progress; the archive goes to {newest(archive) or 'nothing yet'}. {ask_archiver(server.options.get('conninfo'))}. "
                f"'barman check {server.name}' tells more; when archiving works again, run this again."
            )
        time.sleep(min(pause, max(_left(None, deadline), 0)))
        pause = min(2 * pause, LONGEST_PAUSE)
        barman.call("archive-wal", server.name, accept=(0, 1))
        count, archive = len(archive.names), read_archive(server)
        if len(archive.names) != count:
            since = time.monotonic()
    return archive


def is_archived(wanted, archive, exact=True):
    """Whether a segment could be restored now. Not exact: one of an older timeline will do, the fork may lie after it."""
    return any(name == wanted if exact else name[8:] == wanted[8:] and name <= wanted for name in archive.available)


def _until(deadline):
    """The seconds that a call of Barman may take, at least one; None without a deadline."""
    return None if deadline is None else max(1, deadline - time.monotonic())


def _left(stall, deadline):
    left = float("inf") if deadline is None else deadline - time.monotonic()
    return left if stall is None else min(left, stall)
