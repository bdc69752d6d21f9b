"""The gate at the command: a worse ranker is stored with its verdict, and the one in force stays."""

import pytest

from jobs.recommend import gate, training
from jobs.recommend.stored import newest, terms_of
from schemas.settings import parse_settings
from tests.e2e.tables import rows_of, version_of
from tests.jobs.commands.test_evaluate_profiles import END, HASH, USERS, open_shop
from tests.jobs.commands.test_recommend_items import NEXT, train
from udfs.rank import PARTS

TERMS = terms_of(parse_settings(HASH, "test"))
# All weight on what is new: the shop's items are all as old as its log.
FRESHNESS_ALONE = tuple(float(part == "freshness") for part in PARTS)


def models(shop: str) -> list[dict]:
    return sorted(rows_of(shop, "ranking_models"), key=lambda row: row["sequence"])


def test_a_worse_ranker_does_not_replace_the_one_in_force(spark, tmp_path, warehouse_at, monkeypatch, capsys):
    shop = open_shop(spark, str(tmp_path / "warehouse"))
    monkeypatch.setattr(gate, "FEWEST_USERS", USERS)
    train(spark, shop)
    (first,) = models(shop)
    assert first["accepted"] and "in no bucket worse than decayed popularity" in first["verdict"]
    monkeypatch.setattr(training, "simplex", lambda *_: [FRESHNESS_ALONE])
    train(spark, shop)
    _, second = models(shop)
    assert not second["accepted"] and f"worse than {first['version']} in force" in second["verdict"]
    assert "for users with 20-99 events: -0." in second["verdict"]
    assert f"{second['version']} ({second['kind']}) is refused: worse than" in capsys.readouterr().out
    figures = dict(second["metrics"])
    assert figures["held_ndcg_new_all"] < figures["held_ndcg_in_force_all"]
    in_force = newest(warehouse_at(shop), TERMS, NEXT)
    assert in_force is not None and in_force.version == first["version"]
    # Judged again, it is refused again; and the one in force is not judged against itself.
    before = version_of(shop, "ranking_models")
    train(spark, shop)
    monkeypatch.undo()
    monkeypatch.setattr(gate, "FEWEST_USERS", USERS)
    train(spark, shop)
    assert version_of(shop, "ranking_models") == before


@pytest.mark.slow
def test_what_cannot_be_judged_replaces_nothing_unless_asked(spark, tmp_path, warehouse_at, monkeypatch):
    shop = open_shop(spark, str(tmp_path / "warehouse"))
    train(spark, shop)
    monkeypatch.setattr(training, "simplex", lambda *_: [FRESHNESS_ALONE])
    train(spark, shop)
    train(spark, shop, "--accept-unjudged")
    assert [row["accepted"] for row in models(shop)] == [True, False, True]
    in_force = [newest(warehouse_at(shop), TERMS, day) for day in (END, NEXT)]
    # From the next night on.
    assert [one.version for one in in_force if one] == [models(shop)[at]["version"] for at in (0, -1)]
