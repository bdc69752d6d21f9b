"""What re-ranking would do to a ranking: lists (udfs/rerank.py) from scores of all items, and their figures.

A list becomes scores again, with its items ahead of all others, so that it is measured like any ranking.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jobs.rank.catalogue import Shelf
from jobs.rank.events import History, Places
from jobs.rank.metrics import Floats, top_items
from jobs.rank.popularity import Arrays
from schemas.settings import RecommendSettings
from udfs.rerank import (
    DEEPER,
    NO_ITEM,
    Candidates,
    Reranking,
    Rules,
    distance,
    draws,
    list_divergence,
    rates_for,
    relisted,
)

# Figures of a list, besides what it finds.
FIGURES: Final = ("distance", "divergence")
# Users whose lists say how far an item goes over a cap.
SAMPLED: Final = 1_000


def rerankings_of(settings: RecommendSettings) -> dict[str, Rules]:
    """Each option that is set, by its name, and several together as `reranked`."""
    each = {
        "diversity": Rules(settings.diversity, 0.0, 1.0),
        "calibration": Rules(0.0, settings.calibration, 1.0),
        "exposure_cap": Rules(0.0, 0.0, settings.exposure_cap),
    }
    found = {name: rules for name, rules in each.items() if rules.is_greedy or rules.cap < 1}
    if len(found) > 1:
        found["reranked"] = Rules(settings.diversity, settings.calibration, settings.exposure_cap)
    return found


def users_candidates(
    history: History, half_life: float, lists: Sequence[Places], scores: Sequence[Floats], shelf: Shelf
) -> Iterator[Candidates]:
    """Of each user of a history the items given, best first, with their scores.

    half_life: of the user's own choices, days. Draws of a cap depend on keys and places, not on ids.
    """
    events, weights = history.events, np.exp2(-history.age / half_life)
    for user, (items, own) in enumerate(zip(lists, scores, strict=True)):
        first, last = events.starts[user : user + 2]
        yield Candidates(
            str(events.users[user]),
            items,
            [str(item) for item in items],
            own[items],
            np.asarray(shelf.centred[items]),
            events.item[first:last].astype(np.int64),
            weights[first:last],
        )


def ahead(scores: Floats, candidates: Candidates, reranking: Reranking, top: int) -> Floats:
    """float64[items]: the scores, those of the list's items raised above all others, in its order."""
    order, found = candidates.items[relisted(candidates, reranking, top)], scores.copy()
    if len(order):
        found[order] = scores[candidates.items[0]] + np.arange(len(order), 0, -1)
    return found


def deep_list(scores: Floats, top: int) -> Places:
    """int64[n]: the candidates of a list."""
    return top_items(scores, DEEPER * top)


def list_figures(listed: Candidates, category: NDArray[np.int32]) -> Floats:
    """float64[FIGURES] of a list; the divergence is NaN without a category in the history."""
    return np.array([distance(listed.units), list_divergence(listed, category)])


def rates_of(lists: Sequence[Candidates], size: int, top: int, cap: float) -> Floats:
    """float64[size]: the rates under a cap, by the candidates of some users."""
    items = np.full((len(lists), DEEPER * top), NO_ITEM, np.int64)
    chances = np.ones(items.shape)
    for row, own in enumerate(lists):
        items[row, : len(own.items)] = own.items
        chances[row, : len(own.items)] = draws(own.user, own.names)
    return rates_for(items, chances, size, top, cap)


def reranking_by(rules: Rules, arrays: Arrays) -> Reranking:
    """Rules with the arrays of a step, `category` and `rates`, which count under a cap alone."""
    category = np.asarray(arrays["category"], np.int32)
    rates = np.asarray(arrays["rates"], np.float64)
    return Reranking(rules, category, rates if rules.cap < 1 else np.ones(len(rates)))


def lowest_cap(rerankings: Mapping[str, Rules]) -> float:
    """The cap of the options, 1 where none has one."""
    return min((rules.cap for rules in rerankings.values()), default=1.0)
