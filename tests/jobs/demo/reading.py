"""Reads a demo log back from its files, independently of the code that wrote it."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from jobs.make_demo_logs import main

START, DAYS, USERS = date(2025, 3, 3), 20, 80


def make(folder: Path, *more: str) -> Path:
    assert main(["--logs", str(folder), "--days", str(DAYS), "--users", str(USERS), *more]) == 0
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lines_of(logs: Path) -> Iterator[tuple[date, str]]:
    for path in sorted(logs.glob("dt=*/events.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield date.fromisoformat(path.parent.name.removeprefix("dt=")), line


def parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def time_of(record: dict[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(record["event_ts"])
    except ValueError:
        return None


def good_events(logs: Path) -> list[dict[str, Any]]:
    """The events that an ingest should store: parseable, with a user and a time, not too late, no duplicates.

    `when` is the local time.
    """
    kept: dict[str, dict[str, Any]] = {}
    for day, line in lines_of(logs):
        record = parsed(line)
        if (
            record
            and record.get("user_id")
            and (when := time_of(record))
            and (day - when.astimezone(UTC).date()).days <= 7
        ):
            kept.setdefault(record["event_id"], record | {"when": when})
    return list(kept.values())


def truth_of(logs: Path) -> dict[str, dict[str, Any]]:
    lines = (logs / "_truth" / "users.jsonl").read_text(encoding="utf-8").splitlines()
    return {user["user_id"]: user for user in map(json.loads, lines)}


def topics_of(logs: Path) -> dict[str, str]:
    lines = (logs / "_truth" / "items.jsonl").read_text(encoding="utf-8").splitlines()
    return {item["item_id"]: item["topic"] for item in map(json.loads, lines)}
