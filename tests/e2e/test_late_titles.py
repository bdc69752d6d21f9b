"""A title arrives with a day before the history: the job names the stale days, and a rerun fixes them."""

import json
import shutil
from datetime import date, timedelta

import pytest

from jobs import backfill_profiles, run_night
from tests.e2e.tables import call, differences, rows_of, state_hashes

FIRST = date(2025, 3, 3)
DAYS = [FIRST + timedelta(days=n) for n in range(4)]


def deliver(root):
    """Writes the logs. Only the first day has a title; one user is active every day, another on each day."""
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
            # With texts of their own, so that no event of this day has the title as its text.
            lines = [{**line, "title": "Copper kettle", "text": "shines"} for line in lines]
        else:
            lines.append({**lines[0], "event_id": f"{day} own", "text": f"a word of {day}"})
        (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        (folder / "_SUCCESS").touch()


def contents(warehouse):
    """What must be equal in two warehouses of one history."""
    tables = ("behavior_events", "items")
    return [*state_hashes(warehouse), *(sorted(map(repr, rows_of(str(warehouse), t))) for t in tables)]


@pytest.mark.slow
def test_days_made_stale_by_a_late_title_are_fixed_by_rerunning_them(spark, tmp_path, capsys):
    logs, config = tmp_path / "logs", str(tmp_path / "config.yaml")
    deliver(logs)
    (tmp_path / "config.yaml").write_text("engine: {kind: hash}\n", encoding="utf-8")

    def backfill(warehouse, first, last):
        span = ("--start", DAYS[first], "--end", DAYS[last])
        call(spark, backfill_profiles, warehouse, config, "--logs", logs, *span)

    def night(warehouse, day):
        call(spark, run_night, warehouse, config, "--logs", logs, "--date", DAYS[day])

    whole, one = tmp_path / "whole", tmp_path / "one"
    backfill(whole, 0, 3)
    backfill(one, 1, 2)
    night(one, 3)
    capsys.readouterr()
    backfill(one, 0, 0)
    printed = capsys.readouterr().out
    assert f"9 events of later days would have another text, because {FIRST}..{FIRST} name" in printed
    assert f"ingest {DAYS[1]}..{DAYS[3]} again, in order" in printed
    assert contents(one) != contents(whole)
    other = shutil.copytree(one, tmp_path / "other")
    backfill(one, 1, 3)
    for day in (1, 2, 3):
        night(other, day)
    assert contents(one) == contents(other) == contents(whole)
    assert differences(str(one), DAYS[3]) == []
    texts = {row["event_id"]: row["text"] for row in rows_of(str(one), "behavior_events")}
    assert texts[f"{DAYS[3]} 0"] == "Copper kettle"
    assert texts[f"{DAYS[3]} own"] == f"a word of {DAYS[3]}"
