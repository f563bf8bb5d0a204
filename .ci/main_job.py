#!/usr/bin/env python3
"""Holds a run of the main job to what the README says of it: main_job.py RUN_FOLDER.

The exit code alone would not do: a run whose load was thin, or whose faults were few, can pass as well.
"""

import json
import pathlib
import sys

FAULTS_MIN = 5
SENDS_MIN = 10_000
# How late the generator is depends on who else uses the machine: above this it is told, and the run itself says from
# where on it proves nothing.
LAG_P99_MS_AIM = 5.0
KEPT = ["lost-acked", "duplicate-stored", "duplicate-delivered", "retry-duplicate",
        "divergent-order", "sender-reorder", "causal-reorder"]
FIGURES = ["first_ok_ms", "steady_ms", "first_ok_after_heal_ms", "steady_after_heal_ms", "worst_gap_ms"]


def complaints(run):
    """Everything in `run` that is not as it must be."""
    if (run["exit_code"], run["verdict"]) != (0, "pass"):
        yield f"exit code {run['exit_code']}, verdict {run['verdict']}: {run['reasons']}"
    proven = [fault for fault in run["faults"] if fault["outcome"] == "installed" and fault["evidence"]]
    if len(proven) < FAULTS_MIN:
        yield f"{len(proven)} faults with evidence, {FAULTS_MIN} or more are wanted"
    promises = {promise["name"]: promise for promise in run["promises"]}
    for name in KEPT:
        promise = promises.get(name, {})
        if promise.get("verdict") != "pass" or not promise.get("obligations"):
            yield f"the promise {name} was not judged and kept: {promise}"
    for kind in ["send", "deliver"]:
        rows = [row for row in run["recovery"] if (row["fault"], row["class"], row["group"]) == ("run", kind, "all")]
        if len(rows) != 1 or not isinstance(rows[0]["bound_ms"], (int, float)):
            yield f"no bounded recovery of {kind}: {rows}"
            continue
        for figure in FIGURES:
            if not isinstance(rows[0][figure], (int, float)):
                yield f"{kind}.{figure} is no figure: {rows[0][figure]}"
    load = run["load"]
    if load["ok"] <= SENDS_MIN:
        yield f"{load['ok']} sends acknowledged, more than {SENDS_MIN} are wanted"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    file = pathlib.Path(sys.argv[1]) / "run.json"
    run = json.loads(file.read_text())
    wrong = list(complaints(run))
    lag = run["load"]["lag_p99_ms"]
    print(f"main job: the generator lagged by {lag} ms at p99, the aim is less than {LAG_P99_MS_AIM} ms")
    for what in wrong:
        print(f"main job: {what}")
    if wrong:
        sys.exit(1)
    print(f"main job: as it must be ({file})")


if __name__ == "__main__":
    main()
