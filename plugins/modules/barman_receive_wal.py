#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_receive_wal
short_description: WAL of a server is received by streaming, or is not, and resumes on the right branch
version_added: "0.1.0"
description:
  - Ensures that Barman's receiver (C(barman receive-wal)) of a server with C(streaming_archiver) runs, or that it does not.
  - After a recovery PostgreSQL has left the branch on which the receiver was, and refuses to go on with it. With O(timeline) and O(lsn) the
    receiver resumes on the new branch at its very beginning. Unlike C(barman receive-wal --reset) this takes no running PostgreSQL, so it can be
    done before the first client is let in, and nothing is deleted.
  - A server that does not stream is left alone, and so is one that is inactive or passive, for which Barman does nothing.
author:
  - pgrescue contributors (@pgrescue)
extends_documentation_fragment:
  - pgrescue.barman.barman
attributes:
  check_mode:
    support: full
    description: Nothing is started, stopped or moved; the answer is the one that a run would give.
  diff_mode:
    support: none
    description: A process has no readable difference.
  idempotent:
    support: full
    description: A receiver that runs is left alone, so is a place that is right already.
  async:
    support: full
    description: The module waits at most O(timeout) seconds.
  platform:
    support: full
    platforms: posix
    description: Linux, on the Barman host.
options:
  server:
    description:
      - Name of the server in Barman's configuration.
    type: str
    required: true
  state:
    description:
      - V(stopped) ends the receiver. What it has received whole is archived.
      - V(running) starts it by C(barman cron), which makes the slot too where C(create_slot) is V(auto), and waits until it streams.
      - Barman's own cron starts a receiver each minute. As long as PostgreSQL takes no connection, that one ends at once.
      - V(absent) is for a server that is to stream no more, before C(streaming_archiver) is taken out of its configuration. It is refused
        as long as C(barman check) does not find that WAL comes by C(archive_command). The receiver ends, what it has received whole is archived,
        the rest, which comes again by C(archive_command), is moved to C(.pgrescue/SERVER.streaming-TIME) below C(barman_home), and its slot, which
        would have PostgreSQL keep WAL until the disk is full, is dropped (C(barman receive-wal --drop-slot)). With C(create_slot = manual)
        Barman's cron does not make it again.
    type: str
    choices: [running, stopped, absent]
    default: running
  timeline:
    description:
      - With O(state=stopped), the branch on which the receiver resumes when it is started again, after the newest segment that is
        archived of it. Where there is none yet, at the segment that holds O(lsn).
      - What lies in the receiver's directory and would have it resume elsewhere, a C(.partial) segment of another branch, is moved to
        C(.pgrescue/SERVER.streaming-TIME) below C(barman_home).
    type: int
  lsn:
    description:
      - Where the branch O(timeline) begins.
    type: str
  timeout:
    description:
      - Seconds until the task fails when the receiver does not end, or does not stream.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Nothing is received while the server is recovered
  pgrescue.barman.barman_receive_wal:
    server: main
    state: stopped
  become: true
  become_user: barman

- name: Resume on the branch that the recovery has made
  pgrescue.barman.barman_receive_wal:
    server: main
    state: stopped
    timeline: 2
    lsn: 0/1C000148
  become: true
  become_user: barman

- name: Stream no more
  pgrescue.barman.barman_receive_wal:
    server: main
    state: absent
  become: true
  become_user: barman

- name: Receive WAL again
  pgrescue.barman.barman_receive_wal:
    server: main
  become: true
  become_user: barman
"""

RETURN = r"""
streaming:
  description: Whether the server has C(streaming_archiver), is active and not passive. V(false), nothing was done.
  returned: success
  type: bool
  sample: true
slot_name:
  description: The replication slot in Barman's configuration, V(null) without one.
  returned: success
  type: str
  sample: barman
resumes_at:
  description: The segment at which the receiver resumes, V(null) when O(timeline) was not given.
  returned: success
  type: str
  sample: "00000002000000000000001C"
moved:
  description: Where files went that would have it resume elsewhere, and with O(state=absent) all that is left.
  returned: success
  type: list
  elements: str
  sample: [/var/lib/barman/.pgrescue/main.streaming-20260915T123000Z/00000001000000000000001F.partial]
"""

import os
import shutil
import time
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pgrescue.barman.plugins.module_utils._archive import DEFAULT_SEGMENT_BYTES, read_archive
from ansible_collections.pgrescue.barman.plugins.module_utils._backups import read_backups
from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BARMAN_ARGUMENTS, Barman, BarmanError, check_name
from ansible_collections.pgrescue.barman.plugins.module_utils._config import read_configuration
from ansible_collections.pgrescue.barman.plugins.module_utils._receive import holder, in_the_way, resume_at, streams
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import SEGMENT, parse_lsn

PAUSE = 1
# What 'barman check' says of archive_command.
ARCHIVING = ("archive_mode", "archive_command", "continuous_archiving")


def stop(module, barman, server, lock, deadline):
    """Whether a receiver ran; afterwards none does, and what it had received whole is archived."""
    ran = False
    while True:
        pid = holder(lock)
        if pid is None:
            break
        ran = True
        if module.check_mode:
            return ran
        if time.monotonic() > deadline:
            raise BarmanError(f"barman receive-wal of server {server.name}, process {pid}, does not end. End it by hand, then run this again.")
        if pid and streams(pid):
            words = ["terminate-process", server.name, "receive-wal"] if barman.can("list_processes") else ["receive-wal", "--stop", server.name]
            barman.call(*words, accept=(0, 1))
        time.sleep(PAUSE)
    if not module.check_mode:
        barman.call("archive-wal", server.name, accept=(0, 1))
    return ran


def start(barman, server, lock, deadline):
    """Have Barman start the receiver, and see it stream."""
    seen = 0
    while seen < 2:
        pid = holder(lock)
        seen = seen + 1 if pid and streams(pid) else 0
        if not seen:
            if time.monotonic() > deadline:
                failed = barman.call("check", server.name, accept=(0, 1)).data.get(server.name, {})
                wrong = [f"{key} ({check['hint']})" if check["hint"] else key for key, check in failed.items() if check["status"] != "OK"]
                raise BarmanError(
                    f"no WAL of server {server.name} is received by streaming. 'barman check {server.name}' finds failed: {', '.join(wrong) or 'nothing'}. "
                    f"Barman's log tells more; mend it, then run this again."
                )
            barman.call("cron", accept=(0, 1))
        time.sleep(PAUSE)


def place(module, configuration, server):
    """Have the receiver resume on a timeline: the segment, where files in the way went, and whether anything changed."""
    backups = [backup for backup in read_backups(server) if backup["begin_wal"]]
    size = backups[-1]["wal_segment_bytes"] if backups else DEFAULT_SEGMENT_BYTES
    directory, files = received(server)
    known = read_archive(server).names + [name for name in files if SEGMENT.fullmatch(name)]
    segment = resume_at(module.params["timeline"], module.params["lsn"], size, known)
    missing = f"{segment}.partial" not in files
    moved = put_away(module, configuration, server, in_the_way(files, segment))
    if missing and not module.check_mode:
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"{segment}.partial"), "xb"):
            pass
    return segment, moved, bool(moved) or missing


def received(server):
    """The receiver's directory, and the names in it."""
    directory = server.directory("streaming_wals_directory")
    return directory, sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def put_away(module, configuration, server, names):
    """Move files out of the receiver's directory; where they are then."""
    directory = server.directory("streaming_wals_directory")
    away = os.path.join(configuration.home, ".pgrescue", f"{server.name}.streaming-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}")
    if names and not module.check_mode:
        os.makedirs(away, mode=0o700)
        for name in names:
            shutil.move(os.path.join(directory, name), os.path.join(away, name))
    return [os.path.join(away, name) for name in names]


def leave(module, barman, configuration, server, lock, deadline):
    """End streaming, once WAL comes by archive_command too: where the rest went, and whether anything changed."""
    while failed := not_archiving(barman, server):
        if module.check_mode:
            break
        if time.monotonic() > deadline:
            raise BarmanError(
                f"server {server.name} does not archive by archive_command, so streaming is the only way by which its WAL comes: 'barman check' finds failed: "
                f"{', '.join(failed)}. Nothing was changed. Arm archive_command (role pg_primary, pg_primary_archive_method=archive_command), see a "
                f"segment arrive ('barman switch-wal --force --archive {server.name}'), then run this again."
            )
        time.sleep(PAUSE)
    if module.check_mode:
        return [], True
    while True:
        stop(module, barman, server, lock, deadline)
        answer = barman.call("receive-wal", "--drop-slot", server.name, accept=(0, 1)) if server.options.get("slot_name") else None
        if answer is None or not answer.error or any("does not exist" in line for line in answer.error):
            break
        if time.monotonic() > deadline:
            raise BarmanError(f"the slot of {server.name} is not dropped: {answer.reason}. See who uses it (pg_replication_slots), then run this again.")
        time.sleep(PAUSE)
    while alone := sorted(set(filter(SEGMENT.fullmatch, received(server)[1])) - set(read_archive(server).names)):
        if time.monotonic() > deadline:
            raise BarmanError(
                f"{', '.join(alone)} of server {server.name} was received by streaming, and is not archived. The slot is gone, the files are where they "
                f"were. See that 'barman archive-wal {server.name}' archives them, or what Barman's log says of them, then run this again."
            )
        barman.call("archive-wal", server.name, accept=(0, 1))
        time.sleep(PAUSE)
    return put_away(module, configuration, server, received(server)[1]), True


def not_archiving(barman, server):
    """The checks of Barman that say that WAL does not come by archive_command."""
    checks = barman.call("check", server.name, accept=(0, 1)).data.get(server.name, {})
    return [name for name in ARCHIVING if checks.get(name, {}).get("status") != "OK"]


def run(module):
    params = module.params
    configuration = read_configuration(params["barman_config"])
    server = configuration.server(check_name(params["server"], "server"))
    streaming = server.flag("streaming_archiver") and server.active and not server.passive
    result = dict(changed=False, streaming=streaming, slot_name=server.options.get("slot_name"), resumes_at=None, moved=[])
    if not streaming:
        return result
    barman = Barman(params["barman_executable"], params["barman_config"])
    lock, deadline = configuration.lock_file(f"{server.name}-receive-wal"), time.monotonic() + params["timeout"]
    if params["state"] == "stopped":
        result["changed"] = stop(module, barman, server, lock, deadline)
        if params["timeline"] is not None:
            result["resumes_at"], result["moved"], changed = place(module, configuration, server)
            result["changed"] = result["changed"] or changed
        return result
    if params["state"] == "absent":
        result["moved"], result["changed"] = leave(module, barman, configuration, server, lock, deadline)
        return result
    pid = holder(lock)
    result["changed"] = not (pid and streams(pid))
    if result["changed"] and not module.check_mode:
        start(barman, server, lock, deadline)
    return result


def main():
    module = AnsibleModule(
        argument_spec=dict(
            BARMAN_ARGUMENTS,
            server=dict(type="str", required=True),
            state=dict(type="str", choices=["running", "stopped", "absent"], default="running"),
            timeline=dict(type="int"),
            lsn=dict(type="str"),
            timeout=dict(type="int", default=120),
        ),
        required_together=[("timeline", "lsn")],
        supports_check_mode=True,
    )
    try:
        if module.params["timeline"] is not None:
            if module.params["state"] != "stopped":
                raise BarmanError("timeline says where a stopped receiver resumes: it goes with state=stopped.")
            parse_lsn(module.params["lsn"])
        module.exit_json(**run(module))
    except BarmanError as error:
        module.fail_json(msg=str(error), **error.details)
    except ValueError as error:
        module.fail_json(msg=f"{error}.")


if __name__ == "__main__":
    main()
