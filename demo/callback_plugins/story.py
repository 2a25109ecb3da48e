# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo's audience sees of a playbook: steps that changed something or took their time, messages, failures."""
from __future__ import annotations

import time

from ansible import constants as C
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: story
type: stdout
short_description: One line for each step that matters
description:
  - Prints a line for every task that changed something or took a second or more, the messages of debug tasks, and failures.
"""
SLOW = 1.0


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "story"

    def __init__(self):
        super().__init__()
        self._running = {}

    def v2_runner_on_start(self, host, task):
        self._running[host.get_name()] = task.get_name().split(" : ")[-1], time.monotonic()

    def v2_runner_on_ok(self, result):
        if result._task.action in C._ACTION_DEBUG:
            self._message(result._result.get("msg"))
        elif result._result.get("changed"):
            self._step(result, "changed", C.COLOR_CHANGED)
        elif self._seconds(result) >= SLOW:
            self._step(result, "ok", C.COLOR_OK)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if ignore_errors:
            return
        self._step(result, "failed", C.COLOR_ERROR)
        self._message(result._result.get("msg"), C.COLOR_ERROR)

    def v2_runner_on_unreachable(self, result):
        self._step(result, "unreachable", C.COLOR_UNREACHABLE)
        self._message(result._result.get("msg"), C.COLOR_UNREACHABLE)

    def v2_runner_on_async_poll(self, result):
        self._step(result, "running", C.COLOR_VERBOSE)

    def v2_playbook_on_stats(self, stats):
        for host in sorted(stats.processed):
            counts = stats.summarize(host)
            self._display.display(f"    {host}: ok={counts['ok']} changed={counts['changed']} failed={counts['failures']} "
                                  f"unreachable={counts['unreachable']}", C.COLOR_VERBOSE)

    def _seconds(self, result):
        return time.monotonic() - self._running[result._host.get_name()][1]

    def _step(self, result, word, color):
        host = result._host.get_name()
        self._display.display(f"    {self._seconds(result):6.1f} s  {word:<8} {self._running[host][0]} [{host}]", color)

    def _message(self, message, color=None):
        lines = message if isinstance(message, list) else str(message).splitlines()
        for line in lines:
            self._display.display(f"    | {line}", color)
