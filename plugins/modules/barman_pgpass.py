#!/usr/bin/python
# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: barman_pgpass
short_description: Passwords with which Barman connects, in its own .pgpass and nowhere else
version_added: 0.1.0
description:
  - Ensures that libpq finds a password for each of the given connections in a password file, and makes one where none is given.
  - A password never leaves the host. What PostgreSQL needs is returned instead, a C(SCRAM-SHA-256) verifier, from which the password cannot be computed.
  - The verifier stays the same between runs, because it is kept beside the password file.
author: pgrescue contributors (@pgrescue)
options:
  path:
    description:
      - The password file. libpq looks for it at the default place, and ignores it unless only its owner can read it, which the module ensures.
    type: path
    default: ~/.pgpass
  verifiers_path:
    description:
      - Where the verifiers are kept, readable for the owner only. Its directory is made if it is missing.
    type: path
    default: ~/.pgrescue/verifiers.json
  entries:
    description:
      - The connections. Other lines of the file are left as they are.
    type: list
    elements: dict
    required: true
    suboptions:
      host:
        description: The host as C(conninfo) names it.
        type: str
        required: true
      port:
        description: The port, or V(*) for any.
        type: str
        default: '*'
      database:
        description: The database, or V(*) for any; libpq calls a replication connection V(replication).
        type: str
        default: '*'
      user:
        description: The user.
        type: str
        required: true
      password:
        description:
          - The password, printable ASCII. PostgreSQL normalises other characters (SASLprep), which this module does not.
          - Not given, the password in the file is kept; where the file has none, one with 256 random bits is made.
        type: str
attributes:
  check_mode:
    support: full
    description: In check mode a verifier is null when its password would only be made.
  diff_mode:
    support: full
    description: Shows which lines change, never a password.
  idempotent:
    support: full
    description: The same entries on the same file change nothing, and give the same verifiers.
  async:
    support: full
    description: Ends at once; it talks to nobody.
  platform:
    platforms: posix
    support: full
    description: Runs on the Barman host as the Barman user (C(become_user=barman)).
notes:
  - The task should say C(no_log=true). A verifier is no password, but whoever holds it can play the server to that client.
"""

EXAMPLES = r"""
- name: Ensure the passwords of Barman's two users
  pgrescue.barman.barman_pgpass:
    entries:
      - {host: db1.example.com, user: barman}
      - {host: db1.example.com, user: streaming_barman}
  become: true
  become_user: barman
  no_log: true
  register: passwords
"""

RETURN = r"""
path:
  description: The password file, with C(~) resolved.
  returned: success
  type: str
  sample: /var/lib/barman/.pgpass
verifiers:
  description: One verifier for each entry, in the order of O(entries).
  returned: success
  type: list
  elements: dict
  contains:
    host:
      description: As in O(entries).
      type: str
    user:
      description: As in O(entries).
      type: str
    verifier:
      description: What C(CREATE ROLE … PASSWORD) takes instead of the password. Null in check mode when the password would only be made.
      type: str
"""

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile

from ansible.module_utils.basic import AnsibleModule

FIELDS = ("host", "port", "database", "user")
ITERATIONS = 4096  # PostgreSQL's own default (scram_iterations)
VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


class PgpassError(Exception):
    """The password file cannot be what was asked for."""


def split(line):
    """The five fields of a line, unescaped, or None for a comment or anything else."""
    if line.startswith("#"):
        return None
    parts = [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"((?:\\.|[^:\\])*)(?::|$)", line)[:5]]
    return parts if len(parts) == 5 else None


def join(fields):
    """A line of the password file: ':' and '\\' within a field are escaped."""
    return ":".join(re.sub(r"([:\\])", r"\\\1", field) for field in fields)


def used_line(lines, entry):
    """The number of the line that libpq takes for an entry (the first that matches wins), or None."""
    for number, line in enumerate(lines):
        fields = split(line)
        if fields and all(have in ("*", entry[name]) for have, name in zip(fields, FIELDS)):
            return number
    return None


def ensure(lines, entry):
    """Make libpq find the entry's password in the lines. Returns the password and whether it was made here."""
    number = used_line(lines, entry)
    there = split(lines[number])[4] if number is not None else None
    made = not entry["password"] and not there
    password = entry["password"] or there or secrets.token_urlsafe(32)
    if password != there:
        key = [entry[name] for name in FIELDS]
        line = join(key + [password])
        if number is None:
            lines.append(line)
        elif split(lines[number])[:4] == key:
            lines[number] = line
        else:
            lines.insert(number, line)
    return password, made


def verifier(password, salt, iterations=ITERATIONS):
    """The SCRAM-SHA-256 verifier of a password (RFC 5803, as PostgreSQL stores it)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt, stored, server = (base64.b64encode(value).decode() for value in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt}${stored}:{server}"


def fits(known, password):
    """Whether a verifier belongs to a password."""
    found = VERIFIER.fullmatch(known or "")
    return bool(found) and hmac.compare_digest(verifier(password, base64.b64decode(found[2]), int(found[1])), known)


def check(entry):
    """Raise PgpassError for an entry that cannot be a line."""
    for name in FIELDS:
        if not entry[name] or re.search(r"[\x00-\x1f]", entry[name]):
            raise PgpassError(f"entries: the {name} {entry[name]!r} is empty or has a control character. Give a plain {name}.")
    if entry["password"] is not None and not re.fullmatch(r"[\x20-\x7e]{1,256}", entry["password"]):
        raise PgpassError(
            f"the password for {entry['user']} at {entry['host']} is empty, too long, or not printable ASCII. "
            f"Give another one, or none: then one is made."
        )


def read(path):
    """The text of a file and whether anybody but its owner can reach it; a missing file is empty."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(), bool(os.fstat(file.fileno()).st_mode & 0o077)
    except FileNotFoundError:
        return "", False
    except (OSError, UnicodeDecodeError) as error:
        raise PgpassError(f"{path} cannot be read: {error}. Run this as the Barman user, who owns it.") from error


def write(path, text):
    """Replace a file as a whole, readable for its owner only."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".draft-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise PgpassError(f"{path} cannot be written: {error.strerror}. Run this as the Barman user, who owns it.") from error


def hide(text):
    """The password file for a diff."""
    shown = [split(line) for line in text.splitlines()]
    return "".join((line if fields is None else join(fields[:4] + ["********"])) + "\n" for line, fields in zip(text.splitlines(), shown))


def run(module):
    path, verifiers_path, entries = (module.params[name] for name in ("path", "verifiers_path", "entries"))
    for entry in entries:
        check(entry)
    before, exposed = read(path)
    kept, kept_exposed = read(verifiers_path)
    try:
        known = json.loads(kept or "{}")
    except ValueError as error:
        raise PgpassError(f"{verifiers_path} is not JSON ({error}). Remove it: the verifiers are then made anew.") from error

    lines, answers = before.splitlines(), []
    for entry in entries:
        password, made = ensure(lines, entry)
        key = join([entry[name] for name in FIELDS])
        if not fits(known.get(key), password):
            known[key] = verifier(password, secrets.token_bytes(16))
        answers.append(dict(host=entry["host"], user=entry["user"], verifier=None if made and module.check_mode else known[key]))

    after = "".join(line + "\n" for line in lines)
    verifiers = json.dumps(known, indent=1, sort_keys=True) + "\n"
    write_passwords = after != before or exposed
    write_verifiers = verifiers != kept or kept_exposed
    if not module.check_mode:
        if write_passwords:
            write(path, after)
        if write_verifiers:
            write(verifiers_path, verifiers)
    result = dict(changed=write_passwords or write_verifiers, path=path, verifiers=answers)
    if module._diff and write_passwords:
        result["diff"] = dict(before=hide(before), after=hide(after), before_header=path, after_header=path)
    return result


def main():
    module = AnsibleModule(
        argument_spec=dict(
            path=dict(type="path", default="~/.pgpass"),
            verifiers_path=dict(type="path", default="~/.pgrescue/verifiers.json"),
            entries=dict(
                type="list", elements="dict", required=True, no_log=False,
                options=dict(
                    host=dict(type="str", required=True),
                    port=dict(type="str", default="*"),
                    database=dict(type="str", default="*"),
                    user=dict(type="str", required=True),
                    password=dict(type="str", no_log=True),
                ),
            ),
        ),
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except PgpassError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
