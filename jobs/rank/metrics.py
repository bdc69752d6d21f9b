"""How good a ranking is: pure functions over scores and the items a user chose.

A row is one user at one step. Scores are float64, higher is better; -inf leaves an item out of the ranking.
Of items with equal scores the one with the smaller index is ranked first, so that a ranking never depends on
the order in which anything was computed. Relevance is binary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What is measured of each row, in the order of the columns of `measure`.
NAMES = ("ndcg", "recall", "mrr", "hit", "novelty")
NDCG, RECALL, MRR, HIT, NOVELTY = range(len(NAMES))


@dataclass(frozen=True)
class Truth:
    """What a user chose in the horizon.

    items: int64[m], indices of chosen items that could be ranked. missed: how many distinct items were chosen
    that nobody could rank, since they were unknown then; they count in the denominators.
    """

    items: Ints
    missed: int = 0

    @property
    def size(self) -> int:
        """How many distinct items were chosen."""
        return len(self.items) + self.missed


def top_items(scores: Floats, k: int) -> Ints:
    """The indices of the k best items, best first; fewer where fewer can be ranked.

    scores: float64[items], without NaN.

    >>> top_items(np.array([0.5, 0.9, 0.5, -np.inf]), 2).tolist()
    [1, 0]
    """
    if len(scores) > k:
        bound = np.partition(scores, -k)[-k]
        found = np.flatnonzero(scores >= bound)
    else:
        found = np.arange(len(scores))
    found = found[scores[found] > -np.inf]
    return found[np.argsort(-scores[found], kind="stable")][:k]


def first_rank(scores: Floats, items: Ints) -> float:
    """The rank, from 1, of the best of the items in the whole ranking; inf where all are left out of it.

    items: int64[m], ascending.

    >>> first_rank(np.array([0.5, 0.9, 0.5, -np.inf]), np.array([2, 3]))
    3.0
    """
    if not len(items):
        return np.inf
    # The first of equal ones is also the one that is ranked first.
    best = items[np.argmax(scores[items])]
    if np.isneginf(scores[best]):
        return np.inf
    better, before = scores > scores[best], scores[:best] == scores[best]
    return 1.0 + float(np.count_nonzero(better)) + float(np.count_nonzero(before))


def ndcg(is_hit: NDArray[np.bool_], size: int, k: int) -> float:
    """Normalised discounted cumulative gain at k, binary (Järvelin and Kekäläinen, 2002).

    is_hit: bool[at most k], which of the first ranks are chosen items; size: how many items were chosen.

    >>> round(ndcg(np.array([True, False, True]), 2, 10), 4)
    0.9197
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    return float(discounts[: len(is_hit)][is_hit].sum() / discounts[: min(size, k)].sum()) if size else 0.0


def recall(is_hit: NDArray[np.bool_], size: int) -> float:
    """The share of the chosen items that are among the first ranks."""
    return np.count_nonzero(is_hit) / size if size else 0.0


def hits(shown: Ints, truth: Truth) -> NDArray[np.bool_]:
    """bool[shown]: which of the items shown were chosen."""
    return np.isin(shown, truth.items)


def measure(scores: Floats, truth: Truth, surprise: Floats, k: int) -> tuple[Floats, Ints]:
    """float64[NAMES] of one row, and the items of its first k ranks.

    surprise: float64[items], bits of self-information of each item; novelty is their mean over the first k
    (Vargas and Castells, 2011), 0 where nothing can be ranked. mrr: over the whole ranking.
    """
    shown = top_items(scores, k)
    is_hit = hits(shown, truth)
    novelty = float(surprise[shown].mean()) if len(shown) else 0.0
    quality = [ndcg(is_hit, truth.size, k), recall(is_hit, truth.size), 1.0 / first_rank(scores, truth.items)]
    return np.array([*quality, float(is_hit.any()), novelty]), shown


def self_information(users_of_item: Ints, users: int) -> Floats:
    """Bits of self-information of each item: -log2 of the share of users who had it.

    An item that nobody had counts as half a user's, so that it stays finite.

    users_of_item: int64[items], users who had each item; users: how many there are.
    """
    return -np.log2(np.maximum(users_of_item, 0.5) / max(users, 1))


def coverage(exposures: Ints, catalogue: int) -> float:
    """The share of the catalogue that was in the first k of anybody.

    exposures: int64[items], how often each item was; catalogue: how many items could be ranked.
    """
    return float(np.count_nonzero(exposures) / catalogue) if catalogue else 0.0


def gini(exposures: Ints, catalogue: int) -> float:
    """The Gini coefficient of exposure over the catalogue: 0 where all items are shown alike, 1 where one is.

    Items that were never shown count with 0.

    >>> gini(np.array([5, 5, 5, 5]), 4), round(gini(np.array([0, 0, 0, 20]), 4), 2)
    (0.0, 0.75)
    """
    total = exposures.sum()
    if not total or not catalogue:
        return 0.0
    shown = np.sort(exposures[exposures > 0])
    place = np.arange(catalogue - len(shown) + 1, catalogue + 1)
    return float((2 * (place * shown).sum() - (catalogue + 1) * total) / (catalogue * total))
