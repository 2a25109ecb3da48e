# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why ssh did not get through, in words. Pure: what OpenSSH printed in, a reason and a remedy out."""
from __future__ import annotations

import re

SITE = "run playbooks/site.yml"
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
# What ssh prints (LC_ALL does not change it), what that means, what helps. The first that fits is the reason.
REASONS = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", "the host key of {host} is another one than the one that is known",
     "Either that host was made anew, or somebody else answers under its name.",
     f"If it was made anew, {SITE}, which fetches its key over Ansible's own connection. If not, find out who answers there."),
    (r"host key is known for|Host key verification failed", "the host key of {host} is not known", "Nobody can say that it is the right host.",
     f"To have the key fetched over Ansible's own connection, {SITE}."),
    (r"Could not resolve hostname", "the name {host} cannot be resolved", "It is the name by which the one host is told to reach the other.",
     "Put it into DNS or into /etc/hosts there, or say another one with pg_primary_address (the PostgreSQL host) or pg_primary_barman_address (Barman), and "
     + SITE + "."),
    (r"Permission denied|Too many authentication failures", "{host} does not accept the SSH key", "The key is not, or no more, allowed there.",
     f"To have the keys exchanged again, {SITE}."),
    (r"Connection refused", "nobody answers on the SSH port of {host}", "sshd does not run there, or listens on another port.", "Start sshd on it."),
    (r"timed out|No route to host|Network is unreachable|Connection closed|Connection reset", "{host} cannot be reached by SSH",
     "It is down, or the network between the two hosts is.", "See that it runs, and that a firewall lets port 22 through between the two."),
)


def explain(stderr, host):
    """Triple found, meaning, fix for what ssh said when it failed (exit code 255); None when it is no reason that is known."""
    for pattern, found, meaning, fix in REASONS:
        if re.search(pattern, stderr):
            shown = FINGERPRINT.search(stderr)
            return found.format(host=host) + (f" (it shows {shown.group()})" if shown else ""), meaning, fix
    return None
