# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory into which Barman will restore, looked at and written to the way Barman will reach it.

Barman up to 3.14 empties a destination that is not empty, and no Barman looks for a running PostgreSQL. So it is looked
at first, in one connection for all questions, and through the very ssh command that Barman is given.
"""
from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError
from ansible_collections.pgrescue.barman.plugins.module_utils._filesystem import IDENTITY
from ansible_collections.pgrescue.barman.plugins.module_utils._ssh import explain

MARKER_SUFFIX = ".pgrescue-restore.json"
WORD = re.compile(r"[A-Za-z0-9_./:@=%+,~-]+")

# POSIX sh. Arguments: the major version, then the paths. Answers are lines "index|key|value".
LOOK = IDENTITY + r"""
major=$1; shift
say() { printf '%s|%s|%s\n' "$n" "$1" "$2"; }
n=host
say user "$(id -un)"; say machine "$(uname -m)"; say time "$(date +%s.%N)"; say name "$(uname -n)"
for bin in /usr/lib/postgresql/$major/bin /usr/pgsql-$major/bin /usr/libexec/postgresql$major; do
  [ -x "$bin/postgres" ] && say binaries "$bin"
done
command -v rsync >/dev/null && say rsync yes
for program in tar gzip lz4 zstd gpg; do command -v "$program" >/dev/null && say "has_$program" yes; done
n=0
for path in "$@"; do
  real=$(readlink -f "$path" 2>/dev/null || printf %s "$path"); say real "$real"
  parent=$(dirname "$real"); [ -d "$parent" ] && say parent yes
  [ -w "$parent" ] && [ -x "$parent" ] && say parent_writable yes
  near=$real; while [ ! -e "$near" ]; do near=$(dirname "$near"); done
  say free "$(df -Pk "$near" 2>/dev/null | awk 'NR > 1 {printf "%.0f", $4 * 1024; exit}')"
  say filesystem "$(df -P "$near" 2>/dev/null | awk 'NR > 1 {print $6; exit}')"
  if [ -d "$real" ]; then
    say exists yes; say inode "$(identity "$real")"; say owner "$(stat -c %U "$real")"
    [ -w "$real" ] && say writable yes
    say entries "$(ls -A "$real" 2>/dev/null | head -n 5 | tr '\n' ' ')"
    say version "$(cat "$real/PG_VERSION" 2>/dev/null)"
    say identifier "$(od -An -tu8 -N8 "$real/global/pg_control" 2>/dev/null | tr -d ' ')"
    for file in postmaster.pid postmaster.opts backup_label recovery.signal barman_wal; do
      [ -e "$real/$file" ] && say "has_$file" yes
    done
    if [ -f "$real/postmaster.pid" ]; then
      pid=$(head -n 1 "$real/postmaster.pid"); say pid "$pid"; [ -d "/proc/$pid" ] && say living yes
    fi
  elif [ -e "$real" ] || [ -L "$real" ]; then say other yes
  fi
  [ -f "$real.pgrescue-restore.json" ] && say marker "$(tr '\n' ' ' <"$real.pgrescue-restore.json")"
  n=$((n + 1))
done
"""

MAKE = IDENTITY + r"""
umask 077
for path in "$@"; do [ -d "$path" ] || mkdir "$path" || exit 1; identity "$path"; done
"""

# Only what a marker proves to be ours comes here: the directory's identity is compared once more, then the content goes.
EMPTY = IDENTITY + r"""
while [ $# -ge 2 ]; do
  [ "$(identity "$1")" = "$2" ] || exit 3
  [ -e "$1/postmaster.pid" ] && exit 4
  find "$1" -mindepth 1 -delete || exit 1
  shift 2
done
"""

# Whatever is asked, only directories of this name go.
REMOVE = r"""
for path in "$@"; do case "${path##*/}" in .pgrescue-staging-*) rm -rf "$path" || exit 1 ;; *) exit 3 ;; esac; done
"""

# From this file Barman takes a time before which it trusts size and time of a file; without it, it compares by checksum.
FORGET = r"""
rm -f "$1/.barman-recover.info"
"""

WRITE = r"""
umask 077
cat >"$1.tmp" && mv -f "$1.tmp" "$1"
"""

FINISH = r"""
cd "$1" || exit 1
cat >>postgresql.auto.conf || exit 1
: >>recovery.signal || exit 1
chmod 0600 postgresql.auto.conf recovery.signal
"""

# What is not whole is of no use to an archive: .done keeps PostgreSQL from archiving it.
PUT_WAL = r"""
umask 077
cd "$1/pg_wal" && mkdir -p archive_status && cat >"$2.tmp" && mv -f "$2.tmp" "$2" && : >"archive_status/$2.done"
"""

MEASURE = r"""
wal=0; for directory in "$1/barman_wal" "$1/pg_wal"; do
  [ -d "$directory" ] && wal=$((wal + $(find "$directory/" -maxdepth 1 -type f -name '????????????????????????' | wc -l)))
done
echo "$wal"
du -skc "$@" | awk 'END {printf "%.0f\n", $1 * 1024}'
"""


def check_ssh(command):
    """The ssh command for Barman and for us, which checks the host's key and never asks; null for a local restore.

    Barman's own checks append StrictHostKeyChecking=no. ssh takes the first value it reads, so ours is in the command.
    """
    if not command or not command.strip():
        return None
    try:
        words = shlex.split(command) if command.isprintable() else [""]
    except ValueError as error:
        raise BarmanError(f"remote_ssh_command {command!r} cannot be read: {error}. Type it as 'ssh postgres@host'.") from error
    if not all(WORD.fullmatch(word) for word in words) or os.path.basename(words[0]) != "ssh" or len(words) < 2:
        raise BarmanError(
            f"remote_ssh_command {command!r} must be ssh, its options and the host, in words without spaces, quotes or shell characters "
            f"inside, because Barman hands it to a shell. Type it as 'ssh postgres@host'; longer options belong in Barman's ~/.ssh/config."
        )
    checking = re.findall(r"StrictHostKeyChecking[=\s]+(\S+)", " ".join(words), re.IGNORECASE)
    if checking and checking[0].lower() != "yes":
        raise BarmanError(
            f"remote_ssh_command says StrictHostKeyChecking={checking[0]}, which would restore to any host that answers. "
            f"Put the host's key into the Barman user's known_hosts and leave the option out."
        )
    if not checking:
        words += ["-o", "StrictHostKeyChecking=yes"]
    if "batchmode" not in " ".join(words).lower():
        words += ["-o", "BatchMode=yes"]
    return " ".join(words)


def parse_look(text, paths):
    """What LOOK printed, as a dict of the host and one dict per path."""
    host, places = {}, [dict(path=path) for path in paths]
    for line in text.splitlines():
        index, key, value = (line.split("|", 2) + ["", ""])[:3]
        (host if index == "host" else places[int(index)])[key] = value
    for place in places:
        place["entries"] = place.get("entries", "").split()
        place["free"] = int(place.get("free") or 0)
        try:
            place["marker"] = json.loads(place["marker"]) if place.get("marker") else None
        except ValueError:
            place["marker"] = None
    return dict(host=host, places=places)


def clock_distance(theirs, begin, end):
    """By how many seconds at least another host's clock is ahead (negative: behind), when it was read between begin and end."""
    theirs = float(theirs) if re.fullmatch(r"[0-9]+[.][0-9]+", theirs or "") else begin
    return round(max(0.0, theirs - end) + min(0.0, theirs - begin), 1)


def running_restores(destination, server, ssh=None, proc="/proc"):
    """The processes of this host in which a barman restores a server into a destination: a connection can drop, Barman goes on.

    Other servers have the same path on other hosts; so may this one, hence ssh, the very command that leads to the host.
    """
    found = []
    for pid in (name for name in os.listdir(proc) if name.isdigit()):
        try:
            with open(f"{proc}/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        ours = {destination, server, ssh or server} <= set(words) and {"recover", "restore"} & set(words)
        if ours and any(os.path.basename(word) == "barman" for word in words[:3]):
            found.append(int(pid))
    return sorted(found)


def end_restores(processes, grace=30):
    """End restores with all their children, and wait until they are gone; those that have not ended after the grace (seconds) are told louder.

    Barman removes its temporary directories when it is interrupted, but not when it is terminated.
    """
    groups = {os.getpgid(pid) for pid in processes if os.path.exists(f"/proc/{pid}")}
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        for group in groups & living_groups():
            with suppress(ProcessLookupError):
                os.killpg(group, sign)
        deadline = time.monotonic() + grace
        while groups & living_groups() and time.monotonic() < deadline:
            time.sleep(0.2)
    if groups & living_groups():
        raise BarmanError(f"barman recover does not end: process groups {', '.join(map(str, sorted(groups)))}. End them by hand.")


def living_groups():
    """The process groups of this host in which any process still runs; one that has ended, and that nobody has asked for, does not."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                state, _parent, group = file.read().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if state != "Z":
            found.add(int(group))
    return found


class Destination:
    """A host on which directories are prepared for Barman: this one, or the one behind remote_ssh_command."""

    def __init__(self, ssh=None):
        self.ssh = ssh

    def look(self, major, paths):
        """Everything there is to know of the paths before a restore, the data directory being the first."""
        begin = time.time()
        text = self._run(LOOK, [str(major), *paths])
        look = parse_look(text, paths)
        look["host"]["apart"] = clock_distance(look["host"].get("time"), begin, time.time())
        return look

    def make(self, paths):
        """Make the directories that are missing; return the identity of each."""
        return self._run(MAKE, paths).split()

    def empty(self, inodes):
        """Remove the content of directories that are ours, a dict from path to identity."""
        self._run(EMPTY, [word for pair in inodes.items() for word in pair])

    def remove(self, paths):
        """Remove directories in which backups were unpacked (see _staging.py), with what is in them; those that are gone do not matter."""
        self._run(REMOVE, paths)

    def forget(self, directory):
        """Let Barman compare every file by its checksum that has the right size and time."""
        self._run(FORGET, [directory])

    def write_marker(self, directory, marker):
        """Put the marker beside a directory, whole or not at all."""
        self._run(WRITE, [directory + MARKER_SUFFIX], json.dumps(marker, sort_keys=True) + "\n")

    def finish(self, directory, settings):
        """Append the settings that PostgreSQL shall follow, the last ones win, and make it an archive recovery."""
        lines = ["# pgrescue.barman: where this recovery stops"]
        lines += [f"{name} = '{value}'" for name, value in settings.items()]
        self._run(FINISH, [directory], "\n".join(lines) + "\n")

    def put_wal(self, directory, name, source):
        """Copy a file of this host into pg_wal of a data directory as a segment."""
        with open(source, "rb") as content:
            self._run(PUT_WAL, [directory, name], stdin=content)

    def measure(self, paths):
        """The number of WAL segments and the bytes that lie there now."""
        segments, size = self._run(MEASURE, paths).split()
        return int(segments), int(size)

    def _run(self, script, arguments, content="", stdin=None):
        command = ["sh", "-c", script, "pgrescue", *arguments]
        cmd = shlex.split(self.ssh) + [" ".join(shlex.quote(word) for word in command)] if self.ssh else command
        where = f"the destination host ({self.ssh})" if self.ssh else "this host"
        given = dict(stdin=stdin) if stdin else dict(input=content)
        try:
            done = subprocess.run(
                cmd, **given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", timeout=600, cwd="/",
                env=dict(os.environ, LC_ALL="C"), check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BarmanError(f"{where} cannot be reached: {error}", cmd=self.ssh or "sh") from error
        if done.returncode:
            known = explain(done.stderr, next((word for word in self.ssh.split() if "@" in word), self.ssh)) if self.ssh and done.returncode == 255 else None
            if known:
                raise BarmanError(known[0], cmd=self.ssh, rc=done.returncode, stderr=done.stderr, meaning=known[1], fix=known[2])
            raise BarmanError(
                f"{where} did not do what was asked (exit code {done.returncode}): {' '.join(done.stderr.split())[:600] or 'it gave no reason'}",
                cmd=self.ssh or "sh", rc=done.returncode, stderr=done.stderr,
            )
        return done.stdout
