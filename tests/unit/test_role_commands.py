# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that the role barman_server installs, rendered and run with a Barman that only says what it was asked."""
from __future__ import annotations

import grp
import os
import subprocess
from pathlib import Path

import pytest
from jinja2 import Environment, StrictUndefined

TEMPLATES = Path(__file__).parents[2] / "roles" / "barman_server" / "templates"
CONFIG = "/etc/barman.conf"


@pytest.fixture(name="command")
def _command(tmp_path):
    barman = tmp_path / "barman"
    barman.write_text('#!/bin/sh\nprintf "[%s]" "$@"\nexit "${BARMAN_RC:-0}"\n')
    logger = tmp_path / "logger"
    logger.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/log\n')
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["comment"] = lambda text: f"# {text}"

    def run(name, *arguments, **variables):
        script = tmp_path / name
        script.write_text(environment.from_string((TEMPLATES / f"{name}.sh.j2").read_text()).render(
            ansible_managed="managed", __barman_server_executable=str(barman), __barman_server_configuration=CONFIG, barman_server_home=str(tmp_path / "home"),
            __barman_server_directory=str(tmp_path / "barman.d"), barman_server_user=grp.getgrgid(os.getgid()).gr_name,
        ))
        for file in (script, barman, logger):
            file.chmod(0o755)
        env = dict(PATH=f"{tmp_path}:{os.environ['PATH']}", **variables)
        return subprocess.run([script, *arguments], capture_output=True, text=True, env=env, check=False, cwd=tmp_path)

    (tmp_path / "home").mkdir()
    run.log = lambda: (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
    run.home = tmp_path / "home"
    return run


@pytest.mark.parametrize("request_, asked", [
    # What barman-wal-archive and barman-wal-restore of 3.4 to 3.20 send.
    ("barman put-wal main", "[put-wal][main]"),
    ("barman put-wal main --test", "[put-wal][--test][main]"),
    ("barman put-wal -t main", "[put-wal][--test][main]"),
    ("barman --config='/etc/barman.conf' put-wal main", "[put-wal][main]"),
    ("barman --config /etc/barman.conf get-wal 'main' '000000010000000000000001'", "[get-wal][main][000000010000000000000001]"),
    ("barman get-wal --partial 'main' '00000002.history'", "[get-wal][--partial][main][00000002.history]"),
    ("barman get-wal --test 'main' '000000010000000000000001'", "[get-wal][--test][main][000000010000000000000001]"),
    ("barman get-wal --peek '8' --gzip 'main' '000000010000000000000001'", "[get-wal][--peek][8][--gzip][main][000000010000000000000001]"),
    ("barman get-wal --compression gzip --keep-compression main 000000010000000000000001",
     "[get-wal][--compression][gzip][--keep-compression][main][000000010000000000000001]"),
])
def test_the_gate_lets_wal_through(command, request_, asked):
    done = command("wal-gate", "main", SSH_ORIGINAL_COMMAND=request_)
    assert (done.returncode, done.stdout) == (0, f"[-c][{CONFIG}]{asked}")
    assert command.log() == ""


def test_the_gate_of_a_host_with_two_clusters(command):
    for name in ("main", "other"):
        done = command("wal-gate", "main", "other", SSH_ORIGINAL_COMMAND=f"barman put-wal {name}")
        assert (done.returncode, done.stdout) == (0, f"[-c][{CONFIG}][put-wal][{name}]")
    for name in ("ma", "main other", "'main other'", "third", "''"):
        assert command("wal-gate", "main", "other", SSH_ORIGINAL_COMMAND=f"barman put-wal {name}").returncode != 0


@pytest.mark.parametrize("request_", [
    "", "ls", "barman", "barman list-servers", "barman delete main oldest", "barman -c /etc/barman.conf delete main oldest", "barman put-wal other",
    "barman put-wal",
    "barman put-wal main other", "barman get-wal main", "barman get-wal other 000000010000000000000001", "barman get-wal main ../../etc/passwd",
    "barman get-wal main 000000010000000000000001 x", "barman put-wal main; ls", "barman put-wal main && ls", "barman put-wal $(ls)",
    "barman put-wal `ls`",
    "barman put-wal main\nls", "barman put-wal main | tee x", "barman put-wal main > x", "barman --config=/tmp/evil put-wal main",
    "barman -c /tmp/evil put-wal main",
    "barman put-wal --config main", "barman get-wal -o / main 000000010000000000000001", "barman get-wal --output-directory / main 000000010000000000000001",
    "barman get-wal --peek x main 000000010000000000000001", "barman put-wal 'ma'in'", "barman put-wal *", "bash", "rsync --server --sender . /", "scp -f x",
    "barman -q put-wal main", "barman -c", "barman get-wal --peek", "internal-sftp", "barman put-wal main -d",
])
def test_the_gate_refuses_everything_else_and_says_so(command, request_):
    done = command("wal-gate", "main", SSH_ORIGINAL_COMMAND=request_, SSH_CONNECTION="10.0.0.3 1 10.0.0.2 22")
    assert done.returncode != 0
    assert done.stdout == ""
    assert "refused" in done.stderr
    assert "refused for server main" in command.log() and "10.0.0.3" in command.log()
    assert len(command.log().splitlines()) == 1


def test_a_scheduled_backup(command):
    done = command("scheduled-backup", "main")
    assert (done.returncode, done.stdout) == (0, "[-q][backup][main]")
    assert command("scheduled-backup", "main", BARMAN_RC="1").returncode == 1


def test_it_is_skipped_during_a_recovery_and_says_whose(command):
    (command.home / ".pgrescue").mkdir()
    (command.home / ".pgrescue" / "main.recovery.json").write_text('{"holder": "ana@laptop",\n "since": "2026-11-23T03:00:00+00:00"}\n')
    done = command("scheduled-backup", "main")
    assert (done.returncode, done.stdout) == (0, "")
    assert "skipped" in command.log() and "ana@laptop" in command.log()
    assert command("scheduled-backup", "other").stdout == "[-q][backup][other]"


def test_it_is_skipped_while_the_one_before_runs(command):
    command("scheduled-backup", "main")
    with subprocess.Popen(["flock", command.home / ".pgrescue" / "main.schedule.lock", "sh", "-c", "echo locked; read x"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "locked\n"
        assert command("scheduled-backup", "main").stdout == ""
        assert "still running" in command.log()
        holder.communicate("\n")
    assert command("scheduled-backup", "main").stdout == "[-q][backup][main]"


def test_a_configuration_that_is_tried_is_shown_to_nobody_else(command, tmp_path):
    (tmp_path / "barman.d").mkdir()
    (tmp_path / "barman.d" / "main.conf").write_text("[main]\n")
    (tmp_path / "new.conf").write_text("[barman]\n")
    (tmp_path / "barman").write_text(f'#!/bin/sh\nstat -c %a "${{2%/*}}" >>{tmp_path}/modes\n')
    assert command("check-config", tmp_path / "new.conf").returncode == 0
    assert set((tmp_path / "modes").read_text().split()) == {"750"}
