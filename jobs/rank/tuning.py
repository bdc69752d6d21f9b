"""Chooses each model's parameters, and the blends' weights, on days that end before the test begins.

The figure that decides is NDCG@k, averaged by user and then over users, as in the test. Of equal ones the
first in the grid wins. Everything that was tried is kept for the report.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from jobs.io.messages import JobError
from jobs.rank.blend import blended, min_max, simplex
from jobs.rank.cases import Cases, Rules, blocks, ranked, step_on
from jobs.rank.catalogue import Catalogue, shelf_on
from jobs.rank.choice import CONTENT, Choice, context_facets
from jobs.rank.content import content_scores, profiles_on
from jobs.rank.events import Events, History, Keys, history_at
from jobs.rank.fits import Models
from jobs.rank.metrics import Floats, hits, ndcg, top_items
from jobs.rank.models import BY_NAME, COLLABORATIVE, DECAYED, MODELS, OWN, Model
from jobs.rank.moment import Moment
from jobs.rank.popularity import Parameters
from jobs.rank.states import States

# Weights of `negative` that are tried, and the steps of a blend's weights.
AVERSIONS: Final = (0.0, 0.25, 0.5)
BLEND_STEPS: Final = 5
# The blends, by which of their parts they leave out.
POPULARITY_CONTENT, WITHOUT_CONTENT, ALL = "blend_popularity_content", "blend_without_content", "blend"


@dataclass(frozen=True)
class Trial:
    """One point of a grid: the row it belongs to, its parameters or weights, and its NDCG@k."""

    name: str
    parameters: Mapping[str, float]
    ndcg: float


@dataclass(frozen=True)
class Tuned:
    """What was chosen, everything tried, the best single baseline, and the days and users it rests on."""

    choice: Choice
    trials: tuple[Trial, ...]
    best: str
    steps: tuple[int, ...]
    users: int


@dataclass(frozen=True)
class Rehearsal:
    """A step before the test: its world and its users."""

    moment: Moment
    cases: Cases


@dataclass(frozen=True)
class Plan:
    """The steps before the test that have somebody to judge, and the log as it was before the test."""

    events: Events
    catalogue: Catalogue
    steps: list[Rehearsal]


@dataclass
class Mean:
    """The mean of a figure by user and then over users, in the order of the users' keys."""

    users: list[Keys] = field(default_factory=list)
    figures: list[Floats] = field(default_factory=list)

    def add(self, users: Keys, figures: Floats) -> None:
        """One step's figures: float64[users], or float64[users, points]."""
        self.users.append(users)
        self.figures.append(figures)

    def by_user(self) -> Floats:
        """float64[users], or float64[users, points]: each user's mean over the steps."""
        figures = np.concatenate(self.figures)
        _, place, steps = np.unique(np.concatenate(self.users), return_inverse=True, return_counts=True)
        sums = np.zeros((len(steps), *figures.shape[1:]))
        np.add.at(sums, place, figures)
        means: Floats = (sums.T / steps).T
        return means

    def value(self) -> Floats:
        """float64[points], or a number; zeros without users."""
        means = self.by_user()
        if not len(means):
            return np.zeros(means.shape[1:])
        mean: Floats = np.add.reduce(means, axis=0) / len(means)
        return mean


def rehearse(events: Events, catalogue: Catalogue, steps: Sequence[int], rules: Rules) -> Plan:
    """The plan of these steps. events: the log as it was before the test."""
    found = [step_on(events, catalogue, day, rules) for day in steps]
    return Plan(events, catalogue, [Rehearsal(one[0], one[1]) for one in found if one is not None])


def tune(plan: Plan, states: States, rules: Rules, tell: Callable[[str], None] = lambda _: None) -> Tuned:
    """Tries every grid, then every blend of the winners. Raises JobError where there is nobody to judge."""
    if not plan.steps:
        raise JobError(
            "nobody who was known before the test chose anything just before it, so that no parameter can be "
            "chosen; choose a later --start"
        )
    single = {model.name: grid_trials(plan, rules, model) for model in MODELS}
    single[CONTENT] = [
        Trial(CONTENT, {"aversion": weight}, tried(plan, rules, profile_scores(plan, states, weight)))
        for weight in AVERSIONS
    ]
    won = {name: best_of(trials) for name, trials in single.items()}
    for name, trial in won.items():
        tell(f"tuning: {name} reaches {trial.ndcg:.4f} before the test")
    ahead = best_of([won[model.name] for model in COLLABORATIVE]).name
    blends = blend_trials(plan, states, rules, (OWN.name, ahead, DECAYED.name), won)
    users = np.unique(np.concatenate([one.cases.events.users for one in plan.steps]))
    choice = Choice(
        {model.name: won[model.name].parameters for model in MODELS},
        won[CONTENT].parameters["aversion"],
        {name: best_of(trials).parameters for name, trials in blends.items()},
        context_facets(states),
    )
    every = [trial for trials in (*single.values(), *blends.values()) for trial in trials]
    best = best_of([won[model.name] for model in MODELS]).name
    return Tuned(choice, tuple(every), best, tuple(one.moment.day for one in plan.steps), len(users))


def grid_trials(plan: Plan, rules: Rules, model: Model) -> list[Trial]:
    """Every point of a model's grid."""
    return [Trial(model.name, own, tried(plan, rules, model_scores(plan, model, own))) for own in model.grid]


def best_of(trials: Sequence[Trial]) -> Trial:
    """The best trial, the first of equal ones."""
    return max(trials, key=lambda trial: trial.ndcg)


# What scores the users of a block, once it is given the step.
Scorer = Callable[[Rehearsal], Callable[[Cases, History], Floats]]


def model_scores(plan: Plan, model: Model, parameters: Parameters) -> Scorer:
    """A model with these parameters, fitted as in the test."""
    days = [one.moment.day for one in plan.steps]
    known = {model.name: model}
    models = Models(plan.events, plan.catalogue.size, days, {model.name: parameters}, known)

    def fitted(step: Rehearsal) -> Callable[[Cases, History], Floats]:
        arrays = models.fitted_for(step.moment.day)[model.name]
        return lambda _, history: model.scores(arrays, history, parameters)

    return fitted


def profile_scores(plan: Plan, states: States, aversion: float) -> Scorer:
    """Content scores with this weight of `negative`."""

    def at(step: Rehearsal) -> Callable[[Cases, History], Floats]:
        # Looked up at each step anew: the vectors of all steps together would not fit.
        day = step.moment.day
        shelf = shelf_on(plan.catalogue, day)
        return lambda cases, _: content_scores(
            shelf, profiles_on(states, shelf, cases.events.users, day), aversion
        )

    return at


def scored(plan: Plan, scorers: Sequence[Scorer]) -> Iterator[tuple[Rehearsal, Cases, Iterator[Floats]]]:
    """The users of each step in blocks, each with its scores by one scorer after the other, as asked for."""
    for step in plan.steps:
        score = [scorer(step) for scorer in scorers]
        for block in blocks(step.cases):
            history = history_at(block.events, step.moment.day, plan.catalogue.size)
            yield step, block, (one(block, history) for one in score)


def tried(plan: Plan, rules: Rules, scorer: Scorer) -> float:
    """NDCG@k of one scorer over the steps before the test."""
    mean = Mean()
    for step, block, (scores,) in scored(plan, [scorer]):
        mean.add(block.events.users, gains(scores, block, step.moment, rules))
    return float(mean.value())


def gains(scores: Floats, cases: Cases, moment: Moment, rules: Rules) -> Floats:
    """float64[users]: NDCG@k of each user's ranking."""
    found = np.zeros(len(cases))
    for user, (truth, had) in enumerate(zip(cases.truths, cases.had, strict=True)):
        shown = top_items(ranked(scores[user], had, moment, rules), rules.k)
        found[user] = ndcg(hits(shown, truth), truth.size, rules.k)
    return found


def blend_trials(
    plan: Plan, states: States, rules: Rules, names: tuple[str, str, str], won: Mapping[str, Trial]
) -> dict[str, list[Trial]]:
    """The blends of own, collaborative and popularity (`names`) with content, by row; scored once for all."""
    parts, points = (*names, CONTENT), simplex(len(names) + 1, BLEND_STEPS)
    scorers = [model_scores(plan, BY_NAME[name], won[name].parameters) for name in names]
    scorers.append(profile_scores(plan, states, won[CONTENT].parameters["aversion"]))
    figures = blend_gains(plan, rules, scorers, points)
    found = [(dict(zip(parts, p, strict=True)), float(n)) for p, n in zip(points, figures, strict=True)]
    own, ahead, _ = names
    allowed: dict[str, Callable[[Mapping[str, float]], bool]] = {
        POPULARITY_CONTENT: lambda weights: not weights[own] and not weights[ahead],
        WITHOUT_CONTENT: lambda weights: not weights[CONTENT],
        ALL: lambda _: True,
    }
    return {
        name: [Trial(name, weights, figure) for weights, figure in found if fits(weights)]
        for name, fits in allowed.items()
    }


def blend_gains(
    plan: Plan,
    rules: Rules,
    scorers: Sequence[Scorer],
    points: Sequence[Sequence[float]],
    ties: int | None = None,
) -> Floats:
    """float64[points]: NDCG@k of each weighting over the steps before the test.

    ties: the place of the scorer that decides between equal sums.
    """
    mean = Mean()
    for step, block, parts in scored(plan, scorers):
        scaled = [min_max(scores, step.moment.known) for scores in parts]
        last = None if ties is None else scaled[ties]
        figures = [gains(blended(scaled, point, last), block, step.moment, rules) for point in points]
        mean.add(block.events.users, np.stack(figures, axis=1))
    return mean.value()
