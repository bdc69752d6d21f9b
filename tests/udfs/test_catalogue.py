"""Sums of item vectors: exact, and so the same in any order and however they are split."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.catalogue import INPUT, change_stream, means_by_day
from udfs.score import mean_vector

DIM, LAST = 5, 9
ROWS = st.lists(
    st.tuples(
        st.integers(0, LAST),
        st.none() | st.integers(1, LAST),
        st.lists(st.floats(-1, 1, width=32), min_size=DIM, max_size=DIM),
    ),
    max_size=12,
)


def batch(rows):
    columns = [[row[at] for row in rows] for at in range(3)]
    types = [pa.int32(), pa.int32(), pa.list_(pa.float32())]
    made = [pa.array(values, type_) for values, type_ in zip(columns, types, strict=True)]
    return pa.record_batch(made, names=INPUT)


def added(streams):
    """The changes of several streams, added up."""
    changes = {}
    for batches in streams:
        for out in change_stream(iter(batches)):
            for row in out.to_pylist():
                count, sums = changes.get(row["day"], (0, np.int64(0)))
                changes[row["day"]] = count + row["items"], sums + np.array(row["sums"])
    return changes


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_no_order_and_no_split_changes_a_bit(rows, draws, parts):
    shuffled = draws.sample(rows, len(rows))
    split = [[batch(shuffled[at::parts])] for at in range(parts)]
    whole, pieces = means_by_day(added([[batch(rows)]])), means_by_day(added(split))
    assert whole.keys() == pieces.keys()
    for day, (count, mean) in whole.items():
        assert count == pieces[day][0] and mean.tobytes() == pieces[day][1].tobytes()


@settings(deadline=None)
@given(ROWS)
def test_each_day_has_the_mean_of_the_items_in_force(rows):
    rows = [(since, until if until is None or until > since else None, v) for since, until, v in rows]
    found = means_by_day(added([[batch(rows)]]))
    changed = {day for since, until, _ in rows for day in (since, until) if day is not None}
    for day in changed:
        held = [v for since, until, v in rows if since <= day and (until is None or until > day)]
        assert (day in found) == bool(held)
        if held:
            assert found[day][0] == len(held) and found[day][1].dtype == np.float32
            np.testing.assert_allclose(found[day][1], np.mean(held, axis=0), atol=1e-7)
            # Whoever holds the vectors themselves gets the bits of the table.
            assert found[day][1].tobytes() == mean_vector(np.array(held[::-1], np.float32)).tobytes()
