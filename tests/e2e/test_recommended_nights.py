"""Nights that make lists: the same by night and by range, published with the profiles, and only once."""

from datetime import date, timedelta

import pytest

from jobs import backfill_profiles, make_demo_logs, recommend_items, run_night, train_ranker
from jobs.io.reading import published_versions
from schemas import recommendations
from tests.e2e.tables import call, rows_of, version_of
from tests.jobs.recommend.points import one_point_each

FIRST, DAYS = date(2025, 3, 5), 22
LAST = FIRST + timedelta(days=DAYS - 1)
MIDDLE, BEFORE = LAST - timedelta(days=1), LAST - timedelta(days=2)
TRAINED = ("--start", LAST - timedelta(days=14), "--end", BEFORE)
SETTINGS = "engine: {kind: hash, hash_dimensions: 16}\nrecommend: {nightly: true, top: 5}\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("logs"))
    words = ["--logs", folder, "--start", str(FIRST), "--days", str(DAYS), "--users", "24"]
    assert make_demo_logs.main(words) == 0
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "settings.yaml"
    file.write_text(SETTINGS, encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def trained(spark, logs, config, tmp_path_factory):
    """Published to two days before the last, and trained."""
    warehouse = tmp_path_factory.mktemp("trained") / "w"
    call(spark, backfill_profiles, warehouse, config, "--logs", logs, "--start", FIRST, "--end", BEFORE)
    train(spark, warehouse, config)
    return warehouse


def train(spark, warehouse, config):
    with pytest.MonkeyPatch.context() as patch:
        one_point_each(patch)
        call(spark, train_ranker, warehouse, config, *TRAINED)


def lists(warehouse, day=LAST, but=frozenset()):
    """The rows of a day's lists, of all users but some."""
    names = recommendations.TABLE.names
    rows = rows_of(str(warehouse), "recommendations")
    rows = [r for r in rows if r["as_of_date"] == day and r["user_id"] not in but]
    return sorted(tuple(tuple(r[n]) if n == "because" else r[n] for n in names) for r in rows)


def test_lists_are_the_same_by_night_and_by_range_and_are_published_once(
    spark, trained, logs, config, tmp_path, capfd
):
    # Without a model the first range went on, and wrote none.
    assert "recommendations" not in published_versions(str(trained))
    call(spark, run_night, trained, config, "--logs", logs, "--date", MIDDLE)
    call(spark, run_night, trained, config, "--logs", logs, "--date", LAST)
    found, published = lists(trained), published_versions(str(trained))
    assert found and published["recommendations"] == version_of(str(trained), "recommendations")
    call(spark, run_night, trained, config, "--logs", logs, "--date", LAST)
    call(spark, recommend_items, trained, config, "--date", LAST)
    assert published_versions(str(trained)) == published
    assert version_of(str(trained), "recommendations") == published["recommendations"]
    other = tmp_path / "w"
    half = FIRST + timedelta(days=9)
    span = ["--start", FIRST, "--end", half]
    call(spark, backfill_profiles, other, config, "--logs", logs, *span)
    assert "no ranking model of these settings was accepted by then" in capfd.readouterr().out
    rest = ["--start", half + timedelta(days=1), "--end", BEFORE]
    call(spark, backfill_profiles, other, config, "--logs", logs, *rest)
    train(spark, other, config)
    call(spark, backfill_profiles, other, config, "--logs", logs, "--start", MIDDLE, "--end", LAST)
    # The same model, to its version, and so the same lists.
    assert lists(other) == found
    # Of the day before, too, but for profiles that events repaired which arrived on the last day.
    events = [r for r in rows_of(str(other), "behavior_events") if r["log_date"] == LAST]
    late = {r["user_id"] for r in events if r["event_date"] < LAST or r["event_type"] == "retract"}
    assert lists(other, MIDDLE, late) == lists(trained, MIDDLE, late) != []
    users = [{r[1] for r in lists(one, MIDDLE)} for one in (trained, other)]
    assert users[0] == users[1]
