"""Spans of days against sets of days."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobs.io.days import Days, is_in

FIRST = date(2025, 2, 26)
SPANS = st.builds(
    lambda start, length: Days(FIRST + timedelta(days=start), FIRST + timedelta(days=start + length)),
    st.integers(0, 9),
    st.integers(0, 9),
)


@given(SPANS, SPANS)
def test_spans_overlap_and_cover_like_sets(one, other):
    assert one.overlaps(other) == bool({*one} & {*other})
    assert one.covers(other) == ({*other} <= {*one})
    assert len(one) == len([*one]) and all((day in one) == (day in {*one}) for day in other)


@given(SPANS, st.integers(1, 5))
def test_chunks_hold_every_day_once_and_are_full(days, size):
    chunks = days.chunks(size)
    assert [day for chunk in chunks for day in chunk] == [*days]
    assert all(len(chunk) == size for chunk in chunks[:-1]) and len(chunks[-1]) <= size


@given(SPANS, st.integers(0, 9), st.integers(0, 9))
def test_widening_adds_days_at_the_ends_alone(days, before, after):
    wide = [*days.widened(before, after)]
    assert wide[before : len(wide) - after] == [*days] and len(wide) == before + len(days) + after
    assert days.widened() == days


def test_no_day_is_in_an_empty_set():
    assert is_in("as_of_date", []) == "as_of_date IN (NULL)"
