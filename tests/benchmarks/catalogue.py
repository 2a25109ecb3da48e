# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue beside Barman's own list-backups: the same files, the same fields, the seconds of each.

A catalogue of BACKUPS backups and WALS segments is written below a temporary directory (segments are sparse, so it takes
inodes but hardly any space). The module barman_catalog_info and bare Barman then read it in turn, ROUNDS times, each as
a process of its own, and every field that both know is compared. Half and double the size show how the cost grows.

    python tests/benchmarks/catalogue.py BARMAN_EXECUTABLE      (make bench does that)
"""
from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ansible_collections.pgrescue.barman.plugins.module_utils._wal import format_lsn, segment_name

BACKUPS = int(os.environ.get("BACKUPS", "300"))
WALS = int(os.environ.get("WALS", "100000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SEGMENT = 16 << 20
BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
MODULE = "ansible_collections.pgrescue.barman.plugins.modules.barman_catalog_info"
TEMPLATE = Path(__file__).parents[1] / "unit/recordings/3.13.3/catalogue/main/meta/20261123T035029-backup.info"


def write_catalogue(home, backups, wals):
    """A server `grande` as Barman 3.13 lays it out: backup.info files as recorded, with other times and places in WAL."""
    base = home / "grande"
    for name in ("base", "wals", "meta", "incoming", "streaming", "errors"):
        (base / name).mkdir(parents=True)
    with open(base / "wals" / "grande-xlog.db", "w", encoding="utf-8") as database:
        for number in range(1, wals + 1):
            name = segment_name(1, number, SEGMENT)
            (base / "wals" / name[:16]).mkdir(exist_ok=True)
            with open(base / "wals" / name[:16] / name, "wb") as segment:
                segment.truncate(SEGMENT)
            database.write(f"{name}\t{SEGMENT}\t{(BEGIN + timedelta(minutes=number)).timestamp()}\tNone\n")
    recorded = dict(line.split("=", 1) for line in TEMPLATE.read_text(encoding="utf-8").splitlines())
    for index in range(backups):
        number = 1 + index * (wals // backups)
        begin = BEGIN + timedelta(minutes=number)
        backup_id = begin.strftime("%Y%m%dT%H%M%S")
        wanted = dict(
            recorded, begin_time=begin, end_time=begin + timedelta(seconds=30), begin_wal=segment_name(1, number, SEGMENT),
            end_wal=segment_name(1, number, SEGMENT), begin_xlog=format_lsn(number * SEGMENT + 40), end_xlog=format_lsn(number * SEGMENT + 288),
            timeline=1, server_name="grande", tablespaces=None, xlog_segment_size=SEGMENT,
        )
        (base / "base" / backup_id).mkdir()
        (base / "meta" / f"{backup_id}-backup.info").write_text("".join(f"{key}={value}\n" for key, value in wanted.items()), encoding="utf-8")
    (home / "barman.conf").write_text(
        f"[barman]\nbarman_home = {home}\nbarman_user = {os.environ.get('USER') or 'root'}\nlog_file = {home}/barman.log\n"
        "[grande]\ndescription = benchmark\nconninfo = host=127.0.0.1 port=1 dbname=postgres connect_timeout=1\n"
        "streaming_conninfo = host=127.0.0.1 port=1 connect_timeout=1\nbackup_method = postgres\nstreaming_archiver = on\nslot_name = barman\n",
        encoding="utf-8",
    )


def timed(command, **options):
    """What a command prints, its seconds and its seconds of CPU."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    elapsed, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    return done.stdout, elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(home):
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {"server": "grande", "barman_config": f"{home}/barman.conf"}})
    output, *times = timed([sys.executable, "-m", MODULE], input=arguments)
    return (json.loads(output)["servers"][0], *times)


def theirs(barman, home):
    output, *times = timed([barman, "-c", f"{home}/barman.conf", "-f", "json", "list-backups", "grande"])
    return (json.loads(output)["grande"], *times)


def differences(server, listed):
    """Every field that both know, compared; one line for each that differs."""
    found = {backup["backup_id"]: backup for backup in server["backups"]}
    lines = [f"only Barman lists {one['backup_id']}" for one in listed if one["backup_id"] not in found]
    lines += [f"only the module lists {name}" for name in found.keys() - {one["backup_id"] for one in listed}]
    for one in listed:
        backup = found.get(one["backup_id"], {})
        pairs = dict(
            status=("status", one["status"]), type=("backup_type", one["backup_type"]), size_bytes=("size_bytes", one["size_bytes"]),
            wal_bytes=("wal_size_bytes", one["wal_size_bytes"]), name=("backup_name", one.get("backup_name")),
        )
        lines += [f"{one['backup_id']}: {key} is {backup.get(key)!r}, Barman's {other} {value!r}"
                  for key, (other, value) in pairs.items() if backup.get(key) != value]
        if backup and int(datetime.fromisoformat(backup["end_time"]).timestamp()) != int(one["end_time_timestamp"]):
            lines.append(f"{one['backup_id']}: end_time is {backup['end_time']}, Barman's {one['end_time']}")
    return lines


def row(what, times):
    print(f"{what:44} {statistics.median(one[0] for one in times):8.2f} {statistics.median(one[1] for one in times):8.2f}", flush=True)


def main():
    barman = sys.argv[1]
    print(f"{timed([barman, '--version'])[0].split()[0]} beside barman_catalog_info, medians of {ROUNDS} interleaved rounds; load {os.getloadavg()[0]:.1f}")
    print(f"{'':44} {'seconds':>8} {'CPU':>8}")
    wrong = []
    for share in (2, 1):
        backups, wals = BACKUPS // share, WALS // share
        with tempfile.TemporaryDirectory(prefix="pgrescue-bench-") as directory:
            home = Path(directory)
            write_catalogue(home, backups, wals)
            module, bare = [], []
            for _round in range(ROUNDS):
                server, *times = ours(home)
                module.append(times)
                listed, *times = theirs(barman, home)
                bare.append(times)
            wrong += differences(server, listed)
            row(f"barman_catalog_info, {backups} backups, {wals} WAL", module)
            row("barman list-backups on the same", bare)
            ratio = statistics.median(one[1] / other[1] for one, other in zip(module, bare))
            print(f"{'':44} CPU ratio {ratio:.4f}, {len(listed)} backups compared in every common field, {len(wrong)} differences", flush=True)
    for line in wrong[:20]:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
