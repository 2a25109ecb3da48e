#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_fence
short_description: Hold a Barman server for one recovery
version_added: "0.1.0"
description:
  - Makes sure that a marker names the one recovery which is working on a Barman server, who started it and when.
  - A second recovery of that server is refused with that name; M(pgrescue.barman.barman_backup) refuses too, and the
    schedule of role P(pgrescue.barman.barman_server#role) skips its backup.
  - The marker is the file C(.pgrescue/SERVER.recovery.json) below C(barman_home). It outlives the run that wrote it. The
    same command run again, that is the same O(holder) with the same C(target) in O(details), adopts it.
author:
  - pgrescue contributors (@pgrescue)
extends_documentation_fragment:
  - pgrescue.barman.barman
attributes:
  check_mode:
    support: full
    description: Nothing is written; the answer is the one that a run would give.
  diff_mode:
    support: full
    description: Shows the marker before and after.
  idempotent:
    support: full
    description: A marker of the same run is left as it is.
  async:
    support: full
    description: Useless here, the module ends at once.
  platform:
    support: full
    platforms: posix
    description: Any POSIX host on which Barman runs.
options:
  server:
    description:
      - Name of the server in Barman's configuration.
    type: str
    required: true
  state:
    description:
      - V(present) makes sure that this run holds the server. It fails, naming holder and time, when another run does.
      - V(absent) makes sure that no recovery holds the server.
    type: str
    choices: [present, absent]
    default: present
  holder:
    description:
      - Who recovers, in words that a colleague understands at night, for example C(maria@controller).
      - Required with O(state=present). With O(state=absent) a marker of somebody else makes the module fail; not given, the
        marker is removed whoever wrote it.
    type: str
  run_id:
    description:
      - Any text that tells this run from others.
      - When the marker has this very O(run_id), O(details) are merged into it. When the marker has another one but the same
        O(holder) and C(target), or the same O(holder) and the phase C(paused), RV(adopted) is true and the marker is left as it is; the
        caller sees that the other run has ended and takes it over with O(takes_over).
      - Required with O(state=present). With O(state=absent) a marker of another run makes the module fail.
    type: str
  clone:
    description:
      - The place, C(HOST:DIRECTORY), to which a clone of the server is recovered. The marker then holds this place only, backups of the server go on,
        and another recovery of the server is not refused.
    type: str
  takes_over:
    description:
      - The RV(fence.run_id) of a run that has ended, or has left its recovery paused, and that this run takes over, whoever began it.
      - The marker gets the O(run_id) of this run and its O(details), and keeps holder and time. From then on the other run, should it live
        after all, is refused at its next step.
    type: str
  record:
    description:
      - What the incident record of the recovery tells. It is merged into what was written before for the same C(stamp), a required key, and lies
        in C(.pgrescue/SERVER.STAMP.json), and as C(.md) for people, readable by the Barman user only.
      - With O(state=absent) it is written before the marker goes.
    type: dict
    default: {}
  pin:
    description:
      - Whether the backup that C(backup_id) in O(details) names, or the full one that an incremental builds on, is kept until the marker goes, so that
        no retention policy deletes it meanwhile. RV(fence.keep_found) is how it was kept before, or how another recovery that needs it has found it.
      - With O(state=absent) that is put back, whatever this option says, unless another recovery has pinned the same backup.
      - Fails when Barman cannot keep the backup, which is one that is not C(DONE).
    type: bool
    default: false
  details:
    description:
      - What else the marker tells and what the same command needs when it takes up a run that was cut off.
      - Usual keys are C(target), C(host), C(phase), C(backup_id), C(stamp) and C(aside). Other keys are kept as well.
      - The keys C(server), C(holder), C(run_id), C(since), C(clone), C(pinned) and C(keep_found) are the module's own and are refused.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Hold the server for this recovery
  pgrescue.barman.barman_fence:
    server: main
    holder: maria@controller
    run_id: 20260915T123000Z-4711
    details:
      target: {type: time, value: "2026-09-15T14:30:00+02:00"}
      host: bd-principal
      phase: fence
  become: true
  become_user: barman
  register: result

- name: Say how far the recovery is
  pgrescue.barman.barman_fence:
    server: main
    holder: maria@controller
    run_id: "{{ result.fence.run_id }}"
    details:
      target: {type: time, value: "2026-09-15T14:30:00+02:00"}
      phase: restore
  become: true
  become_user: barman

- name: Finish what a colleague has left paused
  pgrescue.barman.barman_fence:
    server: main
    holder: joe@controller
    run_id: 20260915T130000Z-815
    takes_over: 20260915T123000Z-4711
    details:
      phase: commit
  become: true
  become_user: barman

- name: Let the server go, and leave a record
  pgrescue.barman.barman_fence:
    server: main
    state: absent
    run_id: 20260915T130000Z-815
    record:
      stamp: 20260915T123000Z
      outcome: committed
      reason: ticket 4711
  become: true
  become_user: barman
"""

RETURN = r"""
fence:
  description:
    - The marker after the module, V(null) when there is none.
    - Has the keys listed and those that O(details) brought. A key that nobody has set is V(null).
  returned: success, or when another run holds the server
  type: dict
  contains:
    server:
      description: Name of the Barman server.
      type: str
      returned: success
    holder:
      description: Who recovers.
      type: str
      returned: success
    run_id:
      description: What tells the run from others.
      type: str
      returned: success
    since:
      description: When the marker was made, ISO 8601 with offset, by the clock of the Barman host.
      type: str
      returned: success
    host:
      description: Inventory name of the PostgreSQL host that is recovered.
      type: str
      returned: success
    target:
      description: What is recovered to, as the recovery wrote it.
      type: raw
      returned: success
    phase:
      description: The phase that the recovery has reached.
      type: str
      returned: success
    backup_id:
      description: The backup that is restored.
      type: str
      returned: success
    pinned:
      description: The backup that is kept as long as this marker is there; V(null) when none is.
      type: str
      returned: success
    keep_found:
      description: How that backup was kept before the recovery, V(full), V(standalone) or V(none); what other recoveries have pinned it for does not count.
      type: str
      returned: success
    stamp:
      description: The time stamp in the names of what was set aside.
      type: str
      returned: success
    aside:
      description: Paths that were set aside.
      type: list
      elements: raw
      returned: success
  sample:
    server: main
    holder: maria@controller
    run_id: 20260915T123000Z-4711
    since: "2026-09-15T12:30:01+00:00"
    host: bd-principal
    target: {type: time, value: "2026-09-15T14:30:00+02:00"}
    phase: fence
    backup_id: null
    pinned: null
    keep_found: null
    stamp: null
    aside: []
adopted:
  description: Whether the marker was there already and was left by an earlier run of the same command.
  returned: success
  type: bool
  sample: false
found:
  description: The marker before the module, V(null) when there was none.
  returned: success
  type: dict
  sample: null
elsewhere:
  description: The markers of all other recoveries of this server that are not over and have a C(clone), before the module.
  returned: success
  type: list
  elements: dict
  sample: []
records:
  description: The incident records of this server, the newest first.
  returned: success
  type: list
  elements: dict
  sample: []
"""

from contextlib import nullcontext

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, Barman, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._fence import (
    FenceError,
    alone,
    create_marker,
    held,
    new_marker,
    other_markers,
    read_marker,
    remove_marker,
    same_run,
    write_marker,
)
from ansible_collections.pgrescue.barman.plugins.module_utils._incident import merge, read_records, record_path, write_record
from ansible_collections.pgrescue.barman.plugins.module_utils._keep import check_can_be_kept, full_backup, keep_backup, put_back

OWN_KEYS = {"server", "holder", "run_id", "since", "clone", "pinned", "keep_found"}


def wanted_marker(params, before):
    """The marker that should be there after the run, and whether it is adopted; FenceError when it is another's."""
    details = params["details"]
    refused = sorted(OWN_KEYS.intersection(details))
    if refused:
        raise FenceError(f"details must not name {', '.join(refused)}: these are the module's own. Use its options.")
    expected = params["takes_over"]
    if before is None and expected is None:
        own = dict(clone=params["clone"]) if params.get("clone") else {}
        return new_marker(params["server"], params["holder"], params["run_id"], dict(details, **own)), False
    if before is None:
        raise FenceError(f"no recovery of server {params['server']} is under way any more: somebody else has ended it meanwhile.")
    if before["run_id"] in (params["run_id"], expected):
        return dict(before, **details, run_id=params["run_id"]), before["run_id"] != params["run_id"]
    if expected is None and same_run(before, params["holder"], details.get("target")):
        return before, True
    raise FenceError(held(before), fence=before)


def check_removal(params, before):
    """Raise FenceError when the marker that is to go belongs to another run than the caller says."""
    for key in ("run_id", "holder"):
        if before is not None and params[key] is not None and params[key] != before[key]:
            raise FenceError(f"{held(before)} This was asked to remove the marker of {key} {params[key]!r} only.", fence=before)


def backup_to_pin(server, backup_id):
    """The backup that has to be kept for this one to stay; BarmanError when Barman cannot keep it."""
    if backup_id is None:
        raise FenceError("pin needs the backup_id in details: name the backup that shall stay.")
    backup = full_backup(server, backup_id)
    if backup["keep"] != "full":
        check_can_be_kept(backup)
    return backup


def with_pin(marker, backup, others):
    """The marker with this full backup pinned: how it was kept is what the first of the recoveries that need it has found."""
    if marker["pinned"] == backup["backup_id"]:
        return marker
    found = [other["keep_found"] for other in others if other["pinned"] == backup["backup_id"]]
    return dict(marker, pinned=backup["backup_id"], keep_found=(found or [backup["keep"]])[0])


def write(home, server, clone, before, after):
    """Make the marker what it should be."""
    if after is None:
        remove_marker(home, server, clone)
    elif before is None:
        create_marker(home, after)
    elif after != before:
        write_marker(home, after)


def run(module):
    params = module.params
    configuration = read_configuration(params["barman_config"])
    server = configuration.server(check_name(params["server"], "server"))
    home, name, clone = configuration.home, server.name, params["clone"]
    if params["record"]:
        record_path(home, name, params["record"].get("stamp"))
    with alone(home) if not module.check_mode else nullcontext():
        before, others, records = read_marker(home, name, clone), other_markers(home, name, clone), read_records(home, name)
        adopted, after, backup = False, None, None
        if params["state"] == "present":
            after, adopted = wanted_marker(params, before)
            if params["pin"] and after["run_id"] == params["run_id"]:
                backup = backup_to_pin(server, after["backup_id"])
                after = with_pin(after, backup, others)
        else:
            check_removal(params, before)
        record = merge(records, name, params["record"]) if params["record"] else None
        changed = after != before or (record is not None and record not in records) or (backup is not None and backup["keep"] != "full")
        if changed and not module.check_mode:
            barman = Barman(params["barman_executable"], params["barman_config"])
            if before and before["pinned"] != (after or {}).get("pinned"):
                put_back(barman, server, before, others)
            if record:
                write_record(home, record)
                records = read_records(home, name)
            write(home, name, clone, before, after)
            if backup:
                keep_backup(barman, server, backup["backup_id"], "full")
    return dict(
        changed=changed, adopted=adopted, fence=after, found=before, elsewhere=[other for other in others if other.get("clone")], records=records,
        diff=dict(before=before or {}, after=after or {}),
    )


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            server=dict(type="str", required=True),
            state=dict(type="str", choices=["present", "absent"], default="present"),
            holder=dict(type="str"),
            run_id=dict(type="str"),
            clone=dict(type="str"),
            takes_over=dict(type="str"),
            record=dict(type="dict", default={}),
            pin=dict(type="bool", default=False),
            details=dict(type="dict", default={}),
        ),
        required_if=[("state", "present", ("holder", "run_id"))],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)


if __name__ == "__main__":
    main()
