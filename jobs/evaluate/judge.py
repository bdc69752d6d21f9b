"""Judges some users at one step: every model ranks the catalogue for each, and the rankings are measured.

Runs on the driver or in a worker. A user's figures do not depend on the users judged with them: no product of
matrices mixes users, so that any number of partitions gives the same bits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.rank.blend import blended, min_max
from jobs.rank.cases import Cases, Rules, ranked
from jobs.rank.catalogue import Shelf
from jobs.rank.choice import CONTENT, FACET, RAW, Choice
from jobs.rank.content import Profiles, content_scores, raw_scores, with_facet
from jobs.rank.events import Bools, History, Keys, Places, history_at
from jobs.rank.metrics import NAMES, Floats, Truth, measure
from jobs.rank.models import MODELS
from jobs.rank.moment import Moment
from jobs.rank.popularity import Arrays

Fitted = Mapping[str, Arrays]
# Stands for an item in a ranking of fewer than k.
NOTHING = -1


@dataclass(frozen=True)
class Rows:
    """The figures of some users at one step.

    users: int64[r], ascending. bucket: int64[r]. values: float64[r, models, NAMES]. cold: float64[r,
    models, 2], NDCG and recall among cold items alone, NaN where none was chosen. there: bool[r, facets],
    who had a state of each context facet. shown: int32[r, models, k], the first k items, NOTHING where fewer
    could be ranked.
    """

    users: Keys
    bucket: Places
    values: Floats
    cold: Floats
    there: Bools
    shown: NDArray[np.int32]


def scores_of(
    choice: Choice, fitted: Fitted, moment: Moment, shelf: Shelf, history: History, profiles: Profiles
) -> Iterator[tuple[str, Floats]]:
    """The rows of the table, each with float64[users, items], in the order of `choice.rows`."""
    parts = {part for weights in choice.blends.values() for part in weights}
    scaled: dict[str, Floats] = {}

    def kept(name: str, scores: Floats) -> tuple[str, Floats]:
        if name in parts:
            scaled[name] = min_max(scores, moment.known)
        return name, scores

    for model in MODELS:
        own = choice.parameters[model.name]
        yield kept(model.name, model.scores(fitted[model.name], history, own))
    content = content_scores(shelf, profiles, choice.aversion)
    yield kept(CONTENT, content)
    yield RAW, raw_scores(shelf, profiles)
    for facet in choice.facets:
        yield f"{FACET}{facet}", with_facet(content, shelf, profiles, facet)
    for name, weights in choice.blends.items():
        yield name, blended([scaled[part] for part in weights], list(weights.values()))


def judge(
    cases: Cases,
    profiles: Profiles,
    choice: Choice,
    fitted: Fitted,
    moment: Moment,
    shelf: Shelf,
    rules: Rules,
) -> Rows:
    """The figures of a block of users, with the profiles of the same users."""
    history = history_at(cases.events, moment.day, len(moment.known))
    names, users = choice.rows, len(cases)
    values, cold = np.zeros((users, len(names), len(NAMES))), np.full((users, len(names), 2), np.nan)
    shown = np.full((users, len(names), rules.k), NOTHING, np.int32)
    frozen = cold_items(moment)
    for place, (_, scores) in enumerate(scores_of(choice, fitted, moment, shelf, history, profiles)):
        for user, (truth, had) in enumerate(zip(cases.truths, cases.had, strict=True)):
            own = ranked(scores[user], had, moment, rules)
            values[user, place], first = measure(own, truth, moment.surprise, rules.k)
            shown[user, place, : len(first)] = first
            if (among := cold_truth(truth, frozen)).size:
                cold[user, place] = measure(own[frozen], among, moment.surprise[frozen], rules.k)[0][:2]
    there = [profiles.there[facet] for facet in choice.facets]
    has = np.array(there, bool).reshape(len(there), users).T
    return Rows(cases.events.users, cases.bucket, values, cold, has, shown)


def cold_items(moment: Moment) -> NDArray[np.int64]:
    """int64[m]: the items that nobody had touched by then, ascending."""
    return np.flatnonzero(moment.cold)


def cold_truth(truth: Truth, frozen: NDArray[np.int64]) -> Truth:
    """The chosen items that were cold, by their places among the cold items."""
    return Truth(np.flatnonzero(np.isin(frozen, truth.items)))
