#!/usr/bin/env python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The story on two real hosts: a database is lost, and comes back to the second before the loss.

It types the commands that a user would type, and proves what they did by asking PostgreSQL itself, over SSH.
Run it by `make demo`, which boots the hosts first. SCALE is TPC-H's scale factor.
"""
from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

TREE = Path(__file__).resolve().parent.parent
LAB = TREE / ".lab" / os.environ.get("LAB", "pgrescue")
SCALE = os.environ.get("SCALE", "0.1")
DATABASE = "distribuidos"
TABLES = ("region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem")
LOST = ("customer", "lineitem")
CRON_PATIENCE = 240
phases: dict[str, float] = {}


class Story(Exception):
    """The story went another way than it should."""


def say(*lines):
    for line in lines:
        print(f"  {line}", flush=True)


def chapter(title):
    print(f"\n\033[1m== {title}\033[0m" if sys.stdout.isatty() else f"\n== {title}", flush=True)


def ssh(host, command, **options):
    """Run a command on a host of the lab, as its administrator would over SSH."""
    inventory = yaml.safe_load((LAB / "inventory.yml").read_text())
    found = next(group["hosts"][host] for group in inventory.values() if host in group.get("hosts", {}))
    argv = [
        "ssh", "-i", str(LAB / "id_ed25519"), "-p", str(found.get("ansible_port", 22)),
        "-o", f"UserKnownHostsFile={LAB / 'known_hosts'}", "-o", f"HostKeyAlias={host}",
        "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", f"{inventory['all']['vars']['ansible_user']}@{found['ansible_host']}",
        command,
    ]
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE, **options).stdout


def sql(query, database=DATABASE, **options):
    """Ask the database, as its owner; -At prints one row a line."""
    return ssh("bd-principal", f"sudo -u postgres psql -XAt -v ON_ERROR_STOP=1 -d {database} -c {shlex.quote(query)}", **options).strip()


def play(name, *arguments, label=None):
    """Run a playbook as a user would, and remember how long it took."""
    command = ["ansible-playbook", name, *arguments]
    print(f"\n  $ {shlex.join(command)}", flush=True)
    environment = dict(os.environ, ANSIBLE_STDOUT_CALLBACK="story", ANSIBLE_CALLBACK_PLUGINS=str(TREE / "demo/callback_plugins"))
    started = time.monotonic()
    code = subprocess.run(command, cwd=TREE, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    if label:
        phases[label] = time.monotonic() - started
    if code:
        raise Story(f"{shlex.join(command)} ended with exit code {code}")


def load():
    """Fill the database with TPC-H rows, straight from tpchgen-cli through SSH into COPY."""
    if DATABASE in sql("SELECT datname FROM pg_database", "postgres").splitlines():
        sql(f"DROP DATABASE {DATABASE}", "postgres")
    sql(f"CREATE DATABASE {DATABASE}", "postgres")
    ssh("bd-principal", f"sudo -u postgres psql -Xq -v ON_ERROR_STOP=1 -d {DATABASE}", input=(TREE / "demo/tpch.sql").read_text())
    with tempfile.TemporaryDirectory(dir=LAB) as folder:
        subprocess.run(["tpchgen-cli", "csv", "-s", SCALE, "--output-dir", folder], check=True, stdout=subprocess.DEVNULL)
        for table in TABLES:
            with open(Path(folder, f"{table}.csv"), encoding="ascii") as rows:
                sql(f"COPY {table} FROM STDIN (FORMAT csv, HEADER)", stdin=rows)
            say(f"{table:<10} {int(sql(f'SELECT count(*) FROM {table}')):>10,} rows")
    sql("ANALYZE")


def fingerprint():
    """What every table holds: how many rows, and a checksum of their contents that no order of rows changes."""
    present = sql("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace").splitlines()
    return {
        table: sql(f"SELECT count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM {table} t").split()
        for table in TABLES if table in present
    }


def show(tables):
    for table in TABLES:
        say(f"{table:<10} {int(tables[table][0]):>10,} rows   checksum {tables[table][1]}" if table in tables
            else f"{table:<10} {'GONE':>10}")


def write_orders(first_key, comment):
    """Write ten orders, numbered from first_key."""
    sql("INSERT INTO orders SELECT n, c.c_custkey, 'O', 100, current_date, '1-URGENT', 'Clerk#000000001', 0, "
        f"'{comment}' FROM generate_series({first_key}, {first_key + 9}) n, "
        "(SELECT min(c_custkey) AS c_custkey FROM customer) c")


def written_orders(comment):
    return int(sql(f"SELECT count(*) FROM orders WHERE o_comment = '{comment}'"))


def newest_backup():
    """The newest backup that is DONE, in Barman's own words."""
    backups = json.loads(ssh("barman-copia", "sudo -u barman barman -f json list-backups main"))["main"]
    return next((backup for backup in backups if backup["status"] == "DONE"), None)


def prove(claim, is_true):
    say(f"{'proved' if is_true else 'FALSE '}  {claim}")
    if not is_true:
        raise Story(f"not true: {claim}")


def main():
    chapter("Two hosts: Barman Copia keeps the backups, BD Principal runs PostgreSQL")
    play("playbooks/site.yml", label="set up both hosts, first backup")

    chapter(f"TPC-H at scale {SCALE} goes into the database {DATABASE}")
    started = time.monotonic()
    load()
    phases["load TPC-H"] = time.monotonic() - started

    chapter("The backups of server main, and a new one")
    play("playbooks/catalog.yml")
    play("playbooks/backup.yml", label="backup")

    chapter("Life goes on: ten orders after the backup")
    write_orders(900000001, "after the backup")
    before = fingerprint()
    show(before)
    time.sleep(2)
    moment = sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    say("", f"The last good moment: {moment}")
    time.sleep(2)

    chapter("The disaster: ten more orders, then somebody drops customer and lineitem")
    write_orders(900000011, "after the moment")
    play("demo/disaster.yml")
    during = fingerprint()
    show(during)
    prove("customer and lineitem are gone", not set(LOST) & set(during))

    chapter("The recovery: first the plan, then the same command for real")
    report = LAB / "recovery.json"
    play("playbooks/recover.yml", "-e", f"target_time={moment}", "--check", label="plan")
    play("playbooks/recover.yml", "-e", f"target_time={moment}", "-e", f"report={report}", label="recovery, with a new backup")

    chapter("The proof, asked of PostgreSQL itself")
    after = fingerprint()
    show(after)
    for table in TABLES:
        prove(f"{table} holds what it held before the disaster, row for row", after.get(table) == before[table])
    prove("the ten orders written after the backup are there", written_orders("after the backup") == 10)
    prove("the ten orders written after the moment are not", written_orders("after the moment") == 0)
    prove("PostgreSQL is open for writing, on a new timeline",
          sql("SELECT NOT pg_is_in_recovery() AND timeline_id > 1 FROM pg_control_checkpoint()") == "t")
    play("playbooks/check.yml")

    chapter("From now on cron takes a backup every minute by itself")
    last = newest_backup()["backup_id"]
    play("playbooks/site.yml", "-e", "@demo/every_minute.yml", label="turn the schedule on")
    say(f"The newest backup is {last}. Waiting for cron to take the next one, without us.")
    started = time.monotonic()
    while newest_backup()["backup_id"] == last:
        if time.monotonic() - started > CRON_PATIENCE:
            raise Story(f"cron took no backup in {CRON_PATIENCE} seconds")
        time.sleep(5)
    prove(f"cron took {newest_backup()['backup_id']} by itself", newest_backup()["backup_id"] > last)
    play("playbooks/catalog.yml")

    recovery = json.loads(report.read_text())
    chapter("In short")
    say(f"lost           {' and '.join(LOST)}: {int(before['customer'][0]) + int(before['lineitem'][0]):,} rows",
        f"came back to   {moment}",
        f"outcome        {recovery['outcome']}: {recovery['message']}")
    for label, seconds in phases.items():
        say(f"{seconds:8.1f} s     {label}")


if __name__ == "__main__":
    try:
        main()
    except (Story, subprocess.CalledProcessError) as error:
        sys.exit(f"\nThe demo failed: {error}")
