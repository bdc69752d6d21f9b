"""What a user of a demo log does: sessions, the events in them, reviews and retractions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any, Final

import numpy as np

from jobs.demo.draws import draw, one_of
from jobs.demo.items import Catalogue, Item
from jobs.demo.people import EVENING_HOUR, User

Record = dict[str, Any]

# Relative frequency of a session start in each local hour.
WEEKDAY_HOURS: Final = (
    (0.1,) * 6 + (0.5, 1, 1, 0.8, 0.8, 0.8, 1.2, 1.2, 0.8, 0.8, 0.8, 1.2) + (3.0,) * 5 + (1.0,)
)
WEEKEND_HOURS: Final = (0.2,) * 7 + (0.5, 1) + (2.0,) * 9 + (3.5,) * 5 + (1.5,)
# By whether it is an office hour.
PLACES: Final = {
    True: {"work": 0.6, "transit": 0.2, "cafe": 0.1, "home": 0.1},
    False: {"home": 0.82, "transit": 0.09, "cafe": 0.09},
}
DEVICES: Final = {
    "work": {"laptop": 0.8, "phone": 0.2},
    "transit": {"phone": 0.9, "tablet": 0.1},
    "cafe": {"phone": 0.6, "laptop": 0.4},
    "home": {"phone": 0.35, "tv": 0.25, "laptop": 0.2, "tablet": 0.2},
}
COMPANIONS: Final = (["friends"], ["partner"], ["partner", "friends"])
CAMPAIGNS: Final = ("spring-sale", "newsletter-12", "friends-invite")
# Weight of reviews for users who write them, in addition to the domain's type weights.
REVIEW_WEIGHT: Final = 0.065
# A topic with a weight above 0.1 is a main interest, so its ratings are high; other topics get middling ones.
STARS_MAIN: Final = {5: 0.55, 4: 0.35, 3: 0.07, 2: 0.03}
STARS_OTHER: Final = {5: 0.1, 4: 0.25, 3: 0.4, 2: 0.2, 1: 0.05}
STARS_DISLIKED: Final = (1, 2)
RETRACT_SHARE: Final = 0.003


@dataclass(frozen=True)
class Event:
    """Something a user did."""

    when: datetime  # local time
    record: Record

    @property
    def day(self) -> date:
        """The UTC date."""
        return self.when.astimezone(UTC).date()


def user_events(
    user: User, catalogue: Catalogue, days: Sequence[date], rng: np.random.Generator
) -> list[Event]:
    """All events of a user on these days, in the order of days and sessions; retractions come last."""
    events: list[Event] = []
    sessions = 0
    for day in days:
        for size in session_sizes(day, rng):
            gaps = [timedelta(milliseconds=20_000 + int(rng.random() * 300_000)) for _ in range(size)]
            when = session_start(user, day, sum(gaps, timedelta(minutes=1)), rng)
            sessions += 1
            context = session_context(user, when, rng) | {"session_id": f"{user.user_id}-s{sessions:04d}"}
            for gap in gaps:
                when += gap
                event_id = f"{catalogue.domain.name}-{user.user_id}-{len(events) + 1:05d}"
                record = {"event_id": event_id} | user_event(user, catalogue, when, context, rng)
                events.append(Event(when, record))
    return events + retractions(events, days[-1], rng)


def session_sizes(day: date, rng: np.random.Generator) -> list[int]:
    """The number of events in each session of a day: no session on some days, two from six events on."""
    weekend = day.weekday() >= 5
    if rng.random() >= (0.72 if weekend else 0.55):
        return []
    count = 3 + int(10 * rng.random() ** (1.5 if weekend else 2.0))
    return [count] if count < 6 else [count // 2, count - count // 2]


def session_start(user: User, day: date, length: timedelta, rng: np.random.Generator) -> datetime:
    """The local start of a session that ends on this UTC day, most often in the evening or at a weekend."""
    midnight = datetime.combine(day, time(), UTC)
    zone = timezone(timedelta(minutes=user.utc_offset_min))
    local = [(midnight + timedelta(hours=hour)).astimezone(zone) for hour in range(24)]
    weights = {h: (WEEKEND_HOURS if t.weekday() >= 5 else WEEKDAY_HOURS)[t.hour] for h, t in enumerate(local)}
    start = midnight + timedelta(hours=draw(rng, weights), milliseconds=int(rng.random() * 3_600_000))
    return min(start, midnight + timedelta(days=1) - length).astimezone(zone)


def session_context(user: User, when: datetime, rng: np.random.Generator) -> Record:
    """Device, place and companions of a session; fields that the log does not know are absent."""
    place = draw(rng, PLACES[when.weekday() < 5 and 9 <= when.hour < EVENING_HOUR])
    context: Record = {"device": draw(rng, DEVICES[place])}
    if rng.random() < 0.95:
        context["place"] = place
    if user.with_family and place == "home" and rng.random() < 0.25:
        context["companions"] = ["family"]
    elif rng.random() < 0.03:
        context["companions"] = one_of(rng, COMPANIONS)
    return context


def user_event(
    user: User, catalogue: Catalogue, when: datetime, context: Record, rng: np.random.Generator
) -> Record:
    """One event about an item whose topic is drawn from the user's interests at that time, or is disliked."""
    mixture = user.mixture(when, context.get("companions", ()))
    disliked = user.dislikes if user.dislikes is not None and rng.random() < 0.1 else None
    topic = disliked or draw(rng, mixture)
    item = draw(rng, catalogue.items[topic])
    event_type = draw_type(user, catalogue, disliked is not None, rng)
    record: Record = {
        "user_id": user.user_id,
        "event_ts": iso(when),
        "event_type": event_type,
        "item_id": item.item_id,
        "title": item.title,
    }
    if event_type in ("rating", "review"):
        stars = one_of(rng, STARS_DISLIKED) if disliked else draw_stars(mixture[topic], rng)
        if event_type == "review":
            record["text"] = write_review(item, stars, catalogue, rng)
        record["rating"] = stars
    if event_type == "purchase":
        record["value"] = item.price
    record |= context
    if rng.random() < 0.03:
        record["extra"] = {"campaign": one_of(rng, CAMPAIGNS)}
    return record | {"attributes": {"category": topic.replace("_", " "), "price_band": item.band}}


def draw_type(user: User, catalogue: Catalogue, disliked: bool, rng: np.random.Generator) -> str:
    """An event type. A disliked topic is only rated or reviewed."""
    if disliked:
        return one_of(rng, ("rating", "review"))
    reviews = {"review": REVIEW_WEIGHT} if user.writes_reviews else {}
    return draw(rng, catalogue.domain.type_weights | reviews)


def draw_stars(weight: float, rng: np.random.Generator) -> int:
    """One to five stars for an item whose topic has this weight in the user's interests."""
    return draw(rng, STARS_MAIN if weight > 0.1 else STARS_OTHER)


def write_review(item: Item, stars: int, catalogue: Catalogue, rng: np.random.Generator) -> str:
    """Three or four sentences that agree with the stars."""
    tone = "good" if stars > 3 else "mixed" if stars == 3 else "bad"
    words = catalogue.domain.topics[item.topic]
    praise, complaint = one_of(rng, words.praise), one_of(rng, words.complaints)
    reference = catalogue.domain.reference.format(name=item.name, title=item.title)
    opening = one_of(rng, catalogue.reviews.openings[tone]).format(it=reference)
    middle = {"good": praise, "mixed": f"{praise} {complaint}", "bad": complaint}[tone]
    return f"{opening} {middle} {one_of(rng, catalogue.reviews.closings[tone])}"


def retractions(events: Sequence[Event], last_day: date, rng: np.random.Generator) -> list[Event]:
    """Retractions of a few events by their user, one minute to three days later; none after the last day."""
    retracted = [event for event in events if rng.random() < RETRACT_SHARE]
    found = []
    for event in retracted:
        when = event.when + timedelta(milliseconds=60_000 + int(rng.random() * 2.9 * 86_400_000))
        target = event.record["event_id"]
        record = {
            "event_id": f"{target}-r",
            "user_id": event.record["user_id"],
            "event_ts": iso(when),
            "event_type": "retract",
            "retracts_event_id": target,
        }
        found.append(Event(when, record))
    return [event for event in found if event.day <= last_day]


def iso(when: datetime) -> str:
    """The time as a log has it: ISO 8601 with milliseconds and UTC offset."""
    return when.isoformat(timespec="milliseconds")
