# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done with a recovery that an earlier run has left. Pure: marker, records and plans in, decisions out."""
from __future__ import annotations

from ansible_collections.pgrescue.barman.plugins.module_utils._plan import finding
from ansible_collections.pgrescue.barman.plugins.module_utils._target import parse_moment, parse_target
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import parse_lsn

UNTOUCHED = "Nothing was changed."
# How the record of a recovery that is over says so: final, taken back after that, taken back before that, put back by itself.
ENDED = ("committed", "undone", "abandoned", "failed")
# What a plan says of the archive. The rest is about an empty directory, and there is none when the restored copy is used again.
OF_THE_ARCHIVE = ("target", "wal", "archive", "server_active")


def recovery_left(facts):
    """What there is to do for a verb (recover, commit, undo), or why not.

    facts: verb, server, host, found (the marker or None), elsewhere (the markers of clones), records (newest first), pause, confirm,
    clone, which is empty unless a clone is to be undone, else its host and perhaps its directory, and gone, the host that is gone for
    good, or empty. Returns left, the marker or else the record of the recovery that is meant, unfinished, whether it is a marker,
    refusal, None or a sentence, and gone, the markers of what was under way on a host that is gone. Only
    confirm=<server> looks behind a recovery that was taken back or has failed, and past a clone that was cut off: undo.yml run
    twice must not go back twice, nor after a failure to what nobody thinks of.
    """
    facts = dict(facts, found=facts["found"] or None)             # ansible-core before 2.19 hands over null as an empty text
    if facts["gone"] and facts["verb"] == "undo":
        return _gone_left(facts)
    if facts["clone"]:
        return _clone_left(facts["server"], **facts["clone"], clones=_clones(facts))
    ended = [one for one in facts["records"] if one.get("outcome") in ENDED]
    if facts["confirm"] == facts["server"]:
        ended = [one for one in ended if one["outcome"] == "committed"] or ended
    last = ended[0] if ended else None
    refusal = REFUSALS[facts["verb"]](facts, facts["found"], last)
    return dict(left=facts["found"] or last or {}, unfinished=facts["found"] is not None, refusal=refusal, gone=[])


def _place_of(marker):
    """The host on which something is recovered."""
    return marker["clone"].partition(":")[0] if marker.get("clone") else marker["host"]


def _gone_left(facts):
    """Everything that was under way on a host that is gone for good: the server, clones of it, standbys that were rebuilt."""
    under_way = ([facts["found"]] if facts["found"] else []) + facts["elsewhere"]
    gone = [one for one in under_way if _place_of(one) == facts["gone"]]
    refusal = None if gone else (
        f"Nothing of {facts['server']} is being recovered on {facts['gone']}, so nothing waits for that host. "
        f"Under way: {' and '.join(f'on {_place_of(one)}' for one in under_way) or 'nothing'}. {UNTOUCHED}"
    )
    return dict(left=gone[0] if gone else {}, unfinished=True, refusal=refusal, gone=gone)


def _clones(facts):
    """The markers of clones that were begun and are not finished; a standby that is rebuilt has a place of its own too."""
    return [one for one in facts["elsewhere"] if (one["target"] or {}).get("type") != "standby"]


def _clone_left(server, host, directory, clones):
    """The clone that is meant. A finished one is a cluster like any other."""
    here = [one for one in clones if one["clone"] == f"{host}:{directory}" or not directory and one["clone"].startswith(f"{host}:")]
    refusal = None
    if not here:
        known = f" Not finished: {' and '.join(one['clone'] for one in clones)}." if clones else ""
        refusal = (
            f"No clone of {server} to {host}{':' + directory if directory else ''} was begun and is not finished, so there is nothing to undo.{known} "
            f"A finished one is removed on its host: pg_lsclusters names it, pg_dropcluster --stop MAJOR NAME removes it. {UNTOUCHED}"
        )
    elif len(here) > 1:
        refusal = f"{len(here)} clones of {server} on {host} are not finished. Type one of: {'; '.join(_undo_clone(server, one) for one in here)}"
    return dict(left=here[0] if here else {}, unfinished=True, refusal=refusal, gone=[])


def _undo_clone(server, marker):
    host, _colon, directory = marker["clone"].partition(":")
    return command("undo", server, "-e", f"destination_host={host}", "-e", f"destination_directory={directory}")


def _recover(facts, found, _last):
    server = facts["server"]
    if found["phase"] == "undo":
        undo = _undo_clone(server, found) if found.get("clone") else command("undo", server)
        return f"The recovery of {server} was being taken back, and that run was cut off. Finish it first: {undo}"
    if facts["pause"] and found["phase"] in ("commit", "serve"):
        return (
            f"That recovery is being made final already, so it cannot pause any more. Finish it with {command('commit', server)} "
            f"or take it back with {command('undo', server)}"
        )
    return None if found.get("clone") else _elsewhere(facts, found)


def _commit(facts, found, last):
    server = facts["server"]
    if found is None:
        known = f" The last one, of {last['began']}, {'has failed' if last['outcome'] == 'failed' else 'is ' + last['outcome'] + ' already'}." if last else ""
        return f"No recovery of {server} waits for a decision, so there is nothing to commit.{known} {UNTOUCHED}"
    if found["phase"] == "undo":
        return f"The recovery of {server} is being taken back, and that run was cut off. Finish it: {command('undo', server)}"
    if found["phase"] not in ("paused", "commit", "serve"):
        return (
            f"The recovery of {server} by {found['holder']} has not reached its target, it was cut off, or is at work, in phase {found['phase']}. "
            f"{found['holder']} repeats the same recover.yml command, or anybody takes it back: {command('undo', server)}"
        )
    return _elsewhere(facts, found)


def _undo(facts, found, last):
    """Not unsaid the last recovery of the server, when a clone was cut off after it."""
    server, refusal, clones = facts["server"], _undo_server(facts, found, last), _clones(facts)
    if found is not None or not clones or not refusal and facts["confirm"] == server:
        return refusal
    return (
        f"A clone of {server}, begun by {clones[0]['holder']} at {clones[0]['since']}, is not finished; it is taken back by {_undo_clone(server, clones[0])}. "
        f"{refusal or 'The recovery of ' + last['began'] + ' is taken back by ' + command('undo', server, '-e', 'confirm=' + server) + '. ' + UNTOUCHED}"
    )


def _undo_server(facts, found, last):
    server = facts["server"]
    if found is not None:
        return _elsewhere(facts, found)
    if last is None:
        return f"No recovery of {server} is under way or on record, so there is nothing to undo. {UNTOUCHED}"
    if last["outcome"] != "committed":
        before = any(one["outcome"] == "committed" for one in facts["records"])
        more = f" To take back the one before it as well, add -e confirm={server}" if before else ""
        ended = (
            "has failed and put everything back itself, so there is nothing to undo" if last["outcome"] == "failed"
            else f"was taken back already, by {last['undone_by']} at {last['undone_at']}"
        )
        return f"The last recovery of {server}, of {last['began']}, {ended}. {UNTOUCHED}{more}"
    if last["found"]["empty"]:
        return f"Before the recovery of {last['began']} there was no data on {last['host']}, so there is nothing to bring back. {UNTOUCHED}"
    return _elsewhere(facts, last)


def _elsewhere(facts, left):
    if left["host"] in (None, facts["host"]):
        return None
    gone = f" If {left['host']} is gone for good: {command('undo', facts['server'], '-e', 'gone=' + left['host'])}." if facts["found"] else ""
    return (
        f"That is a recovery on {left['host']}, and in this inventory {facts['server']} is {facts['host']}. Use an inventory that says so.{gone} {UNTOUCHED}"
    )


REFUSALS = dict(recover=_recover, commit=_commit, undo=_undo)


def command(playbook, server, *words):
    """What to type."""
    return " ".join(["ansible-playbook", f"playbooks/{playbook}.yml", "-e", f"server={server}", *words])


def recovery_move(facts):
    """The plan of going on from a paused recovery to another target with the copy that is there.

    facts: targets, timeline, exclusive (the new target's options), plan (barman_restore's for it), standing (the marker of the
    paused recovery). Returns the plan, with the findings that count here, and the settings that make PostgreSQL stop at the target.
    """
    target = parse_target(dict(facts["targets"], target_timeline=facts["timeline"], target_exclusive=facts["exclusive"]))
    plan, standing = facts["plan"], facts["standing"]
    findings = [one for one in plan["findings"] if one["check"] in OF_THE_ARCHIVE] + [_ahead(target, plan, standing)]
    moved = dict(plan, drop={}, restore_bytes=0, findings=findings, feasible=all(one["ok"] for one in findings))
    return dict(plan=moved, settings=target.settings(plan["target_timeline"]) if plan["backup_id"] else {})


def _ahead(target, plan, standing):
    stopped, server = standing["stopped_at"], plan["server"]
    where = f"the restored copy stands at {stopped['time'] or 'its beginning'} (LSN {stopped['lsn']}) on timeline {standing['plan']['target_timeline']}"
    fix = f"Take it back with {command('undo', server)} and run this again: it restores anew."
    if standing.get("promoted"):
        return finding("restored_copy", False, f"{where}, where it has ended its recovery", "It cannot be replayed any further.", fix)
    if plan["backup_id"] and (plan["backup_id"], plan["target_timeline"]) != (standing["plan"]["backup_id"], standing["plan"]["target_timeline"]):
        return finding("restored_copy", False, f"{where}, of backup {standing['plan']['backup_id']}", "Another backup or branch takes another copy.", fix)
    if not standing.get("all_wal", True):
        return finding(
            "restored_copy", False, f"{where}, and was begun without pause=true", "It has the WAL up to its own target, and none after it.", fix)
    if _behind(target, stopped):
        return finding("restored_copy", False, f"{where}, after the target", "Replay goes forward only.", fix)
    return finding("restored_copy", True, f"{where}; replay goes on from there, nothing is copied again")


def _behind(target, stopped):
    """Whether a target is known to lie before the place where replay has stopped; of a transaction and of a name it is not known."""
    if target.type == "time":
        return bool(stopped["time"]) and target.utc < parse_moment(stopped["time"], None)
    if target.type == "lsn":
        return parse_lsn(target.value) < parse_lsn(stopped["lsn"])
    return target.type == "immediate"
