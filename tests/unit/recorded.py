# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was recorded from real Barman (recordings/README.md), and a Barman home built from it."""
from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import parse
from ansible_collections.pgrescue.barman.plugins.module_utils._wal import parse_lsn

RECORDINGS = Path(__file__).parent / "recordings"
VERSIONS = ("3.4.0", "3.13.3", "3.20.1")
SEGMENT_BYTES = 1024 * 1024

POSITION = re.compile(r", lsn: ([0-9A-F]+)/([0-9A-F]+),")


def waldump(records, major):
    """A function that stands in for a run of pg_waldump: the recorded records of the segments asked for."""

    def run(command):
        options = [word for word in command[1:] if word.startswith("--")]
        names = [word for word in command[1:] if not word.startswith("--")]
        if "--version" in options:
            return f"pg_waldump (PostgreSQL) {major}.1"
        texts = (path for path in sorted(records.glob("*.txt")) if names[0] <= path.stem <= names[-1])
        lines = [line for path in texts for line in path.read_text().splitlines()]
        for option in options:
            if option.startswith("--start="):
                start = parse_lsn(option[8:])
                lines = [line for line in lines if parse_lsn("/".join(POSITION.search(line).groups())) >= start]
            elif option == "--rmgr=Transaction":
                lines = [line for line in lines if line.startswith("rmgr: Transaction ")]
            elif option == "--limit=1":
                lines = lines[:1]
        return "\n".join(lines)

    return run


def answer(version, name):
    """A recorded call as an Answer."""
    directory = RECORDINGS / version
    rc = int(re.search(rf"^{re.escape(name)} rc=(\d+):", (directory / "commands.txt").read_text(), re.MULTILINE).group(1))
    texts = [path.read_text() if path.exists() else "" for path in (directory / f"{name}.json", directory / f"{name}.stderr")]
    return parse(["barman", name], rc, *texts)


def shown(version, name):
    """A recorded answer's data."""
    return json.loads((RECORDINGS / version / f"{name}.json").read_text())


def ledger(version):
    """The moments that were written down while the history was made: name -> ISO 8601."""
    lines = [line.split() for line in (RECORDINGS / version / "ledger.txt").read_text().splitlines()]
    return {words[1]: words[0] for words in lines if re.fullmatch("T.", words[1])}


def major(version):
    """The major version of the recorded PostgreSQL."""
    info = next((RECORDINGS / version / "catalogue" / "main").glob("**/*backup.info")).read_text()
    return int(re.search(r"^version=(\d+)", info, re.MULTILINE).group(1)) // 10000


def home(version, directory):
    """Lay the recorded catalogue out as a Barman home with segments of zeros, and return its configuration file."""
    recording = RECORDINGS / version
    shutil.copytree(recording / "catalogue", directory, dirs_exist_ok=True)
    shutil.copytree(recording / "conf.d", directory / "conf.d", dirs_exist_ok=True)
    for listing in directory.glob("*/wals/*xlog.db"):
        for line in listing.read_text().splitlines():
            name, size = line.split()[:2]
            if len(name) == 24:
                segment(listing.parent / name[:16] / name, int(size))
    path = directory / "barman.conf"
    path.write_text((recording / "barman.conf").read_text().replace("/var/lib/barman", str(directory)))
    return str(path)


def segment(path, size, system_identifier=1):
    """A file that looks like a segment which was switched early: a page header, then zeros."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as target:
        target.write(struct.pack("<HHIQIIQII", 0xD116, 2, 1, 0, 0, 0, system_identifier, size, 8192))
        target.truncate(size)
