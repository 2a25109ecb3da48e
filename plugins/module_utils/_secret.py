# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take secrets out of what Barman prints. Pure: text or data in, the same without secrets out.

'barman -f json' prints conninfo strings with their passwords, in show-servers as values and in every command inside error
messages; only the console output redacts them. Rather one word too many is taken out than one too few.
"""
from __future__ import annotations

import re

REDACTED = "*REDACTED*"

# Options of Barman whose whole value is a secret, or a command that may hold one.
SECRET_OPTIONS = frozenset(("aws_sse_customer_key", "custom_compression_filter", "custom_decompression_filter", "encryption_passphrase_command"))

# Names that end so; 'PasswordAuthentication' of ssh and 'password_encryption' of PostgreSQL are no secrets.
WORD = r"[A-Za-z0-9_-]*(?:password|passwd|passphrase|secret|token|api_?key|access_key|client_key|server_key)[0-9]*"
# A value of conninfo: quoted, where a backslash escapes, else up to the next white space. An unfinished quote runs to the end.
VALUE = r"(?:\*REDACTED\*(?=[\s\"'&]|$)|'(?:\\.|[^'\\])*'?|\"(?:\\.|[^\"\\])*\"?|(?:\\.|[^\s\\])+)"
PATTERNS = (
    (re.compile(r"([a-z][a-z0-9+.-]*://[^\s:/@\"']*:)[^\s\"]*@", re.IGNORECASE), rf"\g<1>{REDACTED}@"),
    (re.compile(rf"([?&]{WORD}=)[^\s&\"']*", re.IGNORECASE), rf"\g<1>{REDACTED}"),
    (re.compile(rf"((?<![?&A-Za-z0-9_-]){WORD}\s*=\s*){VALUE}", re.IGNORECASE | re.DOTALL), rf"\g<1>{REDACTED}"),
    (re.compile(rf"(\"{WORD}\"\s*:\s*){VALUE}", re.IGNORECASE | re.DOTALL), rf'\g<1>"{REDACTED}"'),
    (re.compile(rf"(\bsshpass\s+-p\s*){VALUE}", re.DOTALL), rf"\g<1>{REDACTED}"),
    (re.compile(rf"((?<!\S)--?{WORD}\s+)(?!-){VALUE}", re.IGNORECASE | re.DOTALL), rf"\g<1>{REDACTED}"),
)


def redact(value):
    """Text, or data of dicts and lists, without the secrets in it."""
    if isinstance(value, str):
        for pattern, replacement in PATTERNS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, dict):
        return {key: REDACTED if item and key in SECRET_OPTIONS else redact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    return value
