"""Judges all candidates of a log in one replay, by content alone and in a blend, with the evaluator's parts.

Everything but the candidates is chosen once, before the test and with the default's profiles: parameters of
the baselines, the weight of `negative`, the weights of the blend. So two rows differ by one thing alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jobs.evaluate.blend import blended, min_max, simplex
from jobs.evaluate.cases import ALLOW, Cases, Rules, blocks, ranked, step_on
from jobs.evaluate.catalogue import Shelf, shelf_on
from jobs.evaluate.content import MAIN, Profiles, profiles_on
from jobs.evaluate.events import Places, history_at
from jobs.evaluate.fits import Models
from jobs.evaluate.metrics import Truth, hits, ndcg, top_items
from jobs.evaluate.models import BY_NAME, DECAYED, EASE, OWN
from jobs.evaluate.moment import Moment, tuning_steps
from jobs.evaluate.popularity import Parameters
from jobs.evaluate.replay import World, asked_users
from jobs.evaluate.tally import Group
from jobs.evaluate.tuning import (
    AVERSIONS,
    BLEND_STEPS,
    Plan,
    Rehearsal,
    best_of,
    blend_gains,
    grid_trials,
    model_scores,
    profile_scores,
    rehearse,
    tried,
)
from jobs.io.messages import say
from tests.perf.verdicts.settings import Candidate

Floats = NDArray[np.float64]
K, HORIZON = 10, 7
# The collaborative part of the blend is not tuned: it is the same for all candidates.
PENALTY = 500
PARTS = (OWN.name, EASE.name, DECAYED.name)
# Users of each step before the test on whom weights are chosen.
TUNE_USERS = 300
CONTENT, BLEND, BASE = "content: ", "blend: ", "blend without content"


@dataclass(frozen=True)
class Tuned:
    """What the days before the test decided: parameters of PARTS, and weights of the blend, content last.

    base, blend: the best weights without content, and the best ones with it.
    """

    parameters: Mapping[str, Parameters]
    aversion: float
    base: tuple[float, ...]
    blend: tuple[float, ...]


def tuned_before(world: World, first: int, repeat: str, every: int) -> Tuned:
    """Chooses on steps, `every` days apart, that end before the first day of the test."""
    rules, before = Rules(K, HORIZON, repeat), world.events.as_of(first - 1)
    days = tuning_steps(before, first, HORIZON, every)
    plan = rehearse(before, world.catalogue, days, rules)
    plan = replace(plan, steps=[Rehearsal(one.moment, thinned(one.cases)) for one in plan.steps])
    parameters: dict[str, Parameters] = {EASE.name: {"penalty": PENALTY}}
    for model in (OWN, DECAYED):
        parameters[model.name] = best_of(grid_trials(plan, rules, model)).parameters
    aversions = [tried(plan, rules, profile_scores(plan, world.states, weight)) for weight in AVERSIONS]
    aversion = AVERSIONS[int(np.argmax(aversions))]
    points = simplex(len(PARTS) + 1, BLEND_STEPS)
    figures = weighted(plan, world, rules, parameters, aversion)
    base, blend = (
        max((i for i, point in enumerate(points) if (point[-1] > 0) == has), key=lambda i: figures[i])
        for has in (False, True)
    )
    say(f"{repeat}: {parameters} aversion {aversion} {aversions} {points[base]} {points[blend]}")
    return Tuned(parameters, aversion, points[base], points[blend])


def thinned(cases: Cases) -> Cases:
    """At most TUNE_USERS of the users, evenly by their keys."""
    places = np.unique(np.linspace(0, len(cases) - 1, min(len(cases), TUNE_USERS)).astype(np.int64))
    truths, had = [[given[i] for i in places] for given in (cases.truths, cases.had)]
    return Cases(cases.events.of(places), truths, had, cases.bucket[places])


def weighted(
    plan: Plan, world: World, rules: Rules, parameters: Mapping[str, Parameters], aversion: float
) -> Floats:
    """float64[points]: NDCG before the test of every weighting of PARTS and content."""
    scorers = [model_scores(plan, BY_NAME[name], parameters[name]) for name in PARTS]
    scorers.append(profile_scores(plan, world.states, aversion))
    return blend_gains(plan, rules, scorers, simplex(len(scorers), BLEND_STEPS))


@dataclass(frozen=True)
class Judged:
    """NDCG by user of each row, float64[users], users in the same order, and how many rankings there were."""

    figures: Mapping[str, Floats]
    rankings: int


@dataclass
class Shelves:
    """The vectors of a day, kept while no text changes."""

    texts: bytes = b""
    kept: Shelf | None = None

    def on(self, world: World, day: int) -> Shelf:
        """The shelf of a day."""
        known = np.where(world.catalogue.known_on(day), world.catalogue.texts_on(day), -1).tobytes()
        if self.kept is None or known != self.texts:
            self.kept, self.texts = shelf_on(world.catalogue, day), known
        return self.kept


def judge_all(
    world: World, steps: Sequence[int], tuned: Mapping[str, Tuned], candidates: Mapping[str, Candidate]
) -> dict[str, Judged]:
    """By treatment of repeats: every candidate alone and in the blend, the blend without, and its parts."""
    rows = [f"{kind}{name}" for kind in (CONTENT, BLEND) for name in candidates] + [BASE, *PARTS]
    users = asked_users(world.events, steps, HORIZON)
    tallies = {repeat: Group.of(len(users), len(rows), 1) for repeat in tuned}
    fits = {
        repeat: Models(world.events, world.catalogue.size, steps, own.parameters)
        for repeat, own in tuned.items()
    }
    shelves, rules = Shelves(), Rules(K, HORIZON, ALLOW)
    for number, day in enumerate(steps, 1):
        if (found := step_on(world.events, world.catalogue, day, rules)) is None:
            continue
        moment, cases, _ = found
        shelf = shelves.on(world, day)
        fitted = {repeat: own.fitted_for(day) for repeat, own in fits.items()}
        for block in blocks(cases):
            history = history_at(block.events, day, world.catalogue.size)
            profiles = profiles_on(world.states, shelf, block.events.users, day)
            for repeat, own in tuned.items():
                parts = [
                    min_max(
                        BY_NAME[name].scores(fitted[repeat][name], history, own.parameters[name]),
                        moment.known,
                    )
                    for name in PARTS
                ]
                kept, figures = judged(block, parts, profiles, shelf, moment, repeat, own, candidates)
                places = np.searchsorted(users, block.events.users[kept])
                tallies[repeat].add(places, figures[:, :, None])
        say(f"step {number} of {len(steps)}: {len(cases)} users")
    found_figures = {repeat: tally.by_user()[:, :, 0] for repeat, tally in tallies.items()}
    return {
        repeat: Judged({row: figures[:, i] for i, row in enumerate(rows)}, int(tallies[repeat].rows.sum()))
        for repeat, figures in found_figures.items()
    }


def judged(
    block: Cases,
    parts: Sequence[Floats],
    profiles: Profiles,
    shelf: Shelf,
    moment: Moment,
    repeat: str,
    tuned: Tuned,
    candidates: Mapping[str, Candidate],
) -> tuple[Places, Floats]:
    """The users with something to find, and their NDCG in every row: float64[users, rows]."""
    contents = content_of(candidates, profiles, shelf, tuned.aversion)
    base, rules = blended(parts, tuned.base[:-1]), Rules(K, HORIZON, repeat)
    kept, figures = [], []
    for user, (every, had) in enumerate(zip(block.truths, block.had, strict=True)):
        truth = every if repeat == ALLOW else Truth(np.setdiff1d(every.items, had), every.missed)
        if not truth.size:
            continue
        content = contents(user)
        mixed = tuned.blend[-1] * min_max(content, moment.known)
        mixed += blended([part[user] for part in parts], tuned.blend[:-1])
        scores = [*content, *mixed, base[user], *[part[user] for part in parts]]
        shown = [top_items(ranked(one, had, moment, rules), rules.k) for one in scores]
        kept.append(user)
        figures.append([ndcg(hits(items, truth), truth.size, rules.k) for items in shown])
    rows = 2 * len(candidates) + 1 + len(parts)
    return np.array(kept, np.int64), np.array(figures, np.float64).reshape(-1, rows)


def content_of(
    candidates: Mapping[str, Candidate], profiles: Profiles, shelf: Shelf, aversion: float
) -> Callable[[int], Floats]:
    """What gives a user's float64[candidates, items], computed in single precision like the vectors."""
    is_raw = np.array([one.is_raw for one in candidates.values()])
    directions = np.stack([direction(one, profiles, aversion) for one in candidates.values()], 1)
    narrow, centred, raw = (x.astype(np.float32) for x in (directions, shelf.centred.T, shelf.raw.T))

    def of_user(user: int) -> Floats:
        scores = np.empty((len(candidates), centred.shape[1]))
        scores[~is_raw], scores[is_raw] = narrow[user, ~is_raw] @ centred, narrow[user, is_raw] @ raw
        return scores

    return of_user


def direction(candidate: Candidate, profiles: Profiles, aversion: float) -> Floats:
    """float64[users, d]: what items are compared with. Cosines add up: their mean is one direction."""
    seen = profiles.raw if candidate.is_raw else profiles.centred
    found = np.zeros_like(seen[MAIN])
    for facet in candidate.facets:
        has = profiles.there[facet][:, None]
        found += np.where(has, seen[facet], seen[MAIN]) / len(candidate.facets)
    if candidate.negative is not None and aversion and candidate.negative in seen:
        found -= aversion * seen[candidate.negative]
    return found
