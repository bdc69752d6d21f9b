"""Whether lists may be made by a new ranker: not where it is worse on days held out from its tuning.

It is compared with the ranker in force and with decayed popularity, by NDCG of the same users: all of them,
and those of each bucket of history length. All are fitted at each step to what was known by then. Being worse
counts where Holm's correction over all comparisons leaves it significant (jobs/rank/intervals.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits

from jobs.rank.blend import blended, min_max
from jobs.rank.cases import BUCKET_NAMES, Rules
from jobs.rank.intervals import Comparison, compare_each, corrected, resamples_for
from jobs.rank.metrics import Floats
from jobs.rank.models import DECAYED
from jobs.rank.tuning import Mean, Plan, Scorer, gains, model_scores, rehearse, scored
from jobs.rank.world import World
from jobs.recommend.training import TIES, Trained, of_part, part_scorers
from udfs.rank import PARTS

NEW, IN_FORCE, POPULARITY = "new", "in_force", DECAYED.name
EVERYBODY: Final = "all"
# A bootstrap of fewer finds differences where there are none; a bucket with fewer counts in EVERYBODY alone.
FEWEST_USERS: Final = 30
SEED: Final = 42

# NDCG by ranker, float64[users], the users in the same order.
Figures = Mapping[str, Floats]


@dataclass(frozen=True)
class InForce:
    """The ranker that lists are made by, as far as it can be fitted again."""

    version: str
    kind: str
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """The decision, its reason in words, and the held-out figures by name."""

    accepted: bool
    reason: str
    metrics: dict[str, float]

    def __str__(self) -> str:
        """For the end of a sentence."""
        return f"{'accepted' if self.accepted else 'refused'}: {self.reason}"


@dataclass(frozen=True)
class Blend:
    """Scorers and their weights, and the place of the scorer that decides between equal sums."""

    scorers: Sequence[Scorer]
    weights: Sequence[float]
    ties: int = 0


def judge(
    world: World, trained: Trained, rival: InForce | None, last: int, rules: Rules, accept_unjudged: bool
) -> Verdict:
    """Judges a ranker on its held-out steps. rival: the ranker in force; last: the last day of the log.

    Where there is too little to judge, a ranker without a rival is accepted, others only if asked.
    """
    names = {POPULARITY: "decayed popularity"}
    with threadpool_limits(1):  # with more threads, products of the same numbers round otherwise
        plan = rehearse(world.events.as_of(last), world.catalogue, trained.held, rules)
        rankers = {
            NEW: blend_of(plan, world, trained.kind, trained.parameters),
            POPULARITY: Blend([model_scores(plan, DECAYED, trained.reference)], [1.0]),
        }
        if rival is not None:
            names[IN_FORCE] = f"{rival.version} in force"
            rankers[IN_FORCE] = blend_of(plan, world, rival.kind, rival.parameters)
        figures = {name: figures_of(plan, rules, one) for name, one in rankers.items()}
    groups = {name: {one: own[name] for one, own in figures.items()} for name in (EVERYBODY, *BUCKET_NAMES)}
    users = len(groups[EVERYBODY][NEW])
    if users >= FEWEST_USERS:
        return verdict_of(groups, names)
    if not trained.held:
        problem = "only one week has users to ask, and none can be held out"
    else:
        problem = f"{users} users chose anything on the held-out days, and {FEWEST_USERS} are needed"
    return unjudged(problem, rival, accept_unjudged, metrics_of(groups))


def unjudged(
    problem: str, rival: InForce | None, accept_unjudged: bool, metrics: dict[str, float]
) -> Verdict:
    """The verdict where nothing can be judged."""
    if rival is None:
        return Verdict(True, f"not judged, as {problem}; no model was in force before", metrics)
    if accept_unjudged:
        return Verdict(True, f"not judged, as {problem}; accepted by --accept-unjudged", metrics)
    stays = f"{rival.version} stays in force (--accept-unjudged replaces it)"
    return Verdict(False, f"not judged, as {problem}; {stays}", metrics)


def blend_of(plan: Plan, world: World, kind: str, parameters: Mapping[str, float]) -> Blend:
    """A ranker by its parameters, fitted at each step of the plan to what was known by then."""
    own = {part: of_part(parameters, part) for part in PARTS}
    scorers = part_scorers(plan, world.states, kind, own)
    return Blend(list(scorers.values()), [parameters[f"weight_{part}"] for part in scorers], TIES)


def figures_of(plan: Plan, rules: Rules, blend: Blend) -> dict[str, Floats]:
    """NDCG of each user, averaged over steps: of everybody, and of each bucket at the steps spent in it."""
    names = (EVERYBODY, *BUCKET_NAMES)
    means = {name: Mean([np.zeros(0, np.int64)], [np.zeros(0)]) for name in names}
    for step, block, parts in scored(plan, blend.scorers):
        users = block.events.users
        scaled = [min_max(scores, step.moment.known) for scores in parts]
        found = gains(blended(scaled, blend.weights, scaled[blend.ties]), block, step.moment, rules)
        means[EVERYBODY].add(users, found)
        for number, name in enumerate(BUCKET_NAMES):
            there = block.bucket == number
            means[name].add(users[there], found[there])
    return {name: mean.by_user() for name, mean in means.items()}


def verdict_of(groups: Mapping[str, Figures], names: Mapping[str, str]) -> Verdict:
    """Refused if NEW is significantly below a reference in any group with FEWEST_USERS or more.

    groups: by name, EVERYBODY among them, with enough users. names: what to call each reference.
    """
    enough = {group: own for group, own in groups.items() if len(own[NEW]) >= FEWEST_USERS}
    pairs = [(NEW, name) for name in names]
    resamples = resamples_for(len(pairs) * len(enough))
    found = corrected([one for own in enough.values() for one in compare_each(own, pairs, resamples, SEED)])
    by_group = list(zip([group for group in enough for _ in pairs], found, strict=True))
    worse = [told(group, one, names) for group, one in by_group if one.verdict == "worse"]
    if worse:
        return Verdict(False, "worse than " + "; ".join(worse), metrics_of(groups))
    overall = [told(group, one, names) for group, one in by_group if group == EVERYBODY]
    few = [group for group, own in groups.items() if 0 < len(own[NEW]) < FEWEST_USERS]
    reason = f"in no bucket worse than {' or '.join(names.values())}; against {'; '.join(overall)}"
    reason += f"; too few users to judge alone: {', '.join(few)}" if few else ""
    return Verdict(True, reason, metrics_of(groups))


def told(group: str, one: Comparison, names: Mapping[str, str]) -> str:
    """A comparison in words.

    >>> told("5-19", Comparison(NEW, POPULARITY, -0.02, -0.03, -0.01, 0.001, 0.004), {POPULARITY: "others"})
    'others for users with 5-19 events: -0.0200 (-0.0300..-0.0100)'
    """
    whom = "all users" if group == EVERYBODY else f"users with {group} events"
    return f"{names[one.reference]} for {whom}: {one.difference:+.4f} ({one.low:+.4f}..{one.high:+.4f})"


def metrics_of(groups: Mapping[str, Figures]) -> dict[str, float]:
    """held_users_GROUP, and held_ndcg_RANKER_GROUP of groups with a user."""
    found = dict[str, float]()
    for group, own in groups.items():
        users = len(own[NEW])
        found[f"held_users_{group}"] = float(users)
        if users:
            found |= {f"held_ndcg_{name}_{group}": float(np.add.reduce(n) / users) for name, n in own.items()}
    return found
