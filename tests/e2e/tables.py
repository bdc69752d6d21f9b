"""How tests run a job on a warehouse, read it with the deltalake package alone, and fold it anew in plain Python."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from tests.oracle import Event, Gate, State, fold_user

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The default settings' weights over the largest, written here from the documentation.
WEIGHTS = {
    "purchase": 1.0,
    "return": 1.0,
    "review": 1.0,
    "rating": 0.8,
    "cart": 0.6,
    "click": 0.3,
    "view": 0.2,
}


def call(spark, job, warehouse, config, *more):
    """Runs the job's body in the test's session, as its command line would."""
    job.run(
        spark,
        job.arg_parser().parse_args(["--warehouse", str(warehouse), "--config", config, *map(str, more)]),
    )


def rows_of(warehouse: str, table: str, version: int | None = None) -> list[dict[str, Any]]:
    found = (
        QueryBuilder()
        .register("t", DeltaTable(f"{warehouse}/{table}", version=version))
        .execute("SELECT * FROM t")
    )
    return pa.table(found).to_pylist()


def version_of(warehouse: str, table: str) -> int:
    return DeltaTable(f"{warehouse}/{table}").version()


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def is_negative(event: dict[str, Any]) -> bool:
    return event["event_type"] == "return" or (event["rating"] is not None and event["rating"] < 0.4)


def weight_of(event: dict[str, Any]) -> float:
    rating = event["rating"]
    opinion = 1.0 if rating is None else 0.25 + (1 - 0.25) * abs(2 * rating - 1)
    return WEIGHTS.get(event["event_type"], 0.2) * opinion


def folded_events(
    events: list[dict[str, Any]], has_vector: set[str], window_days: int = 7
) -> list[dict[str, Any]]:
    """The events that enter some facet: not retractions, not retracted in time, with a vector."""
    taken_out = {
        (e["user_id"], e["retracts_event_id"]): e["log_date"] for e in events if e["event_type"] == "retract"
    }
    kept = []
    for event in events:
        arrived = taken_out.get((event["user_id"], event["event_id"]))
        is_retracted = arrived is not None and -1 <= (arrived - event["event_date"]).days <= window_days
        if event["event_type"] != "retract" and not is_retracted and event["text_key"] in has_vector:
            kept.append(event)
    return kept


def expected_states(warehouse: str, last: date) -> dict[tuple[str, str, date], State]:
    """States by (user, facet, day) of a plain-Python fold over the tables' own events and vectors."""
    vectors = {
        row["text_key"]: np.array(row["vector"], np.float32) for row in rows_of(warehouse, "text_embeddings")
    }
    of_profile: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in folded_events(rows_of(warehouse, "behavior_events"), set(vectors)):
        if event["event_date"] <= last:
            brought = Event(
                event["event_date"],
                micros(event["event_ts"]),
                event["event_id"],
                weight_of(event),
                vectors[event["text_key"]],
            )
            of_profile[event["user_id"], "negative" if is_negative(event) else "main"].append(brought)
    return {
        (*key, state.as_of_date): state
        for key, events in of_profile.items()
        for state in fold_user(events, Gate())
    }


def differences(warehouse: str, last: date) -> list[str]:
    """Where the stored states are not, bit for bit, what the plain-Python fold gives."""
    expected = expected_states(warehouse, last)
    stored = {
        (row["user_id"], row["facet"], row["as_of_date"]): row for row in rows_of(warehouse, "profile_states")
    }
    found = [f"{key} is only in one of them" for key in expected.keys() ^ stored.keys()]
    for key in expected.keys() & stored.keys():
        want, have = expected[key], stored[key]
        pairs = {
            "vector": (want.vector.tobytes(), np.array(have["vector"], np.float32).tobytes()),
            "sums": ((want.weight_sum, want.gain_sum, want.gain_sq_sum), (have["weight_sum"], have["gain_sum"], have["gain_sq_sum"])),
            "event_count": (want.event_count, have["event_count"]),
            "last": ((want.last_event_ts, want.last_event_id), (micros(have["last_event_ts"]), have["last_event_id"])),
            "previous_as_of_date": (want.previous_as_of_date, have["previous_as_of_date"]),
            "drift": (None if want.drift is None else float(want.drift), have["drift"]),
            "contributions": (
                [(i, float(w)) for i, w in want.contributions], [(c["event_id"], c["weight"]) for c in have["contributions"]]
            ),
        }  # fmt: skip
        found += [f"{key}: {name} differs" for name, (a, b) in pairs.items() if a != b]
    return found


STATE_COLUMNS = [
    "user_bucket", "model_key", "fold_hash", "event_count", "weight_sum", "gain_sum", "gain_sq_sum", "last_event_ts", "last_event_id",
    "previous_as_of_date", "events_digest", "drift", "contributions", "vector",
]  # fmt: skip
