"""Log days of a few events, and what a warehouse holds of them."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from schemas.mapping import shipped_mapping
from tests.e2e.tables import rows_of

FIRST, SECOND, THIRD, FOURTH, FIFTH = (date(2025, 4, day) for day in range(1, 6))
# A mapping's items.
CATALOGUE = {
    "source": {"format": "json", "columns": {"id": "string", "name": "string", "price": "int"}},
    "fields": {"item_id": "id", "title": "name", "attributes": "map('price', cast(price as string))"},
}


def event(day: date = FIRST, **fields: Any) -> dict[str, Any]:
    moment = f"{day}T10:00:00Z"
    return {"user_id": "anneliese", "event_ts": moment, "event_type": "view", "item_id": "S1"} | fields


def deliver(root: Path, day: date, *events: dict[str, Any]) -> None:
    """Writes the day's closed log below `root`."""
    folder = root / "logs" / f"dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")
    (folder / "_SUCCESS").touch()


def catalogue(root: Path, day: date, content: bytes) -> None:
    """Writes the day's catalogue, compressed, below `root`."""
    folder = root / "logs" / "items" / f"dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "c.jsonl.gz").write_bytes(content)


def canonical(**more: Any) -> dict[str, Any]:
    """The shipped mapping, with other keys added or replaced."""
    return yaml.safe_load(shipped_mapping("canonical") or "") | more


def by_days(events: list[dict[str, Any]]) -> list[tuple[date, str | None]]:
    """(log_date, text) of stored events, sorted."""
    return sorted((row["log_date"], row["text"]) for row in events)


def stored_in(warehouse: str) -> list[list[str]]:
    """All events and items, for comparison."""
    return [sorted(map(repr, rows_of(warehouse, name))) for name in ("behavior_events", "items")]


def counts_of_newest(warehouse: str) -> dict[str, int]:
    """The counts of the newest run that is done."""
    done = [row for row in rows_of(warehouse, "pipeline_runs") if row["status"] == "done"]
    return dict(max(done, key=lambda row: row["ended"])["counts"])
