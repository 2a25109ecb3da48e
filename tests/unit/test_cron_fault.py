# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cron reads, and what keeps it from reading a whole file."""
from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.pgrescue.barman.plugins.filter.cron_fault import cron_fault

OURS = yaml.safe_load((Path(__file__).parents[2] / "roles" / "barman_server" / "vars" / "main.yml").read_text(encoding="utf-8"))["__barman_server_every"]


@pytest.mark.parametrize("expression", [
    "30 2 * * mon-fri", "0 4 * Jan,JUL sun",
    "30 2 * * *", "*/5 * * * *", "0,30 9-17 1-7 */3 1-5", "0-59/10,7 0 31 12 7", "59 23 1 jan SUN", "  0\t4 * * 0 ", "0 0-23/12 * * *",
    *(entry["cron"].replace("MM", "7").replace("HH", "3") for entry in OURS.values()),
])
def test_what_cron_reads(expression):
    assert cron_fault(expression) == ""


@pytest.mark.parametrize("expression, words", [
    ("@daily", "'0 0 * * *'"), ("@Hourly", "'0 * * * *'"), ("@reboot", "five fields"), ("@daily root", "five fields"),
    ("30 2 * *", "4 fields"), ("30 2 * * * root", "6 fields"), ("02:30", "1 fields"),
    ("60 2 * * *", "minute '60'"), ("30 24 * * *", "hour '24'"), ("30 2 0 * *", "day of the month '0'"), ("30 2 * 13 *", "month '13'"),
    ("30 2 * 0 *", "month '0'"), ("30 2 * * 8", "day of the week '8'"),
    ("30 5-2 * * *", "hour '5-2'"), ("30 2 * * sat-sun", "'sat-sun'"), ("30 2 * * mon-foo", "'mon-foo'"), ("30 2 * foo *", "jan, feb"),
    ("5/10 * * * *", "'5/10'"), ("*/0 * * * *", "'*/0'"), ("*/100 * * * *", "'*/100'"), ("*/60 * * * *", "'*/60'"), ("0, 2 * * *", "'0,'"),
    ("*-5 * * * *", "'*-5'"), ("-5 * * * *", "'-5'"), ("? 2 * * *", "'?'"), ("0~30 2 * * *", "'0~30'"), ("\u0663 2 * * *", "minute"),
])
def test_what_keeps_cron_from_reading_the_file(expression, words):
    assert words in cron_fault(expression)
