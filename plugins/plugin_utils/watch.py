# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that takes long: it runs on when the connection is lost, says how far it is, and is not waited for when it is no more.

ansible-core's own async with poll shows nothing of the work, and waits for the whole time that async allows when the host does not answer
any more, or has restarted and the work is gone. A task with async, or in check mode, is left to ansible-core.
"""
from __future__ import annotations

import secrets
import time
from contextlib import suppress

from ansible.constants import DEFAULT_KEEP_REMOTE_FILES
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash

from ansible_collections.pgrescue.barman.plugins.module_utils._progress import VARIABLE

# Seconds: what the work may take, how long its host may be silent, how often it is looked at, and after how long at the latest a line is shown.
LIMIT = 30 * 86400
SILENCE = 120
LOOK = 5
SHOW = 60
# What ansible-core says of the job, and nobody asked for.
JOB = ("ansible_job_id", "results_file", "started", "finished")


class Watched(ActionBase):
    """The action of a module that tells its progress (module_utils/_progress.py)."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        asked = self._task.async_val
        if asked or self._task.check_mode:
            result = merge_hash(result, self._execute_module(task_vars=task_vars, wrap_async=asked and not self._connection.has_native_async))
        else:
            result = merge_hash(result, self._watched(task_vars))
        if not asked:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _watched(self, task_vars):
        folder = self._remote_expand_user(self.get_shell_option("async_dir", default="~/.ansible_async"))
        told = self._connection._shell.join_path(folder, f"progress-{secrets.token_hex(8)}")
        sent = self._make_tmp_path()
        self._task.async_val = LIMIT
        self._task.environment = [*(self._task.environment or []), {VARIABLE: told}]
        try:
            job = self._execute_module(task_vars=task_vars, wrap_async=True)
        finally:
            self._task.async_val = 0
            self._task.environment = self._task.environment[:-1]
        if job.get("failed") or "ansible_job_id" not in job:
            return job
        host = self._task.delegate_to or task_vars["inventory_hostname"]
        self._wait(job, told, host)
        # async_wrapper would remove it, which another user than the connection's may not.
        self._remove_tmp_path(sent, force=not DEFAULT_KEEP_REMOTE_FILES)
        return self._ended(job["ansible_job_id"], folder, host, task_vars)

    def _wait(self, job, told, host):
        """Return when the work is over, or AnsibleConnectionFailure when its host does not answer."""
        # async_wrapper's command line names the job; that of the look itself must not.
        folder, name = job["results_file"].rsplit("/", 1)
        quote, name = self._connection._shell.quote, f"[{name[0]}]{name[1:]}"
        result, wrapper = f"{quote(folder)}/{name}", f"'{name.split('.', maxsplit=1)[0]}' /proc/[0-9]*/cmdline"
        # Until the module has ended, the file of its result begins with that. The wrapper sleeps on, up to five seconds, so it is ended.
        look = (f"cat {quote(told)} 2>/dev/null; echo; if [ -e {result} ] && ! grep -qs '^{{\"started\":' {result}; "
                f"then grep -ls {wrapper} | cut -d/ -f3 | xargs -r kill 2>/dev/null; echo over; else grep -qs {wrapper} && echo alive || echo over; fi")
        begun = heard = shown = time.monotonic()
        pause = 0.5
        while True:
            time.sleep(pause)
            words = self._answer(look)
            now = time.monotonic()
            if words[-1] == "over":
                return
            if words[-1] == "alive":
                heard = now
            elif now - heard > SILENCE:
                raise AnsibleConnectionFailure(
                    f"{host} has not answered for {SILENCE} seconds. What was begun there may go on by itself; the same command takes it up or does it again."
                )
            if words[-1] == "alive" and now - shown >= min(SHOW, LOOK + (now - begun) / 20):
                self._display.display(f"[{host}] {' '.join(words[:-1]) or 'at work'}, after {round(now - begun)} s")
                shown = now
            # A twentieth of the time that it has taken: so much at the most is added to it by noticing its end late.
            pause = min(LOOK, max(pause, (now - begun) / 20))

    def _answer(self, look):
        """The words of a look, the last one alive, over or, from a host that does not answer, nothing."""
        try:
            return self._low_level_execute_command(look)["stdout"].split() or [""]
        except AnsibleConnectionFailure:
            with suppress(AnsibleError, AttributeError):
                self._connection.reset()
            return [""]

    def _ended(self, job, folder, host, task_vars):
        """The module's result, once its process is over."""
        arguments = dict(jid=job, _async_dir=folder)
        result = self._execute_module("ansible.legacy.async_status", module_args=dict(arguments, mode="status"), task_vars=task_vars)
        if not result.get("finished"):
            return dict(failed=True, msg=f"It has ended without a result: somebody killed it, or {host} has restarted. The same command does it again.")
        self._execute_module("ansible.legacy.async_status", module_args=dict(arguments, mode="cleanup"), task_vars=task_vars)
        return {name: value for name, value in result.items() if name not in JOB}
