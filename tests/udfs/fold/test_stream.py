"""The fold of a partition's stream: any cut of a history gives the same bits; incomplete data is refused.

Tests of a row's fate are named by it. new: events without a prior state; matched: events on one; carried: a
prior state without events.
"""

from dataclasses import asdict, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import Event, Gate, fold_user
from tests.udfs.fold.configs import constants
from tests.udfs.fold.histories import (
    DAY,
    GATES,
    MIDNIGHT_US,
    assert_same,
    event_row,
    prior_row,
    random_events,
    run,
    vectors_of,
)
from udfs.errors import FoldError
from udfs.fold.contract import INPUT_SCHEMA, VECTOR_ROW, FoldConstants
from udfs.fold.stream import fold_stream


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    dim=st.integers(1, 19),
    days=st.integers(1, 8),
    most_a_day=st.integers(1, 14),
    rows_a_batch=st.integers(1, 50),
    cut=st.integers(0, 8),
    gate=st.sampled_from(GATES),
    half_life=st.none() | st.sampled_from([1.0, 30.0]) | st.floats(1, 400),
    step=st.sampled_from([1, 1, 7, 400]),
)
def test_new_and_matched_events_give_the_same_bits_however_their_history_is_cut(
    seed: int,
    dim: int,
    days: int,
    most_a_day: int,
    rows_a_batch: int,
    cut: int,
    gate: Gate,
    half_life: float | None,
    step: int,
) -> None:
    """A history folded at once, in two runs cut between any days, and in batches of any size: one result."""
    gate = replace(gate, half_life_days=half_life)
    vectors = vectors_of(dim, 6, seed)
    users = {f"u{i}": random_events(f"u{i}", days, most_a_day, vectors, seed + i, step) for i in range(3)}
    whole = run(users, vectors, gate, rows_a_batch=rows_a_batch)
    split = DAY + timedelta(days=cut * step)
    before = {u: [e for e in events if e[0].event_date < split] for u, events in users.items()}
    after = {u: [e for e in events if e[0].event_date >= split] for u, events in users.items()}
    first = run(before, vectors, gate)
    expected = {u: fold_user([e for e, _ in events], gate) for u, events in users.items()}
    priors = {u: [s for s in expected[u] if s.as_of_date < split][-1] for u in users if first[u] and after[u]}
    second = run({u: events for u, events in after.items() if events}, vectors, gate, priors, rows_a_batch)
    for user in users:
        assert_same(whole[user], expected[user])
        assert first[user] + second.get(user, []) == whole[user]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows_a_batch=st.integers(1, 60),
    gates=st.permutations([*GATES, *(replace(gate, half_life_days=7.5) for gate in GATES)]),
)
def test_each_facet_is_folded_by_its_own_gate_wherever_a_batch_is_cut(
    seed: int, rows_a_batch: int, gates: list[Gate]
) -> None:
    vectors = vectors_of(9, 6, seed)
    users = {f"u{i}": random_events(f"u{i}", 5, 8, vectors, seed + i) for i in range(2)}
    own = {"main": gates[0], "negative": gates[1], "recent": gates[2]}
    rows = [{"kind": VECTOR_ROW, "text_key": str(i), "vector": v.tolist()} for i, v in enumerate(vectors)]
    for user, events in users.items():
        events.sort(key=lambda pair: (pair[0].event_ts, pair[0].event_id.encode()))
        rows += [event_row(user, *event) | {"facet": facet} for facet in own for event in events]
    batches = [
        pa.RecordBatch.from_pylist(rows[at : at + rows_a_batch], INPUT_SCHEMA)
        for at in range(0, len(rows), rows_a_batch)
    ]
    by_facet = {facet: FoldConstants(**asdict(gate)) for facet, gate in own.items()}
    found = [row for batch in fold_stream(iter(batches), by_facet) for row in batch.to_pylist()]
    for facet, gate in own.items():
        for user, events in users.items():
            mine = [row for row in found if (row["user_id"], row["facet"]) == (user, facet)]
            assert_same(mine, fold_user([event for event, _ in events], gate))


def test_matched_event_after_one_half_life_meets_half_the_weight() -> None:
    """Ten events of weight 1 leave 5 after one half-life: the next one has 1/6 of the profile."""
    vectors = np.eye(2, dtype=np.float32)
    old = [(Event(DAY, MIDNIGHT_US + i, f"a{i}", 1.0, vectors[0]), 0) for i in range(10)]
    later = DAY + timedelta(days=30)
    late = (Event(later, MIDNIGHT_US + 30 * 86_400_000_000, "b", 1.0, vectors[1]), 1)
    gate = Gate(gate="mean", half_life_days=30.0)
    first, second = run({"u": [*old, late]}, vectors, gate)["u"]
    assert (first["weight_sum"], second["weight_sum"]) == (10.0, 6.0)
    assert second["vector"] == pytest.approx([5 / 6, 1 / 6])


def test_carried_profiles_give_no_state_and_change_no_other() -> None:
    vectors = vectors_of(12, 5, 2)
    users = {user: random_events(user, 4, 6, vectors, seed) for seed, user in enumerate("abc")}
    expected = {user: fold_user([event for event, _ in events], Gate()) for user, events in users.items()}
    later = DAY + timedelta(days=10)
    event = Event(later, MIDNIGHT_US + 864_000_000_000, "b-late", 0.5, vectors[1])
    priors = {user: states[-1] for user, states in expected.items()}
    found = run({"a": [], "b": [(event, 1)], "c": []}, vectors, Gate(), priors)
    assert found["a"] == found["c"] == []
    assert_same(found["b"], fold_user([event], Gate(), priors["b"]))
    # Without texts at all, too.
    batch = pa.RecordBatch.from_pylist([prior_row("a", priors["a"])], INPUT_SCHEMA)
    assert list(fold_stream(iter([batch]), {"main": constants()})) == []


def test_new_event_without_its_vector_is_refused() -> None:
    vectors = np.eye(2, dtype=np.float32)
    with pytest.raises(FoldError, match="1 events have a text without a vector"):
        run({"u": [(Event(DAY, MIDNIGHT_US, "a", 1.0, vectors[0]), 7)]}, vectors, Gate())


def test_new_event_in_a_stream_without_vectors_is_refused() -> None:
    event = Event(DAY, MIDNIGHT_US, "a", 1.0, np.ones(2, np.float32))
    with pytest.raises(FoldError, match="1 events have a text without a vector"):
        run({"u": [(event, 0)]}, np.empty((0, 2), np.float32), Gate())


def test_matched_profile_of_another_size_is_refused() -> None:
    """20 and 24 numbers, which are padded to the same length."""
    users = {"u": random_events("u", 2, 5, vectors_of(20, 3, 1), 1)}
    _, *_, state = fold_user([event for event, _ in users["u"]], Gate())
    with pytest.raises(FoldError, match="a profile has 20 numbers and a text 24"):
        run(users, vectors_of(24, 3, 1), Gate(), {"u": state})


def test_a_zero_vector_is_refused() -> None:
    zero = np.zeros((1, 2), np.float32)
    with pytest.raises(FoldError, match="a stored text vector is zero"):
        run({"u": [(Event(DAY, MIDNIGHT_US, "a", 1.0, zero[0]), 0)]}, zero, Gate())


def test_vectors_of_two_sizes_are_refused() -> None:
    rows = [{"kind": 0, "text_key": str(size), "vector": [1.0] * size} for size in (2, 3)]
    event = {"kind": 2, "user_id": "u", "facet": "main", "day": DAY, "weight": 1.0, "text_key": "2"}
    batches = [pa.RecordBatch.from_pylist([row], INPUT_SCHEMA) for row in (*rows, event)]
    with pytest.raises(FoldError, match="differ in size; two models were mixed"):
        list(fold_stream(iter(batches), {"main": constants()}))
    with pytest.raises(FoldError, match="the vectors of the stream differ in size or are missing"):
        list(
            fold_stream(
                iter([pa.RecordBatch.from_pylist([*rows, event], INPUT_SCHEMA)]), {"main": constants()}
            )
        )
