# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    # Twin: BARMAN_ARGUMENTS in plugins/module_utils/_barman.py
    DOCUMENTATION = r"""
options:
  barman_executable:
    description:
      - The C(barman) command, a name that is found in C(PATH) or an absolute path.
    type: str
    default: barman
  barman_config:
    description:
      - Barman's main configuration file, as C(barman --config) takes it.
      - Not given, Barman's own search applies, C(/etc/barman.conf) being the usual find.
    type: path
requirements:
  - Barman 3.4 or later on the host where the module runs
notes:
  - Runs on the Barman host and as the Barman user (C(become_user=barman)).
"""
