# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL that only the PostgreSQL host has: does it continue the archive, how far does it go, and what is lost without it. Pure."""
from __future__ import annotations

from datetime import datetime

from ._wal import format_lsn, parse_lsn, segment_name, segment_number

LONG_HEADER = 40               # bytes (SizeOfXLogLongPHD in src/include/access/xlog_internal.h)


def host_wal(facts):
    """What continues the archive on the branch that the server was on: no segments when all is archived, {} when nothing continues it.

    facts: catalogue (an entry of barman_catalog_info), cluster (pg_cluster_info) and search (pg_wal_search_info over its pg_wal, for commits after
    the newest archived segment of the branch that the server was on).
    """
    catalogue, cluster, search = facts["catalogue"], facts["cluster"], facts["search"]
    read = [one for one in search.get("searched") or [] if one["last_lsn"]]
    branch = next((one for one in catalogue["timelines"] if read and one["timeline"] == read[0]["timeline"]), dict(last_wal=None, switch_lsn=None))
    size = catalogue["wal"]["segment_bytes"]
    identifiers = [one["system_identifier"] for one in catalogue["backups"] if one["system_identifier"]]
    if not (branch["last_wal"] or branch["switch_lsn"]) or not identifiers or str(identifiers[-1]) != str(cluster["system_identifier"]):
        return {}
    # Of a branch that has just begun nothing is archived yet, not even its first segment.
    begin = segment_number(branch["last_wal"], size) + 1 if branch["last_wal"] else parse_lsn(branch["switch_lsn"]) // size
    timeline, end = read[0]["timeline"], parse_lsn(read[0]["last_lsn"]) // size
    if segment_number(read[0]["first"], size) > begin or end < begin - 1:
        return {}
    if end < begin:
        return dict(wal={}, segments=[], transactions=0)
    return dict(
        wal=dict(timeline=timeline, end_lsn=format_lsn(parse_lsn(read[0]["last_lsn"])), end_time=read[0]["last_time"], **_target(search)),
        segments=[segment_name(timeline, number, size) for number in range(begin, end + 1)], transactions=search["found"],
    )


def _target(search):
    """What the search says of a transaction or restore point to which is to be recovered."""
    if "target_lsn" not in search:
        return {}
    lsn = search["target_lsn"] and format_lsn(parse_lsn(search["target_lsn"]))
    return dict(target=dict(lsn=lsn, restore_points=[one["name"] for one in search["restore_points"]]))


def reads_to(search, begin, end, size):
    """Whether a search of a running server's pg_wal has read all from one LSN to another, both as numbers, so that what it has not found is not there."""
    read = search.get("searched") or []
    if not read or any(one["last_lsn"] is None for one in read) or any(one.get("note") for one in read[:-1]):
        return False
    firsts, lasts = [segment_number(one["first"], size) for one in read], [parse_lsn(one["last_lsn"]) // size for one in read]
    joined = all(first <= last + 1 for first, last in zip(firsts[1:], lasts))
    # A segment that has just been begun holds nothing but its header.
    written = (end - LONG_HEADER - 1) // size
    return joined and firsts[0] <= begin // size + 1 and lasts[-1] >= written


def loss(facts, window):
    """What no target brings back: since when, seconds (at most) and transactions (null: not known). Nothing, while the host has its WAL."""
    safe = bool(facts["live"] or facts["host_wal"])
    end = None if safe else (window or {}).get("end_time")
    if end is None:
        return dict(since=None, seconds=0 if safe else None, transactions=0 if safe else None)
    seconds = (datetime.fromisoformat(facts["now"]) - datetime.fromisoformat(end)).total_seconds()
    return dict(since=end, seconds=round(max(0, seconds)), transactions=None)
