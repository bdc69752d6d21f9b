"""Makes a user's list of the candidates that scored best: less alike, nearer to the user's history, capped.

Of n candidates, best first, each pick is the one with the largest

    (1 - diversity - calibration) * score - diversity * (its largest cosine with those picked)
        - calibration * KL(history || list with it)

With diversity alone that is maximal marginal relevance (Carbonell and Goldstein, 1998), with calibration
alone the greedy search of Steck (2018). A cap leaves an item out of the lists of some users, by a draw that
depends on user and item alone. So the same user gets the same list in any batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Places = NDArray[np.int64]

# Candidates for each place of a list.
DEEPER: Final = 10
NO_CATEGORY: Final = -1
NO_ITEM: Final = -1
# Rounds in which rates come down: each can push the next items over the cap.
ROUNDS: Final = 50
# Share of the history in the list's distribution, so that the divergence is finite (Steck's alpha).
SMOOTHING: Final = 0.01


@dataclass(frozen=True)
class Rules:
    """diversity, calibration: weights in 0..1, their sum at most 1. cap: share of users, 1 for none."""

    diversity: float
    calibration: float
    cap: float

    @property
    def is_greedy(self) -> bool:
        """Whether the order of a list may differ from that of the scores."""
        return self.diversity > 0 or self.calibration > 0


@dataclass(frozen=True)
class Reranking:
    """The rules, and what they need of the m items of a catalogue.

    category: int32[m], NO_CATEGORY for none. rates: float64[m] in 0..1, the share of users in whose lists an
    item may be.
    """

    rules: Rules
    category: NDArray[np.int32]
    rates: Floats


@dataclass(frozen=True)
class Candidates:
    """The candidates for a user's list, best first.

    items: int64[n], rows of the catalogue; names: their ids, which the draws of a cap depend on. scores:
    float[n]. units: float[n, d], centred directions, zeros without one. had, weights: int64[h] and
    float64[h], the user's choices as rows of the catalogue, and what each counts.
    """

    user: str
    items: Places
    names: Sequence[str]
    scores: NDArray[np.floating]
    units: NDArray[np.floating]
    had: Places
    weights: Floats


def relisted(candidates: Candidates, reranking: Reranking, top: int) -> Places:
    """int64[at most top]: the places of the list's candidates, in the order of the list.

    Items that a cap leaves out come last, by score, and only where there are too few others.
    """
    is_open = drawn(candidates, reranking.rates)
    within, beyond = np.flatnonzero(is_open), np.flatnonzero(~is_open)
    if reranking.rules.is_greedy:
        within = within[picked(candidates, within, reranking, top)]
    return np.concatenate([within, beyond])[:top]


def drawn(candidates: Candidates, rates: Floats) -> NDArray[np.bool_]:
    """bool[n]: which candidates a cap leaves to the user.

    A lower rate takes an item from some of its users and gives it to none.
    """
    own, found = rates[candidates.items], np.ones(len(candidates.items), bool)
    capped = np.flatnonzero(own < 1)
    found[capped] = draws(candidates.user, [candidates.names[place] for place in capped]) < own[capped]
    return found


def draws(user: str, names: Sequence[str]) -> Floats:
    """float64[n] in 0..1, one for the user with each item, from a hash of their ids: the same every night."""
    told = [f"{user}\0{name}".encode() for name in names]
    return np.array([int.from_bytes(blake2b(one, digest_size=8).digest(), "big") / 2**64 for one in told])


def rates_for(items: Places, chances: Floats, size: int, top: int, cap: float) -> Floats:
    """float64[size]: how much of its users an item keeps so that it is in no more than `cap` of their lists.

    By lists of some users: items, int64[users, n], their candidates, best first, NO_ITEM behind the last;
    chances: float64[users, n], the draws. What one item leaves is taken by others, so that it goes in rounds.
    """
    rates, there = np.ones(size), items != NO_ITEM
    for _ in range(ROUNDS):
        is_open = there & ((chances < rates[items]) | (rates[items] == 1))
        shown = is_open & (np.cumsum(is_open, axis=1) <= top)
        exposure = np.bincount(items[shown], minlength=size) / max(len(items), 1)
        if exposure.max(initial=0.0) <= cap:
            break
        rates *= cap / np.maximum(exposure, cap)
    return rates


def picked(candidates: Candidates, places: Places, reranking: Reranking, top: int) -> Places:
    """int64[at most top]: which of some places are picked, one after the other; of equal ones the first."""
    rules, items = reranking.rules, candidates.items[places]
    units = candidates.units[places].astype(np.float64)
    gains = (1 - rules.diversity - rules.calibration) * candidates.scores[places].astype(np.float64)
    shares, slots = wanted(candidates, reranking.category, items)
    left, nearest, counts = np.ones(len(items), bool), np.zeros(len(items)), np.zeros(len(shares))
    found = list[int]()
    for size in range(1, min(top, len(items)) + 1):
        values = gains - rules.diversity * nearest
        if rules.calibration:
            values -= rules.calibration * divergences(shares, counts, size)[slots]
        at = int(np.argmax(np.where(left, values, -np.inf)))
        found.append(at)
        left[at] = False
        if slots[at] < len(shares):
            counts[slots[at]] += 1
        if rules.diversity:
            # Each product for itself: a product of matrices rounds by how many rows there are.
            cosines = np.add.reduce(units * units[at], axis=1)
            nearest = cosines if size == 1 else np.maximum(nearest, cosines)
    return np.array(found, np.int64)


def wanted(candidates: Candidates, category: NDArray[np.int32], items: Places) -> tuple[Floats, Places]:
    """float64[g], the shares of the categories of the user's history, and the place in it of each item's.

    The place is g for items of other categories or without one. g is 0 without a history.
    """
    of_history = category[candidates.had]
    there = of_history != NO_CATEGORY
    names, at = np.unique(of_history[there], return_inverse=True)
    weights = np.bincount(at, candidates.weights[there], minlength=len(names)).astype(np.float64)
    total = np.add.reduce(weights)
    shares = weights / total if total > 0 else weights
    slots = np.searchsorted(names, category[items])
    is_there = np.append(names, NO_CATEGORY)[slots] == category[items]
    is_known = is_there & (category[items] != NO_CATEGORY)
    return shares, np.where(is_known, slots, len(names)).astype(np.int64)


def divergences(shares: Floats, counts: Floats, size: int) -> Floats:
    """float64[g + 1]: the divergence of a list if an item of each category came in; last, of none of them.

    shares, counts: float64[g], of the history, and items of the list so far. size: items with the new one.
    """
    with_each = np.vstack([counts + np.eye(len(counts)), counts])
    return divergence(shares, with_each / size)


def divergence(shares: Floats, listed: Floats) -> Floats:
    """float64[...]: KL(shares || listed) in nats, where the history has a small part in the list.

    shares: float64[g]; listed: float64[..., g], shares of lists; below 1 in sum where items have others.

    >>> float(divergence(np.array([0.5, 0.5]), np.array([0.5, 0.5])))
    0.0
    """
    there = shares > 0
    mixed = (1 - SMOOTHING) * listed[..., there] + SMOOTHING * shares[there]
    found: Floats = np.add.reduce(shares[there] * np.log(shares[there] / mixed), axis=-1)
    return found


def distance(units: NDArray[np.floating]) -> float:
    """Mean of 1 - cosine over all pairs of a list (intra-list distance, Ziegler et al., 2005).

    0 for fewer than two items. units: float[n, d], of length 1 or 0.

    >>> distance(np.eye(2)), distance(np.ones((2, 1)))
    (1.0, 0.0)
    """
    n = len(units)
    if n < 2:
        return 0.0
    total = np.add.reduce(units.astype(np.float64), axis=0)
    own = np.add.reduce(np.square(units, dtype=np.float64), axis=None)
    return float(1 - (np.add.reduce(total * total) - own) / (n * (n - 1)))


def list_divergence(listed: Candidates, category: NDArray[np.int32]) -> float:
    """How far a list is from the user's history, in nats; NaN without a category in the history."""
    shares, slots = wanted(listed, category, listed.items)
    if not len(shares) or not len(slots):
        return float("nan")
    counts = np.bincount(slots, minlength=len(shares) + 1)[:-1]
    return float(divergence(shares, counts / len(slots)))
