# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from ansible_collections.pgrescue.barman.plugins.filter.drop_target import drop_target


def did(lsn, name="public.customer", timeline=1, between=0, database="shop"):
    def target(value):
        return dict(target_lsn=value, target_exclusive=True, target_timeline=timeline)

    return dict(
        xid=747, kind="drop", commit_time="2026-11-23T10:00:00.000000+00:00", commit_lsn=lsn, timeline=timeline, commits_between=between,
        relations=[dict(name=name, oid=16400, database=database)], target=target(lsn), target_inspect=target("0/100"),
    )


def search(*transactions, unnamed=0, others=(), searched=(), databases=(), known=()):
    read = [dict(last_lsn=lsn, note=note) for lsn, note in searched]
    return dict(
        transactions=list(transactions), unnamed=unnamed, others=list(others), searched=read, unnamed_databases=list(databases),
        known=[dict(database=name) for name in known],
    )


@pytest.mark.parametrize("between, lsn", [(0, "0/100"), (2, "0/200")])
def test_one(between, lsn):
    one = did("0/200", between=between)
    choice = drop_target("public.customer", search(one), search(one))
    assert choice["doubt"] == "" and choice["transaction"] == dict(
        one, summary="transaction 747, which dropped public.customer in database shop at 2026-11-23T10:00:00.000000+00:00", also="")
    assert choice["target"] == dict(target_lsn=lsn, target_exclusive=True, target_timeline=1)


def test_what_was_lost_shortly_before_is_told():
    lineitem = dict(did("0/180", "public.lineitem"), commit_time="2026-11-23T09:30:00.000000+00:00")
    long_ago = dict(did("0/170", "public.old"), commit_time="2026-11-23T08:30:00.000000+00:00")
    choice = drop_target("public.customer", search(did("0/200"), others=[long_ago, lineitem, did("0/300", "public.later")]))
    assert choice["transaction"]["also"] == "public.lineitem in database shop at 2026-11-23T09:30:00.000000+00:00"


def test_not_archived_yet():
    assert drop_target("customer", search(), search(did("0/200")))["target"]["target_lsn"] == "0/100"


def test_lock_from_before():
    assert drop_target("customer", search(dict(did("0/200"), target_inspect=None)))["target"]["target_lsn"] == "0/200"


@pytest.mark.parametrize("archive, live, branches, says", [
    (search(did("0/200")), search(did("0/300")), [], "2 transactions .*=0/200 .*timeline=1; .*=0/300 "),
    (search(did("0/200"), did("0/300", database="blog")), {}, [], "before_drop=blog.public.customer or -e before_drop=shop.public.customer"),
    (search(did("0/200"), unnamed=1, others=[did("0/300", None)]), {}, [], "may have been customer.*something of oid 16400"),
    (search(others=[did("0/300", "public.customers")]), {}, [], "No transaction.*drop of public.customers"),
    (search(), {}, [], "Nothing else was either"),
    (search(), {}, [search(did("0/200", timeline=3)), dict(msg="failed"), search(did("0/200", timeline=3))], "another branch[^;]*timeline=3"),
    (dict(msg="WAL cannot be searched: x.", others=[did("0/300", "public.customers")]), {}, [], "searched: x. Or customer is not spelt so.*customers"),
    (dict(msg="WAL cannot be searched: x."), {}, [], "^WAL cannot be searched: x.$"),
    (search(did("0/200"), searched=[("0/300", "not after 0/300")]), {}, [], "^It is not sure.*not read as a whole: not after 0/300.*target_time.*=0/200 "),
    (search(did("0/200"), searched=[("0/300", "hole"), ("0/900", None)]), {}, [], "not read as a whole: hole. .*bring back the segments"),
    (search(did("0/200"), searched=[("0/300", "hole"), (None, "more"), ("0/900", None)]), {}, [], "not read as a whole: hole; more. "),
    (search(searched=[("0/300", "hole"), ("0/900", None)]), {}, [], "^No transaction.*not read as a whole: hole"),
    (search(did("0/200")), search(unnamed=3), [], "3 transactions .*may have been customer.*=0/200 "),
    (search(unnamed=1), search(unnamed=2, others=[did("0/300", None)]), [], "3 transactions .*something of oid 16400"),
    (search(did("0/200")), dict(msg="WAL cannot be searched: x."), [], "not archived yet could not be searched: WAL cannot be searched: x. .*=0/200 "),
    (search(), dict(msg="WAL cannot be searched: x.", failed=False), [], "^No transaction.*not archived yet could not be searched: .*: x.$"),
    (search(did("0/200"), databases=["blog"], known=["shop", "blog"]), {}, [],
     r"A database was dropped with all that it had \(blog\), .* -e before_drop=shop.public.customer\. "),
    (search(did("0/200")), search(databases=["16999"]), [], r"\(16999\), .* -e before_drop=DATABASE.public.customer\. "),
])
def test_doubt(archive, live, branches, says):
    choice = drop_target("customer", archive, live, branches)
    assert choice["transaction"] == choice["target"] == {}
    assert re.search(says, choice["doubt"]), choice["doubt"]


@pytest.mark.parametrize("archive, live", [
    (search(did("A/200"), searched=[("9/F000000", "hole"), ("A/900", None)]), {}),
    (search(did("0/200"), searched=[(None, "the beginning"), ("0/900", None)]), {}),
    (search(searched=[("0/100", "hole")]), search(did("0/200"), searched=[("0/900", "segments for later use")])),
    (search(did("0/200")), dict(skipped=True, changed=False)),
    (search(did("0/200")), search(searched=[("0/300", "segments for later use")])),
])
def test_sure_although_not_all_was_read(archive, live):
    """What was found lies after what could not be read, or nothing was to be read there."""
    assert drop_target("customer", archive, live)["doubt"] == ""


def test_nothing_is_said_of_names_when_only_a_database_is_gone():
    assert "created after the last backup" not in drop_target("customer", search(did("0/200"), databases=["blog"]))["doubt"]
