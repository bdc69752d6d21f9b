"""Lists are compared item by item, with those that were in force before."""

from datetime import date, timedelta

from jobs.io.warehouse import Warehouse
from jobs.recommend.overlap import Earlier, overlap, some_of
from schemas import recommendations
from tests.builders import row, store

DAY = date(2025, 4, 20)
PAIRS = "user_id string, item_id string"


def listed(user: str, days: int, items: str, version: str = "v1", facet: str = "main") -> list[dict]:
    given = {"user_id": user, "facet": facet, "as_of_date": DAY - timedelta(days=days), "version": version}
    return [
        row(recommendations.TABLE, item_id=item, rank=rank, score=5.0, **given)
        for rank, item in enumerate(items, 1)
    ]


def test_the_lists_in_force_are_the_latest_of_before(spark, warehouse):
    assert Earlier(Warehouse(spark, warehouse), "main", DAY, 30).version() is None
    rows = [*listed("u", 9, "abc"), *listed("u", 2, "bcd", "v2"), *listed("u", 0, "xyz", "v3")]
    rows += [*listed("v", 31, "abc"), *listed("w", 1, "efg", "v4", "evening"), *listed("t", 5, "ab")]
    store(spark, warehouse, recommendations.TABLE, rows)
    earlier = Earlier(Warehouse(spark, warehouse), "main", DAY, 30)
    assert earlier.version() == "v2"
    assert {(r[0], r[1]) for r in earlier.days().collect()} == {
        ("u", DAY - timedelta(days=2)),
        ("t", DAY - timedelta(days=5)),
    }
    users = spark.createDataFrame([("u",), ("v",)], "user_id string")
    assert {r["item_id"] for r in earlier.items(users).collect()} == set("bcd")


def test_users_with_both_lists_count_by_their_items(spark):
    new = spark.createDataFrame([("u", i) for i in "abc"] + [("v", i) for i in "ab"] + [("n", "a")], PAIRS)
    old = spark.createDataFrame([("u", i) for i in "bcd"] + [("v", i) for i in "ab"] + [("o", "a")], PAIRS)
    assert overlap("night", new, old) == {
        "night_users": 2,
        "night_items_in_both": 4,
        "night_items_in_either": 6,
    }
    assert set(overlap("night", new, old.limit(0)).values()) == {0}


def test_a_sample_has_every_row_of_its_users(spark):
    rows = spark.createDataFrame([(f"u{n % 1000}", str(n)) for n in range(3000)], PAIRS)
    found = [r["user_id"] for r in some_of(rows, 1000, 200).collect()]
    assert len(found) == 3 * len(set(found)) and 100 < len(set(found)) < 300
    assert some_of(rows, 1000, 2000).count() == 3000
