"""What is compared on each log: ways to make profiles, and to score by them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.rank.content import MAIN, NEGATIVE
from tests.perf.verdicts.logs import Log
from tests.perf.verdicts.profiles import DEFAULTS, Fold, negative, weights_of
from tests.udfs.fold.configs import constants

DEFAULT = "default"
GATES: Mapping[str, Mapping[str, Any]] = {
    "resist": {"relevance": "resist"},
    "mean": {"gate": "mean"},
    "literal": {"gate": "literal"},
    "fixed": {"gate": "fixed"},
    "alpha 0.1": {"alpha": 0.1},
    "alpha 0.2": {"alpha": 0.2},
    "alpha 0.5": {"alpha": 0.5},
    "resist, alpha 0.2": {"relevance": "resist", "alpha": 0.2},
    "k_max 0.90": {"k_max": 0.90},
    "k_max 0.95": {"k_max": 0.95},
    "k_max 0.99": {"k_max": 0.99},
    "k_max 0.998": {"k_max": 0.998},
}
HALF_LIVES = (7, 14, 30, 60, 120, 365)
FLOORS = (0.0, 0.5, 1.0)
# Ratings below the bound are negative; with 0 none is.
BOUNDS = (0.0, 0.3, 0.6)
TYPES: Mapping[str, Mapping[str, float]] = {
    "all types alike": {},
    "views and clicks 0.05": dict(DEFAULTS.type_weights) | {"view": 0.05, "click": 0.05},
    "views and clicks 0": dict(DEFAULTS.type_weights) | {"view": 0.0, "click": 0.0},
}


@dataclass(frozen=True)
class Candidate:
    """A way to score: facets whose mean cosine counts (for users without one, `main`), minus the aversion.

    negative: the facet that is subtracted, if any. is_raw: cosines are not centred.
    """

    facets: tuple[str, ...] = (MAIN,)
    negative: str | None = NEGATIVE
    is_raw: bool = False


@dataclass(frozen=True)
class Plan:
    """The facets to fold and the candidates, by name; DEFAULT is the one that the others are held against."""

    folds: Mapping[str, Fold]
    candidates: Mapping[str, Candidate]


def plan_of(log: Log) -> Plan:
    """Everything that can differ on this log."""
    weights, is_negative = weights_of(log), negative(log)
    liked = np.where(is_negative, 0.0, weights)
    folds = {
        MAIN: Fold(constants(), liked),
        NEGATIVE: Fold(constants(), np.where(is_negative, weights, 0.0)),
    }
    found = {
        DEFAULT: Candidate(),
        "raw": Candidate(is_raw=True),
        "without negative": Candidate(negative=None),
    }

    def add(name: str, own: Mapping[str, Any], events: NDArray[np.float64] = liked) -> None:
        folds[name] = Fold(constants(**own), events)
        found[name] = Candidate((name,))

    for name, own in GATES.items():
        add(name, own)
    for days in HALF_LIVES:
        add(f"half-life {days}", {"half_life_days": float(days)})
        found[f"main and half-life {days}"] = Candidate((MAIN, f"half-life {days}"))
    if is_negative.any():
        folds["all events"] = Fold(constants(), weights)
        found["all events in main"] = Candidate(("all events",), None)
    if (~np.isnan(log.rating)).any():
        for floor in FLOORS:
            add(f"floor {floor:g}", {}, np.where(is_negative, 0.0, weights_of(log, floor=floor)))
        for bound in BOUNDS:
            other = negative(log, bound)
            name, against = f"negative below {bound:g}", f"against {bound:g}"
            folds[against] = Fold(constants(), np.where(other, weights, 0.0))
            folds[name] = Fold(constants(), np.where(other, 0.0, weights))
            found[name] = Candidate((name,), against)
    if len(np.unique(log.kind)) > 2:
        for name, types in TYPES.items():
            add(name, {}, np.where(is_negative, 0.0, weights_of(log, types)))
    return Plan(folds, found)


def contexts_of(log: Log) -> Plan:
    """The contexts of a generated log, alone and with `main`."""
    liked = np.where(negative(log), 0.0, weights_of(log))
    folds, found = {MAIN: Fold(constants(), liked)}, {DEFAULT: Candidate(negative=None)}
    for name, there in log.contexts.items():
        folds[name] = Fold(constants(), np.where(there, liked, 0.0))
        found[f"{name} alone"] = Candidate((name,), None)
        found[f"with {name}"] = Candidate((MAIN, name), None)
    return Plan(folds, found)
