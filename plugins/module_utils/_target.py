# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery targets, and moments that cannot be misread. Pure: text in, data out.

Barman guesses: an abbreviation of a time zone is dropped, 'Tue' is next Tuesday, 05/12 is the 12th of May, an empty
target replays everything. PostgreSQL reads a time without a zone in its own. So a moment has one spelling here, the one
that PostgreSQL prints, and everything else is refused with what to type instead.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ansible_collections.pgrescue.barman.plugins.module_utils._barman import BarmanError

# Twin: plugins/doc_fragments/target.py. An empty survey field is '', so the two switches are raw.
TARGET_ARGUMENTS = dict(
    target_time=dict(type="str"),
    target_lsn=dict(type="str"),
    target_xid=dict(type="str"),
    target_name=dict(type="str"),
    target_immediate=dict(type="raw"),
    target_latest=dict(type="raw"),
    target_timeline=dict(type="str"),
    target_exclusive=dict(type="bool", default=False),
)
TYPES = ("time", "lsn", "xid", "name", "immediate", "latest")

MOMENT = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,6}))?)?"
    r"(?P<zone>Z|(?P<sign>[+-])(?P<zone_hour>[0-9]{2}):?(?P<zone_minute>[0-9]{2})?)"
)
LSN = re.compile(r"(?P<high>[0-9A-Fa-f]{1,8})/(?P<low>[0-9A-Fa-f]{1,8})")
RESTORE_POINT = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,62}")
EXAMPLE = "2026-09-15 14:30:00+02:00"
FORM = f"Type date, time and offset from UTC, as PostgreSQL prints them: '{EXAMPLE}' or '2026-09-15T12:30:00Z'"
# The largest offset that PostgreSQL takes is 15:59:59 (MAX_TZDISP_HOUR in src/include/datatype/timestamp.h).
LARGEST_ZONE_HOUR = 15
FIRST_NORMAL_XID = 3
LARGEST_TIMELINE = 0xFFFFFFFF


class TargetError(BarmanError):
    """The target cannot be read as exactly one thing; the message shows what to type."""


@dataclass(frozen=True)
class Target:
    """Where replay stops. value is PostgreSQL's spelling, utc is set for a time only."""

    type: str
    value: str
    utc: datetime | None = None
    timeline: int | None = None
    exclusive: bool = False

    @property
    def shown(self):
        """The dict that results and plans carry."""
        return dict(type=self.type, value=self.value, utc=self.utc.isoformat() if self.utc else None)

    def settings(self, timeline, action="pause"):
        """The settings that make PostgreSQL stop here, in the order in which postgresql.auto.conf must have them.

        Targets that an earlier restore left in the backup are emptied, and that comes first: PostgreSQL ends with
        'multiple recovery targets specified' when it reads even an empty target after another one.
        """
        own = {"time": "recovery_target_time", "lsn": "recovery_target_lsn", "xid": "recovery_target_xid",
               "name": "recovery_target_name", "immediate": "recovery_target"}
        lines = {setting: "" for kind, setting in own.items() if kind != self.type}
        if self.type in own:
            lines[own[self.type]] = self.value
        lines["recovery_target_inclusive"] = "off" if self.exclusive else "on"
        lines["recovery_target_timeline"] = str(timeline)
        lines["recovery_target_action"] = action
        return lines


def spell(moment):
    """A moment as Barman and PostgreSQL read it on every version: UTC, with the offset."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f+00:00")


def echo(moment, *zones):
    """The same moment in UTC and in each of the zones (tzinfo objects, None is left out), as ISO 8601."""
    places = [timezone.utc] + [zone for zone in zones if zone is not None]
    return list(dict.fromkeys(moment.astimezone(place).isoformat() for place in places))


def parse_target(params, now=None):
    """The one Target in a module's params, else TargetError. Empty text and false count as not given."""
    given = {kind: params.get(f"target_{kind}") for kind in TYPES}
    for kind in ("immediate", "latest"):
        given[kind] = _switch(given[kind], f"target_{kind}")
    given = {kind: str(value).strip() if value is not True else True for kind, value in given.items() if value not in (None, False)}
    given = {kind: value for kind, value in given.items() if value != ""}
    if len(given) != 1:
        raise TargetError(_count(given))
    kind, value = next(iter(given.items()))
    utc = None
    if kind == "time":
        utc = parse_moment(value, now)
        value = spell(utc)
    elif kind in READERS:
        value = READERS[kind](value)
    else:
        value = kind
    exclusive = bool(params.get("target_exclusive"))
    if exclusive and kind not in ("time", "lsn", "xid"):
        raise TargetError(f"target_exclusive stops just before a time, an LSN or a transaction; it means nothing with target_{kind}. Leave it out.")
    return Target(kind, value, utc, _timeline(params.get("target_timeline")), exclusive)


def parse_moment(text, now=None):
    """Text as a moment in UTC, else TargetError saying what is wrong with it and what to type."""
    text = str(text).strip()
    now = now or datetime.now(timezone.utc)
    found = MOMENT.fullmatch(text)
    if not found:
        raise TargetError(f"target_time {_quoted(text)} {_complaint(text)}")
    if int(found["zone_hour"] or 0) > LARGEST_ZONE_HOUR or int(found["zone_minute"] or 0) > 59:
        raise TargetError(f"target_time {_quoted(text)} has the offset {found['zone']}, and none is larger than 15:59. {FORM}.")
    try:
        moment = datetime.strptime(f"{found['date']} {found['hour']}:{found['minute']}:{found['second'] or '00'}", "%Y-%m-%d %H:%M:%S")
    except ValueError as error:
        raise TargetError(f"target_time {_quoted(text)} is not in the calendar or on the clock (00:00:00 to 23:59:59): {error}. {FORM}.") from error
    offset = timedelta(hours=int(found["zone_hour"] or 0), minutes=int(found["zone_minute"] or 0))
    zone = timezone(-offset if found["sign"] == "-" else offset)
    moment = moment.replace(microsecond=int((found["fraction"] or "0").ljust(6, "0")), tzinfo=zone)
    try:
        moment = moment.astimezone(timezone.utc)
    except OverflowError:
        raise TargetError(f"target_time {_quoted(text)} is before the first day of the calendar. {FORM}.") from None
    if moment > now:
        raise TargetError(
            f"target_time {_quoted(text)} is {moment.isoformat()}, and that is in the future: now it is "
            f"{now.astimezone(timezone.utc).isoformat(timespec='seconds')}. Type a moment of the past, or target_latest=true for the last one in the archive."
        )
    return moment


def _quoted(text):
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _complaint(text):
    """What is wrong with a moment that has not the one spelling, and the spelling to type."""
    day = re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text)
    if day:
        return (
            f"has no time of day. Type all of it: '{text} 14:30:00+02:00'. In a shell the space ends an extra variable unless it is quoted twice: "
            f"-e \"target_time='{text} 14:30:00+02:00'\", or write T for the space: -e target_time={text}T14:30:00+02:00"
        )
    if re.search(r"[\x00-\x1f\x7f'\"\\`;$]", text):
        return f"holds a quote, a newline or another character that no time has. {FORM}."
    if re.search(r"[0-9],[0-9]", text):
        return _perhaps("has a comma before the fraction, where PostgreSQL writes a point", text.replace(",", "."))
    if re.search(r"\.[0-9]{7,}", text):
        return _perhaps("is finer than a microsecond, PostgreSQL's unit", re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text))
    if re.match(r"[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{2,4}", text) or re.match(r"[0-9]{4}[/.][0-9]", text):
        return f"is not written year-month-day, and month and day could be taken for each other. {FORM}."
    zone = re.search(r"(?<=[0-9])[ ]?([A-Za-z][A-Za-z_/+-]*[0-9]*)$", text)
    if zone and re.match(r"[0-9]{4}-", text) and zone[1] not in ("T", "Z", "z", "t"):
        stem = text[:zone.start()].rstrip()
        form = f"'{stem}+02:00' for two hours ahead of UTC, '{stem}Z' for UTC itself" if MOMENT.fullmatch(stem + "Z") else f"'{EXAMPLE}'"
        return (
            f"ends in {zone[1]!r}; names and abbreviations of time zones are ambiguous (CST is used on three continents, and an hour comes twice "
            f"when summer time ends). Type the offset from UTC that held then: {form}."
        )
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", text):
        return (
            f"has no time zone, so it could be many moments. Type the offset from UTC too: '{text}+02:00' for two hours ahead of UTC, "
            f"'{text}Z' for UTC itself."
        )
    tidy = re.sub(r"\s+(?=[+-]?[0-9]{2}(:?[0-9]{2})?$|[Zz]$)", "", " ".join(text.split())).replace("t", "T").replace("z", "Z")
    tidy = re.sub(r"(?<=[0-9]{4}-[0-9]{2}-[0-9]{2}) *T *", "T", tidy)
    if tidy != text and MOMENT.fullmatch(tidy):
        return _perhaps("is not in the one spelling that is read", tidy)
    return f"is not a complete moment. {FORM}."


def _perhaps(complaint, better):
    return f"{complaint}. Type '{better}'." if MOMENT.fullmatch(better) else f"{complaint}. {FORM}."


def _switch(value, name):
    text = "" if value is None else str(value).strip().lower()
    if text in ("", "false", "no", "off", "0", "none"):
        return False
    if text in ("true", "yes", "on", "1"):
        return True
    raise TargetError(f"{name} is {_quoted(str(value))}, and only true or false are understood.")


def _count(given):
    choice = "target_time, target_lsn, target_xid, target_name, target_immediate=true or target_latest=true"
    if not given:
        return (
            f"No recovery target is given (empty ones do not count), and without one PostgreSQL would replay everything, the disaster too. "
            f"Give exactly one of {choice}."
        )
    return f"{len(given)} recovery targets are given: {', '.join('target_' + kind for kind in given)}. Give exactly one of {choice}."


def _lsn(value):
    found = LSN.fullmatch(value)
    if not found or int(found["high"], 16) + int(found["low"], 16) == 0:
        raise TargetError(f"target_lsn {_quoted(value)} is not a WAL location. Type it as PostgreSQL prints it, two hexadecimal numbers: '0/3000028'.")
    return f"{int(found['high'], 16):X}/{int(found['low'], 16):X}"


def _xid(value):
    # PostgreSQL reads a leading 0 as octal, so it gets the plain number; an epoch in the upper half is allowed there too.
    if not re.fullmatch(r"[0-9]{1,20}", value) or int(value) >= 2**64 or int(value) & 0xFFFFFFFF < FIRST_NORMAL_XID:
        raise TargetError(f"target_xid {_quoted(value)} is not a transaction id. Type the number, 3 or larger, as pg_current_xact_id() prints it: '741'.")
    return str(int(value))


def _name(value):
    if not RESTORE_POINT.fullmatch(value):
        raise TargetError(
            f"target_name {_quoted(value)} is not a restore point's name: 1 to 63 letters, digits, '_', '.' and '-' are allowed, and '-' not as the first. "
            f"Type the name that was given to pg_create_restore_point()."
        )
    return value


def _timeline(value):
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 0 < int(text) <= LARGEST_TIMELINE:
        raise TargetError(
            f"target_timeline {_quoted(text)} is not a timeline's number ('current' and 'latest' move, and a branch must not be guessed). "
            f"Type a number such as 2; barman_catalog_info lists them with their parents."
        )
    return int(text)


READERS = {"lsn": _lsn, "xid": _xid, "name": _name}
