# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One server as 'barman -f json show-servers' prints it, taken apart and with types. Pure: a dict in, a dict out.

Barman prints its configuration and what it has just found out in one flat object, as Python shows them: 'None',
"BackupOptions({'concurrent_backup'})", numbers as text. Whatever is not known here as found out is an option, so that
the options of a later Barman pass through in its own words.
"""
from __future__ import annotations

import ast
import re
from datetime import datetime

from ._secret import redact

# What get_remote_status() of barman/{postgres,server,backup_executor,wal_archiver}.py finds out, from 3.4 to 3.20.
FOUND_OUT = frozenset("""
    active_model archive_command archive_mode archive_timeout archived_count checkpoint_timeout config_file connection_error
    current_archived_wals_per_second current_lsn current_size current_xlog data_checksums data_directory failed_count
    has_backup_privileges has_monitoring_privileges hba_file hot_standby ident_file included_files is_archiving is_in_recovery
    is_superuser last_archived_time last_archived_wal last_failed_time last_failed_wal max_replication_slots max_wal_senders
    pg_basebackup_bwlimit pg_basebackup_compatible pg_basebackup_installed pg_basebackup_path pg_basebackup_tbls_mapping
    pg_basebackup_version pg_receivexlog_compatible pg_receivexlog_installed pg_receivexlog_path pg_receivexlog_supports_slots
    pg_receivexlog_synchronous pg_receivexlog_version postgres_systemid replication_slot replication_slot_support
    server_txt_version stats_reset streaming streaming_supported streaming_systemid summarize_wal synchronous_standby_names
    timeline version_supported wal_compression wal_keep_segments wal_keep_size wal_level xlog_segment_size xlogpos
""".split())
SUMMARY = frozenset(("name", "description", "passive_node", "msg_list"))      # these are keys of the server itself

INTEGERS = frozenset(("current_size", "max_replication_slots", "max_wal_senders", "wal_keep_segments"))
FLOATS = frozenset(("current_archived_wals_per_second",))
SWITCHES = frozenset(("data_checksums", "hot_standby", "summarize_wal"))
TIMES = frozenset(("last_archived_time", "last_failed_time", "stats_reset"))
# Barman adds prose to the one ('1 day (WARNING! ...)') and prints the other as Python does ('1 day, 0:00:00').
AGES = frozenset(("last_backup_maximum_age", "last_wal_maximum_age"))

OPTION_SET = re.compile(r"[A-Za-z]+Options\((?P<values>.*)\)", re.DOTALL)
RECORD = re.compile(r"Record\((?P<fields>.*)\)", re.DOTALL)
FIELD = re.compile(r"(?P<name>\w+)=(?P<value>'[^']*'|[^,\s]+)")


def read_server(entry, written):
    """A server of barman_server_info: its entry in the answer of Barman and its options as the files have them."""
    values = {key: typed(key, value) for key, value in entry.items() if key not in SUMMARY}
    for age in AGES.intersection(values):
        values[age] = written.get(age)
    status = {key: value for key, value in values.items() if key in FOUND_OUT}
    return redact(dict(
        name=entry["name"],
        description=written.get("description"),
        active=bool(entry.get("active")) and not entry.get("disabled"),
        passive=bool(entry.get("passive_node")),
        answers=status["server_txt_version"] is not None if "server_txt_version" in status else None,
        problems=[str(message) for message in entry.get("msg_list") or []],
        configuration={key: value for key, value in values.items() if key not in FOUND_OUT},
        status=status,
    ))


def typed(key, value):
    """A value of Barman as data: null, a number, a boolean, a list, ISO 8601, a dict; text that is only text stays."""
    if isinstance(value, list):
        return [item for item in value if item != ""]
    if not isinstance(value, str):
        return value
    if value in ("None", ""):
        return None
    found = OPTION_SET.fullmatch(value)
    if found:
        return sorted(ast.literal_eval(found["values"])) if found["values"] not in ("", "{}") else []
    found = RECORD.fullmatch(value)
    if found:
        return {field["name"]: ast.literal_eval(field["value"]) for field in FIELD.finditer(found["fields"])}
    return CONVERSIONS.get(key, str)(value)


def _number(kind):
    def convert(value):
        try:
            return kind(value)
        except ValueError:
            return value
    return convert


def _switch(value):
    return {"on": True, "off": False}.get(value, value)


def _time(value):
    try:
        return datetime.fromisoformat(value).isoformat()
    except ValueError:
        return value


CONVERSIONS = {
    **dict.fromkeys(INTEGERS, _number(int)),
    **dict.fromkeys(FLOATS, _number(float)),
    **dict.fromkeys(SWITCHES, _switch),
    **dict.fromkeys(TIMES, _time),
}
