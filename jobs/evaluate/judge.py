"""Judges some users at one step: every model ranks the catalogue for each, and the rankings are measured.

Runs on the driver or in a worker. A user's figures do not depend on the users judged with them: no product of
matrices mixes users, so that any number of partitions gives the same bits.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from jobs.rank.models import MODELS, OWN
from jobs.rank.moment import Moment
from jobs.rank.popularity import Arrays
from jobs.rank.relist import (
    FIGURES,
    ahead,
    deep_list,
    list_figures,
    reranking_by,
    users_candidates,
)
from udfs.rerank import Candidates

Fitted = Mapping[str, Arrays]
# Stands for an item in a ranking of fewer than k.
NOTHING = -1
# The arrays of a step that re-ranking needs, among those of the models.
RERANKING = "reranking"


@dataclass(frozen=True)
class Rows:
    """The figures of some users at one step.

    users: int64[r], ascending. bucket: int64[r]. values: float64[r, models, NAMES]. cold: float64[r,
    models, 2], NDCG and recall among cold items alone, NaN where none was chosen. there: bool[r, facets],
    who had a state of each context facet. shown: int32[r, models, k], the first k items, NOTHING where fewer
    could be ranked. lists: float64[r, models, FIGURES], NaN where nothing is re-ranked.
    """

    users: Keys
    bucket: Places
    values: Floats
    cold: Floats
    there: Bools
    shown: NDArray[np.int32]
    lists: Floats


def scores_of(
    choice: Choice, fitted: Fitted, moment: Moment, shelf: Shelf, history: History, profiles: Profiles
) -> Iterator[tuple[str, Floats]]:
    """The rows of the table, each with float64[users, items], in the order of `choice.rows`.

    Of a re-ranked row those of the last blend, which its lists are made of.
    """
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
    scores = content
    for name, weights in choice.blends.items():
        scores = blended([scaled[part] for part in weights], list(weights.values()))
        yield name, scores
    for name in choice.rerankings:
        yield name, scores


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
    lists, frozen = np.full((users, len(names), len(FIGURES)), np.nan), cold_items(moment)
    listing = Listing(choice, fitted.get(RERANKING), history, shelf, rules.k)
    for place, (name, scores) in enumerate(scores_of(choice, fitted, moment, shelf, history, profiles)):
        rankings = [ranked(own, had, moment, rules) for own, had in zip(scores, cases.had, strict=True)]
        rankings = listing.relisted(name, rankings)
        for user, (truth, own) in enumerate(zip(cases.truths, rankings, strict=True)):
            values[user, place], first = measure(own, truth, moment.surprise, rules.k)
            shown[user, place, : len(first)] = first
            if (among := cold_truth(truth, frozen)).size:
                cold[user, place] = measure(own[frozen], among, moment.surprise[frozen], rules.k)[0][:2]
        lists[:, place] = listing.figures(rankings, shown[:, place])
    there = [profiles.there[facet] for facet in choice.facets]
    has = np.array(there, bool).reshape(len(there), users).T
    return Rows(cases.events.users, cases.bucket, values, cold, has, shown, lists)


@dataclass(frozen=True)
class Listing:
    """Re-ranks the lists of a block of users and measures them; does nothing without `arrays`.

    arrays: `category` and `rates` of the step. history: of the users.
    """

    choice: Choice
    arrays: Arrays | None
    history: History
    shelf: Shelf
    k: int

    def candidates(self, lists: Sequence[Places], scores: Sequence[Floats]) -> list[Candidates]:
        """Of each user, by the items and the scores of all items."""
        half_life = self.choice.parameters[OWN.name]["half_life"]
        return list(users_candidates(self.history, half_life, lists, scores, self.shelf))

    def relisted(self, name: str, rankings: list[Floats]) -> list[Floats]:
        """Each user's scores with the list of the row ahead, where the row is re-ranked."""
        rules = self.choice.rerankings.get(name)
        if rules is None or self.arrays is None:
            return rankings
        reranking = reranking_by(rules, self.arrays)
        every = self.candidates([deep_list(own, self.k) for own in rankings], rankings)
        return [ahead(own, one, reranking, self.k) for own, one in zip(rankings, every, strict=True)]

    def figures(self, rankings: list[Floats], shown: NDArray[np.int32]) -> Floats:
        """float64[users, FIGURES] of int32[users, k], the items shown."""
        if self.arrays is None:
            return np.full((len(shown), len(FIGURES)), np.nan)
        lists = [items[items != NOTHING].astype(np.int64) for items in shown]
        category = np.asarray(self.arrays["category"], np.int32)
        found = [list_figures(one, category) for one in self.candidates(lists, rankings)]
        return np.array(found).reshape(len(shown), len(FIGURES))


def cold_items(moment: Moment) -> NDArray[np.int64]:
    """int64[m]: the items that nobody had touched by then, ascending."""
    return np.flatnonzero(moment.cold)


def cold_truth(truth: Truth, frozen: NDArray[np.int64]) -> Truth:
    """The chosen items that were cold, by their places among the cold items."""
    return Truth(np.flatnonzero(np.isin(frozen, truth.items)))
