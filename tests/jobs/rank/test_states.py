"""Which state of a user may be used on a day, by the user's fate."""

import numpy as np
import pytest

from jobs.rank.states import NO_STATE, Changes, FacetStates, States

KEYS = np.array([1, 1, 1, 3], np.int64)
DAYS = np.array([2, 5, 8, 5], np.int32)


def states(*changes: tuple[int, int, int]) -> States:
    users, since, arrived = (np.array([row[i] for row in changes]) for i in range(3))
    main = FacetStates(KEYS, DAYS, np.zeros((4, 2), np.float32))
    late = Changes(users.astype(np.int64), since.astype(np.int32), arrived.astype(np.int32))
    return States({"main": main}, late)


ASKED = np.array([1, 2, 3], np.int64)


@pytest.mark.parametrize(
    ("day", "wanted"),
    [
        (1, [NO_STATE, NO_STATE, NO_STATE]),
        (2, [0, NO_STATE, NO_STATE]),
        (7, [1, NO_STATE, 3]),
        (9, [2, NO_STATE, 3]),
    ],
)
def test_the_latest_state_by_then(day, wanted):
    assert states().usable("main", ASKED, day).tolist() == wanted


def test_a_state_with_an_event_that_arrives_later_is_passed_over():
    # On day 8 nobody knew of user 1's event of day 4, which arrives on day 10.
    late = states((1, 4, 10))
    assert late.usable("main", ASKED, 8).tolist() == [0, NO_STATE, 3]
    assert late.usable("main", ASKED, 10).tolist() == [2, NO_STATE, 3]
    # Before day 4 there is nothing to hide.
    assert late.usable("main", ASKED, 3).tolist() == [0, NO_STATE, NO_STATE]


def test_without_an_earlier_state_there_is_none():
    assert states((3, 5, 9), (1, 2, 9)).usable("main", ASKED, 8).tolist() == [NO_STATE] * 3


def test_the_earliest_of_several_changes_counts():
    assert states((1, 8, 10), (1, 5, 12)).usable("main", ASKED, 9).tolist() == [0, NO_STATE, 3]


def test_nobody_asked():
    assert states((1, 4, 10)).usable("main", np.zeros(0, np.int64), 8).tolist() == []
