"""A soak draws the same kills for a seed, goes on where it stopped, and tells violations."""

import json

import pytest

from tests.faults import soak
from tests.faults.processes import VICTIMS
from tests.faults.scenes import SCENES

SEEDS = range(1, 301)


def test_a_seed_is_always_the_same_draw():
    assert [soak.draw(seed) for seed in SEEDS] == [soak.draw(seed) for seed in SEEDS]


def test_the_seeds_reach_every_job_every_victim_and_every_way():
    drawn = [soak.draw(seed) for seed in SEEDS]
    kills = [kill for one in drawn for kill in one.kills]
    assert {one.scene for one in drawn} == set(SCENES)
    assert {kill.victim for kill in kills} == set(VICTIMS)
    assert {len(one.kills) for one in drawn} == {1, 2}
    assert {one.is_begun_at_once for one in drawn} == {True, False}
    assert {kill.after_s == 0 for kill in kills} == {True, False}
    points = [f"p{number}" for number in range(30)]
    assert {kill.point(points) for kill in kills} == set(points)


@pytest.mark.parametrize(("text", "seeds"), [("7", [7]), ("1-3", [1, 2, 3]), ("5-4", [])])
def test_seeds_are_a_number_or_a_range(text, seeds):
    assert list(soak.seeds_of(text)) == seeds


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "1..3", "1,2"])
def test_other_seeds_are_refused(text):
    with pytest.raises(ValueError, match="SEEDS is a number or a range"):
        soak.seeds_of(text)


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """The seeds that are tried, of which 3 and 5 violate."""
    seeds = []

    def try_seed(_stage, drawn, folder):
        seeds.append(drawn.seed)
        (folder / "warehouse").mkdir(parents=True)
        assert drawn.seed not in (3, 5), "readers saw something else"
        return ["killed"]

    monkeypatch.setattr(soak, "try_seed", try_seed)
    return seeds


def test_a_seed_is_tried_once_and_a_violation_keeps_its_warehouse(tried, tmp_path, capsys):
    soak.soak(None, [1, 3], tmp_path)
    soak.soak(None, [5], tmp_path)
    lines = list(soak.lines_of(tmp_path / "soak.jsonl"))
    assert [(line["seed"], line["holds"]) for line in lines] == [(1, True), (3, False), (5, False)]
    assert sorted(path.name for path in tmp_path.glob("seed-*")) == ["seed-3", "seed-5"]
    assert "seed 3 violates: AssertionError: readers saw something else" in capsys.readouterr().err
    assert soak.summary(range(1, 11), lines).startswith("3 of 10 seeds tried")
    assert soak.summary(range(1, 11), lines).endswith("2 violations [3, 5]")


def test_a_line_that_was_cut_off_is_tried_again(tmp_path):
    file = tmp_path / "soak.jsonl"
    file.write_text(json.dumps({"seed": 1, "holds": True}) + '\n{"seed": 2, "ho')
    assert [line["seed"] for line in soak.lines_of(file)] == [1]


def test_a_soak_that_is_done_starts_nothing_and_says_how_it_ended(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(soak, "RESULTS", tmp_path)
    monkeypatch.setattr(soak.signal, "signal", lambda *_: None)
    monkeypatch.setattr(soak.sessions, "open_session", None)
    line = {"seed": 1, "holds": True, "scene": "night"}
    (tmp_path / "soak.jsonl").write_text(json.dumps(line) + "\n")
    assert soak.main(["1"]) == 0
    assert capsys.readouterr().out == "1 of 1 seeds tried (1 night); 0 violations\n"
    (tmp_path / "soak.jsonl").write_text(json.dumps(line | {"holds": False}) + "\n")
    assert soak.main(["1"]) == 1
    assert soak.main(["x"]) == 2
