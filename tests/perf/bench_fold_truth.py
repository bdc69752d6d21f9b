"""How well profiles follow the users' true interests: cosine with the truth by day, for each gate.

A generated log records each user's interests and when they change. The truth of a day is the mean of the
item vectors of the user's topics, weighted by the user's mixture. The mean of all items is subtracted from
profile and truth before they are compared. Only users with at least 150 events whose interests change after
the 75th count. Without Spark, by the kernel alone.

    python -m tests.perf.bench_fold_truth [--plot FILE.svg]
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from contextlib import redirect_stdout
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import make_demo_logs
from tests.perf.report import Ratio, report
from tests.udfs.engines.configs import config
from tests.udfs.fold.configs import constants
from udfs.engines.load import load_embedder
from udfs.fold.contract import EVENT_ROW, INPUT_SCHEMA, VECTOR_ROW, FoldConstants
from udfs.fold.stream import fold_stream

DAYS, USERS = 75, 120
LEAST_EVENTS, BEFORE_CHANGE = 150, 75
# Days around the change that are compared.
AROUND = range(-15, 31)
GATES = [
    ("effective", "follow"),
    ("effective", "resist"),
    ("literal", "follow"),
    ("mean", "follow"),
    ("fixed", "follow"),
]
WEIGHTS = {
    "purchase": 1.0,
    "return": 1.0,
    "review": 1.0,
    "rating": 0.8,
    "cart": 0.6,
    "click": 0.3,
    "view": 0.2,
}


def events_of(logs: Path) -> dict[str, list[dict[str, Any]]]:
    """Each user's readable events about an item that the user likes, in the fold's order."""
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for line in (
        line
        for file in sorted(logs.glob("dt=*/*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ):
        try:
            event = json.loads(line)
            moment = datetime.fromisoformat(event["event_ts"]).astimezone(UTC)
        except ValueError:
            continue
        is_liked = event["event_type"] not in ("retract", "return") and event.get("rating", 5) > 2
        if is_liked and event.get("user_id") and event.get("item_id"):
            found[event["user_id"]][event["event_id"]] = event | {"moment": moment}
    return {
        user: sorted(events.values(), key=lambda e: (e["moment"], e["event_id"].encode()))
        for user, events in sorted(found.items())
    }


def states_of(
    events: dict[str, list[dict[str, Any]]], vectors: dict[str, np.ndarray], formula: FoldConstants
) -> dict[str, Any]:
    """Each user's (day, profile), in the order of days."""
    rows = [
        {"kind": VECTOR_ROW, "text_key": item, "vector": vector.tolist()} for item, vector in vectors.items()
    ]
    rows += [event_row(user, event) for user, own in events.items() for event in own]
    states = defaultdict(list)
    for batch in fold_stream(iter([pa.RecordBatch.from_pylist(rows, INPUT_SCHEMA)]), formula):
        for row in batch.select(["user_id", "as_of_date", "vector"]).to_pylist():
            states[row["user_id"]].append((row["as_of_date"], np.array(row["vector"])))
    return states


def event_row(user: str, event: dict[str, Any]) -> dict[str, Any]:
    """A row of the fold's stream."""
    return {
        "kind": EVENT_ROW,
        "user_id": user,
        "facet": "main",
        "user_bucket": 0,
        "day": event["moment"].date(),
        "event_ts": event["moment"],
        "event_id": event["event_id"],
        "weight": WEIGHTS.get(event["event_type"], 0.2),
        "text_key": event["item_id"],
        "digest_high": 0,
        "digest_low": 0,
    }


def cosines_of(
    states: list[tuple[date, np.ndarray]],
    user: dict[str, Any],
    topics: dict[str, np.ndarray],
    mean: np.ndarray,
) -> dict[int, float]:
    """Cosine of profile and truth by days from the change."""
    change = date.fromisoformat(user["change_date"])
    truths = {
        name: sum(share * (topics[topic] - mean) for topic, share in user[name].items())
        for name in ("before", "after")
    }
    found = {}
    for offset in AROUND:
        latest = [p for day, p in states if (day - change).days <= offset]
        if latest:
            truth, profile = truths["before" if offset < 0 else "after"], latest[-1] - mean
            found[offset] = float(truth @ profile / (np.linalg.norm(truth) * np.linalg.norm(profile)))
    return found


def plot(curves: dict[str, dict[int, float]], users: int, file: str) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "nightfold"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name, curve in curves.items():
        axes.plot(list(curve), list(curve.values()), label=name)
    axes.axvline(0, color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="days from the change of interests",
        ylabel="cosine of profile and truth",
        title=f"mean over {users} users",
    )
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def generated_log() -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any], list[dict[str, Any]]]:
    """Events by user, the truth about each user, and the items of a generated log."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        with redirect_stdout(sys.stderr):
            make_demo_logs.main(["--logs", str(logs), "--days", str(DAYS), "--users", str(USERS)])
        users = {user["user_id"]: user for user in read_lines(logs / "_truth" / "users.jsonl")}
        return events_of(logs), users, read_lines(logs / "_truth" / "items.jsonl")


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def is_followed(events: list[dict[str, Any]], change: str | None) -> bool:
    """Whether a user has enough events, before and after the change of interests."""
    early = sum(str(event["moment"].date()) < change for event in events) if change else 0
    return len(events) >= LEAST_EVENTS and BEFORE_CHANGE <= early <= len(events) - 30


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", metavar="FILE", help="draw the curves into this SVG file")
    args = parser.parse_args(argv)
    events, users, items = generated_log()
    embedder = load_embedder(config(kind="hash", hash_dimensions=384))
    drawn = embedder.embed([item["title"] for item in items])
    vectors = {item["item_id"]: vector for item, vector in zip(items, drawn, strict=True)}
    mean = drawn.mean(axis=0)
    topics = {
        topic: np.mean([vectors[item["item_id"]] for item in items if item["topic"] == topic], axis=0)
        for topic in {item["topic"] for item in items}
    }
    followed = {u: own for u, own in events.items() if is_followed(own, users[u]["change_date"])}
    curves = {}
    for gate, relevance in GATES:
        states = states_of(followed, vectors, constants(gate=gate, relevance=relevance))
        by_user = [cosines_of(states[user], users[user], topics, mean) for user in followed]
        curves[f"{gate}, {relevance}"] = {
            o: float(np.mean([c[o] for c in by_user if o in c])) for o in AROUND
        }
    if args.plot:
        plot(curves, len(followed), args.plot)
    shown = {
        name: {f"day {o:+d}": round(curve[o], 3) for o in (-1, 0, 7, 14, 30)}
        for name, curve in curves.items()
    }
    effective, mean_gate = curves["effective, follow"], curves["mean, follow"]
    ratios = [
        Ratio("cosine with the truth before the change, effective", effective[-1], least=0.5),
        Ratio("thirty days after the change, effective over mean", effective[30] / mean_gate[30], least=1.05),
    ]
    return report("fold_truth", ratios, {"users": len(followed), "cosines": shown})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
