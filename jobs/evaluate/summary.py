"""The result of a run as plain values, for the JSON file, the page and the plots."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from jobs.evaluate.tally import Group, Tally
from jobs.rank.cases import BUCKET_NAMES, Rules
from jobs.rank.choice import CONTENT, FACET
from jobs.rank.intervals import LEVEL, compare, resamples_for
from jobs.rank.metrics import NAMES, NDCG, Floats, coverage, gini
from jobs.rank.models import DECAYED
from jobs.rank.moment import day_of
from jobs.rank.relist import FIGURES
from jobs.rank.tuning import ALL, WITHOUT_CONTENT, Tuned

# Raised when a key of the JSON file changes its meaning.
FORMAT: Final = 1


@dataclass(frozen=True)
class Run:
    """What a result is about: days predicted, step in days, rules, seed, and versions of the tables read."""

    first: int
    last: int
    every: int
    rules: Rules
    seed: int
    versions: dict[str, int]


def summarise(run: Run, tuned: Tuned, tally: Tally, catalogue: int, notes: Sequence[str]) -> dict[str, Any]:
    """All figures as JSON values; a figure without a user to measure is None.

    catalogue: how many items could be ranked at the last step. Raises nothing where nobody was judged: then
    every figure is None and there is no comparison.
    """
    by_user = tally.overall.by_user()
    figures = {name: by_user[:, place, NDCG] for place, name in enumerate(tally.models)}
    rerankings = tuned.choice.rerankings
    compared = pairs(tally, tuned.best) + [(name, ALL) for name in rerankings]
    comparisons = compare(figures, compared, run.seed) if len(by_user) else []
    bootstrap = {"seed": run.seed, "resamples": resamples_for(len(compared)), "level": LEVEL}
    return {
        "format": FORMAT,
        "days": {"first": str(day_of(run.first)), "last": str(day_of(run.last)), "every": run.every},
        "rules": asdict(run.rules),
        "versions": run.versions,
        "users": tally.overall.users,
        "user_steps": int(tally.overall.rows.sum()),
        "catalogue": catalogue,
        "models": model_rows(tally, tuned, catalogue),
        "bootstrap": bootstrap,
        "best_baseline": tuned.best,
        "comparisons": [asdict(one) | {"verdict": one.verdict} for one in comparisons],
        "buckets": group_rows(dict(zip(BUCKET_NAMES, tally.buckets, strict=True)), tally.models, NAMES),
        "cold": group_rows({"cold items": tally.cold}, tally.models, ("ndcg", "recall")),
        "facets": group_rows(dict(zip(tally.facets, tally.with_facet, strict=True)), tally.models),
        "steps": [
            {
                "day": str(day_of(step.day)),
                "judged": step.judged,
                "chose_nothing": step.silent,
                "ndcg": dict(zip(tally.models, plain(step.ndcg), strict=True)),
            }
            for step in tally.steps
        ],
        "tuning": tuning_rows(tuned),
        "notes": list(notes),
    }


def pairs(tally: Tally, best: str) -> list[tuple[str, str]]:
    """The comparisons of a run: all against the best baseline, and all against decayed popularity.

    And the blend with content against the one without, and content with each context facet against without.
    """
    found = [(model, best) for model in tally.models if model != best]
    if best != DECAYED.name:
        found += [(model, DECAYED.name) for model in tally.models if model not in (DECAYED.name, best)]
    return [*found, (ALL, WITHOUT_CONTENT), *[(f"{FACET}{facet}", CONTENT) for facet in tally.facets]]


def model_rows(tally: Tally, tuned: Tuned, catalogue: int) -> list[dict[str, Any]]:
    """The table: each model's parameters and its figures over all users."""
    means, choice = tally.overall.mean(), tuned.choice
    parameters = {**choice.parameters, CONTENT: {"aversion": choice.aversion}, **choice.blends}
    parameters |= {name: asdict(rules) for name, rules in choice.rerankings.items()}
    lists = list_rows(tally) if choice.rerankings else [{}] * len(tally.models)
    return [
        {
            "model": name,
            "parameters": dict(parameters.get(name, {})),
            **dict(zip(NAMES, plain(means[place]), strict=True)),
            "coverage": coverage(tally.exposures[place], catalogue),
            "gini": gini(tally.exposures[place], catalogue),
            **lists[place],
        }
        for place, name in enumerate(tally.models)
    ]


def list_rows(tally: Tally) -> list[dict[str, Any]]:
    """Figures of each model's lists, and the share of them that has the item shown most."""
    means = np.stack([group.mean()[:, 0] for group in tally.lists], axis=1)
    most = tally.exposures.max(axis=1, initial=0) / max(int(tally.overall.rows.sum()), 1)
    return [
        dict(zip(FIGURES, plain(own), strict=True)) | {"largest_share": float(share)}
        for own, share in zip(means, most, strict=True)
    ]


def group_rows(
    groups: dict[str, Group], models: Sequence[str], names: Sequence[str] = ("ndcg",)
) -> list[dict[str, Any]]:
    """Figures of parts of the users: each part's name, its users, and each figure by model."""
    found = []
    for name, group in groups.items():
        means = group.mean()
        row: dict[str, Any] = {"name": name, "users": group.users}
        for place, figure in enumerate(names):
            row[figure] = dict(zip(models, plain(means[:, place]), strict=True))
        found.append(row)
    return found


def tuning_rows(tuned: Tuned) -> dict[str, Any]:
    """What was tried before the test, and on which days."""
    return {
        "steps": [str(day_of(day)) for day in tuned.steps],
        "users": tuned.users,
        "tried": [
            {"model": trial.name, "parameters": dict(trial.parameters), "ndcg": trial.ndcg}
            for trial in tuned.trials
        ],
    }


def plain(values: Floats) -> list[float | None]:
    """Numbers for JSON, which has no NaN."""
    return [None if math.isnan(value) else float(value) for value in values]
