"""The users of a demo log: their true interests, how these change, and other traits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np

from jobs.demo.draws import draw, one_of
from jobs.demo.words import Domain

Mixture = dict[str, float]  # weight of each topic; the weights sum to 1

# Weights of one, two or three main topics; the other topics share the remaining 0.1.
MAIN_WEIGHTS: Final = ((0.9,), (0.55, 0.35), (0.4, 0.3, 0.2))
EVENING_HOUR: Final = 18
UTC_OFFSETS_MIN: Final = (-480, -300, 0, 60, 60, 120, 330, 540)


@dataclass(frozen=True)
class User:
    """The truth about one user."""

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
        """The user's interests at this local time, in this company."""
        if self.with_family and "family" in companions:
            return self.with_family
        if self.evening and is_evening_or_weekend(when):
            return self.evening
        changed = self.change_date and when.astimezone(UTC).date() >= self.change_date
        return self.after if changed else self.before

    def truth(self) -> dict[str, Any]:
        """The record of this user in _truth/users.jsonl."""
        record: dict[str, Any] = {
            "user_id": self.user_id,
            "before": self.before,
            "after": self.after,
            "change_date": self.change_date.isoformat() if self.change_date else None,
            "evening": self.evening,
            "with_family": self.with_family,
            "utc_offset_min": self.utc_offset_min,
        }
        return record | ({"dislikes": self.dislikes} if self.dislikes else {})


def is_evening_or_weekend(local: datetime) -> bool:
    """Whether a local time is one at which people shop for other things."""
    return local.hour >= EVENING_HOUR or local.weekday() >= 5


def make_mixture(main: Sequence[str], topics: Sequence[str]) -> Mixture:
    """Weight 0.9 for the main topics together, the rest spread evenly over the other topics."""
    others = [topic for topic in topics if topic not in main]
    weights = dict(zip(main, MAIN_WEIGHTS[len(main) - 1], strict=True))
    return weights | {topic: 0.1 / len(others) for topic in others}


def make_user(number: int, domain: Domain, days: Sequence[date], rng: np.random.Generator) -> User:
    """User `number`. Traits depend on the number, so that even a small log has users of every kind."""
    family = domain.family_topics
    disliked = one_of(rng, [t for t in domain.topics if t not in family]) if number % 10 == 3 else None
    topics = [t for t in domain.topics if t != disliked]
    # At least seven: up to three before the change, up to three after it, one for the evening.
    order = [topics[int(i)] for i in np.argsort(rng.random(len(topics)))]
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
