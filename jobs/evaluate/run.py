"""A whole run: parameters chosen before the test, the replay of the test, and its summary."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from threadpoolctl import threadpool_limits

from jobs.evaluate.replay import Judging, judge_here, replay
from jobs.evaluate.summary import Run, summarise
from jobs.io.messages import say
from jobs.rank.events import history_at
from jobs.rank.moment import possible_tuning_steps, replay_steps, tuning_steps
from jobs.rank.neighbours import crowded
from jobs.rank.tuning import ALL, rehearse, tune
from jobs.rank.world import World
from udfs.rerank import Rules as ListRules

# Days between the steps before the test on which parameters are chosen.
TUNE_EVERY = 7


def steps_of(about: Run) -> list[int]:
    """Every day, ascending, at whose end the run may look. Raises JobError where the range is too short."""
    test = replay_steps(about.first, about.last, about.rules.horizon, about.every)
    return sorted({*test, *possible_tuning_steps(about.first, about.rules.horizon, TUNE_EVERY)})


def evaluate(
    world: World,
    about: Run,
    notes: Sequence[str] = (),
    judging: Judging = judge_here,
    rerankings: Mapping[str, ListRules] | None = None,
) -> dict[str, Any]:
    """The result (summary.py), on one thread: with more, products of the same numbers round otherwise.

    rerankings: by name, what is made of the best blend's lists.
    """
    rules = about.rules
    with threadpool_limits(1):
        before = world.events.as_of(about.first - 1)
        rehearsal = tuning_steps(before, about.first, rules.horizon, TUNE_EVERY)
        tuned = tune(rehearse(before, world.catalogue, rehearsal, rules), world.states, rules, say)
        relisted = {f"{ALL}_{name}": own for name, own in (rerankings or {}).items()}
        tuned = replace(tuned, choice=replace(tuned.choice, rerankings=relisted))
        steps = replay_steps(about.first, about.last, rules.horizon, about.every)
        tally = replay(world, steps, rules, tuned.choice, judging)
    if cut := len(crowded(history_at(world.events, steps[-1], world.catalogue.size))):
        told = f"{cut} users have so many items that only the latest count as neighbours of each other."
        notes = [*notes, told]
    return summarise(about, tuned, tally, int(world.catalogue.known_on(steps[-1]).sum()), notes)
