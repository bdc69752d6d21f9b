"""What of a log is known on a day, and that no model is handed more."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.io.messages import JobError
from jobs.rank.events import NEVER, Events, History, history_at
from tests.jobs.rank.worlds import events_of

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 20), st.integers(-1, 10)), max_size=40
)


@pytest.fixture
def late() -> Events:
    """User 0 chooses item 1 on day 3 and item 2 on day 5; the latter arrives on day 9."""
    return events_of([(0, 1, 3), (0, 2, 5, 9)], users=1)


def test_a_late_event_is_known_from_its_arrival(late):
    assert [late.item[late.known(day)].tolist() for day in (2, 3, 8, 9)] == [[], [1], [1], [1, 2]]


def test_an_event_dated_ahead_is_known_from_its_own_day():
    ahead = events_of([(0, 1, 5, 4)], users=1)
    assert ahead.known(4).tolist() == [False] and ahead.known(5).tolist() == [True]


def test_a_retracted_event_counts_until_its_retraction_arrives_and_is_no_truth(late):
    gone = replace(late, gone=np.array([7, NEVER], np.int32))
    assert gone.known(6).tolist() == [True, False] and gone.known(7).tolist() == [False, False]
    assert gone.choices(3, 5).tolist() == [False, True]
    # Whoever asks on day 6 cannot know of it.
    assert gone.as_of(6).choices(3, 5).tolist() == [True]


def test_truth_is_what_happens_whenever_it_arrives(late):
    assert late.item[late.choices(4, 10)].tolist() == [2]
    assert len(late.as_of(8).item) == 1


def test_a_history_of_the_future_is_refused(late):
    for day in (3, 8):
        with pytest.raises(JobError, match="would know the future"):
            History(day, 3, late)
    assert History(9, 3, late).users == 1


@settings(deadline=None)
@given(ROWS, st.integers(0, 25))
def test_what_is_known_does_not_depend_on_anything_that_comes_later(rows, day):
    events = events_of([(u, i, d, max(0, d + late)) for u, i, d, late in rows], users=5)
    before = history_at(events, day, 7)
    again = history_at(events.as_of(day), day, 7)
    assert (before.matrix != again.matrix).nnz == 0
    assert before.age.tolist() == again.age.tolist()


@settings(deadline=None)
@given(ROWS, st.sets(st.integers(0, 4)))
def test_some_users_have_the_same_events_alone(rows, places):
    events = events_of([(u, i, d) for u, i, d, _ in rows], users=5)
    own = events.of(np.array(sorted(places), np.int64))
    assert own.users.tolist() == sorted(places)
    for place, user in enumerate(own.users):
        mine = events.row_user == user
        assert own.item[own.row_user == place].tolist() == events.item[mine].tolist()
