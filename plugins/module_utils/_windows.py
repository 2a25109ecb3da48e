# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows: the stretches of time, per timeline, in which every moment can be reached.

A window belongs to a timeline's own part, from its promotion on; what happened before is the parent's. It begins at the
end of the first good backup in it, or at the promotion when WAL leads there without a hole from an ancestor's backup. It
ends with the last commit or abort in the last segment before a hole, or before damage: PostgreSQL stops only at such a record. It ends too
with a segment that came twice.
"""
from __future__ import annotations

from dataclasses import replace

from ._wal import DAMAGED, WALK_BACK, End, commit_after, find_waldump, first_time, last_commit, segment_name


class WalEnds:
    """Begin and end of stretches of archived WAL, read with the pg_waldump of the server's own major version."""

    def __init__(self, server, archive, backups, tree):
        versions = [backup["postgresql_version"] for backup in backups if backup["postgresql_version"]]
        self.major = versions[-1] // 10000 if versions else None
        self.program = find_waldump(self.major, server.options.get("path_prefix")) if versions else None
        self.archive, self.tree = archive, tree
        self.received = {}                                     # name -> path of what continues a window and is not archived yet

    def end(self, timeline, first, last, after):
        """The End of the segments first to last of a timeline; commits before the LSN after do not count.

        Where the last ones cannot be read it is that of those before them, and its reason says what is wrong with the last.
        A bulk load that never committed can have written any number of segments.
        """
        end = self._end(timeline, max(first, last - WALK_BACK), last, after)
        return end if end.commit_time or last - WALK_BACK <= first else self._end(timeline, first, last, after)

    def _end(self, timeline, first, last, after):
        if self.program is None:
            return End(reason=f"there is no pg_waldump of PostgreSQL {self.major} here: type apt install postgresql-{self.major}")
        paths = self._paths(timeline, first, last)
        more = self.archive.following(timeline, last, self.tree.size)
        while more:
            end = last_commit(paths + list(more.values()), self.program, after)
            if end.lsn:
                self.received.update(more)
                return end
            more.popitem()                                     # it has been begun, and holds nothing yet
        ends = (last_commit(paths[:len(paths) - count], self.program, after) for count in range(min(DAMAGED, len(paths) - 1) + 1))
        last = next(ends)
        return last if last.lsn else replace(next((end for end in ends if end.lsn), last), reason=last.reason)

    def began(self, timeline, first, last, switch_lsn):
        """When a timeline was promoted, or None."""
        return first_time(self._paths(timeline, first, min(last, first + WALK_BACK)), self.program, switch_lsn) if self.program else None

    def resumed(self, timeline, fork, moment):
        """When a timeline was written to again after a moment, at which another one had left it at a segment; None if it was not.

        A segment is at least as young as what was written into it last, so older ones need not be read.
        """
        run = self.tree.run_at(timeline, fork)
        if self.program is None or not run:
            return None
        begin = next((number for number in range(fork, run[1] + 1) if self._written(timeline, number) > moment.timestamp()), run[1] + 1)
        return commit_after(self._paths(timeline, begin, run[1]), self.program, moment)

    def _written(self, timeline, number):
        return self.archive.listed[segment_name(timeline, number, self.tree.size)][1]

    def _paths(self, timeline, first, last):
        return [self.archive.path(segment_name(timeline, number, self.tree.size)) for number in range(first, last + 1)]


def read_windows(timelines, backups, tree, ends):
    """windows[] of the contract, by timeline and position; sets begin_time and resumed of the timelines on the way."""
    good = [backup for backup in backups if backup["good"] and backup["begin_lsn"] and backup["end_lsn"] and backup["end_time"]]
    windows = []
    for entry in timelines:
        number = entry["timeline"]
        stretches = _stretches(tree, good, _led_in(tree, good, number), number)
        fork_run = tree.run_at(number, tree.fork(number)) if entry["switch_lsn"] else None
        if fork_run:
            began = ends.began(number, *fork_run, entry["switch_lsn"])
            entry["begin_time"] = _iso(began)
            again = ends.resumed(entry["parent"], max(tree.fork(number), tree.fork(entry["parent"])), began) if began else None
            if again:
                next(one for one in timelines if one["timeline"] == entry["parent"])["resumed"].append(_iso(again))
        windows += [_window(entry, run, led_in, own, tree, ends) for run, (led_in, own) in sorted(stretches.items())]
    return windows


def _led_in(tree, good, number):
    """The good backups of ancestors from which WAL leads without a hole to the beginning of a timeline, the oldest ancestor's first."""
    led_in = []
    for ancestor, first, last in tree.pieces(number)[-2::-1]:
        led_in = [
            backup for backup in good
            if backup["timeline"] == ancestor and tree.can_follow(backup, number) and tree.whole(ancestor, tree.segment(backup["begin_lsn"]), last)
        ] + led_in
        if not tree.whole(ancestor, first, last):
            break
    return led_in


def _stretches(tree, good, inherited, number):
    """run of segments -> (backups of ancestors that lead into it, backups that begin and end in it)."""
    stretches = {}
    fork_run = tree.run_at(number, tree.fork(number))
    if inherited and fork_run:
        stretches[fork_run] = (inherited, [])
    for backup in good:
        run = tree.run_at(number, tree.segment(backup["begin_lsn"])) if backup["timeline"] == number else None
        if run and run[1] >= tree.last_segment(backup["end_lsn"]):
            stretches.setdefault(run, ([], []))[1].append(backup)
    return stretches


def _window(entry, run, led_in, own, tree, ends):
    begin_lsn = entry["switch_lsn"] if led_in else own[0]["end_lsn"]
    begin_time = entry["begin_time"] if led_in else own[0]["end_time"]
    if begin_time is None and own:
        begin_time, begin_lsn = own[0]["end_time"], own[0]["end_lsn"]
    end = ends.end(entry["timeline"], tree.segment(begin_lsn), run[1], begin_lsn)
    return dict(
        timeline=entry["timeline"],
        begin_time=begin_time,
        begin_lsn=begin_lsn,
        end_time=_iso(end.commit_time),
        end_lsn=end.lsn,
        backup_ids=[backup["backup_id"] for backup in led_in + own],
        note=end.reason or _twice(tree, entry["timeline"], run[1]),
    )


def _twice(tree, timeline, last):
    """Why a window ends with a segment although the next one is there; None if it is not."""
    if last not in tree.cuts.get(timeline, ()) or not tree.run_at(timeline, last + 1):
        return None
    return f"{segment_name(timeline, last, tree.size)} came once more with other content, so what follows it may be of another history"


def _iso(value):
    return value.isoformat(timespec="microseconds") if value else None
