"""Random draws for the demo logs. Only `Generator.random` is used: a log depends on one NumPy method."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def draw(rng: np.random.Generator, weights: Mapping[T, float]) -> T:
    """One key, with probability proportional to its weight; the weights need not sum to 1."""
    left = float(rng.random()) * sum(weights.values())
    for key, weight in weights.items():
        left -= weight
        if left < 0:
            return key
    return key


def one_of(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, all equally likely."""
    return options[int(rng.random() * len(options))]
