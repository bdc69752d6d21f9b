"""Whom a step asks about: users known by then, what they chose next, and what may be ranked for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from jobs.rank.catalogue import Catalogue
from jobs.rank.events import Events, Places
from jobs.rank.metrics import Floats, Truth
from jobs.rank.moment import Moment, asked_at, moment_at

# What becomes of items that the user chose before: ranked like all others, left out, or ranked alone.
ALLOW: Final = "allow"
EXCLUDE: Final = "exclude"
ONLY: Final = "only"
REPEATS: Final = (ALLOW, EXCLUDE, ONLY)
# Users with at least this many known events are in the bucket of the same place, those with fewer in none
# above.
BUCKETS: Final = (1, 5, 20, 100)
BUCKET_NAMES: Final = ("1-4", "5-19", "20-99", "100+")
# Users who are scored together: 64 rows of 20,000 items are 10 MB a model.
BLOCK: Final = 64


@dataclass(frozen=True)
class Rules:
    """How rankings are judged: the first k ranks, days to look ahead, treatment of repeats (REPEATS)."""

    k: int
    horizon: int
    repeat: str


@dataclass(frozen=True)
class Cases:
    """The users of a step who are judged.

    events: all events of these users, later ones included. truths and had (int64[m], items of known choices)
    are by user; bucket: int64[users].
    """

    events: Events
    truths: list[Truth]
    had: list[Places]
    bucket: Places

    def __len__(self) -> int:
        return len(self.truths)

    def of(self, places: Places) -> "Cases":
        """The users at these places, int64[m], ascending."""
        truths, had = ([given[place] for place in places] for given in (self.truths, self.had))
        return Cases(self.events.of(places), truths, had, self.bucket[places])


def cases_at(events: Events, moment: Moment, rules: Rules) -> tuple[Cases, int]:
    """The judged users among these, and how many were seen before but chose nothing in the horizon."""
    known, chosen = events.known(moment.day), events.choices(moment.day + 1, moment.day + rules.horizon)
    seen = np.bincount(events.row_user[known], minlength=len(events.users))
    acted = np.bincount(events.row_user[chosen], minlength=len(events.users))
    asked = np.flatnonzero((seen > 0) & (acted > 0))
    own = events.of(asked)
    was_chosen = own.known(moment.day) & own.chosen
    is_chosen = own.choices(moment.day + 1, moment.day + rules.horizon)
    truths, had = [], []
    for first, last in zip(own.starts[:-1], own.starts[1:], strict=True):
        items = own.item[first:last]
        had.append(np.unique(items[was_chosen[first:last]]).astype(np.int64))
        truths.append(
            truth_of(np.unique(items[is_chosen[first:last]]).astype(np.int64), had[-1], moment, rules)
        )
    kept = np.flatnonzero([truth.size > 0 for truth in truths])
    bucket = np.searchsorted(np.array(BUCKETS), seen[asked][kept], "right") - 1
    cases = Cases(own.of(kept), [truths[i] for i in kept], [had[i] for i in kept], bucket)
    return cases, int(np.count_nonzero(seen)) - len(cases)


def truth_of(chosen: Places, had: Places, moment: Moment, rules: Rules) -> Truth:
    """What the ranking should find of the distinct items that were chosen."""
    if rules.repeat == EXCLUDE:
        chosen = np.setdiff1d(chosen, had)
    elif rules.repeat == ONLY:
        chosen = np.intersect1d(chosen, had)
    is_known = moment.known[chosen]
    return Truth(chosen[is_known], int(np.count_nonzero(~is_known)))


def ranked(scores: Floats, had: Places, moment: Moment, rules: Rules) -> Floats:
    """float64[items]: a user's scores, -inf for items that may not be ranked."""
    if rules.repeat == ONLY:
        found = np.full_like(scores, -np.inf)
        found[had] = scores[had]
        return found
    found = np.where(moment.known, scores, -np.inf)
    if rules.repeat == EXCLUDE:
        found[had] = -np.inf
    return found


def blocks(cases: Cases, size: int = BLOCK) -> Iterator[Cases]:
    """The cases in blocks of so many users."""
    for start in range(0, len(cases), size):
        yield cases.of(np.arange(start, min(start + size, len(cases))))


def step_on(events: Events, catalogue: Catalogue, day: int, rules: Rules) -> tuple[Moment, Cases, int] | None:
    """A day's world, its cases, and how many users were seen before but chose nothing; None without a case.

    Without anybody to ask, the world is not looked up: on a log of few users that is most days.
    """
    if not asked_at(events, day, rules.horizon).any():
        return None
    moment = moment_at(events, catalogue, day)
    cases, silent = cases_at(events, moment, rules)
    return (moment, cases, silent) if len(cases) else None
