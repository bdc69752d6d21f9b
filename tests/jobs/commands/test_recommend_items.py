"""Trained on published days, lists of a day: the same again, as of the day, without what is blocked."""

import stat
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pytest

from jobs import recommend_items, train_ranker
from jobs.io.messages import JobError
from jobs.io.model import model_key_of
from jobs.io.session import configured
from jobs.io.warehouse import Warehouse
from schemas import behavior_events, erased_users, ranking_models, recommendations, user_profiles
from schemas.settings import parse_settings
from tests.builders import row, store
from tests.e2e.tables import rows_of, version_of
from tests.jobs.commands.test_evaluate_profiles import END, HASH, ITEMS, START, USERS, open_shop
from tests.jobs.recommend.points import one_point_each
from udfs.rank import PARTS

NEXT = END + timedelta(days=1)
NAMES = recommendations.TABLE.names


def called(spark, job, shop: str, *words: object, settings: str = "") -> None:
    args = job.arg_parser().parse_args(["--warehouse", shop, *map(str, words)])
    args.config = parse_settings(HASH + settings, "test")
    job.run(spark, args)


def train(spark, shop: str, *words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        one_point_each(patch)
        called(spark, train_ranker, shop, "--start", START, "--end", END, *words)


@pytest.fixture(scope="module")
def trained(spark, tmp_path_factory) -> str:
    shop = open_shop(spark, str(tmp_path_factory.mktemp("lists") / "warehouse"))
    train(spark, shop)
    return shop


def arriving_next(name: str, happened: date) -> dict:
    """A purchase that arrives on the day after the published ones."""
    values = {"event_id": name, "event_date": happened, "log_date": NEXT, "item_id": "i00"}
    values["event_ts"] = datetime.combine(happened, time(12), UTC)
    return row(behavior_events.TABLE, user_id="u1", event_type="purchase", **values)


def lists(shop: str, facet: str = "main", day: date = END) -> list[tuple]:
    found = [r for r in rows_of(shop, "recommendations") if (r["as_of_date"], r["facet"]) == (day, facet)]
    return sorted(tuple(r[name] if name != "because" else tuple(r[name]) for name in NAMES) for r in found)


@pytest.mark.slow
def test_training_again_gives_the_same_model_and_writes_nothing(spark, trained):
    (model,) = rows_of(trained, "ranking_models")
    before, file = version_of(trained, "ranking_models"), Path(trained, model["artefact"])
    content, written = file.read_bytes(), file.stat().st_mtime_ns
    train(spark, trained)
    assert version_of(trained, "ranking_models") == before and file.read_bytes() == content
    assert file.stat().st_mtime_ns == written
    file.write_bytes(content[:-1])
    train(spark, trained)
    assert file.read_bytes() == content
    assert (model["trained_from"], model["trained_to"]) == (START, END)
    assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
    weights = dict(model["parameters"])
    assert sum(weights[f"weight_{part}"] for part in PARTS) == pytest.approx(1)
    assert dict(model["metrics"])["users"] == USERS


def test_lists_are_the_same_again_on_any_partitions_and_after_later_days(spark, trained):
    called(spark, recommend_items, trained, "--date", END, "--all")
    found, before = lists(trained), version_of(trained, "recommendations")
    assert len(found) == USERS * 10 and len({r[1] for r in found}) == USERS
    # Everybody likes the items of one half of the catalogue, and each list begins there.
    for r in found:
        half = int(r[NAMES.index("item_id")][1:]) >= ITEMS // 2
        assert r[NAMES.index("rank")] > 3 or half == (int(r[1][1:]) % 4 // 2 == 1)
        assert all(event.startswith(f"{r[1][1:]}-") for event in r[NAMES.index("because")])
        parts = [np.float32(r[NAMES.index(part)]) for part in PARTS]
        assert np.float32(r[NAMES.index("score")]) == ((parts[0] + parts[1] + parts[2]) + parts[3]) + parts[4]
    store(spark, trained, behavior_events.TABLE, [arriving_next("on time", NEXT), arriving_next("late", END)])
    with configured(spark, {"spark.sql.shuffle.partitions": "7"}):
        called(spark, recommend_items, trained, "--date", END, "--all")
    assert lists(trained) == found and version_of(trained, "recommendations") == before


def test_only_users_with_events_of_the_day_get_a_list(spark, trained):
    called(spark, recommend_items, trained, "--date", END)
    active = {r["user_id"] for r in rows_of(trained, "behavior_events") if r["log_date"] == END}
    assert {r[1] for r in lists(trained)} == active and 0 < len(active) < USERS


@pytest.mark.slow
def test_users_whose_profile_is_where_it_was_keep_their_list(spark, trained, capsys):
    called(spark, recommend_items, trained, "--date", END, "--all")
    # The late one is of a day before the list.
    store(spark, trained, behavior_events.TABLE, [arriving_next("calm", NEXT) | {"user_id": "u2"}])
    store(spark, trained, behavior_events.TABLE, [arriving_next("past", END) | {"user_id": "u3"}])
    called(spark, recommend_items, trained, "--date", NEXT, settings="recommend: {min_drift: 0.01}\n")
    now = {r["user_id"] for r in rows_of(trained, "recommendations") if r["as_of_date"] == NEXT}
    assert "u3" in now and "u2" not in now
    told = capsys.readouterr().out
    assert "1 unmoved, " in told and "1 unmoved users, " in told and " night items in both, " in told


@pytest.mark.slow
def test_a_context_facet_has_lists_for_those_who_have_it(spark, trained):
    called(spark, recommend_items, trained, "--date", END, "--all")
    before, model_key = lists(trained), model_key_of(parse_settings(HASH, "test").engine)
    evening = {"facet": "evening", "as_of_date": END, "model_key": model_key, "vector": [1.0, 0.1]}
    store(spark, trained, user_profiles.TABLE, [row(user_profiles.TABLE, user_id="u2", **evening)])
    settings = 'fold: {facets: [{name: evening, where: "local_hour >= 18"}]}\n'
    called(spark, recommend_items, trained, "--date", END, "--all", "--facet", "evening", settings=settings)
    assert {r[1] for r in lists(trained, "evening")} == {"u2"} and lists(trained) == before


@pytest.mark.slow
def test_what_is_blocked_is_in_no_list(spark, trained):
    blocked = 'recommend: {block_items: ["i01", "gone"], block_categories: [even]}\n'
    called(spark, recommend_items, trained, "--date", END, "--all", settings=blocked)
    shown = {int(r[NAMES.index("item_id")][1:]) for r in lists(trained)}
    assert shown == {3, 5, 7, 9, 11}


def test_lists_in_force_with_an_item_that_is_blocked_now_are_made_anew(spark, trained, capsys):
    called(spark, recommend_items, trained, "--date", END, "--all")
    item = NAMES.index("item_id")
    blocked = min(r[item] for r in lists(trained))
    holders = {r[1] for r in lists(trained) if r[item] == blocked}
    active = {r["user_id"] for r in rows_of(trained, "behavior_events") if r["log_date"] == NEXT}
    settings = f'recommend: {{block_items: ["{blocked}", gone], block_categories: [none]}}\n'
    called(spark, recommend_items, trained, "--date", NEXT, settings=settings)
    found = lists(trained, day=NEXT)
    assert {r[1] for r in found} == holders | active and len(holders) > len(active)
    assert not [r for r in found if r[item] == blocked]
    said = capsys.readouterr().out
    assert "2 entries of the block lists match no item: gone, none" in said
    assert f"{len(holders - active)} unblocked" in said
    # Nobody's list in force has it any more, and the same day again is the same.
    before = version_of(trained, "recommendations")
    called(spark, recommend_items, trained, "--date", NEXT, settings=settings)
    assert version_of(trained, "recommendations") == before
    called(spark, recommend_items, trained, "--date", NEXT + timedelta(days=1), settings=settings)
    assert not lists(trained, day=NEXT + timedelta(days=1))


def test_a_day_before_any_training_has_no_model(spark, trained):
    with pytest.raises(JobError, match="run train_ranker first"):
        called(spark, recommend_items, trained, "--date", END - timedelta(days=1))


def test_a_model_for_another_treatment_of_repeats_makes_no_list(spark, trained):
    with pytest.raises(JobError, match="no ranking model of these settings was accepted"):
        called(spark, recommend_items, trained, "--date", END, settings="recommend: {repeat: exclude}\n")


def test_a_model_of_users_who_were_erased_meanwhile_is_not_stored(spark, trained, monkeypatch):
    def erasing(*given):
        erased = row(erased_users.TABLE, user_hmac="u", erased_on=END, rows_gone=True)
        store(spark, trained, erased_users.TABLE, [erased])
        return fit(*given)

    fit, before = train_ranker.train, version_of(trained, "ranking_models")
    monkeypatch.setattr(train_ranker, "train", erasing)
    with pytest.raises(JobError, match="users were erased after train_ranker had read their events"):
        train(spark, trained)
    assert version_of(trained, "ranking_models") == before


def test_a_model_whose_file_was_replaced_is_refused(spark, trained):
    (model,) = rows_of(trained, "ranking_models")
    file = Path(trained, model["artefact"])
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    try:
        with pytest.raises(JobError, match="run train_ranker again"):
            called(spark, recommend_items, trained, "--date", END)
    finally:
        file.write_bytes(content)


def test_tables_that_were_never_written_have_no_lists(warehouse_at, warehouse):
    found: Warehouse = warehouse_at(warehouse)
    assert found.read(ranking_models.TABLE).isEmpty() and found.read(recommendations.TABLE).isEmpty()


@pytest.mark.parametrize("facet", ["negative", "evening"])
def test_facets_without_lists_are_refused(facet):
    args = recommend_items.arg_parser().parse_args(
        ["--warehouse", "w", "--date", "2025-04-01", "--facet", facet]
    )
    assert "there are main" in str(recommend_items.arguments_problem(args))


def test_a_scheduler_is_told_that_lists_are_off(capsys):
    assert recommend_items.main(["--warehouse", "w", "--date", "2025-04-01", "--nightly"]) == 0
    assert "recommend.nightly is not set" in capsys.readouterr().out


def test_a_night_without_a_model_goes_on_and_a_call_by_hand_is_refused(spark, tmp_path, capsys):
    shop, nightly = open_shop(spark, str(tmp_path / "warehouse")), "recommend: {nightly: true}\n"
    called(spark, recommend_items, shop, "--date", END, "--nightly", settings=nightly)
    assert "no ranking model of these settings was accepted by then" in capsys.readouterr().out
    with pytest.raises(JobError, match="run train_ranker first"):
        called(spark, recommend_items, shop, "--date", END)
