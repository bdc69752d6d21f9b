"""Which stored profile of a user says only what was known on a day.

States are repaired: one of an old day may hold an event that arrived long after. Such a state tells the
future, and so do the later ones; then the last state before the event is the one that is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.rank.events import Days, Keys, Places

NO_STATE = -1


@dataclass(frozen=True)
class FacetStates:
    """The states of one facet by user and day: keys int64[s], as_of_date int32[s], vectors float32[s, d]."""

    users: Keys
    day: Days
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class Changes:
    """What changed days afterwards, by user (arrays of length c).

    users: keys; since: int32, the first day whose state is another one by it; arrived: int32, its log day. A
    late event changes the states from its own day on, a retraction those from the day of its target on.
    """

    users: Keys
    since: Days
    arrived: Days


@dataclass(frozen=True)
class States:
    """The stored profiles by facet, and what changed them afterwards."""

    facets: Mapping[str, FacetStates]
    changes: Changes

    def usable(self, facet: str, users: Keys, day: int) -> Places:
        """int64[users]: the row of each user's latest state that knows nothing later, or NO_STATE.

        users: keys, ascending. day: the end of which day is the present.
        """
        states = self.facets[facet]
        bounds = first_change(self.changes, users, day)
        first = np.searchsorted(states.users, users, "left")
        last = np.searchsorted(states.users, users, "right")
        rows = [
            low + int(np.searchsorted(states.day[low:high], bound, "left")) - 1
            for low, high, bound in zip(first, last, bounds, strict=True)
        ]
        found = np.array(rows, np.int64)
        return np.where(found >= first, found, NO_STATE)


def first_change(changes: Changes, users: Keys, day: int) -> Days:
    """int32[users]: the first day whose state may not be used: the next one, or one that changed later."""
    bounds = np.full(len(users), day + 1, np.int32)
    if len(users):
        later = (changes.arrived > day) & (changes.since <= day)
        place = np.searchsorted(users, changes.users[later])
        place = np.minimum(place, len(users) - 1)
        is_own = users[place] == changes.users[later]
        np.minimum.at(bounds, place[is_own], changes.since[later][is_own])
    return bounds
