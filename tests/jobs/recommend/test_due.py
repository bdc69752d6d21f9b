"""Users keep their list only while their profile is where it was when the list was made."""

from datetime import date, timedelta

import pytest

from jobs.io.warehouse import Warehouse
from jobs.recommend.due import kept_users
from jobs.recommend.overlap import Earlier
from schemas import profile_states, recommendations
from tests.builders import row, store

DAY = date(2025, 4, 20)
AT = 0.1
EVENTS = "user_id string, event_date date, log_date date, gone date"


def ago(days: int) -> date:
    return DAY - timedelta(days=days)


def turned(degrees: float) -> list[float]:
    """A direction; 26 degrees from another it has moved by just more than AT."""
    import math

    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


# By user: days ago and directions of the states, and days ago of the lists.
STATES = {
    "still": {9: 0},
    "crept": {9: 0, 6: 10, 3: 20, 0: 30},  # each move is small, and together they are not
    "back": {9: 0, 6: 60, 0: 1},  # far away meanwhile, but not any more
    "jumped": {9: 0, 0: 60},
    "renewed": {9: 0, 6: 20, 0: 40},  # from the list in force it is a small move
    "late": {9: 0},
    "known": {9: 0},
    "undone": {9: 0},
    "old": {60: 0},
    "unlisted": {9: 0},
    "unborn": {0: 0},  # without a profile when the list was made
}
LISTS = {name: [8] for name in STATES} | {"renewed": [8, 5], "old": [40], "unlisted": []}
KEPT = {"still", "back", "renewed", "known"}


@pytest.fixture(scope="module")
def shop(spark, tmp_path_factory) -> Warehouse:
    folder = str(tmp_path_factory.mktemp("due") / "w")
    states = [
        row(profile_states.TABLE, user_id=user, facet="main", as_of_date=ago(days), vector=turned(degrees))
        for user, own in STATES.items()
        for days, degrees in own.items()
    ]
    lists = [
        row(recommendations.TABLE, user_id=user, facet="main", as_of_date=ago(days), **SCORE)
        for user, own in LISTS.items()
        for days in own
    ]
    # A list of the day itself is what a rerun replaces.
    lists.append(row(recommendations.TABLE, user_id="crept", facet="main", as_of_date=DAY, **SCORE))
    store(spark, folder, profile_states.TABLE, states)
    store(spark, folder, recommendations.TABLE, lists)
    return Warehouse(spark, folder)


SCORE = {"score": 5.0}  # of five parts that are 1 each


def test_the_move_counts_from_the_state_behind_the_list(spark, shop):
    latest = [(user, "x", turned(own[min(own)])) for user, own in STATES.items()]
    profiles = spark.createDataFrame(latest, "user_id string, model_key string, vector array<float>")
    events = [
        ("late", ago(9), ago(2), None),
        ("known", ago(9), ago(8), None),  # late, but the list was made with it
        ("undone", ago(9), ago(9), ago(1)),
        ("still", ago(1), ago(1), None),
        ("still", ago(9), ago(9), DAY + timedelta(days=1)),  # taken back after the day
    ]
    marked = spark.createDataFrame(events, EVENTS)
    users = profiles.select("user_id")
    found = kept_users(users, profiles, marked, Earlier(shop, "main", DAY, 30), AT)
    assert {r["user_id"] for r in found.collect()} == KEPT
    other_model = profiles.selectExpr("user_id", "'other' AS model_key", "vector")
    assert kept_users(users, other_model, marked, Earlier(shop, "main", DAY, 30), AT).isEmpty()
    assert kept_users(users, profiles, marked, Earlier(shop, "evening", DAY, 30), AT).isEmpty()
