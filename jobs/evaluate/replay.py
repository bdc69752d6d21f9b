"""The replay: at each step, models of what was known then rank the catalogue for every user seen before."""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jobs.evaluate.judge import Fitted, Rows, judge
from jobs.evaluate.tally import Tally
from jobs.io.messages import say, time_left
from jobs.rank.cases import Cases, Rules, blocks, step_on
from jobs.rank.catalogue import Shelf, shelf_on
from jobs.rank.choice import Choice
from jobs.rank.content import Profiles, profiles_on
from jobs.rank.events import Events, Keys
from jobs.rank.fits import Models
from jobs.rank.moment import Moment, asked_at, day_of
from jobs.rank.states import States
from jobs.rank.world import World

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
            asked = with_profiles(cases, world.states, shelf, day)
            tally.add(day, silent, judging(asked, choice, models.fitted_for(day), moment, shelf, rules))
        left = time_left(number, len(steps), time.monotonic() - began)
        say(f"{day_of(day)}: {judged} users judged, step {number} of {len(steps)}, {left}")
    return tally
