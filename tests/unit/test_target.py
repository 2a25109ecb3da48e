# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moments that are read, and moments that are refused with what to type."""
from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.pgrescue.barman.plugins.module_utils._target import TargetError, echo, parse_moment, parse_target, spell

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=timezone.utc)

READ = {
    "2026-09-15 14:30:00+02:00": "2026-09-15 12:30:00.000000+00:00",
    "2026-09-15T14:30:00+02:00": "2026-09-15 12:30:00.000000+00:00",
    "2026-09-15 14:30+02": "2026-09-15 12:30:00.000000+00:00",
    "2026-09-15 14:30:00+0200": "2026-09-15 12:30:00.000000+00:00",
    "2026-09-15 14:30:00.123456+02": "2026-09-15 12:30:00.123456+00:00",
    "2026-09-15 14:30:00.5Z": "2026-09-15 14:30:00.500000+00:00",
    "2026-09-15T14:30Z": "2026-09-15 14:30:00.000000+00:00",
    "2026-09-15 00:00:00+00": "2026-09-15 00:00:00.000000+00:00",
    "2026-09-15 23:59:59.999999-05:30": "2026-09-16 05:29:59.999999+00:00",
    "2026-01-01 00:30:00+01:00": "2025-12-31 23:30:00.000000+00:00",
    "2024-02-29 12:00:00Z": "2024-02-29 12:00:00.000000+00:00",
    "2026-03-29 02:30:00+01:00": "2026-03-29 01:30:00.000000+00:00",
    "2026-10-25 02:30:00+02:00": "2026-10-25 00:30:00.000000+00:00",
    "2026-10-25 02:30:00+01:00": "2026-10-25 01:30:00.000000+00:00",
    "2026-11-23 04:00:00Z": "2026-11-23 04:00:00.000000+00:00",
    "2026-09-15 14:30:00+05:45": "2026-09-15 08:45:00.000000+00:00",
    "  2026-09-15 14:30:00Z ": "2026-09-15 14:30:00.000000+00:00",
}

# What is refused, and what the message must say.
REFUSED = {
    "2026-09-15": ("no time of day", "target_time=2026-09-15T14:30:00+02:00", "space", "quoted twice"),
    "2026-09-15 14:30:00": ("no time zone", "'2026-09-15 14:30:00+02:00'", "'2026-09-15 14:30:00Z'"),
    "2026-09-15T14:30": ("no time zone", "'2026-09-15T14:30Z'"),
    "2026-09-15 14:30:00 CEST": ("'CEST'", "ambiguous", "'2026-09-15 14:30:00+02:00'"),
    "2026-09-15 14:30:00 EST": ("'EST'", "ambiguous"),
    "2026-09-15 14:30:00CET": ("'CET'", "ambiguous"),
    "2026-09-15 14:30:00 Europe/Madrid": ("'Europe/Madrid'", "ambiguous"),
    "2026-09-15 14:30:00 UTC": ("'UTC'", "'2026-09-15 14:30:00Z' for UTC"),
    "2026-09-15 14:30:00 UTC+2": ("ambiguous",),
    "2026-09-15 14:30:00,5+02:00": ("comma", "'2026-09-15 14:30:00.5+02:00'"),
    "2026-09-15 14:30:00.1234567+02:00": ("microsecond", "'2026-09-15 14:30:00.123456+02:00'"),
    "2026-09-15 14:30:00 +02:00": ("Type '2026-09-15 14:30:00+02:00'",),
    "2026-09-15t14:30:00z": ("Type '2026-09-15T14:30:00Z'",),
    "2026-09-15  14:30:00Z": ("Type '2026-09-15 14:30:00Z'",),
    "05/12/2026 10:00": ("month and day",),
    "12-05-2026 10:00:00Z": ("month and day",),
    "15.9.2026 14:30": ("month and day",),
    "2026/09/15 14:30:00Z": ("month and day",),
    "14:30": ("not a complete moment", "2026-09-15 14:30:00+02:00"),
    "14:30:00+02:00": ("not a complete moment",),
    "10": ("not a complete moment",),
    "Tue": ("not a complete moment",),
    "yesterday": ("not a complete moment",),
    "now": ("not a complete moment",),
    "infinity": ("not a complete moment",),
    "@1795398998": ("not a complete moment",),
    "1795398998": ("not a complete moment",),
    "20260915T143000Z": ("not a complete moment",),
    "2026-9-15 14:30:00Z": ("not a complete moment",),
    "26-09-15 14:30:00Z": ("month and day",),
    "2026-09-15 2:30:00Z": ("not a complete moment",),
    "2026-09-15 14Z": ("not a complete moment",),
    "2026-09-15 14:30:00+2": ("not a complete moment",),
    "2026-09-15 14:30:00+16:00": ("15:59",),
    "2026-09-15 14:30:00+01:75": ("15:59",),
    "2026-02-30 14:30:00Z": ("calendar",),
    "2026-13-01 14:30:00Z": ("calendar",),
    "2026-09-15 24:00:00Z": ("clock",),
    "2026-09-15 14:60:00Z": ("clock",),
    "2026-09-15 14:30:61Z": ("clock",),
    "0001-01-01 00:00:00+02:00": ("calendar",),
    "2026-11-23 04:00:00.000001Z": ("future", "2026-11-23T04:00:00+00:00", "target_latest=true"),
    "2030-01-01 00:00:00Z": ("future",),
    "2026-11-23 05:30:00+01:00": ("future",),
    "2026-09-15 14:30:00+02:00'; x": ("quote",),
    "2026-09-15 14:30:00+02:00\narchive_command = 'x'": ("newline",),
    "2026-09-15 14:30:00+02:00\"": ("quote",),
    "2026-W38-2T14:30:00Z": ("not a complete moment",),
    "\N{ARABIC-INDIC DIGIT TWO}026-09-15 14:30:00Z": ("not a complete moment",),
}


@pytest.mark.parametrize("text", READ)
def test_read(text):
    assert spell(parse_moment(text, NOW)) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    with pytest.raises(TargetError) as refusal:
        parse_moment(text, NOW)
    message = str(refusal.value)
    assert [part for part in REFUSED[text] if part not in message] == [], message
    assert "\n" not in message


def test_echo_in_each_zone_once():
    moment = parse_moment("2026-09-15 14:30:00+02:00", NOW)
    zone = timezone(timedelta(hours=2))
    assert echo(moment, zone, None, zone) == ["2026-09-15T12:30:00+00:00", "2026-09-15T14:30:00+02:00"]


def target(**given):
    return parse_target({f"target_{kind}": value for kind, value in given.items()}, NOW)


@pytest.mark.parametrize("given", [
    {}, dict(time=""), dict(time=None, lsn="", xid="  ", name="", immediate=False, latest=""), dict(immediate="false", latest="no"),
])
def test_no_target(given):
    with pytest.raises(TargetError, match="No recovery target is given.*exactly one"):
        target(**given)


def test_two_targets():
    with pytest.raises(TargetError, match="2 recovery targets are given: target_time, target_lsn"):
        target(time="2026-09-15 14:30:00Z", lsn="0/3000028", name="")
    with pytest.raises(TargetError, match="target_immediate, target_latest"):
        target(immediate=True, latest="yes")


@pytest.mark.parametrize("given, kind, value", [
    (dict(time="2026-09-15 14:30:00+02", latest=""), "time", "2026-09-15 12:30:00.000000+00:00"),
    (dict(lsn="0/3000a28"), "lsn", "0/3000A28"),
    (dict(lsn="00000001/00000000"), "lsn", "1/0"),
    (dict(xid="0741"), "xid", "741"),
    (dict(xid=741), "xid", "741"),
    (dict(xid="4294968037"), "xid", "4294968037"),
    (dict(name="before_upgrade-2.1"), "name", "before_upgrade-2.1"),
    (dict(immediate="true", time=""), "immediate", "immediate"),
    (dict(latest=True), "latest", "latest"),
])
def test_one_target(given, kind, value):
    found = target(**given)
    assert (found.type, found.value) == (kind, value)
    assert found.timeline is None
    assert found.shown["utc"] == ("2026-09-15T12:30:00+00:00" if kind == "time" else None)


@pytest.mark.parametrize("given", [
    dict(lsn="0/0"), dict(lsn="3000028"), dict(lsn="0/3000028 "[:-1] + "G"), dict(lsn="0/123456789"), dict(lsn="0/1'; x"),
    dict(xid="0"), dict(xid="2"), dict(xid="-5"), dict(xid="5'; x"), dict(xid="0x10"), dict(xid=str(2**64)), dict(xid="4294967296"),
    dict(name="a b"), dict(name="-x"), dict(name="a'b"), dict(name="a\nb"), dict(name="x" * 64), dict(name="é"),
    dict(latest="maybe"), dict(latest=True, timeline="latest"), dict(latest=True, timeline="current"), dict(latest=True, timeline="0"),
    dict(latest=True, timeline="4294967296"), dict(latest=True, timeline="2'"), dict(latest=True, exclusive=True), dict(name="x", exclusive=True),
])
def test_bad_target(given):
    with pytest.raises(TargetError):
        target(**given)


def test_timeline_and_exclusive():
    found = target(xid="741", timeline="3", exclusive=True)
    assert (found.timeline, found.exclusive) == (3, True)
    assert target(xid="741", timeline="").timeline is None


def test_settings_empty_other_targets_first():
    """PostgreSQL ends with 'multiple recovery targets specified' when an empty target follows another one."""
    lines = list(target(lsn="0/3000028", exclusive=True).settings(2, "promote").items())
    assert lines[:4] == [(name, "") for name in ("recovery_target_time", "recovery_target_xid", "recovery_target_name", "recovery_target")]
    assert lines[4:] == [
        ("recovery_target_lsn", "0/3000028"), ("recovery_target_inclusive", "off"), ("recovery_target_timeline", "2"), ("recovery_target_action", "promote"),
    ]


def test_settings_of_latest_hold_no_target():
    lines = target(latest=True).settings(1)
    assert [name for name, value in lines.items() if name.startswith("recovery_target") and value] == [
        "recovery_target_inclusive", "recovery_target_timeline", "recovery_target_action"]
