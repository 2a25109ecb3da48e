# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
name: cut
type: notification
short_description: Cuts a run off when a certain task begins
description:
  - Counts the tasks of every phase of the recovery as they begin. At the one that E(SOAK_CUT_AT) names, or at the first one of a later
    phase, the whole process group is killed with SIGKILL, or the command in E(SOAK_CUT_DO) is run and the run goes on.
  - E(SOAK_CUT_AT) is V(PHASE+NUMBER), for example V(restore+2). Tasks before the first phase that is entered are those of V(plan).
  - E(SOAK_CUT_LATER) is the number of seconds by which that comes after the beginning of the task.
  - Writes every task, with its place and whether it may have changed a host, to the file that E(SOAK_CUT_LIST) names. A module that says
    that it has changed nothing is believed, a command is not.
requirements:
  - The run has a process group of its own.
"""

import json
import os
import signal
import subprocess
import threading

from ansible.plugins.callback import CallbackBase

# Actions that do what they are told, and say what they are told to say of it.
COMMANDS = ("command", "shell", "raw", "script")
# In their order.
PHASES = ("plan", "fence", "aside", "restore", "replay", "paused", "commit", "serve", "undo")


class CallbackModule(CallbackBase):
    """One counter, one cut."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "cut"

    def __init__(self):
        super().__init__()
        self.phase, self.count = "plan", 0
        phase, _plus, number = (os.environ.get("SOAK_CUT_AT") or "").partition("+")
        self.cut_at = (PHASES.index(phase), int(number)) if phase else None
        self.later = float(os.environ.get("SOAK_CUT_LATER") or 0)
        self.command = os.environ.get("SOAK_CUT_DO")
        self.list = os.environ.get("SOAK_CUT_LIST")

    def v2_playbook_on_task_start(self, task, is_conditional):
        entered = task.get_name().rpartition("Enter the phase ")[2]
        if entered in PHASES and entered != self.phase:
            self.phase, self.count = entered, 0
        self.count += 1
        self._note(dict(place=f"{self.phase}+{self.count}", name=task.get_name()))
        if self.cut_at and (PHASES.index(self.phase), self.count) >= self.cut_at:
            self.cut_at = None
            if self.later:
                timer = threading.Timer(self.later, self._cut)
                timer.daemon = True
                timer.start()
            else:
                self._cut()

    def _cut(self):
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
        task, returned = (result.task, result.result) if hasattr(result, "task") else (result._task, result._result)
        if returned.get("changed") or task.action.rpartition(".")[2] in COMMANDS:
            self._note(dict(place=f"{self.phase}+{self.count}", touched=True))

    def _note(self, what):
        if self.list:
            with open(self.list, "a", encoding="utf-8") as file:
                file.write(json.dumps(what) + "\n")
