"""The result's files: values that are JSON, a page that says who wins, plots, and MLflow's folder."""

import json
from xml.etree import ElementTree as ET

import pytest
import yaml

from jobs.evaluate.mlflow_folder import run_files
from jobs.evaluate.output import JSON_FILE, PAGE_FILE, write_result
from jobs.evaluate.page import page, verdict
from jobs.evaluate.plots import plots
from jobs.evaluate.replay import replay
from jobs.evaluate.summary import Run, summarise
from jobs.rank.cases import ALLOW, Rules
from jobs.rank.moment import replay_steps, tuning_steps
from jobs.rank.tuning import ALL, rehearse, tune
from tests.jobs.evaluate.test_replay import FIRST, LAST
from tests.jobs.rank.worlds import random_world

RULES = Rules(k=5, horizon=7, repeat=ALLOW)


@pytest.fixture(scope="module")
def result():
    from jobs.rank.models import MODELS

    world = random_world(1)
    with pytest.MonkeyPatch.context() as patched:
        for model in MODELS:
            patched.setitem(model.__dict__, "grid", model.grid[:1])
        before = world.events.as_of(FIRST - 1)
        plan = rehearse(before, world.catalogue, tuning_steps(before, FIRST, 7, 7), RULES)
        tuned = tune(plan, world.states, RULES)
        tally = replay(world, replay_steps(FIRST, LAST, 7, 7), RULES, tuned.choice)
        return summarise(Run(FIRST, LAST, 7, RULES, 42, {"items": 3}), tuned, tally, 30, ["A note."])


def test_a_result_is_json_without_odd_numbers(result):
    again = json.loads(json.dumps(result, allow_nan=False))
    assert again["users"] == result["users"] > 50 and again["steps"][0]["judged"] > 0
    assert {row["model"] for row in again["models"]} >= {ALL, "popularity", "ease", "content"}
    tried = [one for one in again["tuning"]["tried"] if one["model"] == ALL]
    assert len(tried) == 56 and max(one["ndcg"] for one in tried) == next(
        one["ndcg"] for one in tried if one["parameters"] == parameters(again, ALL)
    )


def parameters(result, name):
    return next(row["parameters"] for row in result["models"] if row["model"] == name)


def test_nobody_had_cold_items_or_facets(result):
    assert result["cold"][0]["users"] == 0 and result["cold"][0]["ndcg"][ALL] is None
    assert result["facets"] == []


def test_the_page_says_what_is_known_and_what_is_not(result):
    text = page(result | {"impressions": None}, [("Who wins", "winner.svg")])
    for part in (f"`{ALL}`", "![Who wins](winner.svg)", "Exposure is unknown", "- A note.", "## Tuning"):
        assert part in text
    assert "None" not in text and "nan" not in text


def test_the_page_shows_impressions(result):
    found = {"impressions": 1200, "users": 3, "ctr": 0.25, "conversion": 0.125, "with_propensity": 0}
    found |= {"ctr_weighted": None, "conversion_weighted": None}
    text = page(result | {"impressions": found}, [])
    assert "| impressions | 1,200 |" in text and "| click-through rate | 0.2500 |" in text


@pytest.mark.parametrize(("p", "told"), [(0.01, "**Better than it: `blend`.**"), (0.2, "No model was shown")])
def test_a_winner_is_one_whose_corrected_p_is_small(result, p, told):
    best = result["best_baseline"]
    one = {"model": ALL, "reference": best, "difference": 0.1, "low": 0.05, "high": 0.2, "p_holm": p}
    one["verdict"] = "better" if p < 0.05 else "no difference shown"
    assert told in verdict(result | {"comparisons": [one]})


def test_nobody_to_judge(result):
    assert "Nobody could be judged" in verdict(result | {"comparisons": []})
    assert plots(result | {"comparisons": []}) == {}


def test_plots_are_the_same_bytes_again(result):
    drawn = plots(result)
    assert list(drawn) == ["winner.svg", "buckets.svg", "time.svg"] and drawn == plots(result)
    for _, svg in drawn.values():
        assert ET.fromstring(svg).tag.endswith("svg")


def test_files_are_written(result, tmp_path):
    told = write_result(result, tmp_path / "out", tmp_path / "runs")
    assert told == [tmp_path / "out" / PAGE_FILE, tmp_path / "runs"]
    assert json.loads((tmp_path / "out" / JSON_FILE).read_text())["format"] == 1
    assert len(list((tmp_path / "out").glob("*.svg"))) == 3
    (run,) = [path for path in (tmp_path / "runs" / "1").iterdir() if path.is_dir()]
    about = yaml.safe_load((run / "meta.yaml").read_text())
    assert about["run_id"] == run.name and about["status"] == 3
    stamp, value, step = (run / "metrics" / "blend.ndcg").read_text().split()
    blend = next(row for row in result["models"] if row["model"] == ALL)
    assert (float(value), step, int(stamp) > 0) == (blend["ndcg"], "0", True)
    assert (run / "artifacts" / "evaluation.json").read_text() == (tmp_path / "out" / JSON_FILE).read_text()


def test_a_run_is_named_after_its_content(result):
    first, again, other = (run_files(result, text, 1, "/r") for text in ("a", "a", "b"))
    assert first.keys() == again.keys() != other.keys()
