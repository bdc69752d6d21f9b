"""Makes a behaviour log whose interests, and their changes, are known: for a first run, for demos, and to measure against.

Nobody can say of a real log what its users truly liked. Here every user is drawn from a written truth, so a profile can be
held against it. Users keep a mixture of topics until their change day and another one from then on; some have other interests
in the evening and at weekends, or with their family, and some dislike a topic. A little dirt is planted and counted.

    python -m jobs.make_demo_logs --logs DIR [--days 30] [--users 200] [--seed 7] [--domain shop] [--start 2025-03-03]

Written: DIR/dt=YYYY-MM-DD/events.jsonl, and under DIR/_truth, which readers of logs pass over:
users.jsonl  topic weights `before` and `after` change_date (UTC date; null: no change), `evening` (in place of both from 18:00
             local time and on Saturdays and Sundays), `with_family` (in place of all when companions name the family), and
             `dislikes`: a topic rated 1 or 2 besides these mixtures
items.jsonl  the topic of each item
dirt.json    for each log day: lines, retractions, and what was planted, counted where it arrives
The same arguments give the same bytes. A user's events do not depend on how many other users there are.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from jobs.demo.words import Domain, Reviews, domain_names, load_domain, load_reviews

T = TypeVar("T")
Mixture = dict[str, float]
Record = dict[str, Any]

MAIN_WEIGHTS: Final = (
    (0.9,),
    (0.55, 0.35),
    (0.4, 0.3, 0.2),
)  # of one, two or three main topics; the rest share 0.1
EVENING_HOUR: Final = 18
WEEKDAY_HOURS: Final = (
    (0.1,) * 6 + (0.5, 1, 1, 0.8, 0.8, 0.8, 1.2, 1.2, 0.8, 0.8, 0.8, 1.2) + (3.0,) * 5 + (1.0,)
)
WEEKEND_HOURS: Final = (0.2,) * 7 + (0.5, 1) + (2.0,) * 9 + (3.5,) * 5 + (1.5,)
UTC_OFFSETS_MIN: Final = (-480, -300, 0, 60, 60, 120, 330, 540)
PRICE_FACTORS: Final = (
    ("budget", 0.6),
    ("budget", 0.8),
    ("standard", 1.0),
    ("standard", 1.3),
    ("premium", 1.9),
)
PLACES: Final = {
    True: {"work": 0.6, "transit": 0.2, "cafe": 0.1, "home": 0.1},  # in office hours
    False: {"home": 0.82, "transit": 0.09, "cafe": 0.09},
}
DEVICES: Final = {
    "work": {"laptop": 0.8, "phone": 0.2},
    "transit": {"phone": 0.9, "tablet": 0.1},
    "cafe": {"phone": 0.6, "laptop": 0.4},
    "home": {"phone": 0.35, "tv": 0.25, "laptop": 0.2, "tablet": 0.2},
}
CAMPAIGNS: Final = ("spring-sale", "newsletter-12", "friends-invite")
REVIEW_WEIGHT: Final = 0.065  # of reviewers, beside the domain's type weights
RETRACT_SHARE: Final = 0.003
DIRT_SHARES: Final = {
    "missing_user": 0.002,
    "bad_time": 0.002,
    "torn": 0.001,
    "too_late": 0.002,
    "late": 0.004,
    "double": 0.004,
}
BAD_TIMES: Final = (
    "yesterday evening",
    "2025-13-45T08:00:00.000+01:00",
    "2025-02-30T25:61:00.000+00:00",
    "not-a-time",
)


@dataclass(frozen=True)
class Item:
    item_id: str
    title: str
    topic: str
    name: str  # as inside a sentence
    price: float
    band: str


Catalogue = dict[str, dict[Item, float]]  # of each topic, its items with their popularity


@dataclass(frozen=True)
class User:
    """One user's truth."""

    user_id: str
    before: Mixture
    after: Mixture
    change_date: date | None
    evening: Mixture | None
    with_family: Mixture | None
    dislikes: str | None
    utc_offset_min: int
    writes_reviews: bool

    def mixture(self, when: datetime, companions: Sequence[str]) -> Mixture:
        """What they like at this local time, in this company."""
        if self.with_family and "family" in companions:
            return self.with_family
        if self.evening and is_evening_or_weekend(when):
            return self.evening
        return (
            self.after
            if self.change_date and when.astimezone(UTC).date() >= self.change_date
            else self.before
        )


@dataclass(frozen=True)
class Event:
    when: datetime  # local
    record: Record

    @property
    def day(self) -> date:
        return self.when.astimezone(UTC).date()


@dataclass(frozen=True)
class LogDay:
    lines: list[str]
    counts: dict[str, int]


def arg_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make_demo_logs", description="Make a behaviour log with known, changing interests."
    )
    parser.add_argument(
        "--logs", type=Path, required=True, help="folder to write; must hold no dt= folders yet"
    )
    parser.add_argument("--days", type=int, default=30, help="log days (default 30)")
    parser.add_argument("--users", type=int, default=200, help="users (default 200)")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another log (default 7)")
    parser.add_argument(
        "--domain", choices=domain_names(), default="shop", help="what the log is about (default shop)"
    )
    parser.add_argument(
        "--start",
        type=date.fromisoformat,
        default=date(2025, 3, 3),
        help="first log day (default 2025-03-03)",
    )
    return parser


def refusal(args: argparse.Namespace) -> str | None:
    """Why these arguments can't be used, as a sentence; None when they can."""
    if args.days < 2:
        return f"--days must be at least 2, so that interests can change, not {args.days}."
    if args.users < 1:
        return f"--users must be at least 1, not {args.users}."
    if args.seed < 0:
        return f"--seed must be 0 or more, not {args.seed}."
    if not (1970 <= args.start.year <= 2100 and args.days <= 36_500):
        return "--start must lie between 1970 and 2100, and --days be at most 36500."
    if args.logs.exists() and not args.logs.is_dir():
        return f"--logs {args.logs} is not a folder."
    if any(args.logs.glob("dt=*")):
        return f"--logs {args.logs} already holds log days, which are never overwritten: name another folder."
    return None


def draw(rng: np.random.Generator, weights: Mapping[T, float]) -> T:
    """One of the keys, by weight."""
    left = float(rng.random()) * sum(weights.values())
    for key, weight in weights.items():
        left -= weight
        if left < 0:
            return key
    return key


def one_of(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.random() * len(options))]


def is_evening_or_weekend(local: datetime) -> bool:
    return local.hour >= EVENING_HOUR or local.weekday() >= 5


def make_items(domain: Domain) -> Catalogue:
    """The items of each topic with their popularity: few are seen often."""
    items: Catalogue = {}
    number, joint = 0, domain.joint
    for topic, words in domain.topics.items():
        items[topic] = {}
        for i, name in enumerate(
            f"{thing}{joint}{detail}" for thing in words.things for detail in words.details
        ):
            number += 1
            band, factor = PRICE_FACTORS[i * 7 % 5]
            price = round(words.price * factor) - 0.01
            item = Item(
                f"{domain.name[0].upper()}{number:04d}", name[0].upper() + name[1:], topic, name, price, band
            )
            items[topic][item] = (1 + i * 17 % 40) ** -0.7
    return items


def make_mixture(main: Sequence[str], others: Sequence[str]) -> Mixture:
    """Weights that sum to 1: most on the main topics, a tenth spread over the others."""
    rest = [topic for topic in others if topic not in main]
    return dict(zip(main, MAIN_WEIGHTS[len(main) - 1], strict=True)) | {
        topic: 0.1 / len(rest) for topic in rest
    }


def make_user(number: int, domain: Domain, days: Sequence[date], rng: np.random.Generator) -> User:
    """The truth of user `number`. Traits go by the number, so that even a small log has users of every kind."""
    family = domain.family_topics
    disliked = one_of(rng, [t for t in domain.topics if t not in family]) if number % 10 == 3 else None
    topics = [t for t in domain.topics if t != disliked]
    order = [
        topics[int(i)] for i in np.argsort(rng.random(len(topics)))
    ]  # at least 7: three before, three after, one for the evening
    count_before, count_after = (draw(rng, {1: 0.4, 2: 0.4, 3: 0.2}) for _ in range(2))
    before = make_mixture(order[:count_before], topics)
    middle = days[max(1, round(len(days) * 0.35)) : round(len(days) * 0.65) + 1]
    changes = number % 5 != 0
    return User(
        user_id=f"u{number:05d}",
        before=before,
        after=make_mixture(order[count_before : count_before + count_after], topics) if changes else before,
        change_date=one_of(rng, middle) if changes else None,
        evening=make_mixture(order[-1:], topics) if number % 4 == 1 else None,
        with_family=dict(zip(family, (0.6, 0.4), strict=True)) if number % 3 == 1 else None,
        dislikes=disliked,
        utc_offset_min=one_of(rng, UTC_OFFSETS_MIN),
        writes_reviews=disliked is not None or number % 3 == 0,
    )


def session_start(user: User, day: date, length: timedelta, rng: np.random.Generator) -> datetime:
    """A local time on this UTC day, mostly in the evening or at the weekend, early enough for the session to end on it."""
    midnight = datetime.combine(day, time(), UTC)
    zone = timezone(timedelta(minutes=user.utc_offset_min))
    local = [(midnight + timedelta(hours=hour)).astimezone(zone) for hour in range(24)]
    hour = draw(
        rng, {h: (WEEKEND_HOURS if t.weekday() >= 5 else WEEKDAY_HOURS)[t.hour] for h, t in enumerate(local)}
    )
    start = midnight + timedelta(hours=hour, milliseconds=int(rng.random() * 3_600_000))
    return min(start, midnight + timedelta(days=1) - length).astimezone(zone)


def user_events(
    user: User, domain: Domain, items: Catalogue, days: Sequence[date], rng: np.random.Generator
) -> list[Event]:
    """Everything this user does on these days, in the order of days and sessions."""
    events: list[Event] = []
    sessions = 0
    for day in days:
        weekend = day.weekday() >= 5
        if rng.random() >= (0.72 if weekend else 0.55):
            continue
        count = 3 + int(10 * rng.random() ** (1.5 if weekend else 2.0))
        for size in [count] if count < 6 else [count // 2, count - count // 2]:
            gaps = [timedelta(milliseconds=20_000 + int(rng.random() * 300_000)) for _ in range(size)]
            when = session_start(user, day, sum(gaps, timedelta(minutes=1)), rng)
            sessions += 1
            setting = session_setting(user, when, rng) | {"session_id": f"{user.user_id}-s{sessions:04d}"}
            for gap in gaps:
                when += gap
                event_id = f"{domain.name}-{user.user_id}-{len(events) + 1:05d}"
                events.append(
                    Event(when, {"event_id": event_id} | user_event(user, domain, items, when, setting, rng))
                )
    return events + retractions(events, days[-1], rng)


def session_setting(user: User, when: datetime, rng: np.random.Generator) -> Record:
    """Where, on what and with whom; absent where the log does not know."""
    place = draw(rng, PLACES[when.weekday() < 5 and 9 <= when.hour < EVENING_HOUR])
    setting: Record = {"device": draw(rng, DEVICES[place])}
    if rng.random() < 0.95:
        setting["place"] = place
    if user.with_family and place == "home" and rng.random() < 0.25:
        setting["companions"] = ["family"]
    elif rng.random() < 0.03:
        setting["companions"] = one_of(rng, (["friends"], ["partner"], ["partner", "friends"]))
    return setting


def user_event(
    user: User, domain: Domain, items: Catalogue, when: datetime, setting: Record, rng: np.random.Generator
) -> Record:
    """One event on an item; its topic follows the user's truth of that moment, or is the one they dislike."""
    mixture = user.mixture(when, setting.get("companions", ()))
    displeased = user.dislikes is not None and rng.random() < 0.1
    topic = user.dislikes if displeased and user.dislikes else draw(rng, mixture)
    item = draw(rng, items[topic])
    if displeased:
        event_type = one_of(rng, ("rating", "review"))
    else:
        event_type = draw(
            rng, domain.type_weights | ({"review": REVIEW_WEIGHT} if user.writes_reviews else {})
        )
    record: Record = {
        "user_id": user.user_id,
        "event_ts": when.isoformat(timespec="milliseconds"),
        "event_type": event_type,
        "item_id": item.item_id,
        "title": item.title,
    }
    if event_type in ("rating", "review"):
        stars = draw_stars(0.0 if displeased else mixture[topic], displeased, rng)
        if event_type == "review":
            record["text"] = write_review(item, stars, domain, load_reviews(), rng)
        record["rating"] = stars
    if event_type == "purchase":
        record["value"] = item.price
    record |= setting
    if rng.random() < 0.03:
        record["extra"] = {"campaign": one_of(rng, CAMPAIGNS)}
    return record | {"attributes": {"category": topic.replace("_", " "), "price_band": item.band}}


def draw_stars(liking: float, displeased: bool, rng: np.random.Generator) -> int:
    """One to five: what people came for pleases them, what they came across is middling, what they dislike gets 1 or 2."""
    if displeased:
        return one_of(rng, (1, 2))
    return draw(
        rng,
        {5: 0.55, 4: 0.35, 3: 0.07, 2: 0.03} if liking > 0.1 else {5: 0.1, 4: 0.25, 3: 0.4, 2: 0.2, 1: 0.05},
    )


def write_review(item: Item, stars: int, domain: Domain, reviews: Reviews, rng: np.random.Generator) -> str:
    """Three or four sentences that agree with the stars."""
    tone = "good" if stars > 3 else "mixed" if stars == 3 else "bad"
    words = domain.topics[item.topic]
    praise, complaint = one_of(rng, words.praise), one_of(rng, words.complaints)
    opening = one_of(rng, reviews.openings[tone]).format(
        it=domain.reference.format(name=item.name, title=item.title)
    )
    middle = {"good": praise, "mixed": f"{praise} {complaint}", "bad": complaint}[tone]
    return f"{opening} {middle} {one_of(rng, reviews.closings[tone])}"


def retractions(events: Sequence[Event], last_day: date, rng: np.random.Generator) -> list[Event]:
    """A few events taken back by their user, minutes to three days later."""
    taken_back = [event for event in events if rng.random() < RETRACT_SHARE]
    retracts = []
    for event in taken_back:
        when = event.when + timedelta(milliseconds=60_000 + int(rng.random() * 2.9 * 86_400_000))
        target = event.record["event_id"]
        record = {
            "event_id": f"{target}-r",
            "user_id": event.record["user_id"],
            "event_ts": when.isoformat(timespec="milliseconds"),
        }
        retracts.append(Event(when, record | {"event_type": "retract", "retracts_event_id": target}))
    return [event for event in retracts if event.day <= last_day]


def plan_dirt(events: Sequence[Event], last_day: date, rng: np.random.Generator) -> dict[int, str]:
    """Which events (by index) get which kind of dirt; each at most one, none in a retraction or its target."""
    retracted = {
        event.record["retracts_event_id"] for event in events if event.record["event_type"] == "retract"
    }
    pool = [int(i) for i in np.argsort(rng.random(len(events)), kind="stable")]
    pool = [
        i
        for i in pool
        if events[i].record["event_type"] != "retract" and events[i].record["event_id"] not in retracted
    ]
    fates: dict[int, str] = {}
    for kind, share in DIRT_SHARES.items():
        at_least = 1 if len(events) >= 400 else 0
        able = [
            i for i in pool if i not in fates and (kind not in ("late", "double") or events[i].day < last_day)
        ]
        fates |= dict.fromkeys(able[: max(at_least, round(share * len(events)))], kind)
    return fates


def soil(event: Event, kind: str, rng: np.random.Generator) -> str:
    """The event's line, spoilt."""
    record = dict(event.record)
    if kind == "missing_user":
        if rng.random() < 0.5:
            del record["user_id"]
        else:
            record["user_id"] = ""
    elif kind == "bad_time":
        record["event_ts"] = one_of(rng, BAD_TIMES)
    elif kind == "too_late":
        record["event_ts"] = (event.when - timedelta(days=8 + int(rng.random() * 13))).isoformat(
            timespec="milliseconds"
        )
    line = to_line(record)
    return line[: int(len(line) * (0.2 + 0.6 * rng.random()))] if kind == "torn" else line


def deliver(events: Sequence[Event], days: Sequence[date], rng: np.random.Generator) -> dict[date, LogDay]:
    """The lines of each log day, in order of arrival: the UTC day of the event, or up to five days later for late ones and doubles."""
    arrivals: dict[date, list[tuple[datetime, str, str]]] = {day: [] for day in days}
    counts: dict[date, Counter[str]] = {day: Counter() for day in days}
    fates = plan_dirt(events, days[-1], rng)
    for i, event in enumerate(events):
        kind = fates.get(i)
        day, event_id = event.day, event.record["event_id"]
        line = soil(event, kind, rng) if kind else to_line(event.record)
        if kind != "late":
            arrivals[day].append((event.when, event_id, line))
        if kind in ("late", "double"):
            day += timedelta(days=1 + int(rng.random() * min(5, (days[-1] - day).days)))
            arrivals[day].append(
                (
                    datetime.combine(day, time(), UTC) + timedelta(seconds=int(rng.random() * 86_400)),
                    event_id,
                    line,
                )
            )
        if kind:
            counts[day][kind] += 1
        if event.record["event_type"] == "retract":
            counts[day]["retractions"] += 1
    return {
        day: LogDay(
            [line for _, _, line in sorted(arrivals[day])],
            {"lines": len(arrivals[day])}
            | {kind: counts[day][kind] for kind in (*DIRT_SHARES, "retractions")},
        )
        for day in days
    }


def to_line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False)


def truth_line(user: User) -> str:
    truth: Record = {
        "user_id": user.user_id,
        "before": user.before,
        "after": user.after,
        "change_date": user.change_date.isoformat() if user.change_date else None,
        "evening": user.evening,
        "with_family": user.with_family,
        "utc_offset_min": user.utc_offset_min,
    }
    return to_line(truth | ({"dislikes": user.dislikes} if user.dislikes else {}))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")


def write_logs(logs: Path, log_days: Mapping[date, LogDay]) -> None:
    for day, log_day in log_days.items():
        folder = logs / f"dt={day}"
        folder.mkdir(parents=True)
        write_lines(folder / "events.jsonl", log_day.lines)
        (folder / "_SUCCESS").touch()  # last: readers wait for it


def write_truth(
    folder: Path, users: Sequence[User], items: Catalogue, log_days: Mapping[date, LogDay]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "users.jsonl", map(truth_line, users))
    of_items = [
        {"item_id": i.item_id, "title": i.title, "topic": i.topic}
        for of_topic in items.values()
        for i in of_topic
    ]
    write_lines(folder / "items.jsonl", map(to_line, of_items))
    dirt = {
        "days": {str(day): log_day.counts for day, log_day in log_days.items()},
        "totals": total_counts(log_days),
    }
    write_lines(folder / "dirt.json", [json.dumps(dirt, indent=1)])


def total_counts(log_days: Mapping[date, LogDay]) -> dict[str, int]:
    return {
        kind: sum(log_day.counts[kind] for log_day in log_days.values())
        for kind in ("lines", *DIRT_SHARES, "retractions")
    }


def summary(logs: Path, users: int, events: Sequence[Event], log_days: Mapping[date, LogDay]) -> str:
    titles = {event.record["title"] for event in events if "title" in event.record}
    reviews = {event.record["text"] for event in events if "text" in event.record}
    totals = total_counts(log_days)
    planted = ", ".join(f"{totals[kind]} {kind}" for kind in DIRT_SHARES)
    return (
        f"{logs}: {len(log_days)} days ({min(log_days)} to {max(log_days)}), {users} users\n"
        f"{len(events)} events in {totals['lines']} lines, {totals['retractions']} of them retractions\n"
        f"{len(titles) + len(reviews)} distinct texts: {len(titles)} titles, {len(reviews)} reviews\n"
        f"dirt: {planted}\n"
        f"the truth is in {logs / '_truth'}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = arg_parser().parse_args(argv)
    if reason := refusal(args):
        print(f"make_demo_logs: {reason}", file=sys.stderr)
        return 2
    domain = load_domain(args.domain)
    items = make_items(domain)
    days = [args.start + timedelta(days=i) for i in range(args.days)]
    users, events = [], []
    for number in range(1, args.users + 1):
        rng = np.random.default_rng([args.seed, domain.stream, number])
        users.append(make_user(number, domain, days, rng))
        events += user_events(users[-1], domain, items, days, rng)
    log_days = deliver(events, days, np.random.default_rng([args.seed, domain.stream, 0]))
    write_truth(args.logs / "_truth", users, items, log_days)
    write_logs(args.logs, log_days)
    print(summary(args.logs, args.users, events, log_days))
    return 0


if __name__ == "__main__":
    sys.exit(main())
