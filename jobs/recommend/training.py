"""Learns how lists are made: each part's parameters, then the weights of their blend, by days that are past.

As the evaluator tunes (jobs/rank/tuning.py): weekly steps, NDCG averaged by user and then over users, short
grids of which the first of equal points wins. Weights are multiples of 0.2, non-negative, with a sum of 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from jobs.io.messages import JobError
from jobs.rank.blend import simplex
from jobs.rank.cases import Cases, Rules
from jobs.rank.choice import CONTENT
from jobs.rank.events import History, history_at
from jobs.rank.metrics import Floats
from jobs.rank.models import grid
from jobs.rank.moment import replay_steps
from jobs.rank.tuning import (
    AVERSIONS,
    BLEND_STEPS,
    Plan,
    Rehearsal,
    Scorer,
    Trial,
    best_of,
    blend_gains,
    grid_trials,
    model_scores,
    profile_scores,
    rehearse,
    tried,
)
from jobs.rank.world import World
from jobs.recommend.models import COLLABORATIVE, OWN, SUPPORT
from udfs.rank import PARTS

# Days that a step predicts, and from step to step.
HORIZON: Final = 7
FRESHNESS: Final = "freshness"
FRESHNESS_GRID: Final = grid(half_life=(7, 30, 90))


@dataclass(frozen=True)
class Trained:
    """A ranker.

    kind: the collaborative model. parameters: of the parts by `part_parameter`, and the weights by
    `weight_part`. metrics: NDCG of the blend and of each part alone, and the users and steps they rest on.
    arrays: popularity and the near_* of jobs/recommend/models.py.
    """

    kind: str
    parameters: dict[str, float]
    metrics: dict[str, float]
    arrays: dict[str, NDArray[np.generic]]


def steps_between(first: int, last: int) -> list[int]:
    """The days at whose end choices of first..last are predicted.

    >>> steps_between(10, 30)
    [9, 16, 23]
    """
    return replay_steps(first, last, HORIZON, HORIZON)


def train(world: World, first: int, last: int, rules: Rules, tell: Callable[[str], None]) -> Trained:
    """Trains by the choices of the days first..last; the fit knows the log up to the last.

    Raises JobError where nobody known by a step chose anything after it.
    """
    with threadpool_limits(1):  # with more threads, products of the same numbers round otherwise
        events = world.events.as_of(last)
        plan = rehearse(events, world.catalogue, steps_between(first, last), rules)
        if not plan.steps:
            raise JobError(
                "nobody who was known before the days chose anything on them, so that no weight can be "
                "learned; choose other days"
            )
        single, scorers = tuned_parts(plan, world, rules, tell)
        weights, ndcg = tuned_weights(plan, rules, scorers)
        tell(f"the blend reaches {ndcg:.4f} by {weights_told(weights)}")
        ahead = single["collaborative"]
        model = next(model for model in COLLABORATIVE if model.name == ahead.name)
        history = history_at(events, last, world.catalogue.size)
        arrays = SUPPORT.fit(history, single["popularity"].parameters)
        arrays |= model.fit(history, ahead.parameters)
    parameters = {f"weight_{part}": weight for part, weight in weights.items()}
    for part, trial in single.items():
        parameters |= {f"{part}_{name}": float(value) for name, value in trial.parameters.items()}
    users = np.unique(np.concatenate([step.cases.events.users for step in plan.steps]))
    metrics = {"ndcg": ndcg, "users": float(len(users)), "steps": float(len(plan.steps))}
    metrics |= {f"ndcg_{part}": trial.ndcg for part, trial in single.items()}
    return Trained(ahead.name, parameters, metrics, arrays)


def tuned_parts(
    plan: Plan, world: World, rules: Rules, tell: Callable[[str], None]
) -> tuple[dict[str, Trial], dict[str, Scorer]]:
    """The best point of each part's grid, and what scores by it, in the order of PARTS."""

    def content(own: Mapping[str, float]) -> Scorer:
        return profile_scores(plan, world.states, own["aversion"])

    def freshness(own: Mapping[str, float]) -> Scorer:
        return freshness_scores(plan, own["half_life"])

    contents = [Trial(CONTENT, own, tried(plan, rules, content(own))) for own in grid(aversion=AVERSIONS)]
    fresh = [Trial(FRESHNESS, own, tried(plan, rules, freshness(own))) for own in FRESHNESS_GRID]
    together = [trial for model in COLLABORATIVE for trial in grid_trials(plan, rules, model)]
    found = {
        "content": best_of(contents),
        "collaborative": best_of(together),
        "popularity": best_of(grid_trials(plan, rules, SUPPORT)),
        "own": best_of(grid_trials(plan, rules, OWN)),
        "freshness": best_of(fresh),
    }
    for part, trial in found.items():
        tell(f"{part}: {trial.name} reaches {trial.ndcg:.4f}")
    by_name = {model.name: model for model in (SUPPORT, OWN, *COLLABORATIVE)}
    scorers = {
        part: model_scores(plan, by_name[found[part].name], found[part].parameters)
        for part in ("collaborative", "popularity", "own")
    }
    scorers |= {"content": content(found["content"].parameters)}
    scorers |= {"freshness": freshness(found["freshness"].parameters)}
    return found, {part: scorers[part] for part in PARTS}


def freshness_scores(plan: Plan, half_life: float) -> Scorer:
    """How new an item is: halved every `half_life` days from the day on which it became known."""

    def at(step: Rehearsal) -> Callable[[Cases, History], Floats]:
        fresh = freshness_on(plan.catalogue.known, step.moment.day, half_life)
        return lambda cases, _: np.tile(fresh, (len(cases), 1))

    return at


def freshness_on(known: NDArray[np.int32], day: int, half_life: float) -> Floats:
    """float64[items] on a day. known: the day from which each item is known; later ones count as new."""
    fresh: Floats = np.exp2(-np.maximum(day - known, 0) / half_life)
    return fresh


def tuned_weights(plan: Plan, rules: Rules, scorers: Mapping[str, Scorer]) -> tuple[dict[str, float], float]:
    """The best weighting of the parts and its NDCG."""
    points = simplex(len(scorers), BLEND_STEPS)
    figures = blend_gains(plan, rules, list(scorers.values()), points)
    best = int(np.argmax(figures))
    return dict(zip(scorers, points[best], strict=True)), float(figures[best])


def weights_told(weights: Mapping[str, float]) -> str:
    """The weights above zero, largest first.

    >>> weights_told({"content": 0.2, "own": 0.8, "popularity": 0.0})
    '0.8 own, 0.2 content'
    """
    return ", ".join(f"{w:g} {part}" for part, w in sorted(weights.items(), key=lambda one: -one[1]) if w)
