"""The compiled fold against the plain-Python oracle, bit for bit, over random histories and every way of cutting them."""

import os
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import numba
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.oracle import Event, Gate, State, fold_user
from udfs.errors import FoldError
from udfs.fold.contract import EVENT_ROW, INPUT_SCHEMA, PRIOR_ROW, VECTOR_ROW, FoldConstants
from udfs.fold.kernel import fold_rows
from udfs.fold.key_index import find_keys, index_keys
from udfs.fold.stream import _strings, fold_stream

DAY = date(2025, 3, 3)
GATES = [
    Gate(gate=g, relevance=r) for g in ("effective", "literal", "mean", "fixed") for r in ("follow", "resist")
]


def vectors_of(dim: int, count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_events(
    user: str, days: int, most_a_day: int, vectors: np.ndarray, seed: int
) -> list[tuple[Event, int]]:
    """Events of one user in random order, each with the number of its text."""
    rng = np.random.default_rng(seed)
    events = []
    for day in range(days):
        for j in range(int(rng.integers(0, most_a_day + 1))):
            text = int(rng.integers(len(vectors)))
            when = datetime(2025, 3, 3, tzinfo=UTC) + timedelta(days=day, seconds=int(rng.integers(0, 30)))
            micros = int(when.timestamp()) * 1_000_000
            weight = float(rng.choice([1.0, 0.8, 0.3, 1 / 3, 0.0625]))
            events.append((Event(when.date(), micros, f"{user}-{day}-{j}-é", weight, vectors[text]), text))
    rng.shuffle(events)
    return events


def stream(
    users: dict[str, list[tuple[Event, int]]],
    vectors: np.ndarray,
    priors: dict[str, State],
    rows_a_batch: int,
):
    """The kernel's input for these users, cut into batches."""
    rows = [{"kind": VECTOR_ROW, "text_key": str(i), "vector": v.tolist()} for i, v in enumerate(vectors)]
    for user in sorted(users):
        if user in priors:
            state = priors[user]
            rows.append(
                {
                    "kind": PRIOR_ROW, "user_id": user, "facet": "main", "user_bucket": 1, "day": state.as_of_date,
                    "event_count": state.event_count, "weight_sum": state.weight_sum, "gain_sum": state.gain_sum,
                    "gain_sq_sum": state.gain_sq_sum, "vector": state.vector.tolist(),
                    "contributions": [{"event_id": e, "weight": float(w)} for e, w in state.contributions],
                }
            )  # fmt: skip
        for event, text in sorted(
            users[user], key=lambda pair: (pair[0].event_ts, pair[0].event_id.encode())
        ):
            rows.append(
                {
                    "kind": EVENT_ROW, "user_id": user, "facet": "main", "user_bucket": 1, "day": event.event_date,
                    "event_ts": datetime.fromtimestamp(event.event_ts / 1e6, UTC), "event_id": event.event_id,
                    "weight": event.weight, "text_key": str(text), "digest_high": hash(event.event_id), "digest_low": text,
                }
            )  # fmt: skip
    for at in range(0, len(rows), rows_a_batch):
        yield pa.RecordBatch.from_pylist(rows[at : at + rows_a_batch], INPUT_SCHEMA)


def constants(gate: Gate) -> FoldConstants:
    return FoldConstants(**asdict(gate))


def run(users, vectors, gate, priors=None, rows_a_batch=10_000) -> dict[str, list[dict]]:
    states: dict[str, list[dict]] = {user: [] for user in users}
    for batch in fold_stream(stream(users, vectors, priors or {}, rows_a_batch), constants(gate)):
        for row in batch.to_pylist():
            states[row["user_id"]].append(row)
    for rows in states.values():
        assert [row.pop("is_last") for row in rows] == [False] * (len(rows) - 1) + [True] * bool(rows)
    return states


def assert_same(found: list[dict], expected: list[State]) -> None:
    assert [row["as_of_date"] for row in found] == [state.as_of_date for state in expected]
    for row, state in zip(found, expected, strict=True):
        assert np.array(row["vector"], np.float32).tobytes() == state.vector.tobytes()
        for name in (
            "weight_sum",
            "gain_sum",
            "gain_sq_sum",
            "event_count",
            "previous_as_of_date",
            "relevance_acted",
            "cancelled",
        ):
            assert row[name] == getattr(state, name), name
        assert int(row["last_event_ts"].timestamp() * 1e6) == state.last_event_ts
        assert row["last_event_id"] == state.last_event_id
        assert (row["drift"] is None) == (state.drift is None)
        assert state.drift is None or np.float32(row["drift"]) == state.drift
        assert [(c["event_id"], np.float32(c["weight"])) for c in row["contributions"]] == state.contributions


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: f"{gate.gate}-{gate.relevance}")
def test_kernel_equals_oracle(gate: Gate) -> None:
    vectors = vectors_of(dim=20, count=12, seed=1)
    users = {
        f"u{i}": random_events(f"u{i}", days=12, most_a_day=15, vectors=vectors, seed=i) for i in range(4)
    }
    found = run(users, vectors, gate)
    for user, events in users.items():
        assert_same(found[user], fold_user([event for event, _ in events], gate))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    dim=st.integers(1, 19),
    days=st.integers(1, 8),
    most_a_day=st.integers(1, 14),
    rows_a_batch=st.integers(1, 50),
    cut=st.integers(0, 8),
    gate=st.sampled_from(GATES),
)
def test_any_cut_gives_the_same_bits(
    seed: int, dim: int, days: int, most_a_day: int, rows_a_batch: int, cut: int, gate: Gate
) -> None:
    """A history folded at once, in two runs cut between any days, and in batches of any size: one result."""
    vectors = vectors_of(dim, 6, seed)
    users = {f"u{i}": random_events(f"u{i}", days, most_a_day, vectors, seed + i) for i in range(3)}
    whole = run(users, vectors, gate, rows_a_batch=rows_a_batch)
    split = DAY + timedelta(days=cut)
    before = {u: [e for e in events if e[0].event_date < split] for u, events in users.items()}
    after = {u: [e for e in events if e[0].event_date >= split] for u, events in users.items()}
    first = run(before, vectors, gate)
    oracle = {u: fold_user([e for e, _ in events], gate) for u, events in users.items()}
    priors = {u: [s for s in oracle[u] if s.as_of_date < split][-1] for u in users if first[u] and after[u]}
    second = run({u: events for u, events in after.items() if events}, vectors, gate, priors, rows_a_batch)
    for user in users:
        assert_same(whole[user], oracle[user])
        assert first[user] + second.get(user, []) == whole[user]


def test_any_two_gates_differ() -> None:
    """On a history long enough that the warm-up does not bind, with topics that oppose each other."""
    vectors = vectors_of(2, 10, 3)
    users = {"u": random_events("u", days=30, most_a_day=20, vectors=vectors, seed=5)}
    results = [tuple(run(users, vectors, gate)["u"][-1]["vector"]) for gate in GATES]
    by_name = dict(zip([(g.gate, g.relevance) for g in GATES], results, strict=True))
    # relevance has no say in mean and fixed
    assert by_name["mean", "follow"] == by_name["mean", "resist"]
    assert by_name["fixed", "follow"] == by_name["fixed", "resist"]
    assert len(set(results)) == len(GATES) - 2


def test_opposite_vector_that_cancels_the_profile_leaves_it() -> None:
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    micros = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp()) * 1_000_000
    events = [
        (Event(DAY, micros, "a", 1.0, vectors[0]), 0),
        (Event(DAY, micros + 1_000_000, "b", 1.0, vectors[1]), 1),
    ]
    found = run({"u": events}, vectors, Gate(gate="mean"))["u"]
    assert_same(found, fold_user([e for e, _ in events], Gate(gate="mean")))
    assert found[0]["cancelled"] == 1
    assert found[0]["vector"] == [1.0, 0.0]


def test_one_day_moves_an_old_profile_by_at_most_its_share() -> None:
    """After many days on one topic, a flood of another takes at most max_day_share of the profile."""
    vectors = np.eye(2, dtype=np.float32)
    start = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp())
    calm = [(Event(DAY, (start + i) * 1_000_000, f"a{i:03}", 1.0, vectors[0]), 0) for i in range(30)]
    flood_day = DAY + timedelta(days=1)
    flood = [
        (Event(flood_day, (start + 86_400 + i) * 1_000_000, f"b{i:04}", 1.0, vectors[1]), 1)
        for i in range(2_000)
    ]
    last = run({"u": calm + flood}, vectors, Gate(max_day_share=0.3))["u"][-1]["vector"]
    assert last[0] == pytest.approx(0.7, abs=1e-3)


@settings(deadline=None)
@given(
    keys=st.lists(st.text(max_size=3), unique=True, max_size=40),
    wanted=st.lists(st.none() | st.text(max_size=3), max_size=40),
    skipped=st.integers(0, 5),
)
def test_every_text_is_found_and_no_other(keys, wanted, skipped) -> None:
    wanted += keys
    there = _strings(pa.array([*keys, *keys[:3]], pa.string()))
    # A slice: a batch's column may be a part of another.
    asked = _strings(pa.array([None] * skipped + wanted, pa.string()).slice(skipped))
    found = find_keys(index_keys(*there), *there, *asked)
    assert found.tolist() == [keys.index(key or "") if (key or "") in keys else -1 for key in wanted]


def test_stream_without_a_needed_vector_is_refused() -> None:
    vectors = np.eye(2, dtype=np.float32)
    micros = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp()) * 1_000_000
    with pytest.raises(FoldError, match="1 events have a text without a vector"):
        run({"u": [(Event(DAY, micros, "a", 1.0, vectors[0]), 7)]}, vectors, Gate())


def test_stream_without_any_vector_is_refused() -> None:
    micros = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp()) * 1_000_000
    with pytest.raises(FoldError, match="1 events have a text without a vector"):
        run(
            {"u": [(Event(DAY, micros, "a", 1.0, np.ones(2, np.float32)), 0)]},
            np.empty((0, 2), np.float32),
            Gate(),
        )


def test_a_profile_of_another_size_is_refused() -> None:
    """Sizes that are filled up to the same eight: 20 and 24."""
    users = {"u": random_events("u", 2, 5, vectors_of(20, 3, 1), 1)}
    _, *_, state = fold_user([event for event, _ in users["u"]], Gate())
    with pytest.raises(FoldError, match="a profile has 20 numbers and a text 24"):
        run(users, vectors_of(24, 3, 1), Gate(), {"u": state})


def test_zero_vector_is_refused() -> None:
    with pytest.raises(FoldError, match="no length"):
        micros = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp()) * 1_000_000
        run(
            {"u": [(Event(DAY, micros, "a", 1.0, np.zeros(2, np.float32)), 0)]},
            np.zeros((1, 2), np.float32),
            Gate(),
        )


def test_no_product_is_fused_with_a_sum() -> None:
    """A fused multiply-add rounds once where the design rounds twice, and only some machines have it."""
    run({"u": random_events("u", 2, 5, vectors_of(16, 3, 1), 1)}, vectors_of(16, 3, 1), Gate())
    # Compiled anew: what came from the cache shows no code.
    fresh = numba.njit(error_model="numpy")(fold_rows.py_func)
    fresh.compile(fold_rows.signatures[0])
    code = "".join(fresh.inspect_asm().values())
    assert "mulps" in code and "fmadd" not in code


HASH_OF_A_FOLD = """
import hashlib
from tests.udfs import test_fold as t
vectors = t.vectors_of(44, 9, 7)
users = {f"u{i}": t.random_events(f"u{i}", 9, 15, vectors, i) for i in range(5)}
states = [t.run(users, vectors, gate) for gate in t.GATES]
bits = [(row["vector"], row["gain_sum"], row["drift"], row["contributions"]) for found in states for rows in found.values() for row in rows]
print(hashlib.sha256(repr(bits).encode()).hexdigest())
"""


@pytest.mark.slow
def test_machines_with_narrow_and_wide_registers_give_the_same_bits(tmp_path) -> None:
    """Compiled for a processor of each kind; the wide ones have fused multiply-adds too."""
    told = set()
    for kind in ("nehalem", "haswell", None):
        chosen = (
            {"NUMBA_CPU_NAME": kind, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path / kind)}
            if kind
            else {}
        )
        command = [sys.executable, "-c", HASH_OF_A_FOLD]
        told.add(
            subprocess.run(
                command, cwd=ROOT, env=os.environ | chosen, capture_output=True, text=True, check=True
            ).stdout
        )
    assert len(told) == 1
