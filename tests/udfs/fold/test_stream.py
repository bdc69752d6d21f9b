"""The fold of a partition's stream: any cut of a history gives the same bits; incomplete data is refused.

Tests of a row's fate are named by it. new: events without a prior state; matched: events on one; carried: a
prior state without events.
"""

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
    prior_row,
    random_events,
    run,
    vectors_of,
)
from udfs.errors import FoldError
from udfs.fold.contract import INPUT_SCHEMA
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
)
def test_new_and_matched_events_give_the_same_bits_however_their_history_is_cut(
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
    expected = {u: fold_user([e for e, _ in events], gate) for u, events in users.items()}
    priors = {u: [s for s in expected[u] if s.as_of_date < split][-1] for u in users if first[u] and after[u]}
    second = run({u: events for u, events in after.items() if events}, vectors, gate, priors, rows_a_batch)
    for user in users:
        assert_same(whole[user], expected[user])
        assert first[user] + second.get(user, []) == whole[user]


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
    assert list(fold_stream(iter([batch]), constants())) == []


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
        list(fold_stream(iter(batches), constants()))
    with pytest.raises(FoldError, match="the vectors of the stream differ in size or are missing"):
        list(fold_stream(iter([pa.RecordBatch.from_pylist([*rows, event], INPUT_SCHEMA)]), constants()))
