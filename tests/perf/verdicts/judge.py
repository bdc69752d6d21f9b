"""Judges all candidates of a log in one replay, by content alone and in a blend, with the evaluator's parts.

Everything but the candidates is chosen once, before the test and with the default's profiles: parameters of
the baselines, the weight of `negative`, the weights of the blend. So two rows differ by one thing alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jobs.evaluate.replay import World, asked_users
from jobs.evaluate.tally import Group
from jobs.io.messages import say
from jobs.rank.blend import blended, min_max, simplex
from jobs.rank.cases import ALLOW, EXCLUDE, Cases, Rules, blocks, step_on
from jobs.rank.catalogue import NO_TEXT, Shelf, shelf_on
from jobs.rank.content import MAIN, Profiles, content_scores, profiles_on
from jobs.rank.events import History, Keys, Places, history_at
from jobs.rank.fits import Models
from jobs.rank.metrics import Truth, ndcg, top_items
from jobs.rank.models import BY_NAME, DECAYED, EASE, OWN
from jobs.rank.moment import Moment, tuning_steps
from jobs.rank.popularity import Parameters
from jobs.rank.tuning import (
    AVERSIONS,
    BLEND_STEPS,
    Rehearsal,
    Scorer,
    best_of,
    blend_gains,
    grid_trials,
    model_scores,
    rehearse,
    tried,
)
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
    rules, before, shelves = Rules(K, HORIZON, repeat), world.events.as_of(first - 1), Shelves()
    plan = rehearse(before, world.catalogue, tuning_steps(before, first, HORIZON, every), rules)
    plan = replace(plan, steps=[Rehearsal(one.moment, thinned(one.cases)) for one in plan.steps])
    parameters: dict[str, Parameters] = {EASE.name: {"penalty": PENALTY}}
    for model in (OWN, DECAYED):
        parameters[model.name] = best_of(grid_trials(plan, rules, model)).parameters
    aversions = [tried(plan, rules, content_scorer(world, shelves, weight)) for weight in AVERSIONS]
    scorers = [model_scores(plan, BY_NAME[name], parameters[name]) for name in PARTS]
    scorers.append(content_scorer(world, shelves, AVERSIONS[int(np.argmax(aversions))]))
    points = simplex(len(scorers), BLEND_STEPS)
    figures = blend_gains(plan, rules, scorers, points)
    base, blend = (
        max((i for i, point in enumerate(points) if (point[-1] > 0) == has), key=lambda i: figures[i])
        for has in (False, True)
    )
    say(f"{repeat}: {parameters} aversion {aversions} {points[base]} {points[blend]}")
    return Tuned(parameters, AVERSIONS[int(np.argmax(aversions))], points[base], points[blend])


def thinned(cases: Cases) -> Cases:
    """At most TUNE_USERS of the users, evenly by their keys."""
    return cases.of(np.linspace(0, len(cases) - 1, min(len(cases), TUNE_USERS)).astype(np.int64))


@dataclass
class Shelves:
    """The vectors of a day, kept while no text changes."""

    texts: bytes = b""
    kept: Shelf | None = None

    def on(self, world: World, day: int) -> Shelf:
        """The shelf of a day."""
        texts = np.where(world.catalogue.known_on(day), world.catalogue.texts_on(day), NO_TEXT).tobytes()
        if self.kept is None or texts != self.texts:
            self.kept, self.texts = shelf_on(world.catalogue, day), texts
        return self.kept


def content_scorer(world: World, shelves: Shelves, aversion: float) -> Scorer:
    """Content scores of the default's profiles, as jobs/rank/tuning.py has them."""

    def at(step: Rehearsal) -> Callable[[Cases, History], Floats]:
        shelf, day = shelves.on(world, step.moment.day), step.moment.day
        return lambda cases, _: content_scores(
            shelf, profiles_on(world.states, shelf, cases.events.users, day), aversion
        )

    return at


@dataclass(frozen=True)
class Judged:
    """NDCG by user of each row, float64[users], users in the same order, and how many rankings there were."""

    figures: Mapping[str, Floats]
    rankings: int


@dataclass
class Replay:
    """A replay of all candidates. tuned: by treatment of repeats; users: keys of those who are judged."""

    world: World
    tuned: Mapping[str, Tuned]
    candidates: Mapping[str, Candidate]
    users: Keys

    def judge(self, steps: Sequence[int]) -> dict[str, Judged]:
        """By treatment of repeats: each candidate alone and in the blend, the blend without, its parts."""
        rows = [f"{kind}{name}" for kind in (CONTENT, BLEND) for name in self.candidates] + [BASE, *PARTS]
        events, shelves = self.world.events, Shelves()
        users = asked_users(events, steps, HORIZON)
        tallies = {repeat: Group.of(len(users), len(rows), 1) for repeat in self.tuned}
        fits = Fits(self.world, steps, self.tuned)
        for number, day in enumerate(steps, 1):
            found = step_on(events, self.world.catalogue, day, Rules(K, HORIZON, ALLOW))
            asked = None if found is None else np.flatnonzero(np.isin(found[1].events.users, self.users))
            cases = None if found is None or asked is None else found[1].of(asked)
            if found is not None and cases:
                shelf = shelves.on(self.world, day)
                for block in blocks(cases):
                    for repeat, kept, figures in self.of_block(block, found[0], shelf, fits):
                        places = np.searchsorted(users, block.events.users[kept])
                        tallies[repeat].add(places, figures[:, :, None])
            say(f"step {number} of {len(steps)}: {len(cases or ())} users")
        return {repeat: judged_of(rows, tally) for repeat, tally in tallies.items()}

    def of_block(
        self, block: Cases, moment: Moment, shelf: Shelf, fits: "Fits"
    ) -> Iterator[tuple[str, Places, Floats]]:
        """By treatment of repeats: places of users with something to find, and their float64[r, rows]."""
        history = history_at(block.events, moment.day, self.world.catalogue.size)
        profiles = profiles_on(self.world.states, shelf, block.events.users, moment.day)
        for repeat, tuned in self.tuned.items():
            parts = [min_max(one, moment.known) for one in fits.scores(repeat, moment.day, history)]
            contents = content_of(self.candidates, profiles, shelf, tuned.aversion)
            kept, figures = [], []
            for user, (every, had) in enumerate(zip(block.truths, block.had, strict=True)):
                truth = every if repeat == ALLOW else Truth(np.setdiff1d(every.items, had), every.missed)
                if truth.size:
                    kept.append(user)
                    scores = rows_of(contents(user), [part[user] for part in parts], tuned, moment)
                    scores[:, ~moment.known] = -np.inf
                    if repeat == EXCLUDE:
                        scores[:, had] = -np.inf
                    figures.append(gains(scores, truth))
            yield repeat, np.array(kept, np.int64), np.array(figures).reshape(len(kept), -1)


class Fits:
    """The fitted baselines, those of EASE kept for a month."""

    def __init__(self, world: World, steps: Sequence[int], tuned: Mapping[str, Tuned]) -> None:
        self.tuned, size = tuned, world.catalogue.size
        self.ease = Models(world.events, size, steps[::4], {EASE.name: {"penalty": PENALTY}})
        self.ease_day = {step: steps[number // 4 * 4] for number, step in enumerate(steps)}
        own = {
            repeat: {n: one.parameters[n] for n in (OWN.name, DECAYED.name)} for repeat, one in tuned.items()
        }
        self.others = {repeat: Models(world.events, size, steps, one) for repeat, one in own.items()}

    def scores(self, repeat: str, day: int, history: History) -> list[Floats]:
        """float64[users, items] of each of PARTS."""
        fitted = self.others[repeat].fitted_for(day) | self.ease.fitted_for(self.ease_day[day])
        parameters = self.tuned[repeat].parameters
        return [BY_NAME[name].scores(fitted[name], history, parameters[name]) for name in PARTS]


def judged_of(rows: Sequence[str], tally: Group) -> Judged:
    """The figures of a replay by row."""
    figures = tally.by_user()[:, :, 0]
    return Judged({row: figures[:, i] for i, row in enumerate(rows)}, int(tally.rows.sum()))


def rows_of(content: Floats, parts: Sequence[Floats], tuned: Tuned, moment: Moment) -> Floats:
    """float64[rows, items]: candidates alone, each in the blend, the blend without content, its parts."""
    mixed = tuned.blend[-1] * min_max(content, moment.known)
    mixed += blended(parts, tuned.blend[:-1])
    return np.concatenate([content, mixed, [blended(parts, tuned.base[:-1]), *parts]])


def gains(scores: Floats, truth: Truth) -> list[float]:
    """NDCG@K of each row of float64[rows, items]."""
    is_chosen = np.zeros(scores.shape[1], bool)
    is_chosen[truth.items] = True
    return [ndcg(is_chosen[top_items(row, K)], truth.size, K) for row in scores]


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
