"""Running jobs on a warehouse, reading it without Spark, and folding it again in plain Python.

Tables are read with the deltalake package, so that a table only Spark can read would be noticed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from tests.oracle import Event, Gate, State, canonical_hash, fold_user

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The default weights divided by the largest, copied from the documentation rather than from the settings.
WEIGHTS = {
    "purchase": 1.0,
    "return": 1.0,
    "review": 1.0,
    "rating": 0.8,
    "cart": 0.6,
    "click": 0.3,
    "view": 0.2,
}


STATE_COLUMNS = [
    *("user_bucket", "model_key", "fold_hash", "event_count", "weight_sum", "gain_sum", "gain_sq_sum"),
    *("last_event_ts", "last_event_id", "previous_as_of_date", "events_digest", "drift", "contributions"),
    "vector",
]


def call(spark, job, warehouse, config, *more):
    """Runs the job's body in the test's session, as its command line would."""
    argv = ["--warehouse", str(warehouse), "--config", config, *map(str, more)]
    job.run(spark, job.arg_parser().parse_args(argv))


def state_hash(warehouse: str | Path, table: str = "profile_states") -> str:
    """One hash of all rows of profile_states or user_profiles; equal hashes mean equal bits."""
    return canonical_hash(rows_of(str(warehouse), table), STATE_COLUMNS)


def state_hashes(warehouse: str | Path) -> list[str]:
    """The hashes of both state tables."""
    return [state_hash(warehouse, table) for table in ("profile_states", "user_profiles")]


def rows_of(warehouse: str, table: str, version: int | None = None) -> list[dict[str, Any]]:
    stored = DeltaTable(f"{warehouse}/{table}", version=version)
    return pa.table(QueryBuilder().register("t", stored).execute("SELECT * FROM t")).to_pylist()


def version_of(warehouse: str, table: str) -> int:
    return DeltaTable(f"{warehouse}/{table}").version()


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def is_negative(event: dict[str, Any]) -> bool:
    return event["event_type"] == "return" or (event["rating"] is not None and event["rating"] < 0.4)


def weight_of(event: dict[str, Any], weights: Mapping[str, float]) -> float:
    """weights: of the event types, the largest of them 1."""
    rating = event["rating"]
    opinion = 1.0 if rating is None else 0.25 + (1 - 0.25) * abs(2 * rating - 1)
    return weights.get(event["event_type"], 0.2) * opinion


@dataclass(frozen=True)
class Beside:
    """A facet beside main, of the same events, with a gate and type weights of its own."""

    name: str
    gate: Gate
    weights: Mapping[str, float]


def folded_events(
    events: list[dict[str, Any]], has_vector: set[str], window_days: int = 7
) -> list[dict[str, Any]]:
    """The events that enter a facet: with a vector, not a retraction, and not retracted within the window."""
    retractions = [event for event in events if event["event_type"] == "retract"]
    retracted_on = {(e["user_id"], e["retracts_event_id"]): e["log_date"] for e in retractions}
    folded = []
    for event in events:
        arrived = retracted_on.get((event["user_id"], event["event_id"]))
        is_retracted = arrived is not None and -1 <= (arrived - event["event_date"]).days <= window_days
        if event["event_type"] != "retract" and not is_retracted and event["text_key"] in has_vector:
            folded.append(event)
    return folded


def expected_states(
    warehouse: str, last: date, beside: Sequence[Beside] = ()
) -> dict[tuple[str, str, date], State]:
    """States by (user, facet, day): a plain-Python fold of the tables' own events and vectors."""
    main, negative = (Beside(name, Gate(), WEIGHTS) for name in ("main", "negative"))
    gates = {facet.name: facet.gate for facet in (main, negative, *beside)}
    stored = rows_of(warehouse, "text_embeddings")
    vectors = {row["text_key"]: np.array(row["vector"], np.float32) for row in stored}
    of_profile: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in folded_events(rows_of(warehouse, "behavior_events"), set(vectors)):
        if event["event_date"] > last:
            continue
        moment, vector = micros(event["event_ts"]), vectors[event["text_key"]]
        for facet in (negative,) if is_negative(event) else (main, *beside):
            weight = weight_of(event, facet.weights)
            if weight > 0:
                of_profile[event["user_id"], facet.name].append(
                    Event(event["event_date"], moment, event["event_id"], weight, vector)
                )
    return {
        (*key, state.as_of_date): state
        for key, events in of_profile.items()
        for state in fold_user(events, gates[key[1]])
    }


def differences(warehouse: str, last: date, beside: Sequence[Beside] = ()) -> list[str]:
    """Where the stored states differ in any bit from those of the plain-Python fold."""
    expected = expected_states(warehouse, last, beside)
    rows = rows_of(warehouse, "profile_states")
    stored = {(row["user_id"], row["facet"], row["as_of_date"]): row for row in rows}
    found = [f"{key} is only in one of them" for key in expected.keys() ^ stored.keys()]
    for key in expected.keys() & stored.keys():
        want, have = bits_expected(expected[key]), bits_stored(stored[key])
        found += [f"{key}: {name} differs" for name in want if want[name] != have[name]]
    return found


def bits_expected(state: State) -> dict[str, object]:
    return {
        "vector": state.vector.tobytes(),
        "sums": (state.weight_sum, state.gain_sum, state.gain_sq_sum),
        "event_count": state.event_count,
        "last": (state.last_event_ts, state.last_event_id),
        "previous_as_of_date": state.previous_as_of_date,
        "drift": None if state.drift is None else float(state.drift),
        "contributions": [(event_id, float(weight)) for event_id, weight in state.contributions],
    }


def bits_stored(row: dict[str, Any]) -> dict[str, object]:
    return {
        "vector": np.array(row["vector"], np.float32).tobytes(),
        "sums": (row["weight_sum"], row["gain_sum"], row["gain_sq_sum"]),
        "event_count": row["event_count"],
        "last": (micros(row["last_event_ts"]), row["last_event_id"]),
        "previous_as_of_date": row["previous_as_of_date"],
        "drift": row["drift"],
        "contributions": [(entry["event_id"], entry["weight"]) for entry in row["contributions"]],
    }
