"""The replay: at each step, models of what was known then rank the catalogue for every user seen before."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jobs.evaluate.judge import RERANKING, Fitted, Listing, Rows, judge, scores_of
from jobs.evaluate.tally import Tally
from jobs.io.messages import say, time_left
from jobs.rank.cases import Cases, Rules, blocks, ranked, step_on
from jobs.rank.catalogue import Shelf, shelf_on
from jobs.rank.choice import Choice
from jobs.rank.content import Profiles, profiles_on
from jobs.rank.events import Events, Keys, history_at
from jobs.rank.fits import Models
from jobs.rank.metrics import Floats
from jobs.rank.moment import Moment, asked_at, day_of
from jobs.rank.relist import SAMPLED, deep_list, lowest_cap, rates_of
from jobs.rank.states import States
from jobs.rank.world import World
from udfs.rerank import Candidates

# Users of a step with their profiles, block by block, and how they are judged: here, or spread over workers.
Blocks = Iterator[tuple[Cases, Profiles]]
Judging = Callable[[Blocks, Choice, Fitted, Moment, Shelf, Rules], Sequence[Rows]]


def judge_here(
    asked: Blocks, choice: Choice, fitted: Fitted, moment: Moment, shelf: Shelf, rules: Rules
) -> list[Rows]:
    """Judges block after block in this process."""
    return [judge(cases, profiles, choice, fitted, moment, shelf, rules) for cases, profiles in asked]


def with_profiles(cases: Cases, states: States, shelf: Shelf, day: int) -> Blocks:
    """The users in blocks, with what their usable states say."""
    for block in blocks(cases):
        yield block, profiles_on(states, shelf, block.events.users, day)


def asked_users(events: Events, steps: Sequence[int], horizon: int) -> Keys:
    """The keys, ascending, of all users who may be judged at some step."""
    asked = np.zeros(len(events.users), bool)
    for day in steps:
        asked |= asked_at(events, day, horizon)
    keys: Keys = events.users[asked]
    return keys


def replay(
    world: World, steps: Sequence[int], rules: Rules, choice: Choice, judging: Judging = judge_here
) -> Tally:
    """The figures of all steps. Models are fitted when a user needs them, and those of one day are kept."""
    events, items = world.events, world.catalogue.size
    tally = Tally(asked_users(events, steps, rules.horizon), choice.rows, choice.facets, items)
    models, began = Models(events, items, steps, choice.parameters), time.monotonic()
    for number, day in enumerate(steps, 1):
        judged = 0
        if (found := step_on(events, world.catalogue, day, rules)) is not None:
            moment, cases, silent = found
            shelf, judged = shelf_on(world.catalogue, day), len(cases)
            fitted: Fitted = models.fitted_for(day)
            if choice.rerankings:
                asked = with_profiles(cases.of(np.arange(min(judged, SAMPLED))), world.states, shelf, day)
                rates = step_rates(asked, choice, fitted, moment, shelf, rules)
                category = world.catalogue.categories_on(day)
                fitted = {**fitted, RERANKING: {"category": category, "rates": rates}}
            asked = with_profiles(cases, world.states, shelf, day)
            tally.add(day, silent, judging(asked, choice, fitted, moment, shelf, rules))
        left = time_left(number, len(steps), time.monotonic() - began)
        say(f"{day_of(day)}: {judged} users judged, step {number} of {len(steps)}, {left}")
    return tally


def step_rates(
    asked: Blocks, choice: Choice, fitted: Fitted, moment: Moment, shelf: Shelf, rules: Rules
) -> Floats:
    """float64[items]: what a cap leaves of each item, by the candidates of some users.

    Users are ordered by a hash of their ids, so that the first ones are drawn at random.
    """
    lists, size, cap = list[Candidates](), len(moment.known), lowest_cap(choice.rerankings)
    if cap == 1:
        return np.ones(size)
    for cases, profiles in asked:
        history = history_at(cases.events, moment.day, size)
        rows = scores_of(choice, fitted, moment, shelf, history, profiles)
        scores = next(own for name, own in rows if name in choice.rerankings)
        rankings = [ranked(own, had, moment, rules) for own, had in zip(scores, cases.had, strict=True)]
        listing = Listing(choice, None, history, shelf, rules.k)
        lists += listing.candidates([deep_list(own, rules.k) for own in rankings], rankings)
    return rates_of(lists, size, rules.k, cap)
