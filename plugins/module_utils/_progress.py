# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long task is: a line that the controller reads while the module runs (plugin_utils/watch.py)."""
from __future__ import annotations

import atexit
import os
import time
from contextlib import suppress

# The environment variable that names the file of the line; without it nobody listens.
VARIABLE = "PGRESCUE_PROGRESS"


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


def telling(line):
    """A function to be called again and again, whatever its arguments: it tells what line(seconds since the begin) returns, if anything.

    To find that out takes a twentieth of the time at most, however much there is to be measured.
    """
    begin = following = time.monotonic()

    def watch(*_anything):
        nonlocal following
        now = time.monotonic()
        if now >= following:
            text = line(now - begin)
            if text:
                tell(text)
            following = now + 20 * (time.monotonic() - now)

    return watch


def _forget(path):
    with suppress(OSError):
        os.unlink(path)
