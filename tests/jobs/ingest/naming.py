"""The rule by which items get their names and events their texts, in plain Python."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any

Record = dict[str, Any]
Face = tuple[str, str]


def face_of(record: Record) -> Face | None:
    """What an event calls its item: a title in normal form, and attributes."""
    title = " ".join((record.get("title") or "").split())
    return (title, json.dumps(record.get("attributes") or {}, sort_keys=True)) if title else None


def key_of(face: Face) -> str:
    """The title_key of a face."""
    title, attributes = face
    entries = [{"key": key, "value": value} for key, value in sorted(json.loads(attributes).items())]
    parts = [title, json.dumps(entries, separators=(",", ":"))] if entries else [title]
    return "-".join(hashlib.sha256(part.encode()).hexdigest() for part in parts)


def dated(record: Record) -> date:
    return datetime.fromisoformat(record["event_ts"]).date()


def named_items(
    days: dict[date, list[Record]],
    window_days: int,
    catalogues: dict[date, dict[str, str]] | None = None,
    held: dict[str, str] | None = None,
) -> dict[tuple[str, date], Face]:
    """The versions of all items by item and day: each with the name that begins to hold then.

    catalogues: by day of delivery, the names by item. held: names by events, from before the days.
    """
    versions: dict[tuple[str, date], Face] = {}
    names: dict[str, Face] = {item: (title, "{}") for item, title in (held or {}).items()}
    by_catalogue: set[str] = set()
    for day in sorted(days):
        for item, name in (catalogues or {}).get(day, {}).items():
            if names.get(item) != (name, "{}") or item not in by_catalogue:
                versions[item, day] = names[item] = (name, "{}")
            by_catalogue.add(item)
        votes = votes_on(day, days, window_days)
        for item in votes.keys() - by_catalogue:
            winner = winner_of(votes[item], names.get(item), day)
            if winner is not None:
                versions[item, day] = names[item] = winner
    return versions


def votes_on(
    day: date, days: dict[date, list[Record]], window_days: int
) -> dict[str, dict[str, tuple[Record, date]]]:
    """By item and user, the vote: the user's latest titled event and the day on which it arrived."""
    votes: dict[str, dict[str, tuple[Record, date]]] = defaultdict(dict)
    for log_date, records in days.items():
        if not day - timedelta(days=window_days) <= log_date <= day:
            continue
        for record in records:
            if face_of(record) is None or dated(record) > log_date:
                continue
            of_item, user = votes[record["item_id"]], record["user_id"]
            if user not in of_item or order(record) > order(of_item[user][0]):
                of_item[user] = record, log_date
    return votes


def order(record: Record) -> tuple[datetime, str]:
    return datetime.fromisoformat(record["event_ts"]), record["event_id"]


def winner_of(votes: dict[str, tuple[Record, date]], held: Face | None, day: date) -> Face | None:
    """The face that takes over on the day, or None."""
    by_face: dict[Face, list[tuple[Record, date]]] = defaultdict(list)
    for record, log_date in votes.values():
        face = face_of(record)
        assert face is not None
        by_face[face].append((record, log_date))
    fresh = {face for face, those in by_face.items() if any(log_date == day for _, log_date in those)}

    def rank(face: Face) -> tuple[int, datetime, str]:
        return -len(by_face[face]), min(order(record)[0] for record, _ in by_face[face]), key_of(face)

    rivals = sorted(fresh - {held}, key=rank)
    if not rivals:
        return None
    most = len(by_face[rivals[0]])
    return rivals[0] if held is None or most > max(1, len(by_face.get(held, []))) else None


def text_of(record: Record, log_date: date, versions: dict[tuple[str, date], Face]) -> str | None:
    """The text of an event: its own, its own title where the item has another one, or the item's."""
    in_force = [day for item, day in versions if item == record.get("item_id") and day <= log_date]
    item = versions[record["item_id"], max(in_force)][0] if in_force else None
    face = face_of(record)
    return record.get("text") or (face[0] if face else item)


def texts_of(days: dict[date, list[Record]], versions: dict[tuple[str, date], Face]) -> list[tuple[Any, ...]]:
    """(log_date, event_id, text) of all events, sorted."""
    return sorted(
        ((day, record["event_id"], text_of(record, day, versions)) for day, record in _all(days)),
        key=repr,
    )


def _all(days: dict[date, list[Record]]) -> Iterable[tuple[date, Record]]:
    return ((day, record) for day, records in days.items() for record in records)
