# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: cut
type: notification
short_description: Cuts a run off when a certain task begins
description:
  - Counts the tasks as they begin. At the one that E(SOAK_CUT_AT) numbers, the whole process group is killed with SIGKILL, or
    the command in E(SOAK_CUT_DO) is run and the run goes on.
  - Writes every task, with its number and whether it did anything on a host, to the file that E(SOAK_CUT_LIST) names.
requirements:
  - The run has a process group of its own.
"""

import json
import os
import signal
import subprocess

from ansible.plugins.callback import CallbackBase

# Actions that stay on the controller.
HERE = ("set_fact", "debug", "assert", "fail", "include_tasks", "import_tasks", "include_role", "import_role", "meta", "set_stats", "add_host", "group_by")


class CallbackModule(CallbackBase):
    """One counter, one cut."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "cut"

    def __init__(self):
        super().__init__()
        self.count = 0
        self.cut_at = int(os.environ.get("SOAK_CUT_AT") or 0)
        self.command = os.environ.get("SOAK_CUT_DO")
        self.list = os.environ.get("SOAK_CUT_LIST")

    def v2_playbook_on_task_start(self, task, is_conditional):
        self.count += 1
        self._note(dict(number=self.count, name=task.get_name(), action=task.action))
        if self.count == self.cut_at:
            if not self.command:
                os.killpg(0, signal.SIGKILL)
            subprocess.run(self.command, shell=True, check=False, start_new_session=True, stdin=subprocess.DEVNULL)

    def v2_playbook_on_handler_task_start(self, task):
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result):
        self._ran(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._ran(result)

    def _ran(self, result):
        task = result.task if hasattr(result, "task") else result._task
        answer = result.result if hasattr(result, "result") else result._result
        if task.action.rpartition(".")[2] not in HERE:
            self._note(dict(number=self.count, touched=True, changed=bool(answer.get("changed"))))

    def _note(self, what):
        if self.list:
            with open(self.list, "a", encoding="utf-8") as file:
                file.write(json.dumps(what) + "\n")
