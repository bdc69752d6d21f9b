"""Adds up the figures of all users and steps: averages by user first, then over users.

Figures come step by step, and are added in the order of steps and of users' keys, so that sums do not depend
on how the work was spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.evaluate.judge import NOTHING, Rows
from jobs.rank.cases import BUCKETS
from jobs.rank.events import Keys
from jobs.rank.metrics import NAMES, NDCG, Floats, Ints
from jobs.rank.relist import FIGURES


@dataclass
class Group:
    """Sums by user of some of the rows: float64[users, models, figures], and how many rows each user has."""

    sums: Floats
    rows: Ints

    @classmethod
    def of(cls, users: int, models: int, figures: int) -> "Group":
        """Nothing added yet."""
        return cls(np.zeros((users, models, figures)), np.zeros(users, np.int64))

    def add(self, places: NDArray[np.int64], figures: Floats) -> None:
        """Adds rows of distinct users: float64[r, models, figures]."""
        self.sums[places] += figures
        self.rows[places] += 1

    @property
    def users(self) -> int:
        """How many users have a row."""
        return int(np.count_nonzero(self.rows))

    def by_user(self) -> Floats:
        """float64[users with rows, models, figures]: each user's mean."""
        has = self.rows > 0
        means: Floats = self.sums[has] / self.rows[has][:, None, None]
        return means

    def mean(self) -> Floats:
        """float64[models, figures]: the mean over users; NaN without any."""
        found = self.by_user()
        if not len(found):
            return np.full(self.sums.shape[1:], np.nan)
        means: Floats = np.add.reduce(found, axis=0) / len(found)
        return means


@dataclass(frozen=True)
class StepFigures:
    """A step's day, how many users were judged and how many seen ones chose nothing, and NDCG[models]."""

    day: int
    judged: int
    silent: int
    ndcg: Floats


@dataclass
class Tally:
    """The sums of a replay: users, int64, keys of everybody who is judged at some step, ascending."""

    users: Keys
    models: tuple[str, ...]
    facets: tuple[str, ...]
    items: int
    steps: list[StepFigures] = field(default_factory=list)

    def __post_init__(self) -> None:
        users, models = len(self.users), len(self.models)
        self.overall = Group.of(users, models, len(NAMES))
        self.cold = Group.of(users, models, 2)
        self.buckets = [Group.of(users, models, len(NAMES)) for _ in BUCKETS]
        self.with_facet = [Group.of(users, models, 1) for _ in self.facets]
        self.lists = [Group.of(users, models, 1) for _ in FIGURES]
        self.exposures = np.zeros((models, self.items), np.int64)

    def add(self, day: int, silent: int, parts: Sequence[Rows]) -> None:
        """Adds a step: the rows of all its users, in any order."""
        keys = np.concatenate([part.users for part in parts])
        order = np.argsort(keys)
        places = np.searchsorted(self.users, keys[order])
        values = np.concatenate([part.values for part in parts])[order]
        cold = np.concatenate([part.cold for part in parts])[order]
        bucket = np.concatenate([part.bucket for part in parts])[order]
        there = np.concatenate([part.there for part in parts])[order]
        quality = values[:, :, [NDCG]]
        self.overall.add(places, values)
        is_cold = ~np.isnan(cold[:, 0, 0])
        self.cold.add(places[is_cold], cold[is_cold])
        for number, group in enumerate(self.buckets):
            group.add(places[bucket == number], values[bucket == number])
        for number, group in enumerate(self.with_facet):
            group.add(places[there[:, number]], quality[there[:, number]])
        lists = np.concatenate([part.lists for part in parts])[order]
        for number, group in enumerate(self.lists):
            own = lists[:, :, [number]]
            has = ~np.isnan(own).any(axis=(1, 2))
            group.add(places[has], own[has])
        for part in parts:
            for model in range(len(self.models)):
                shown = part.shown[:, model]
                self.exposures[model] += np.bincount(shown[shown != NOTHING], minlength=self.items)
        mean = np.add.reduce(quality[:, :, 0], axis=0) / len(quality)
        self.steps.append(StepFigures(day, len(keys), silent, mean))
