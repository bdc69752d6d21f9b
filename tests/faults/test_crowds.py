"""A flood, a drip over thirty days and a crowd of made-up users move no one else's profile by a bit."""

import json
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import backfill_profiles, make_demo_logs
from tests.e2e.tables import STATE_COLUMNS, call, rows_of
from tests.oracle import canonical_hash, cosine

pytestmark = pytest.mark.faults

FIRST = date(2025, 3, 3)
DAYS = [FIRST + timedelta(days=n) for n in range(30)]
DRAWN = ["--days", "30", "--users", "6", "--seed", "9", "--start", str(FIRST)]
# The flood's day, in the middle of the log.
FLOODED = DAYS[15]
DAY_SHARE = 0.8

Events = Iterator[dict[str, Any]]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> Path:
    """A log of thirty days of a few users."""
    logs = tmp_path_factory.mktemp("quiet") / "logs"
    assert make_demo_logs.main(["--logs", str(logs), *DRAWN]) == 0
    return logs


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("config") / "hash.yaml"
    file.write_text("engine: {kind: hash}\n", encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def folded(spark, config, tmp_path_factory):
    """Folds a log of all days; returns its states."""

    def fold(logs: Path) -> list[dict[str, Any]]:
        warehouse = tmp_path_factory.mktemp("folded") / "w"
        span = ("--start", DAYS[0], "--end", DAYS[-1])
        call(spark, backfill_profiles, warehouse, config, "--logs", logs, *span)
        return rows_of(str(warehouse), "profile_states")

    return fold


@pytest.fixture(scope="module")
def untouched(quiet, folded) -> list[dict[str, Any]]:
    return folded(quiet)


def titles_of(logs: Path) -> dict[str, str]:
    """The title of each item that the log names."""
    lines = (logs / "_truth" / "items.jsonl").read_text(encoding="utf-8").splitlines()
    return {item["item_id"]: item["title"] for item in map(json.loads, lines)}


def view(user: str, number: int, day: date, item: str, title: str) -> dict[str, Any]:
    second = number % 86_400
    time = f"{day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
    known = {"event_id": f"{user}-{day}-{number}", "user_id": user, "event_ts": time, "event_type": "view"}
    return known | {"item_id": item, "title": title}


def flood(logs: Path) -> Events:
    """One user sees every item of the shop, again and again, on one day."""
    items = list(titles_of(logs).items())
    for number in range(3000):
        item, title = items[number % len(items)]
        yield view("flood", number * 17, FLOODED, item, title)


def drip(logs: Path) -> Events:
    """One user sees a handful of items every day, one of them by far most often."""
    items = list(titles_of(logs).items())
    for day in DAYS:
        for number in range(20):
            item, title = items[0] if number % 4 else items[number % len(items)]
            yield view("drip", number * 600, day, item, title)


def made_up(logs: Path) -> Events:
    """Five hundred users of one day each push the same item."""
    item, title = next(iter(titles_of(logs).items()))
    for number in range(500):
        for again in range(4):
            yield view(f"made-up-{number}", number * 60 + again, FLOODED, item, title)


def with_events(quiet: Path, folder: Path, events: Events) -> Path:
    """A copy of the log with these events in their days."""
    logs = Path(shutil.copytree(quiet, folder / "logs"))
    for event in events:
        with (logs / f"dt={event['event_ts'][:10]}" / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
    return logs


@pytest.mark.parametrize("crowd", [flood, drip, made_up])
def test_a_crowd_moves_no_profile_but_its_own(quiet, untouched, folded, tmp_path, crowd):
    names = {event["user_id"] for event in crowd(quiet)}
    states = folded(with_events(quiet, tmp_path, crowd(quiet)))
    own = [state for state in states if state["user_id"] in names]
    others = [state for state in states if state["user_id"] not in names]
    assert {state["user_id"] for state in own} == names
    assert canonical_hash(others, STATE_COLUMNS) == canonical_hash(untouched, STATE_COLUMNS)


def test_a_flood_moves_its_own_profile_by_the_share_of_a_day_at_most(quiet, folded, tmp_path):
    """A user of many days floods one: what remains of the old profile is at least the rest of the share."""
    events = [*drip(quiet), *({**event, "user_id": "drip"} for event in flood(quiet))]
    states = folded(with_events(quiet, tmp_path, iter(events)))
    own = {
        state["as_of_date"]: state
        for state in states
        if (state["user_id"], state["facet"]) == ("drip", "main")
    }
    before, after = own[FLOODED - timedelta(days=1)], own[FLOODED]
    moved = np.array(after["vector"], np.float64) - (1 - DAY_SHARE) * np.array(before["vector"], np.float64)
    # The rest is a mean of unit vectors times the day's share.
    assert np.linalg.norm(moved) <= DAY_SHARE + 1e-6
    assert cosine(after["vector"], before["vector"]) < 1
