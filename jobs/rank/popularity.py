"""Baselines that count: what everybody chose, what they chose lately, and what the user chose before.

Each is a pair of pure functions: `fit` takes a history of all users and gives arrays by name, `scores` takes
these and the histories of some users and gives float64[users, items].
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from jobs.rank.events import History

Arrays = Mapping[str, NDArray[np.generic]]
Floats = NDArray[np.float64]
Parameters = Mapping[str, float]
# How far popularity moves a score that ranks few items, as a share of its largest: only ties are decided by
# it.
TIE = 1e-9


def fit_popularity(history: History, _: Parameters) -> dict[str, NDArray[np.generic]]:
    """popularity: float64[items], how many choices each item has."""
    counts = np.bincount(history.events.item, minlength=history.items)
    return {"popularity": counts.astype(np.float64)}


def fit_decayed(history: History, parameters: Parameters) -> dict[str, NDArray[np.generic]]:
    """popularity: float64[items], choices that count half as much every `half_life` days."""
    weights = np.exp2(-history.age / parameters["half_life"])
    return {"popularity": np.bincount(history.events.item, weights, minlength=history.items)}


def fit_support(history: History, parameters: Parameters) -> dict[str, NDArray[np.generic]]:
    """popularity: float64[items], users who chose each, counting half as much every `half_life` days.

    A user's last choice of an item counts, and no other. New accounts count for an item at most as much as
    established users do, or as many times as much as they do for the median item, if that is more: so they
    cannot push a single item far, and a young log, where all are new, is counted as it is.
    """
    events = history.events
    # The events of a user are by time: of equal pairs the last one is the latest.
    pairs = events.row_user * history.items + events.item
    _, from_end = np.unique(pairs[::-1], return_index=True)
    last = np.sort(len(pairs) - 1 - from_end)
    weights = np.exp2(-history.age[last] / parameters["half_life"])
    is_old = established(history)[events.row_user[last]]
    items, old, new = events.item[last], np.where(is_old, weights, 0.0), np.where(is_old, 0.0, weights)
    old, new = (np.bincount(items, own, minlength=history.items).astype(np.float64) for own in (old, new))
    return {"popularity": old + np.minimum(new, most_new(old, new))}


def established(history: History) -> NDArray[np.bool_]:
    """bool[users]: who chose two items or more, and on two days or more."""
    events = history.events
    found = np.ones(history.users, bool)
    for values in (events.item, events.day):
        low, high = np.full((2, history.users), -1)
        np.maximum.at(high, events.row_user, values)
        low[:] = high
        np.minimum.at(low, events.row_user, values)
        found &= low < high
    return found


def most_new(old: Floats, new: Floats) -> Floats:
    """float64[items]: the most that new accounts count. old, new: float64[items], what all of them count."""
    chosen = old + new > 0
    shares = np.divide(new, old, out=np.full(len(old), np.inf), where=old > 0)[chosen]
    usual = max(1.0, float(np.median(shares))) if len(shares) else 1.0
    return old * usual if np.isfinite(usual) else np.full(len(old), np.inf)


def popularity_scores(arrays: Arrays, history: History, _: Parameters) -> Floats:
    """The same for every user."""
    return np.tile(np.asarray(arrays["popularity"], np.float64), (history.users, 1))


def own_scores(arrays: Arrays, history: History, parameters: Parameters) -> Floats:
    """How often the user chose the item, halved every `half_life` days: the bar where people buy again.

    Items that the user never chose follow in the order of popularity, as in GP-TopFreq (Hu et al., 2020).
    """
    own = history.weighted(np.exp2(-history.age / parameters["half_life"]))
    return with_ties_by_popularity(own.toarray(), arrays)


def with_ties_by_popularity(scores: Floats, arrays: Arrays) -> Floats:
    """The scores (at least 0), their ties decided by the popularity in `arrays`."""
    popularity = np.asarray(arrays["popularity"], np.float64)
    top = popularity.max(initial=0.0)
    largest = scores.max(axis=1, initial=0.0, keepdims=True)
    return scores + TIE * np.where(largest > 0, largest, 1.0) * (popularity / top if top else popularity)
