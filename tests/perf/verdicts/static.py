"""One split of a log at 80%: what each user chooses in the next 30 days, of items unseen so far."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.rank.blend import min_max
from jobs.rank.cases import EXCLUDE, Rules, blocks, step_on
from jobs.rank.catalogue import Catalogue, shelf_on
from jobs.rank.content import MAIN, content_scores, profiles_on
from jobs.rank.events import history_at
from jobs.rank.models import DECAYED, EASE, POPULARITY, Model
from jobs.rank.moment import day_of
from jobs.rank.popularity import Parameters
from jobs.rank.states import States
from jobs.rank.tuning import gains
from tests.perf.verdicts.logs import Log
from tests.perf.verdicts.profiles import Fold, choices, negative, states_of, weights_of
from tests.udfs.fold.configs import constants

SHARE, HORIZON, K = 0.8, 30, 10
FITTED: Mapping[str, tuple[Model, Parameters]] = {
    "popularity": (POPULARITY, {}),
    **{f"decayed popularity {days}": (DECAYED, {"half_life": days}) for days in (1, 3, 7, 14, 30)},
    **{f"EASE {penalty}": (EASE, {"penalty": penalty}) for penalty in (200, 500)},
}
GATES = {"effective": {}, "mean": {"gate": "mean"}}
BLENDED = ("decayed popularity 1", "decayed popularity 7")
SHARES = (0.2, 0.5, 1.0)


def static_split(log: Log, vectors: NDArray[np.float32], catalogue: Catalogue) -> dict[str, Any]:
    """NDCG@10 of a few models at both cuts, nothing tuned: the grids are shown."""
    first, last = int(log.day.min()), int(log.day.max())
    days = {
        "of the time": first + int(SHARE * (last - first)),
        "of the events": int(np.quantile(log.day, SHARE)),
    }
    return {f"{SHARE:.0%} {name}": split_at(day, log, vectors, catalogue) for name, day in days.items()}


def split_at(day: int, log: Log, vectors: NDArray[np.float32], catalogue: Catalogue) -> dict[str, Any]:
    """The figures of one cut, at the end of a day."""
    rules = Rules(K, HORIZON, EXCLUDE)
    liked = np.where(negative(log), 0.0, weights_of(log))
    events = log.events(weights_of(log) > 0, choices(log))
    states = {
        gate: states_of(log, vectors, {MAIN: Fold(constants(**own), liked)}, [day])
        for gate, own in GATES.items()
    }
    found = step_on(events, catalogue, day, rules)
    assert found is not None
    moment, cases, _ = found
    history, figures = history_at(events, day, catalogue.size), dict[str, list[float]]()
    fitted = {name: model.fit(history, own) for name, (model, own) in FITTED.items()}
    for block in blocks(cases):
        own = history_at(block.events, day, catalogue.size)
        scores = {name: model.scores(fitted[name], own, grid) for name, (model, grid) in FITTED.items()}
        for gate, of_gate in states.items():
            scores[f"content, {gate}"] = contents(of_gate, catalogue, block.events.users, day)
        content = min_max(scores["content, mean"], moment.known)
        for name in BLENDED:
            for share in SHARES:
                popular = min_max(scores[name], moment.known)
                scores[f"{name} + {share:g} content"] = popular + share * content
        for name, rows in scores.items():
            figures.setdefault(name, []).extend(gains(rows, block, moment, rules))
    means = {name: round(float(np.mean(rows)), 4) for name, rows in figures.items()}
    return {"day": str(day_of(day)), "users": len(cases), "items": int(moment.known.sum()), "ndcg": means}


def contents(states: States, catalogue: Catalogue, users: NDArray[np.int64], day: int) -> NDArray[np.float64]:
    """Content scores by `main` alone."""
    shelf = shelf_on(catalogue, day)
    return content_scores(shelf, profiles_on(states, shelf, users, day), 0.0)
