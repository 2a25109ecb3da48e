# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health of a server: Barman's own checks, and what Barman does not look at.

'barman check' is content with a backup that died in the middle, with a hole in the WAL and, by its exit code, with an
inactive server. The checks that begin with pgrescue_ see these; they need the catalogue only.
"""
from __future__ import annotations

import fcntl
from datetime import datetime, timezone

from ._backups import moment
from ._selection import RUNNING


def run_check(barman, names):
    """name -> list of checks as Barman sees the servers now; one process for all of them."""
    answer = barman.call("check", *names, accept=(0, 1))
    found = {name: parse_checks(answer.data.get(name) or {}) for name in names}
    for name, checks in found.items():
        if not checks:
            checks.append(check("barman_check", False, f"Barman checked nothing: {answer.skipped or answer.reason}"))
    return found


def parse_checks(entry):
    """One server's entry of 'barman -f json check' as a list of checks."""
    return [check(name, result["status"] == "OK", result.get("hint")) for name, result in sorted(entry.items())]


def check(name, ok, hint=None):
    return dict(name=name, ok=ok, hint=hint or None)


def failed(checks):
    """The checks that failed, as one text: name (hint)."""
    return ", ".join(entry["name"] + (f" ({entry['hint']})" if entry["hint"] else "") for entry in checks if not entry["ok"])


def own_checks(server, catalog, lock_held, now=None):
    """What the configuration and the catalogue tell without Barman: a ServerConfiguration and its dict of read_catalog()."""
    backups = catalog["backups"]
    good = [backup for backup in backups if backup["good"]]
    dead = [backup["backup_id"] for backup in backups if backup["status"] in RUNNING]
    dead = dead[:-1] if lock_held else dead
    poisoned = [backup["backup_id"] for backup in backups if backup["status"] == "DONE" and not backup["good"]]
    wanted = int(server.options.get("minimum_redundancy") or 0)
    holes = [f"{hole['first']}..{hole['last']} ({hole['reason']})" for hole in holes_after(catalog["wal"]["missing"], good)]
    newest = max((moment(backup["end_time"]) for backup in good), default=None)
    age = f"the newest good backup ended {int(((now or datetime.now(timezone.utc)) - newest).total_seconds())} s ago" if newest else "no good backup"
    return [
        check("pgrescue_active", server.active and not server.passive, None if server.active else "active = false or disabled: Barman skips this server"),
        check("pgrescue_dead_backups", not dead, f"unfinished, and no process works on it: {', '.join(dead)}" if dead else None),
        check("pgrescue_good_backups", len(good) >= max(wanted, 1), f"{len(good)} good, minimum_redundancy {wanted}; {age}"),
        check("pgrescue_duplicate_wal", not poisoned, f"DONE, but own WAL was refused as a duplicate: {', '.join(poisoned)}" if poisoned else None),
        check("pgrescue_wal_continuity", not holes, f"missing: {', '.join(holes)}" if holes else None),
    ]


def holes_after(missing, good):
    """Holes that the newest good backup has to cross; those before it are history that only older backups need."""
    if not good:
        return missing
    newest = good[-1]
    return [hole for hole in missing if hole["timeline"] >= newest["timeline"] and hole["last"][8:] >= newest["begin_wal"][8:]]


def backup_runs(configuration, name):
    """Whether a backup or a deletion of the server runs."""
    return is_locked(configuration, f"{name}-backup")


def is_locked(configuration, what):
    """Whether a process of Barman holds a lock file (flock, never left behind by the dead)."""
    try:
        with open(configuration.lock_file(what), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
