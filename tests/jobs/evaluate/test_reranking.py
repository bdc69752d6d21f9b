"""What re-ranking costs: rows of their own beside the blend, which changes nothing of the others."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.evaluate import replay as replays
from jobs.evaluate.page import page
from jobs.evaluate.replay import replay
from jobs.evaluate.summary import Run, summarise
from jobs.evaluate.tally import Tally
from jobs.rank.cases import ALLOW, Rules
from jobs.rank.metrics import NDCG
from jobs.rank.models import MODELS
from jobs.rank.moment import replay_steps, tuning_steps
from jobs.rank.relist import rerankings_of
from jobs.rank.tuning import ALL, Tuned, rehearse, tune
from jobs.rank.world import World
from schemas.settings import RecommendSettings
from tests.jobs.evaluate.test_replay import FIRST, LAST
from tests.jobs.rank.worlds import random_world
from udfs.rerank import Rules as ListRules

RULES = Rules(k=5, horizon=7, repeat=ALLOW)
STEPS = replay_steps(FIRST, LAST, 7, 7)
ASKED = rerankings_of(RecommendSettings(diversity=0.5, calibration=0.3, exposure_cap=0.2))


@pytest.fixture(scope="module")
def world() -> World:
    """Items of three categories, one of them of few items."""
    found = random_world(1)
    category = np.arange(found.catalogue.size, dtype=np.int32) % 5 // 2
    return replace(found, catalogue=replace(found.catalogue, version_category=category))


@pytest.fixture(scope="module")
def tuned(world) -> Tuned:
    with pytest.MonkeyPatch.context() as patched:
        for model in MODELS:
            patched.setitem(model.__dict__, "grid", model.grid[:1])
        before = world.events.as_of(FIRST - 1)
        plan = rehearse(before, world.catalogue, tuning_steps(before, FIRST, 7, 7), RULES)
        return tune(plan, world.states, RULES)


def judged(world: World, tuned: Tuned, asked: dict[str, ListRules]) -> tuple[Tuned, Tally]:
    rows = {f"{ALL}_{name}": rules for name, rules in asked.items()}
    own = replace(tuned, choice=replace(tuned.choice, rerankings=rows))
    return own, replay(world, STEPS, RULES, own.choice)


@pytest.fixture(scope="module")
def tally(world, tuned) -> Tally:
    return judged(world, tuned, ASKED | {"nothing": ListRules(0.0, 0.0, 1.0)})[1]


def of_lists(tally: Tally, figure: int) -> dict[str, float]:
    return dict(zip(tally.models, tally.lists[figure].mean()[:, 0], strict=True))


def test_the_options_that_are_set_are_rows_and_together_one_more():
    assert rerankings_of(RecommendSettings()) == {}
    assert rerankings_of(RecommendSettings(diversity=0.2)) == {"diversity": ListRules(0.2, 0.0, 1.0)}
    assert list(ASKED) == ["diversity", "calibration", "exposure_cap", "reranked"]


def test_each_option_moves_its_figure(tally):
    spread, far = of_lists(tally, 0), of_lists(tally, 1)
    assert spread[f"{ALL}_diversity"] > spread[ALL] and far[f"{ALL}_calibration"] < far[ALL]
    shown = dict(zip(tally.models, tally.exposures, strict=True))
    assert shown[f"{ALL}_exposure_cap"].max() < shown[ALL].max()


def test_lists_that_nothing_re_ranks_are_the_blend_s(tally):
    at = [tally.models.index(name) for name in (ALL, f"{ALL}_nothing")]
    assert (tally.overall.sums[:, at[0]] == tally.overall.sums[:, at[1]]).all()
    assert (tally.exposures[at[0]] == tally.exposures[at[1]]).all()


def test_other_rows_are_the_same_without_re_ranking(world, tuned, tally):
    without = judged(world, tuned, {})[1]
    size = len(without.models)
    assert tally.models[:size] == without.models and without.lists[0].users == 0
    assert tally.overall.sums[:, :size].tobytes() == without.overall.sums.tobytes()


def test_figures_are_the_same_in_blocks_of_any_size(world, tuned, tally, monkeypatch):
    real = replays.blocks
    monkeypatch.setattr(replays, "blocks", lambda cases: real(cases, 7))
    again = judged(world, tuned, ASKED | {"nothing": ListRules(0.0, 0.0, 1.0)})[1]
    assert again.overall.sums.tobytes() == tally.overall.sums.tobytes()
    assert [g.sums.tobytes() for g in again.lists] == [g.sums.tobytes() for g in tally.lists]
    assert (again.exposures == tally.exposures).all()


def test_the_page_has_the_price(world, tuned):
    own, tally = judged(world, tuned, {"diversity": ListRules(0.5, 0.0, 1.0)})
    result = summarise(Run(FIRST, LAST, 7, RULES, 42, {}), own, tally, 30, [])
    text = page(result, [])
    assert "## What re-ranking costs" in text and f"| `{ALL}_diversity` |" in text
    row = next(row for row in result["models"] if row["model"] == f"{ALL}_diversity")
    assert row["ndcg"] == pytest.approx(tally.overall.mean()[-1, NDCG]) and 0 < row["largest_share"] <= 1
    assert "No ranker was in force" in text
    found = page(result | {"ranker": {"version": "v1", "verdict": "in no bucket worse than popularity"}}, [])
    assert "is `v1`; the gate accepted it: in no bucket worse than popularity." in found
