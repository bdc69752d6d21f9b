"""The dirt of a demo log is what its counts say."""

import json
from collections import Counter, defaultdict
from datetime import UTC
from pathlib import Path

from tests.jobs.demo.reading import lines_of, parsed, time_of


def test_planted_dirt_recounted_from_the_files(logs: Path) -> None:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    seen: dict[str, str] = {}
    for day, line in lines_of(logs):
        counts, record = found[str(day)], parsed(line)
        counts["lines"] += 1
        if record is None:
            counts["torn"] += 1
            continue
        when = time_of(record)
        if not record.get("user_id"):
            counts["missing_user"] += 1
        elif when is None:
            counts["bad_time"] += 1
        else:
            lateness = (day - when.astimezone(UTC).date()).days
            assert lateness in range(6) or 8 <= lateness <= 20
            if record["event_id"] in seen:
                assert seen[record["event_id"]] == line and lateness > 0
                counts["double"] += 1
            elif lateness:
                counts["late" if lateness <= 5 else "too_late"] += 1
            counts["retractions"] += record["event_type"] == "retract"
            seen[record["event_id"]] = line
    planted = json.loads((logs / "_truth" / "dirt.json").read_text(encoding="utf-8"))
    assert {day: dict(+counts) for day, counts in found.items()} == {
        day: {kind: n for kind, n in counts.items() if n} for day, counts in planted["days"].items()
    }
    totals: Counter[str] = sum(found.values(), Counter())
    assert totals == planted["totals"]
    assert all(totals.values()) and len(totals) == 8
    dirt = sum(totals.values()) - totals["lines"] - totals["retractions"]
    assert 0.01 < dirt / totals["lines"] < 0.02
