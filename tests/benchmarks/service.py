# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time to service: recover.yml beside the same steps typed by hand, on the same two hosts, in turn.

The hosts are those of the lab LAB after site.yml, filled with GIGABYTES of rows. Each round recovers twice to one moment
after one backup, in changing order: once by recover.yml (without the new backup at its end, which nobody waits for), once by stop, rename,
`barman recover`, start, wait, and the check that every row is there. Printed are the medians, the ratio, the seconds of
each phase, and what recover.yml costs each host: module runs and SSH connections, as the hosts themselves logged them.
DATA=delta has the clusters lie on an XFS, and each round recover a third time, with data=delta. The lab's hosts are on one machine:
LIMIT (kilobytes per second) has all copies go no faster than over a network of that rate, and JOBS is what recover.yml with data=delta is given as jobs.

    make bench-service
    make bench-service DATA=delta
    make bench-service DATA=delta LIMIT=120000 JOBS=2
"""
from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "demo"))
from story import newest_backup, ssh, sql  # pylint: disable=wrong-import-position

GIGABYTES = float(os.environ.get("GIGABYTES", "3"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
DELTA = os.environ.get("DATA") == "delta"
LIMIT, JOBS = os.environ.get("LIMIT"), os.environ.get("JOBS")
HOSTS = ("barman-copia", "bd-principal")
NOW = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"


def play(name, *arguments):
    """Run a playbook as a user would and return its report."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = ["ansible-playbook", f"playbooks/{name}.yml", "-e", f"report={report.name}", *arguments]
        done = subprocess.run(command, cwd=TREE, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}")
        return json.loads(Path(report.name).read_text(encoding="utf-8"))


def fill():
    """Rows of about a kilobyte that do not compress away, in one table."""
    sql("DROP TABLE IF EXISTS big", "postgres")
    sql("CREATE TABLE big (n int, t text)", "postgres")
    sql(f"INSERT INTO big SELECT n, (SELECT string_agg(md5(n::text || i), '') FROM generate_series(1, 30) i) "
        f"FROM generate_series(1, {int(GIGABYTES * 1e6)}) n", "postgres")
    # Else autovacuum rewrites every page after the backup, and all of it differs.
    sql("VACUUM (FREEZE, ANALYZE) big", "postgres")


def rows():
    return sql("SELECT count(*) || ' ' || max(n) FROM big", "postgres")


def place():
    """Data directory, service and binaries of the only cluster."""
    version, name, _port, _status, _owner, data = ssh("bd-principal", "pg_lsclusters -h").split()[:6]
    return dict(data=data, service=f"postgresql@{version}-{name}", bin=f"/usr/lib/postgresql/{version}/bin")


def by_hand(moment, backup_id):
    """What a DBA types; seconds of each step."""
    where, steps = place(), {}

    def step(name, host, command):
        begun = time.monotonic()
        ssh(host, command)
        steps[name] = steps.get(name, 0) + time.monotonic() - begun

    data = where["data"]
    # The name that Barman knows the host by, as its configuration has it.
    reach = ssh("barman-copia", "sudo -u barman barman show-servers main | sed -n 's/^[[:space:]]*ssh_command: //p'").strip()
    step("stop", "bd-principal", f"sudo systemctl stop {where['service']}")
    step("aside", "bd-principal", f"sudo mv {data} {data}.by-hand && sudo install -d -m 0700 -o postgres -g postgres {data}")
    step("restore", "barman-copia", "cd /; sudo -u barman barman recover --target-tli current --target-action promote "
         f"--target-time {shlex.quote(moment.replace('T', ' ').replace('Z', '+00:00'))} "
         f"{f'--bwlimit {LIMIT} ' if LIMIT else ''}--remote-ssh-command {shlex.quote(reach)} main {backup_id} {data}")
    step("replay", "bd-principal", f"sudo systemctl start {where['service']} && until sudo -u postgres psql -XAtc 'SELECT pg_is_in_recovery()' "
         "2>/dev/null | grep -qx f; do sleep 0.2; done")
    return steps


def archive():
    """Wait until all WAL of the fill is archived: whoever stops PostgreSQL waits for that, and it is no part of a recovery."""
    sql("SELECT pg_switch_wal()", "postgres")
    ssh("bd-principal", "sudo sh -c 'while ls {}/pg_wal/archive_status/*.ready; do sleep 1; done' >/dev/null 2>&1".format(place()["data"]))


def costs(since):
    """Module runs and SSH logins that each host has logged since an instant (seconds since the epoch)."""
    log = "sudo journalctl --no-pager -o cat --since @{}".format(since)
    return {host: (int(ssh(host, f"{log} | grep -c 'Invoked with' || true")), int(ssh(host, f"{log} | grep -c 'Accepted publickey' || true")) - 1)
            for host in HOSTS}


def drop_caches():
    """Every measurement begins alike: nothing of cluster and backups is cached, and nothing of the one before is still to be written.

    What runs on a host every day, cron's Barman and a shell's Python, stays as warm as it is on any host.
    """
    os.sync()
    for host, paths in (("barman-copia", "/var/lib/barman"), ("bd-principal", f"/var/lib/postgresql{' /var/lib/clusters.xfs' if DELTA else ''}")):
        ssh(host, f"sudo find {paths} -ignore_readdir_race -type f -exec dd if={{}} iflag=nocache count=0 status=none ';'")


def main():
    fill()
    play("backup")
    sql("INSERT INTO big SELECT n, 'after the backup' FROM generate_series(-1000, -1) n", "postgres")
    wanted, moment = rows(), sql(NOW, "postgres")
    sql("DELETE FROM big WHERE n < 0", "postgres")
    backup_id = newest_backup()["backup_id"]
    archive()
    size = int(ssh("bd-principal", f"sudo du -sb {place()['data']}").split()[0])
    print(f"{size / 1e9:.1f} GB in the data directory, {ROUNDS} rounds, load {os.getloadavg()[0]:.1f}", flush=True)
    ours, deltas, hands, phases, delta_phases, steps = [], [], [], [], [], []

    def recover(seconds, durations, *further):
        drop_caches()
        begun = time.monotonic()
        report = play("recover", "-e", f"target_time={moment}", "-e", f"backup_id={backup_id}", "-e", "backup_after=false",
                      *(["-e", f"bandwidth_limit={LIMIT}"] if LIMIT else []), *further)
        seconds.append(time.monotonic() - begun)
        durations.append(report["recovery"]["durations"])

    def type_it():
        drop_caches()
        begun = time.monotonic()
        steps.append(by_hand(moment, backup_id))
        hands.append(time.monotonic() - begun)

    delta = ["-e", f"jobs={JOBS}"] if JOBS else []
    ways = [lambda: recover(ours, phases), *([lambda: recover(deltas, delta_phases, "-e", "data=delta", *delta)] if DELTA else []), type_it]
    for turn in range(ROUNDS):
        # Each way comes first once in a while: what the one before has written and removed weighs on the next.
        first = turn % len(ways)
        for way in ways[first:] + ways[:first]:
            since = int(time.time())
            way()
            if way is ways[0]:
                counted = costs(since)
            assert rows() == wanted, rows()
        ssh("bd-principal", "sudo sh -c 'rm -rf {0}.by-hand {0}.aside-*'".format(place()["data"]))
        between = f"data=delta {deltas[-1]:6.1f} s   " if DELTA else ""
        print(f"  recover.yml {ours[-1]:6.1f} s   {between}by hand {hands[-1]:6.1f} s   load {os.getloadavg()[0]:.1f}", flush=True)
    middle = statistics.median
    if DELTA:
        print(f"data=delta {middle(deltas):.1f} s, ratio to recover.yml without it {middle(a / b for a, b in zip(deltas, ours)):.2f}")
    print(f"recover.yml {middle(ours):.1f} s, by hand {middle(hands):.1f} s, difference {middle(a - b for a, b in zip(ours, hands)):.1f} s, "
          f"ratio {middle(a / b for a, b in zip(ours, hands)):.2f}")
    told = {"phases of recover.yml": phases, "phases with data=delta": delta_phases, "steps by hand": steps}
    for title, found in [one for one in told.items() if one[1]]:
        print(f"{title}: " + ", ".join(f"{name} {middle(one.get(name, 0) for one in found):.1f} s" for name in found[0]))
    for host, (modules, logins) in counted.items():
        print(f"{host}: {modules} module runs, {logins} SSH logins for one recover.yml")


if __name__ == "__main__":
    main()
