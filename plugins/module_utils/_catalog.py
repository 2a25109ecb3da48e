# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue of Barman's servers: backups, timelines, WAL and the windows in which a moment can be reached.

Read from Barman's files alone, with PostgreSQL up or down, in time linear in backups and WAL. What follows from it (is a
moment reachable, from which backup, which WAL does it take) is decided in _reach.py.
"""
from __future__ import annotations

import bisect

from ._archive import DEFAULT_SEGMENT_BYTES, NOT_ARCHIVED, UNLISTED, read_archive
from ._backups import COPIED, read_backups
from ._reach import choose_backup, reachable, required_wal
from ._timeline import Tree, by_timeline, gap, read_timelines
from ._windows import WalEnds, read_windows

__all__ = ["choose_backup", "reachable", "read_backups", "read_catalog", "read_server", "required_wal"]


def read_catalog(configuration, names=None, include_wal=False, windows=True):
    """servers[] of the contract, by name. names: only these servers (BarmanError for an unknown one).

    include_wal adds wal.segments, one dict per archived segment, which required_wal() needs. windows=False leaves them empty,
    and then no WAL file is read.
    """
    names = sorted(configuration.servers) if names is None else names
    servers = [configuration.server(name) for name in names]
    return [read_server(server, read_archive(server), include_wal, windows) for server in servers]


def read_server(server, archive, include_wal=False, windows=True):
    """The same of one server (a ServerConfiguration), whose archive has been read."""
    backups = read_backups(server, archive)
    segment_bytes = next((backup["wal_segment_bytes"] for backup in reversed(backups) if backup["begin_wal"]), DEFAULT_SEGMENT_BYTES)
    timelines = read_timelines(archive, backups)
    # Of a segment that came twice nobody knows whose history follows it.
    twice = archive.refused(next((backup["system_identifier"] for backup in reversed(backups) if backup["system_identifier"]), None))
    tree = Tree(timelines, segment_bytes, by_timeline(archive.available, segment_bytes), by_timeline(twice, segment_bytes))
    ends = WalEnds(server, archive, backups, tree)
    stretches = read_windows(timelines, backups, tree, ends) if windows else []
    return dict(
        name=server.name,
        active=server.active,
        passive=server.passive,
        backups=backups,
        timelines=timelines,
        wal=dict(_wal(archive, backups, tree, include_wal), received=[dict(name=name, path=path) for name, path in sorted(ends.received.items())]),
        windows=stretches,
        reachable=None,
        problem="base backups or WAL lie in an object store, which is not read here" if server.in_cloud else None,
    )


def _wal(archive, backups, tree, include_wal):
    wal = dict(
        first=archive.names[0] if archive.names else None,
        last=archive.names[-1] if archive.names else None,
        count=len(archive.names),
        bytes=sum(entry[0] for entry in archive.listed.values()),
        missing=_missing(archive, backups, tree),
        segment_bytes=tree.size,
    )
    if include_wal:
        wal["segments"] = [dict(name=name, bytes=archive.listed[name][0], file_time=archive.listed[name][1]) for name in archive.available]
    return wal


def _missing(archive, backups, tree):
    """Holes: what lies between the first segment that some backup needs (or the first archived one) and the last one."""
    faults = {reason: by_timeline(names, tree.size) for reason, names in archive.faults.items()}
    copied = [backup for backup in backups if backup["status"] in COPIED and backup["begin_lsn"] and backup["end_lsn"]]
    missing = []
    for timeline in sorted(tree.parents):
        needed = [edge for run in tree.runs.get(timeline, []) for edge in run]
        for backup in copied:
            if backup["timeline"] == timeline:
                needed += [tree.segment(backup["begin_lsn"]), tree.last_segment(backup["end_lsn"])]
        if needed and any(backup["timeline"] != timeline and tree.can_follow(backup, timeline) for backup in copied):
            needed.append(tree.fork(timeline))
        # At the end, a file that is not listed yet is on its way; at the start, one that is listed no more is on its way out.
        lost = [number for reason, numbers in faults.items() if reason != UNLISTED for number in numbers.get(timeline, [])]
        for first, last in tree.gaps(timeline, min(needed), max(needed + lost)) if needed else []:
            reason = next((reason for reason, numbers in faults.items() if _any_between(numbers.get(timeline, []), first, last)), NOT_ARCHIVED)
            missing.append(gap(timeline, first, last, tree.size, reason))
    return missing


def _any_between(numbers, first, last):
    index = bisect.bisect_left(numbers, first)
    return index < len(numbers) and numbers[index] <= last
