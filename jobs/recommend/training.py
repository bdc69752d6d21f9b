"""Learns how lists are made: each part's parameters, then the weights of their blend, by days that are past.

As the evaluator tunes (jobs/rank/tuning.py): weekly steps, NDCG averaged by user and then over users, short
grids of which the first of equal points wins. Weights are multiples of 0.2, non-negative, with a sum of 1.
The last steps are held out, for jobs/recommend/gate.py to judge on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from jobs.io.messages import JobError
from jobs.rank.blend import simplex
from jobs.rank.cases import Cases, Rules
from jobs.rank.choice import CONTENT
from jobs.rank.events import Events, History, history_at
from jobs.rank.metrics import Floats
from jobs.rank.models import DECAYED, grid
from jobs.rank.moment import asked_at, day_of, replay_steps
from jobs.rank.neighbours import crowded
from jobs.rank.popularity import Parameters
from jobs.rank.states import States
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
from jobs.recommend.models import BY_KIND, COLLABORATIVE, OWN, SUPPORT
from udfs.rank import PARTS

# Days that a step predicts, and from step to step.
HORIZON: Final = 7
FRESHNESS: Final = "freshness"
# The part that decides between equal scores, in lists as here.
TIES: Final = PARTS.index("popularity")
FRESHNESS_GRID: Final = grid(half_life=(7, 30, 90))
# One of so many steps is held out, the last ones; of two or more at least one is.
ONE_HELD_OF: Final = 4


@dataclass(frozen=True)
class Trained:
    """A ranker.

    kind: the collaborative model. parameters: of the parts by `part_parameter`, and the weights by
    `weight_part`. metrics: NDCG of the blend and of each part alone, the users and steps they rest on, and
    how many users were `crowded` (jobs/rank/neighbours.py).
    arrays: popularity and the near_* of jobs/recommend/models.py. held: the steps held out from tuning.
    reference: the parameters of decayed popularity, tuned on the same steps.
    """

    kind: str
    parameters: dict[str, float]
    metrics: dict[str, float]
    arrays: dict[str, NDArray[np.generic]]
    held: tuple[int, ...]
    reference: Parameters


def steps_between(first: int, last: int) -> list[int]:
    """The days at whose end choices of first..last are predicted.

    Raises JobError where there are fewer days than HORIZON.

    >>> steps_between(10, 30)
    [9, 16, 23]
    """
    if last - first + 1 < HORIZON:
        raise JobError(
            f"{day_of(first)}..{day_of(last)} is less than a week, and a ranker is asked to predict weeks; "
            "choose an earlier --start"
        )
    return replay_steps(first, last, HORIZON, HORIZON)


def split(events: Events, steps: Sequence[int]) -> tuple[list[int], list[int]]:
    """The steps to tune on and those held out, of the steps with somebody to ask."""
    asked = [step for step in steps if asked_at(events, step, HORIZON).any()]
    held = max(1, len(asked) // ONE_HELD_OF) if len(asked) > 1 else 0
    return asked[: len(asked) - held], asked[len(asked) - held :]


def train(world: World, first: int, last: int, rules: Rules, tell: Callable[[str], None]) -> Trained:
    """Tunes by the first choices of the days first..last, then fits to the log up to the last.

    Raises JobError where nobody known by a step chose anything after it.
    """
    with threadpool_limits(1):  # with more threads, products of the same numbers round otherwise
        events = world.events.as_of(last)
        tuning, held = split(events, steps_between(first, last))
        # What the first held-out step knows is all that tuning may know.
        past = world.events.as_of(held[0]) if held else events
        plan = rehearse(past, world.catalogue, tuning, rules)
        if not plan.steps:
            raise JobError(
                "nobody who was known before the days chose anything on them, so that no weight can be "
                "learned; choose another --start or --end"
            )
        single, scorers = tuned_parts(plan, world, rules, tell)
        weights, ndcg = tuned_weights(plan, rules, scorers)
        tell(f"the blend reaches {ndcg:.4f} by {weights_told(weights)}")
        reference = best_of(grid_trials(plan, rules, DECAYED)).parameters
        ahead = single["collaborative"]
        history = history_at(events, last, world.catalogue.size)
        arrays = SUPPORT.fit(history, single["popularity"].parameters)
        arrays |= BY_KIND[ahead.name].fit(history, ahead.parameters)
    if cut := len(crowded(history)):
        tell(f"{cut} users have so many items that only the latest count as neighbours of each other")
    parameters = {f"weight_{part}": weight for part, weight in weights.items()}
    for part, trial in single.items():
        parameters |= {f"{part}_{name}": float(value) for name, value in trial.parameters.items()}
    users = np.unique(np.concatenate([step.cases.events.users for step in plan.steps]))
    metrics = {"ndcg": ndcg, "users": float(len(users)), "steps": float(len(plan.steps))}
    metrics["crowded"] = float(cut)
    metrics |= {f"ndcg_{part}": trial.ndcg for part, trial in single.items()}
    return Trained(ahead.name, parameters, metrics, arrays, tuple(held), reference)


def tuned_parts(
    plan: Plan, world: World, rules: Rules, tell: Callable[[str], None]
) -> tuple[dict[str, Trial], dict[str, Scorer]]:
    """The best point of each part's grid, and what scores by it, in the order of PARTS."""
    contents = [
        Trial(CONTENT, own, tried(plan, rules, profile_scores(plan, world.states, own["aversion"])))
        for own in grid(aversion=AVERSIONS)
    ]
    fresh = [
        Trial(FRESHNESS, own, tried(plan, rules, freshness_scores(plan, own["half_life"])))
        for own in FRESHNESS_GRID
    ]
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
    own = {part: trial.parameters for part, trial in found.items()}
    return found, part_scorers(plan, world.states, found["collaborative"].name, own)


def part_scorers(plan: Plan, states: States, kind: str, own: Mapping[str, Parameters]) -> dict[str, Scorer]:
    """What scores by each part, in the order of PARTS. kind: the collaborative model; own: by part."""
    scorers = {
        "content": profile_scores(plan, states, own["content"]["aversion"]),
        "collaborative": model_scores(plan, BY_KIND[kind], own["collaborative"]),
        "popularity": model_scores(plan, SUPPORT, own["popularity"]),
        "own": model_scores(plan, OWN, own["own"]),
        "freshness": freshness_scores(plan, own["freshness"]["half_life"]),
    }
    return {part: scorers[part] for part in PARTS}


def of_part(parameters: Mapping[str, float], part: str) -> dict[str, float]:
    """The parameters of a part, by its own names, of a ranker's.

    >>> of_part({"weight_own": 1.0, "own_half_life": 30.0}, "own")
    {'half_life': 30.0}
    """
    prefix = f"{part}_"
    return {name.removeprefix(prefix): n for name, n in parameters.items() if name.startswith(prefix)}


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
    figures = blend_gains(plan, rules, list(scorers.values()), points, TIES)
    best = int(np.argmax(figures))
    return dict(zip(scorers, points[best], strict=True)), float(figures[best])


def weights_told(weights: Mapping[str, float]) -> str:
    """The weights above zero, largest first.

    >>> weights_told({"content": 0.2, "own": 0.8, "popularity": 0.0})
    '0.8 own, 0.2 content'
    """
    return ", ".join(f"{w:g} {part}" for part, w in sorted(weights.items(), key=lambda one: -one[1]) if w)
