# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    # Twin: POSTGRESQL_ARGUMENTS in plugins/module_utils/_postgres.py
    DOCUMENTATION = r"""
options:
  data_directory:
    description:
      - PostgreSQL's data directory, an absolute path without spaces, quotes and other characters that Barman would not quote.
      - Not given, it is the one of the only cluster of this host (the clusters in C(/etc/postgresql) on Debian), or of the one
        named by O(version) and O(cluster).
    type: str
  version:
    description:
      - The major version in Debian's name of the cluster, for example V(17).
    type: str
  cluster:
    description:
      - The name in Debian's name of the cluster, for example V(main).
    type: str
requirements:
  - PostgreSQL 13 or later on the host where the module runs
notes:
  - Runs on the PostgreSQL host and as the owner of the data directory (C(become_user=postgres)).
"""

    # Twin: LOGIN_ARGUMENTS in plugins/module_utils/_postgres.py
    LOGIN = r"""
options:
  login_unix_socket:
    description:
      - The directory of PostgreSQL's socket.
      - Not given, it is that of the running server, as its C(postmaster.pid) tells.
    type: str
  login_port:
    description:
      - The port of PostgreSQL, which names its socket too.
      - Not given, it is that of the running server, as its C(postmaster.pid) tells.
    type: int
  login_user:
    description:
      - The database role, a superuser for what these modules ask.
    type: str
    default: postgres
  login_db:
    description:
      - The database to connect to.
    type: str
    default: postgres
requirements:
  - psycopg2 on the host where the module runs (Debian's C(python3-psycopg2))
"""
