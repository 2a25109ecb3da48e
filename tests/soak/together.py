# Copyright (c) 2026 pgrescue contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two people, or one person twice, type recover.yml at once, to the same target or to another, while Barman backs up every minute:
one works, the other is refused and told by whom.

    PAIRS=3 SEED=7 python tests/soak/together.py
"""
from __future__ import annotations

import json
import os
import random
import sys
import time

from cuts import Cuts


def main():
    """Some rounds, each with another distance in time; the exit code."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    rounds, chosen, cuts = int(os.environ.get("PAIRS") or 3), random.Random(seed), Cuts()
    print(f"together: SEED={seed} PAIRS={rounds}", flush=True)
    wrong = 0
    with cuts.every_minute():
        for one in range(1, rounds + 1):
            cuts.life()
            people, other = (["ana", "bruno"], False) if one % 3 == 1 else (["ana", "ana"], one % 3 == 0)
            distance = chosen.choice((0, 0, 0.2, 1, 3, 15, 30))
            begin, runs = time.monotonic(), []
            for person in people:
                latest = {"target_time": "", "target_latest": True} if other and runs else {}
                runs.append(cuts.recover(variables=latest, holder=person, wait=False))
                time.sleep(distance)
            ends = [cuts.lab.ended(run) for run in runs]
            outcomes = sorted(report.get("outcome", "none") for _code, report in ends)
            refused = next((report for _code, report in ends if report.get("outcome") != "DONE"), {})
            first = ends[0][1].get("outcome") == "DONE"
            worker = people[0 if first else 1]
            if other and not first:
                cuts.before = cuts.rows
            problems = [] if outcomes == ["DONE", "REFUSED"] else [f"outcomes: {[report.get('message') for _code, report in ends]}"]
            if worker not in refused.get("message", "") and "still at work" not in refused.get("message", ""):
                problems.append(f"the refusal does not name {worker}: {refused.get('message')}")
            problems += cuts.afterwards(undone=False)
            wrong += bool(problems)
            print(json.dumps(dict(round=one, people=people, same_target=not other, distance=distance, outcomes=outcomes, right=not problems, wrong=problems,
                                  seconds=round(time.monotonic() - begin, 1))), flush=True)
    print(f"together: SEED={seed}: {rounds} rounds, {wrong} wrong", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
