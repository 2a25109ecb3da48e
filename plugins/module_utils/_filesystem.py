# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file system under a directory: type, room, and whether it clones files for free. Nothing is left behind."""
from __future__ import annotations

import fcntl
import os
import re
import shutil

MOUNTS = "/proc/self/mountinfo"
FICLONE = 0x40049409  # linux/fs.h
# A shell function: what tells a directory from any other at its path, inode and second of birth. The number of a device may be another one when its host
# has started again, so it serves only where a file system keeps no births.
IDENTITY = r"""
identity() { stat -L -c %i:%W "$1" | grep -v ":[-0?]$" || stat -L -c %d:%i "$1"; }
"""
CLONING = ("xfs", "btrfs", "bcachefs", "ocfs2", "zfs")


def existing(path):
    """The path, or the nearest directory above it that exists."""
    path = os.path.realpath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def mount_points(mounts=MOUNTS):
    """The roots of all mounted file systems, bind mounts too, from path to the kernel's name of the type."""
    found = {}
    with open(mounts, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            left, _dash, right = line.partition(" - ")
            found[re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4])] = right.split()[0]
    return found


def mounted_at(path, mounts=MOUNTS):
    """Where the file system that holds a path is mounted, and its type, as the kernel names it, else null."""
    path, best, kind = existing(path), "/", None
    for point, name in mount_points(mounts).items():
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, name
    return best, kind


def filesystem_type(path, mounts=MOUNTS):
    """The type of the file system that holds a path, as the kernel names it, else null."""
    return mounted_at(path, mounts)[1]


def reflink(path):
    """Whether the file system of a directory clones files (FICLONE). Tried on two nameless files, which vanish when closed."""
    directory = existing(path)
    if filesystem_type(directory) not in CLONING:
        return False
    try:
        source = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError:
        return False
    try:
        os.write(source, b"\0" * 4096)
        target = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            fcntl.ioctl(target, FICLONE, source)
            return True
        finally:
            os.close(target)
    except OSError:
        return False
    finally:
        os.close(source)


def clone(source, target, skip):
    """Clone the files below a directory into another one of the same file system, without those that are there and those that match skip.

    Blocks are shared until one side is written to (FICLONE), so it takes neither room nor time to speak of.
    """
    for top, names, files in os.walk(source):
        names[:] = [name for name in names if not skip.match(name)]
        place = os.path.join(target, os.path.relpath(top, source))
        os.makedirs(place, mode=0o700, exist_ok=True)
        for name in files:
            if skip.match(name) or os.path.lexists(os.path.join(place, name)):
                continue
            with open(os.path.join(top, name), "rb") as old, open(os.path.join(place, name), "xb") as new:
                fcntl.ioctl(new, FICLONE, old.fileno())
            shutil.copystat(old.name, new.name)


def free_bytes(path):
    """The bytes that an ordinary user can still write where a path is, or would be."""
    room = os.statvfs(existing(path))
    return room.f_bavail * room.f_frsize


def size_bytes(*paths):
    """The bytes that directories take on disk. A file that vanishes while it is counted is not counted."""
    total, seen = 0, set()
    for top in paths:
        for directory, _names, files in os.walk(top):
            for name in files:
                try:
                    found = os.lstat(os.path.join(directory, name))
                except OSError:
                    continue
                if found.st_nlink > 1 and found.st_ino in seen:
                    continue
                seen.add(found.st_ino)
                total += found.st_blocks * 512
    return total
