"""A title that comes with a day before the history: what is said of the days that are there, and that running them again heals them."""

import json
import shutil
from datetime import date, timedelta

import pytest

from jobs import backfill_profiles, run_night
from tests.e2e.tables import STATE_COLUMNS, call, differences, rows_of
from tests.oracle import canonical_hash

FIRST = date(2025, 3, 3)
DAYS = [FIRST + timedelta(days=n) for n in range(4)]


def deliver(root):
    """A title on the first day alone; one user is there every day, and each day has one who is there on no other."""
    for day in DAYS:
        folder = root / f"dt={day}"
        folder.mkdir(parents=True)
        seen = [("every", "view"), ("every", "purchase"), (f"only {day}", "view")]
        lines = [
            {
                "event_id": f"{day} {n}",
                "user_id": user,
                "event_ts": f"{day}T1{n}:00:00Z",
                "event_type": kind,
                "item_id": "i",
            }
            for n, (user, kind) in enumerate(seen)
        ]
        if day == FIRST:
            # With a text of its own, so that the title's is a text that no event of the day has.
            lines = [{**line, "title": "Copper kettle", "text": "shines"} for line in lines]
        else:
            lines.append({**lines[0], "event_id": f"{day} own", "text": f"a word of {day}"})
        (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        (folder / "_SUCCESS").touch()


def hashes(warehouse):
    states = [
        canonical_hash(rows_of(str(warehouse), table), STATE_COLUMNS)
        for table in ("profile_states", "user_profiles")
    ]
    return states + [
        sorted(map(repr, rows_of(str(warehouse), table))) for table in ("behavior_events", "items")
    ]


@pytest.mark.slow
def test_days_after_a_title_that_came_later_are_healed_by_running_them_again(spark, tmp_path, capsys):
    logs, config = tmp_path / "logs", str(tmp_path / "config.yaml")
    deliver(logs)
    (tmp_path / "config.yaml").write_text("engine: {kind: hash}\n", encoding="utf-8")

    def backfill(warehouse, first, last):
        call(
            spark,
            backfill_profiles,
            warehouse,
            config,
            "--logs",
            logs,
            "--start",
            DAYS[first],
            "--end",
            DAYS[last],
        )

    def night(warehouse, day):
        call(spark, run_night, warehouse, config, "--logs", logs, "--date", DAYS[day])

    whole, one = tmp_path / "whole", tmp_path / "one"
    backfill(whole, 0, 3)
    backfill(one, 1, 2)
    night(one, 3)
    capsys.readouterr()
    backfill(one, 0, 0)
    assert f"9 events of later days would have another text, by what {FIRST}..{FIRST}" in (
        told := capsys.readouterr().out
    )
    assert f"ingest {DAYS[1]}..{DAYS[3]} again, in order" in told
    assert hashes(one) != hashes(whole)
    other = shutil.copytree(one, tmp_path / "other")
    backfill(one, 1, 3)
    for day in (1, 2, 3):
        night(other, day)
    assert hashes(one) == hashes(other) == hashes(whole)
    assert differences(str(one), DAYS[3]) == []
    texts = {row["event_id"]: row["text"] for row in rows_of(str(one), "behavior_events")}
    assert texts[f"{DAYS[3]} 0"] == "Copper kettle" and texts[f"{DAYS[3]} own"] == f"a word of {DAYS[3]}"
