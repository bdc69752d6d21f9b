"""Thirty views of one user under made-up titles, dated a day ahead, change no other profile by a bit."""

import json
import shutil
from datetime import date, timedelta

import pytest

from jobs import backfill_profiles, run_night
from tests.e2e.tables import STATE_COLUMNS, call, rows_of
from tests.oracle import canonical_hash

FIRST = date(2025, 3, 3)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
NIGHT = DAYS[-1]
USERS, ITEMS = 12, 30
SETTINGS = """
engine: {kind: hash}
fold: {facets: [{name: bad, where: "item_attributes['kind'] = 'bad'"}]}
"""


def view(user, day, item, number, **more):
    moment = f"{day}T{8 + number % 12:02}:00:00Z"
    event = {"event_id": f"{day} {number}", "user_id": user, "event_ts": moment, "event_type": "view"}
    return event | {"item_id": f"i{item}"} | more


def delivered(root, attack):
    """Writes the logs. Users title their views on the first day; `attack` is added to the last one."""
    for day in DAYS:
        events = []
        for user in range(USERS):
            for n in range(6):
                item = (user * 5 + n * 7 + day.day) % ITEMS
                title = {"title": f"Thing {item}", "attributes": {"kind": "good"}} if day == FIRST else {}
                events.append(view(f"u{user}", day, item, n, **title))
        folder = root / f"dt={day}"
        folder.mkdir(parents=True)
        lines = [json.dumps(event) + "\n" for event in [*(attack if day == NIGHT else []), *events]]
        (folder / "a.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / "_SUCCESS").touch()
    return root


def of_others(warehouse):
    """The hash of all states of the others, and their facets."""
    states = [row for row in rows_of(str(warehouse), "profile_states") if row["user_id"] != "eve"]
    return canonical_hash(states, STATE_COLUMNS), {row["facet"] for row in states}


@pytest.mark.slow
def test_thirty_views_of_one_user_move_no_other_profile(spark, tmp_path):
    (tmp_path / "config.yaml").write_text(SETTINGS, encoding="utf-8")
    ahead = NIGHT + timedelta(days=1)
    made_up = {"event_ts": f"{ahead}T23:59:59Z", "attributes": {"kind": "bad"}}
    attack = [view("eve", NIGHT, item, item, title=f"Made up {item}", **made_up) for item in range(ITEMS)]
    clean = delivered(tmp_path / "clean", [])
    attacked = delivered(tmp_path / "attacked", attack)
    config = str(tmp_path / "config.yaml")
    span = ("--start", FIRST, "--end", DAYS[1])
    call(spark, backfill_profiles, tmp_path / "one", config, "--logs", clean, *span)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    for warehouse, logs in (("one", clean), ("other", attacked)):
        call(spark, run_night, tmp_path / warehouse, config, "--logs", logs, "--date", NIGHT)
    expected = of_others(tmp_path / "one")
    assert expected == of_others(tmp_path / "other")
    assert expected[1] == {"main"}
    # The attack arrived: it is her own profile, by her own titles.
    texts = {
        row["text"] for row in rows_of(str(tmp_path / "other"), "behavior_events") if row["user_id"] == "eve"
    }
    assert texts == {f"Made up {item}" for item in range(ITEMS)}
