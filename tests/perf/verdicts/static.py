"""One split of a log at 80% of its time: what each user chooses in the next 30 days, of unseen items."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.evaluate.blend import min_max
from jobs.evaluate.cases import EXCLUDE, Rules, blocks, ranked, step_on
from jobs.evaluate.catalogue import Catalogue, shelf_on
from jobs.evaluate.content import MAIN, content_scores, profiles_on
from jobs.evaluate.events import history_at
from jobs.evaluate.intervals import compare
from jobs.evaluate.metrics import hits, ndcg, top_items
from jobs.evaluate.models import DECAYED, EASE, POPULARITY, Model
from jobs.evaluate.moment import day_of
from jobs.evaluate.popularity import Parameters
from jobs.evaluate.states import States
from tests.perf.verdicts.logs import Log
from tests.perf.verdicts.profiles import Fold, choices, negative, states_of, weights_of
from tests.udfs.fold.configs import constants

SHARE, HORIZON, K = 0.8, 30, 10
FITTED: Mapping[str, tuple[Model, Parameters]] = {
    "popularity": (POPULARITY, {}),
    **{f"decayed popularity {days}": (DECAYED, {"half_life": days}) for days in (7, 14, 30, 60)},
    **{f"EASE {penalty}": (EASE, {"penalty": penalty}) for penalty in (50, 200, 500, 1000)},
}
GATES = {"effective": {}, "mean": {"gate": "mean"}}
BLENDED = "decayed popularity 30"
PAIRS = [("popularity + 0.2 content", BLENDED), ("content, effective", "content, mean")]


def static_split(log: Log, vectors: NDArray[np.float32], catalogue: Catalogue) -> dict[str, Any]:
    """NDCG@10 of a few models, nothing tuned: the grids are shown."""
    first, last = int(log.day.min()), int(log.day.max())
    day, rules = first + int(SHARE * (last - first)), Rules(K, HORIZON, EXCLUDE)
    liked = np.where(negative(log), 0.0, weights_of(log))
    events = log.events(weights_of(log) > 0, choices(log))
    states = {
        gate: states_of(log, vectors, {MAIN: Fold(constants(**own), liked)}, [day])
        for gate, own in GATES.items()
    }
    found = step_on(events, catalogue, day, rules)
    assert found is not None
    moment, cases, _ = found
    history = history_at(events, day, catalogue.size)
    fitted = {name: model.fit(history, own) for name, (model, own) in FITTED.items()}
    figures: dict[str, list[float]] = {}
    for block in blocks(cases):
        own = history_at(block.events, day, catalogue.size)
        scores = {
            name: model.scores(fitted[name], own, parameters) for name, (model, parameters) in FITTED.items()
        }
        for gate, of_gate in states.items():
            scores[f"content, {gate}"] = contents(of_gate, catalogue, block.events.users, day)
        popular = min_max(scores[BLENDED], moment.known)
        for share in (0.1, 0.2, 0.4):
            content = share * min_max(scores["content, mean"], moment.known)
            scores[f"popularity + {share:g} content"] = popular + content
        for name, rows in scores.items():
            for user, (truth, had) in enumerate(zip(block.truths, block.had, strict=True)):
                shown = top_items(ranked(rows[user], had, moment, rules), rules.k)
                figures.setdefault(name, []).append(ndcg(hits(shown, truth), truth.size, rules.k))
    by_user = {name: np.array(rows) for name, rows in figures.items()}
    ahead = compare(
        by_user, [("popularity + 0.2 content", BLENDED), ("content, effective", "content, mean")], 42
    )
    return {
        "day": str(day_of(day)),
        "users": len(cases),
        "items": int(moment.known.sum()),
        "ndcg": {name: float(rows.mean()) for name, rows in by_user.items()},
        "comparisons": [
            f"{one.model} - {one.reference}: {one.difference:.4f} {one.low:.4f} {one.high:.4f}"
            for one in ahead
        ],
    }


def contents(states: States, catalogue: Catalogue, users: NDArray[np.int64], day: int) -> NDArray[np.float64]:
    """Content scores by `main` alone."""
    shelf = shelf_on(catalogue, day)
    return content_scores(shelf, profiles_on(states, shelf, users, day), 0.0)
