"""Random histories of events, the stream that the fold reads, and a comparison with the oracle's states."""

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from tests.oracle import Event, Gate, State
from udfs.fold.contract import EVENT_ROW, INPUT_SCHEMA, PRIOR_ROW, VECTOR_ROW, FoldConstants
from udfs.fold.stream import fold_stream

DAY = date(2025, 3, 3)
MIDNIGHT_US = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp()) * 1_000_000
SECOND_US = 1_000_000
GATES = [
    Gate(gate=g, relevance=r) for g in ("effective", "literal", "mean", "fixed") for r in ("follow", "resist")
]
# The columns of a state that the oracle computes under the same name.
SAME_NAMES = (
    "weight_sum",
    "gain_sum",
    "gain_sq_sum",
    "event_count",
    "previous_as_of_date",
    "relevance_acted",
    "cancelled",
)


def vectors_of(dim: int, count: int, seed: int) -> np.ndarray:
    """Random unit vectors float32[count, dim]."""
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_events(
    user: str, days: int, most_a_day: int, vectors: np.ndarray, seed: int, step: int = 1
) -> list[tuple[Event, int]]:
    """Events of one user in random order, each with the number of its text; on every step-th date."""
    rng = np.random.default_rng(seed)
    events = []
    for day in range(days):
        for j in range(int(rng.integers(0, most_a_day + 1))):
            text = int(rng.integers(len(vectors)))
            when = datetime(2025, 3, 3, tzinfo=UTC) + timedelta(
                days=day * step, seconds=int(rng.integers(0, 30))
            )
            micros = int(when.timestamp()) * SECOND_US
            weight = float(rng.choice([1.0, 0.8, 0.3, 1 / 3, 0.0625]))
            events.append((Event(when.date(), micros, f"{user}-{day}-{j}-é", weight, vectors[text]), text))
    rng.shuffle(events)
    return events


def prior_row(user: str, state: State) -> dict:
    """The stream's row of a prior state."""
    return {
        "kind": PRIOR_ROW,
        "user_id": user,
        "facet": "main",
        "user_bucket": 1,
        "day": state.as_of_date,
        "event_count": state.event_count,
        "weight_sum": state.weight_sum,
        "gain_sum": state.gain_sum,
        "gain_sq_sum": state.gain_sq_sum,
        "vector": state.vector.tolist(),
        "contributions": [{"event_id": e, "weight": float(w)} for e, w in state.contributions],
    }


def event_row(user: str, event: Event, text: int) -> dict:
    """The stream's row of an event."""
    return {
        "kind": EVENT_ROW,
        "user_id": user,
        "facet": "main",
        "user_bucket": 1,
        "day": event.event_date,
        "event_ts": datetime.fromtimestamp(event.event_ts / 1e6, UTC),
        "event_id": event.event_id,
        "weight": event.weight,
        "text_key": str(text),
        "digest_high": hash(event.event_id),
        "digest_low": text,
    }


def stream(
    users: dict[str, list[tuple[Event, int]]],
    vectors: np.ndarray,
    priors: dict[str, State],
    rows_a_batch: int,
):
    """The fold's input for these users, cut into batches."""
    rows = [{"kind": VECTOR_ROW, "text_key": str(i), "vector": v.tolist()} for i, v in enumerate(vectors)]
    for user in sorted(users):
        if user in priors:
            rows.append(prior_row(user, priors[user]))
        ordered = sorted(users[user], key=lambda pair: (pair[0].event_ts, pair[0].event_id.encode()))
        rows += [event_row(user, event, text) for event, text in ordered]
    for at in range(0, len(rows), rows_a_batch):
        yield pa.RecordBatch.from_pylist(rows[at : at + rows_a_batch], INPUT_SCHEMA)


def run(users, vectors, gate, priors=None, rows_a_batch=10_000) -> dict[str, list[dict]]:
    """Each user's states in order; is_last is checked and left out."""
    states: dict[str, list[dict]] = {user: [] for user in users}
    batches = stream(users, vectors, priors or {}, rows_a_batch)
    for batch in fold_stream(batches, {"main": FoldConstants(**asdict(gate))}):
        for row in batch.to_pylist():
            states[row["user_id"]].append(row)
    for rows in states.values():
        assert [row.pop("is_last") for row in rows] == [False] * (len(rows) - 1) + [True] * bool(rows)
    return states


def assert_same(found: list[dict], expected: list[State]) -> None:
    """The fold's states equal the oracle's, bit for bit."""
    assert [row["as_of_date"] for row in found] == [state.as_of_date for state in expected]
    for row, state in zip(found, expected, strict=True):
        assert np.array(row["vector"], np.float32).tobytes() == state.vector.tobytes()
        for name in SAME_NAMES:
            assert row[name] == getattr(state, name), name
        assert int(row["last_event_ts"].timestamp() * 1e6) == state.last_event_ts
        assert row["last_event_id"] == state.last_event_id
        assert (row["drift"] is None) == (state.drift is None)
        assert state.drift is None or np.float32(row["drift"]) == state.drift
        assert [(c["event_id"], np.float32(c["weight"])) for c in row["contributions"]] == state.contributions
