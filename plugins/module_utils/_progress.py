# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long task is: a line that the controller reads while the module runs (plugin_utils/watch.py)."""
from __future__ import annotations

import atexit
import os
from contextlib import suppress

# The environment variable that names the file of the line; without it nobody listens.
VARIABLE = "PGRESCUE_PROGRESS"
UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def tell(line):
    """Replace what is told; it goes when the module ends. That it cannot be told is no reason to end the work."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    with suppress(OSError):
        if not os.path.exists(path):
            atexit.register(_forget, path)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(line)
        os.rename(path + ".new", path)


def _forget(path):
    with suppress(OSError):
        os.unlink(path)


def size(count):
    """Bytes as people read them, in powers of 1000."""
    power = 0
    while count >= 1000 and power < len(UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {UNITS[power]}" if power else f"{count} bytes"


def share(done, total, seconds):
    """Bytes done of a total (None: not known) in some seconds, with percent, rate and the time that is left at this rate."""
    if not total:
        return size(done)
    done = min(done, total)
    left = f", {size(round(done / seconds))}/s, {round(seconds * (total - done) / done)} s left" if done and seconds else ""
    return f"{size(done)} of {size(total)}, {100 * done // total} %{left}"
