"""The models that are compared, each with the parameters that are tried on the days before the test."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from jobs.rank.ease import ease_scores, fit_ease
from jobs.rank.events import History
from jobs.rank.factors import als_scores, fit_als, fit_neural, neural_scores
from jobs.rank.neighbours import fit_neighbours, item_knn_scores, last_item_scores
from jobs.rank.popularity import (
    Arrays,
    Floats,
    Parameters,
    fit_decayed,
    fit_popularity,
    own_scores,
    popularity_scores,
)


@dataclass(frozen=True)
class Model:
    """A way to score items by choices alone.

    fit: from the history of all users to arrays by name. scores: from these and the histories of some users
    to float64[users, items]. grid: the parameters that are tried. is_slow: whether a fit takes seconds; then
    it is kept until the history has grown (moment.fit_days).
    """

    name: str
    fit: Callable[[History, Parameters], dict[str, NDArray[np.generic]]]
    scores: Callable[[Arrays, History, Parameters], Floats]
    grid: tuple[Parameters, ...]
    is_slow: bool = False


def grid(**values: tuple[float, ...]) -> tuple[dict[str, float], ...]:
    """Every combination of the values.

    >>> grid(k=(1, 2), shrink=(0,))
    ({'k': 1, 'shrink': 0}, {'k': 2, 'shrink': 0})
    """
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


# Half-lives, days. What is popular can change within days; what a user buys again hardly does.
LIVES = (7, 14, 30, 60, 120, 365)
SHORT_LIVES = (1, 3)

POPULARITY = Model("popularity", fit_popularity, popularity_scores, grid())
DECAYED = Model("decayed_popularity", fit_decayed, popularity_scores, grid(half_life=(*LIVES, *SHORT_LIVES)))
OWN = Model("own_frequency", fit_decayed, own_scores, grid(half_life=LIVES))
LAST_ITEM = Model(
    "last_item", fit_neighbours, last_item_scores, grid(neighbours=(100,), shrink=(0, 10, 50)), True
)
ITEM_KNN = Model(
    "item_knn", fit_neighbours, item_knn_scores, grid(neighbours=(50, 400), shrink=(0, 20, 100)), True
)
EASE = Model("ease", fit_ease, ease_scores, grid(penalty=(50, 200, 500, 1000)), True)
ALS = Model("als", fit_als, als_scores, grid(factors=(64,), penalty=(0.1, 10), confidence=(1, 10, 40)), True)
NEURAL = Model("neural_cf", fit_neural, neural_scores, grid(epochs=(5, 20)), True)

# Those that know other users; the best of them on the days before the test enters the blends.
COLLABORATIVE = (LAST_ITEM, ITEM_KNN, EASE, ALS, NEURAL)
MODELS = (POPULARITY, DECAYED, OWN, *COLLABORATIVE)
BY_NAME: Mapping[str, Model] = {model.name: model for model in MODELS}
