# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only caller of the barman command line.

Barman's exit code alone proves nothing: it is 0 for an inactive server that was skipped and for an option it did not
understand, and 1 for the complete answer of a failed check. So every call returns an Answer, which holds what Barman
printed as JSON apart from its messages, and the caller says which exit codes are answers.
"""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field

from ._secret import redact

# Twin: plugins/doc_fragments/barman.py
BARMAN_ARGUMENTS = dict(
    barman_executable=dict(type="str", default="barman"),
    barman_config=dict(type="path"),
)

MESSAGE_KEYS = {"_DEBUG": "debug", "_INFO": "info", "_WARNING": "warning", "_ERROR": "error", "_EXCEPTION": "exception"}

# What Barman learned when: the one place for differences between its versions (RELNOTES of each).
SINCE = {
    "incremental": (3, 11, 0),
    "restore": (3, 12, 0),            # before: recover
    "auto_backup_id": (3, 13, 1),
    "wait_on_postgresql_17": (3, 15, 0),
    "refuses_full_destination": (3, 15, 0),
    "check_switches_wal": (3, 15, 0),
    "list_processes": (3, 14, 0),
    "delta_restore": (3, 17, 0),
    "copies_all_wal_for_a_time": (3, 11, 0),
    "staging_path": (3, 15, 0),       # before: recovery_staging_path on the destination host, local_staging_path on Barman's
    "works_on_inactive": (3, 17, 0),
}

WATCH_SECONDS = 5         # how often a watched call is looked at
INTERRUPT_SECONDS = 30    # how long an interrupted process may take to leave things in order

# A line in which rsync names a file that it copied; Barman repeats all of them before rsync's error.
ITEM = re.compile(r"^(?:[<>ch.*][fdLDS][.+?a-zA-Z]{9}|[.]d) .*$", re.MULTILINE)
NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,62}")
BACKUP_ID = re.compile(r"[0-9]{8}T[0-9]{6}")


class BarmanError(Exception):
    """Barman could not do what was asked; details are for fail_json (cmd, rc, stdout, stderr)."""

    def __init__(self, message, **details):
        super().__init__(message)
        self.details = details


@dataclass
class Answer:
    """What one call of barman said."""

    cmd: list
    rc: int
    stderr: str = ""
    data: dict = field(default_factory=dict)
    debug: list = field(default_factory=list)
    info: list = field(default_factory=list)
    warning: list = field(default_factory=list)
    error: list = field(default_factory=list)
    exception: list = field(default_factory=list)

    @property
    def reason(self):
        """Why the call failed, in Barman's own words, at most 600 characters (some messages hold a Python repr)."""
        spoken = self.stderr.strip().rpartition(": error: ")[2]          # argparse prints its whole usage first
        said = [ITEM.sub("", line) for line in self.error + self.exception + ([spoken] if spoken else []) + self.warning]
        return "; ".join(" ".join(line.split()) for line in said)[:600] or f"no reason given, exit code {self.rc}"

    @property
    def skipped(self):
        """The line with which Barman says that it did nothing for a server, though its exit code is 0."""
        return next((line for line in self.info if line.startswith("Skipping ")), None)


def check_name(value, what, hint="Type a name as 'barman list-servers' prints it."):
    """Return value when it is a name that may reach Barman's command line, else raise BarmanError."""
    if NAME.fullmatch(value):
        return value
    raise BarmanError(
        f"{what} {value!r} is not a name: 1 to 63 letters, digits, '_', '.' and '-' are allowed, and '-' not as the first. {hint}"
    )


def parse(cmd, rc, stdout, stderr):
    """Turn the output of 'barman -f json' into an Answer. Empty output is an empty answer: argparse and a broken
    configuration speak on stderr only."""
    answer = Answer(cmd=cmd, rc=rc, stderr=redact(stderr))
    if not stdout.strip():
        return answer
    try:
        data = json.loads(stdout)
        if not isinstance(data, dict):
            raise ValueError("an object was expected")
    except ValueError as error:
        raise BarmanError(f"{' '.join(cmd)}: the answer is not JSON: {error}", cmd=cmd, rc=rc, stdout=redact(stdout), stderr=redact(stderr)) from error
    for key, name in MESSAGE_KEYS.items():
        setattr(answer, name, [redact(str(line)) for line in data.pop(key, [])])
    answer.data = data
    return answer


class Barman:
    """The barman command line of this host, run as the user of this process."""

    def __init__(self, executable="barman", config=None):
        self.base = [executable] + (["--config", config] if config else [])
        self._version = None

    @property
    def version(self):
        """Barman's version as a tuple of three integers."""
        if self._version is None:
            out = self._execute(self.base[:1] + ["--version"], None)[1]
            found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", out)
            if not found:
                raise BarmanError(f"'{self.base[0]} --version' printed no version: {out.strip()[:200]!r}")
            self._version = tuple(int(part or 0) for part in found.groups())
        return self._version

    def can(self, ability):
        """Whether this Barman is new enough for an ability of the table SINCE."""
        return self.version >= SINCE[ability]

    def call(self, *args, accept=(0,), timeout=None, watch=None, unblock=None, environment=None):
        """Run 'barman -f json ARGS' and return its Answer.

        An exit code that is not in accept raises BarmanError, and so does the timeout (seconds): the process group
        is then ended with SIGINT, which lets Barman mark a backup as FAILED; SIGKILL would leave it STARTED for ever.
        watch(pid) is called every few seconds and ends the call in the same way when it returns a reason. A Barman that
        waits for PostgreSQL inside libpq does not heed SIGINT; unblock() is then called and should end that wait.
        environment: variables that are set for Barman beside those of this process.
        """
        cmd = self.base + ["-f", "json"] + [str(arg) for arg in args]
        rc, stdout, stderr = self._execute(cmd, timeout, watch, unblock, environment)
        answer = parse(cmd, rc, stdout, stderr)
        if rc not in accept:
            raise BarmanError(f"barman {args[0]} failed: {answer.reason}", cmd=cmd, rc=rc, stderr=redact(stderr), stdout=redact(stdout))
        return answer

    @staticmethod
    def _execute(cmd, timeout, watch=None, unblock=None, environment=None):
        # Whoever starts Ansible in the background of a script lets every child ignore SIGINT, which is how a backup is ended.
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        try:
            if ignored:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            process = subprocess.Popen(
                cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                errors="replace", env=dict(os.environ, LC_ALL="C.UTF-8", **environment or {}), cwd="/", start_new_session=True,
            )
        except OSError as error:
            raise BarmanError(
                f"{cmd[0]} cannot be run: {error.strerror}. Is Barman installed on this host (role barman_server), "
                f"or does barman_executable name another path?", cmd=cmd,
            ) from error
        finally:
            if ignored:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        stdout, stderr, reason = _communicate(process, timeout, watch)
        if reason:
            stdout, stderr = _interrupt(process, unblock)
            raise BarmanError(
                f"{' '.join(cmd)} {reason} and was interrupted", cmd=cmd, rc=process.returncode,
                stdout=redact(stdout or ""), stderr=redact(stderr or ""), timed_out=True, reason=reason,
            )
        return process.returncode, stdout, stderr


def _communicate(process, timeout, watch):
    """What the process printed and None, or None twice and the reason why it must be interrupted."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        if watch is not None:
            left = WATCH_SECONDS if left is None else min(left, WATCH_SECONDS)
        try:
            return process.communicate(timeout=left) + (None,)
        except subprocess.TimeoutExpired:
            late = deadline is not None and time.monotonic() >= deadline
            reason = f"did not end within {timeout:.0f} seconds" if late else watch and watch(process.pid)
            if reason:
                return None, None, reason


def _interrupt(process, unblock):
    """End the process group as gently as it lets us, and return what it printed."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=WATCH_SECONDS)
    except subprocess.TimeoutExpired:
        if unblock is not None:
            unblock()
    try:
        return process.communicate(timeout=INTERRUPT_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        return process.communicate()
