"""The log as the replay sees it, and what of it was known on a day.

Days are int32, counted from 1970-01-01. Users are known by a key, a hash of their id: no id leaves the
tables, and the order of the keys is the order in which anything is summed.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from jobs.io.messages import JobError

Bools = NDArray[np.bool_]
Days = NDArray[np.int32]
Keys = NDArray[np.int64]
Places = NDArray[np.int64]
# The day on which an event that was never retracted is taken back.
NEVER = int(np.iinfo(np.int32).max)


@dataclass(frozen=True)
class Events:
    """Events with an item, of types that count, by user; the events of a user by time.

    users: int64[u], keys of all users, ascending. starts: int64[u + 1], where the events of each begin. Of
    each event (arrays of length n): item, int32, its index in the catalogue; day, when it happened; arrived,
    the log day that brought it; gone, the log day that brought its retraction, or NEVER; chosen, bool,
    whether it says that the user chose the item (the target).
    """

    users: Keys
    starts: Places
    item: NDArray[np.int32]
    day: Days
    arrived: Days
    gone: Days
    chosen: Bools

    @cached_property
    def row_user(self) -> Places:
        """int64[n]: the place in `users` of each event's user."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.starts))

    def where(self, kept: Bools) -> "Events":
        """The events that are kept, with all users, of whom some may have none left."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return replace(
            self,
            starts=before[self.starts],
            item=self.item[kept],
            day=self.day[kept],
            arrived=self.arrived[kept],
            gone=self.gone[kept],
            chosen=self.chosen[kept],
        )

    def of(self, places: Places) -> "Events":
        """The events of some users alone: ascending places in `users`."""
        sizes = np.diff(self.starts)[places]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.repeat(self.starts[places] - starts[:-1], sizes) + np.arange(starts[-1])
        return Events(
            self.users[places],
            starts,
            self.item[rows],
            self.day[rows],
            self.arrived[rows],
            self.gone[rows],
            self.chosen[rows],
        )

    def known(self, day: int) -> Bools:
        """bool[n]: what was known on a day: happened and arrived by then, and not yet retracted."""
        found: Bools = (self.day <= day) & (self.arrived <= day) & (self.gone > day)
        return found

    def as_of(self, day: int) -> "Events":
        """The log as it was at the end of a day: nothing of what arrived later, retractions included."""
        found = self.where(self.known(day))
        return replace(found, gone=np.full_like(found.gone, NEVER))

    def choices(self, first: int, last: int) -> Bools:
        """bool[n]: what users chose on the days first..last, whenever it arrived, unless it was retracted."""
        found: Bools = self.chosen & (self.day >= first) & (self.day <= last) & (self.gone == NEVER)
        return found


@dataclass(frozen=True)
class History:
    """The choices known at the end of a day: all that a model may see. Raises JobError where it has others.

    items: how many items the catalogue has, those of later days included.
    """

    today: int
    items: int
    events: Events

    def __post_init__(self) -> None:
        later = (self.events.day > self.today) | (self.events.arrived > self.today)
        if later.any():
            raise JobError(
                f"{int(later.sum())} events of the history happened or arrived after the day of the step, so "
                "the evaluation would know the future; report this, nothing was written"
            )

    @property
    def users(self) -> int:
        """How many users there are, those without a choice included."""
        return len(self.events.users)

    @cached_property
    def age(self) -> NDArray[np.float64]:
        """float64[n]: days since each choice."""
        return (self.today - self.events.day).astype(np.float64)

    def weighted(self, weights: NDArray[np.float64]) -> sparse.csr_matrix:
        """float64[users, items], the sum of the weights of a user's choices of an item."""
        events = self.events
        shape = (self.users, self.items)
        found = sparse.csr_matrix((weights, (events.row_user, events.item)), shape=shape)
        found.sort_indices()
        return found

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """float64[users, items]: 1 where a user chose an item."""
        found = self.weighted(np.ones(len(self.events.item)))
        found.data[:] = 1.0
        return found


def history_at(events: Events, day: int, items: int) -> History:
    """The choices among the events that were known at the end of a day."""
    return History(day, items, events.where(events.known(day) & events.chosen))
