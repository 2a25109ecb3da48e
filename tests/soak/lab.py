# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as the long tests see it: its two hosts by SSH, the collection by ansible-playbook, and Barman's and PostgreSQL's own words.

Nothing here asks the collection what is true: rows come from psql, transactions from pg_waldump, backups from Barman.
"""
from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from datetime import datetime, timezone

TREE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
SERVER = "main"
EVENT = re.compile(
    r"tx: +(?P<xid>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+), prev (?P<prev>[0-9A-F]+/[0-9A-F]+), .*?"
    r"desc: (?:(?P<kind>COMMIT|ABORT) (?P<time>\d{4}-\d\d-\d\d [0-9:.]+) UTC"
    r"|RESTORE_POINT (?P<name>\S+))"
)


class Stopped(Exception):
    """The lab is not as the test needs it."""


def number(lsn):
    """An LSN as a number."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def text(lsn):
    """A number as an LSN."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def instant(words):
    """A time as PostgreSQL's tools print it with TZ=UTC."""
    return datetime.fromisoformat(words.strip()).replace(tzinfo=timezone.utc)


class Lab:
    """The two hosts, one server."""

    def __init__(self):
        listed = json.loads(subprocess.run(["ansible-inventory", "--list"], check=True, stdout=subprocess.PIPE, text=True, cwd=TREE).stdout)
        self.hosts = listed["_meta"]["hostvars"]
        self.barman, self.postgres = listed["barman"]["hosts"][0], listed["postgres"]["hosts"][0]
        self.work = os.path.join(TREE, ".build", "soak", os.environ.get("LAB", "pgrescue"))
        os.makedirs(self.work, exist_ok=True)
        self.data = self.sql("SHOW data_directory")
        self.major = int(self.sql("SHOW server_version_num")) // 10000
        self.binaries = f"/usr/lib/postgresql/{self.major}/bin"

    # ---- hosts

    def ssh(self, host, script, user="root", check=True):
        """The standard output of a bash script on a host."""
        known = self.hosts[host]
        command = ["ssh", "-o", "ControlMaster=auto", "-o", "ControlPersist=600", "-o", f"ControlPath=/tmp/soak-{os.getpid()}-%C", "-o", "LogLevel=ERROR",
                   "-i", known["ansible_ssh_private_key_file"], "-p", str(known.get("ansible_port", 22))]
        command += shlex.split(known.get("ansible_ssh_common_args", "")) + shlex.split(known.get("ansible_ssh_extra_args", ""))
        command += [f"{known['ansible_user']}@{known['ansible_host']}", f"cd / && sudo -n -H -u {user} bash -s"]
        run = subprocess.run(command, input=f"set -o pipefail\n{script}\n", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if check and run.returncode:
            raise Stopped(f"{user}@{host}: {script.strip()[:200]}: exit {run.returncode}: {run.stderr.strip()[-1000:]} {run.stdout.strip()[-300:]}")
        return run.stdout.strip()

    def sql(self, query, check=True):
        """What psql prints, unaligned, of one or more statements on the live server."""
        return self.ssh(self.postgres, f"psql -XAtq -v ON_ERROR_STOP=1 <<'SOAK'\n{query};\nSOAK", "postgres", check)

    def play(self, playbook, variables, environment=None, wait=True, session=False):
        """Run a playbook of the collection as a user does. Returns the process, or (exit code, report or {})."""
        base = os.path.join(self.work, f"{os.path.basename(playbook)}-{time.monotonic_ns()}")
        given = dict(variables, report=f"{base}.json")
        path = playbook if os.path.isabs(playbook) else os.path.join("playbooks", f"{playbook}.yml")
        with open(f"{base}.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(  # pylint: disable=consider-using-with
                ["ansible-playbook", path, "-e", json.dumps(given)], cwd=TREE, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=dict(os.environ, **(environment or {})), start_new_session=session,
            )
        process.base = base
        return self.ended(process) if wait else process

    @staticmethod
    def ended(process):
        """Wait for a playbook; its exit code and what it reported."""
        process.wait()
        try:
            with open(f"{process.base}.json", encoding="utf-8") as report:
                return process.returncode, json.load(report)
        except (FileNotFoundError, ValueError):
            return process.returncode, {}

    # ---- PostgreSQL's and Barman's own words

    def now(self):
        """The database's clock."""
        return instant(self.sql("SELECT clock_timestamp() AT TIME ZONE 'UTC'"))

    def timeline(self):
        """The branch on which the server writes."""
        return int(self.sql("SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"))

    def events(self, timeline, start, directory=None):
        """Commits, aborts and restore points from an LSN (a number) on, as pg_waldump reads them from a pg_wal."""
        wal = f"{directory or self.data}/pg_wal"
        found = self.ssh(self.postgres, f"TZ=UTC {self.binaries}/pg_waldump -p {wal} -t {timeline} -s {text(start)} "
                                        f"2>/dev/null | grep -E '^rmgr: (Transaction|XLOG)' || true", "postgres")
        return [
            dict(timeline=timeline, lsn=number(one["lsn"]), prev=number(one["prev"]), xid=int(one["xid"]), kind=(one["kind"] or "point").lower(),
                 time=instant(one["time"]) if one["time"] else None, name=one["name"])
            for one in (match.groupdict() for match in map(EVENT.search, found.splitlines()) if match)
        ]

    def history(self, timeline):
        """The ancestors of the server's timeline, the oldest first, as pairs of number and the LSN (a number) at which it was left; and when
        the history file was written."""
        path = f"{self.data}/pg_wal/{timeline:08X}.history"
        lines, _at, written = self.ssh(self.postgres, f"cat {path}; echo; echo @; stat -c %Y {path}", "postgres").rpartition("@")
        found = [line.split("\t")[:2] for line in lines.splitlines() if re.match(r"\d+\t", line)]
        return [(int(parent), number(switch)) for parent, switch in found], datetime.fromtimestamp(int(written), timezone.utc)

    def backups(self):
        """The good backups as Barman shows them, oldest first."""
        listed = json.loads(self.ssh(self.barman, f"barman -f json list-backups {SERVER}", "barman"))[SERVER]
        found = []
        for one in sorted(entry["backup_id"] for entry in listed if entry["status"] == "DONE"):
            shown = json.loads(self.ssh(self.barman, f"barman -f json show-backup {SERVER} {one}", "barman"))[SERVER]["base_backup_information"]
            found.append(dict(id=one, timeline=shown["timeline"], end=number(shown["end_lsn"]), begin=number(shown["begin_lsn"]),
                              begin_time=datetime.fromisoformat(shown["begin_time"]), end_time=datetime.fromisoformat(shown["end_time"])))
        return found

    def archive(self):
        """Everything written so far is in Barman's archive. Returns the LSN (a number) up to which it is."""
        lsn, name = self.sql("SELECT pg_create_restore_point('soak_archive') IS NULL;"
                             "SELECT lsn, pg_walfile_name(lsn) FROM (SELECT pg_switch_wal() AS lsn) AS switched").splitlines()[-1].split("|")
        wals = f"/var/lib/barman/{SERVER}/wals"
        for _attempt in range(240):
            if self.ssh(self.barman, f"barman archive-wal {SERVER} >/dev/null 2>&1; ls {wals}/{name[:16]}/{name} 2>/dev/null || true", "barman"):
                return number(lsn)
            time.sleep(0.5)
        raise Stopped(f"{name} did not arrive in Barman's archive: {self.sql('SELECT * FROM pg_stat_archiver')}")

    def backup(self):
        """A backup by Barman's own command."""
        self.ssh(self.barman, f"barman backup {SERVER} --immediate-checkpoint", "barman")
        self.archive()
        self.ssh(self.barman, f"barman cron; barman check-backup {SERVER} latest", "barman", check=False)
