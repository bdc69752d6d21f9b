"""Convex blends: weighted means of scores that were brought to the same scale for each user."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from jobs.rank.events import Bools
from jobs.rank.popularity import TIE, Floats
from udfs.score import TINY_WIDTH


def min_max(scores: Floats, rankable: Bools) -> Floats:
    """float64[users, items] scaled to 0..1 over each user's rankable items; 0 where all are equal."""
    low = np.where(rankable, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    high = np.where(rankable, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    width = high - low
    scaled = np.zeros_like(scores)
    np.divide(scores - low, width, out=scaled, where=np.isfinite(width) & (width >= TINY_WIDTH))
    return scaled


def simplex(parts: int, steps: int) -> list[tuple[float, ...]]:
    """Every weighting of so many parts by multiples of 1/steps that sum to 1.

    >>> simplex(2, 2)
    [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)]
    """
    whole = [counts for counts in product(range(steps + 1), repeat=parts) if sum(counts) == steps]
    return [tuple(count / steps for count in counts) for counts in whole]


def blended(scaled: Sequence[Floats], weights: Sequence[float], ties: Floats | None = None) -> Floats:
    """The weighted sum of float64[users, items], added in the order given.

    ties: float64[users, items] in 0..1 that decides between equal sums.
    """
    total = np.zeros_like(scaled[0])
    for scores, weight in zip(scaled, weights, strict=True):
        if weight:
            total += weight * scores
    return total if ties is None else total + TIE * ties
