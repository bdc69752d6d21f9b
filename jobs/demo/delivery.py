"""Turns events into the lines of each log day. Planted dirt is counted on the day it arrives."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import numpy as np

from jobs.demo.draws import one_of
from jobs.demo.events import Event, Record, iso

# Share of the events for each kind of dirt. The kinds are the keys of _truth/dirt.json.
DIRT_SHARES: Final = {
    "missing_user": 0.002,  # no user id, or an empty one
    "bad_time": 0.002,
    "torn": 0.001,  # a truncated line
    "too_late": 0.002,  # an event_ts 8 to 20 days before the log day
    "late": 0.004,  # delivered one to five days after the event
    "double": 0.004,  # delivered on time, and once more like a late event
}
BAD_TIMES: Final = (
    "yesterday evening",
    "2025-13-45T08:00:00.000+01:00",
    "2025-02-30T25:61:00.000+00:00",
    "not-a-time",
)
# From this number of events on, every kind of dirt occurs at least once.
EVENTS_FOR_ALL_KINDS: Final = 400


@dataclass(frozen=True)
class LogDay:
    """What arrives on one log day."""

    lines: list[str]  # in the order of arrival
    counts: dict[str, int]  # lines, each kind of dirt, and retractions


def deliver(events: Sequence[Event], days: Sequence[date], rng: np.random.Generator) -> dict[date, LogDay]:
    """The log days. An event arrives on its UTC day; late events and duplicates up to five days later."""
    arrivals: dict[date, list[tuple[datetime, str, str]]] = {day: [] for day in days}
    counts: dict[date, Counter[str]] = {day: Counter() for day in days}
    dirt = plan_dirt(events, days[-1], rng)
    for i, event in enumerate(events):
        kind, day, event_id = dirt.get(i), event.day, event.record["event_id"]
        line = spoil(event, kind, rng) if kind else to_line(event.record)
        if kind != "late":
            arrivals[day].append((event.when, event_id, line))
        if kind in ("late", "double"):
            arrival = later_arrival(day, days[-1], rng)
            day = arrival.date()
            arrivals[day].append((arrival, event_id, line))
        if kind:
            counts[day][kind] += 1
        if event.record["event_type"] == "retract":
            counts[day]["retractions"] += 1
    return {
        day: LogDay(
            lines=[line for _, _, line in sorted(arrivals[day])],
            counts={"lines": len(arrivals[day])}
            | {kind: counts[day][kind] for kind in (*DIRT_SHARES, "retractions")},
        )
        for day in days
    }


def plan_dirt(events: Sequence[Event], last_day: date, rng: np.random.Generator) -> dict[int, str]:
    """The kind of dirt by index of its event: at most one kind each, none in a retraction or its target."""
    spared = {e.record["retracts_event_id"] for e in events if e.record["event_type"] == "retract"}
    pool = [int(i) for i in np.argsort(rng.random(len(events)), kind="stable")]
    pool = [
        i
        for i in pool
        if events[i].record["event_type"] != "retract" and events[i].record["event_id"] not in spared
    ]
    dirt: dict[int, str] = {}
    at_least = 1 if len(events) >= EVENTS_FOR_ALL_KINDS else 0
    for kind, share in DIRT_SHARES.items():
        arrives_later = kind in ("late", "double")
        able = [i for i in pool if i not in dirt and (not arrives_later or events[i].day < last_day)]
        dirt |= dict.fromkeys(able[: max(at_least, round(share * len(events)))], kind)
    return dirt


def spoil(event: Event, kind: str, rng: np.random.Generator) -> str:
    """The event's line with this kind of dirt; late events and duplicates have an intact line."""
    record = dict(event.record)
    if kind == "missing_user":
        if rng.random() < 0.5:
            del record["user_id"]
        else:
            record["user_id"] = ""
    elif kind == "bad_time":
        record["event_ts"] = one_of(rng, BAD_TIMES)
    elif kind == "too_late":
        record["event_ts"] = iso(event.when - timedelta(days=8 + int(rng.random() * 13)))
    line = to_line(record)
    return line[: int(len(line) * (0.2 + 0.6 * rng.random()))] if kind == "torn" else line


def later_arrival(day: date, last_day: date, rng: np.random.Generator) -> datetime:
    """A UTC time one to five days after this day, not after the last one."""
    arrival_day = day + timedelta(days=1 + int(rng.random() * min(5, (last_day - day).days)))
    return datetime.combine(arrival_day, time(), UTC) + timedelta(seconds=int(rng.random() * 86_400))


def to_line(record: Record) -> str:
    """A record as a line of the log."""
    return json.dumps(record, ensure_ascii=False)


def total_counts(log_days: dict[date, LogDay]) -> dict[str, int]:
    """The counts of all days together."""
    kinds = ("lines", *DIRT_SHARES, "retractions")
    return {kind: sum(log_day.counts[kind] for log_day in log_days.values()) for kind in kinds}
