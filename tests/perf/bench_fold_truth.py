"""How well profiles follow the users' true interests: cosine with the truth by day, for gates and facets.

A generated log records each user's interests and when they change. The truth of a day is the mean of the
item vectors of the user's topics, weighted by the user's mixture. The mean of all items is subtracted from
profile and truth before they are compared. Only users with at least 150 events count: those whose interests
change after the 75th, by days from the change, and those whose interests never do, over their last 30 days.
Without Spark, by the kernel alone.

    python -m tests.perf.bench_fold_truth [--plot FILE.svg] [--seed N]
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from contextlib import redirect_stdout
from dataclasses import dataclass
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
from udfs.fold.contract import EVENT_ROW, INPUT_SCHEMA, VECTOR_ROW
from udfs.fold.stream import fold_stream

DAYS, USERS = 75, 120
LEAST_EVENTS, BEFORE_CHANGE = 150, 75
# Days around the change that are compared; days over which users without a change are.
AROUND = range(-15, 31)
LAST_DAYS = 30
# Constants of the gates, and of facets that may follow a change sooner. Without type weights, all types count
# the same.
GATES: dict[str, dict[str, Any]] = {
    "effective, follow": {},
    "effective, resist": {"relevance": "resist"},
    "literal, follow": {"gate": "literal"},
    "mean, follow": {"gate": "mean"},
    "fixed, follow": {"gate": "fixed"},
}
FACETS: dict[str, dict[str, Any]] = {
    "half-life 60": {"half_life_days": 60.0},
    "half-life 30": {"half_life_days": 30.0},
    "half-life 14": {"half_life_days": 14.0},
    "half-life 7": {"half_life_days": 7.0},
    "half-life 4": {"half_life_days": 4.0},
    "k_max 0.93": {"k_max": 0.93},
    "alpha 0.1": {"alpha": 0.1},
    "alpha 0.2": {"alpha": 0.2},
    "equal weights": {"type_weights": {}},
    "equal weights, half-life 6": {"type_weights": {}, "half_life_days": 6.0},
    "equal weights, alpha 0.1": {"type_weights": {}, "alpha": 0.1},
}
WEIGHTS = {
    "purchase": 1.0,
    "return": 1.0,
    "review": 1.0,
    "rating": 0.8,
    "cart": 0.6,
    "click": 0.3,
    "view": 0.2,
}
OTHER_WEIGHT = 0.2


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
    events: dict[str, list[dict[str, Any]]], vectors: dict[str, np.ndarray], own: dict[str, Any]
) -> dict[str, Any]:
    """Each user's (day, profile), in the order of days. own: a facet's own constants, as in the settings."""
    weights = own.get("type_weights", WEIGHTS)
    formula = constants(**{key: value for key, value in own.items() if key != "type_weights"})
    rows = [
        {"kind": VECTOR_ROW, "text_key": item, "vector": vector.tolist()} for item, vector in vectors.items()
    ]
    rows += [event_row(user, event, weights) for user, mine in events.items() for event in mine]
    states = defaultdict(list)
    for batch in fold_stream(iter([pa.RecordBatch.from_pylist(rows, INPUT_SCHEMA)]), {"main": formula}):
        for row in batch.select(["user_id", "as_of_date", "vector"]).to_pylist():
            states[row["user_id"]].append((row["as_of_date"], np.array(row["vector"])))
    return states


def event_row(user: str, event: dict[str, Any], weights: dict[str, float]) -> dict[str, Any]:
    """A row of the fold's stream."""
    largest = max([*weights.values(), OTHER_WEIGHT])
    return {
        "kind": EVENT_ROW,
        "user_id": user,
        "facet": "main",
        "user_bucket": 0,
        "day": event["moment"].date(),
        "event_ts": event["moment"],
        "event_id": event["event_id"],
        "weight": weights.get(event["event_type"], OTHER_WEIGHT) / largest,
        "text_key": event["item_id"],
        "digest_high": 0,
        "digest_low": 0,
    }


@dataclass(frozen=True)
class Truth:
    """The mean vector of each topic's items, and of all items."""

    topics: dict[str, np.ndarray]
    mean: np.ndarray

    def cosine(self, profile: np.ndarray, mixture: dict[str, float]) -> float:
        """Cosine of a profile with a user's mixture of topics, both without the mean."""
        truth = sum(share * (self.topics[topic] - self.mean) for topic, share in mixture.items())
        centred = profile - self.mean
        return float(truth @ centred / (np.linalg.norm(truth) * np.linalg.norm(centred)))

    def around_change(self, states: list[tuple[date, np.ndarray]], user: dict[str, Any]) -> dict[int, float]:
        """Cosine of profile and truth by days from the change."""
        change = date.fromisoformat(user["change_date"])
        found = {}
        for offset in AROUND:
            latest = [p for day, p in states if (day - change).days <= offset]
            if latest:
                found[offset] = self.cosine(latest[-1], user["before" if offset < 0 else "after"])
        return found

    def without_change(self, states: list[tuple[date, np.ndarray]], user: dict[str, Any]) -> float:
        """Mean cosine of profile and truth over the last days with events."""
        last = [p for day, p in states if (states[-1][0] - day).days < LAST_DAYS]
        return float(np.mean([self.cosine(p, user["before"]) for p in last]))


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


def generated_log(seed: int) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any], list[dict[str, Any]]]:
    """Events by user, the truth about each user, and the items of a generated log."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        with redirect_stdout(sys.stderr):
            size = ["--days", str(DAYS), "--users", str(USERS), "--seed", str(seed)]
            make_demo_logs.main(["--logs", str(logs), *size])
        users = {user["user_id"]: user for user in read_lines(logs / "_truth" / "users.jsonl")}
        return events_of(logs), users, read_lines(logs / "_truth" / "items.jsonl")


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def is_followed(events: list[dict[str, Any]], change: str | None) -> bool:
    """Whether a user has enough events, before and after the change of interests if there is one."""
    early = sum(str(event["moment"].date()) < change for event in events) if change else BEFORE_CHANGE
    return len(events) >= LEAST_EVENTS and BEFORE_CHANGE <= early <= len(events) - 30


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", metavar="FILE", help="draw the curves into this SVG file")
    parser.add_argument("--seed", type=int, default=7, help="of the generated log (default 7)")
    args = parser.parse_args(argv)
    events, users, items = generated_log(args.seed)
    embedder = load_embedder(config(kind="hash", hash_dimensions=384))
    drawn = embedder.embed([item["title"] for item in items])
    vectors = {item["item_id"]: vector for item, vector in zip(items, drawn, strict=True)}
    topics = {
        topic: np.mean([vectors[item["item_id"]] for item in items if item["topic"] == topic], axis=0)
        for topic in {item["topic"] for item in items}
    }
    truth = Truth(topics, drawn.mean(axis=0))
    followed = {u: own for u, own in events.items() if is_followed(own, users[u]["change_date"])}
    changing = [u for u in followed if users[u]["change_date"]]
    curves, kept = {}, {}
    for name, own in (GATES | FACETS).items():
        states = states_of(followed, vectors, own)
        by_user = [truth.around_change(states[u], users[u]) for u in changing]
        curves[name] = {o: float(np.mean([c[o] for c in by_user if o in c])) for o in AROUND}
        steady = [truth.without_change(states[u], users[u]) for u in followed if u not in changing]
        kept[name] = float(np.mean(steady))
    if args.plot:
        plot({name: curves[name] for name in GATES}, len(changing), args.plot)
    shown = {
        name: {f"day {o:+d}": round(curve[o], 3) for o in (-1, 0, 7, 14, 30)}
        | {"without change": round(kept[name], 3)}
        for name, curve in curves.items()
    }
    default, mean_gate, soon = "effective, follow", "mean, follow", "equal weights, alpha 0.1"
    ratios = [
        Ratio("cosine with the truth before the change, effective", curves[default][-1], least=0.5),
        Ratio(
            "thirty days after the change, effective over mean",
            curves[default][30] / curves[mean_gate][30],
            least=1.05,
        ),
        Ratio(f"cosine fourteen days after the change, {soon}", curves[soon][14], least=0.6),
        Ratio(f"users without a change, {soon} over {default}", kept[soon] / kept[default], least=0.95),
    ]
    counted = {"users": len(changing), "users without a change": len(followed) - len(changing)}
    return report("fold_truth", ratios, counted | {"cosines": shown})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
