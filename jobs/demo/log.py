"""A complete demo log in memory: its item catalogue, users, events and log days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from jobs.demo.delivery import DIRT_SHARES, LogDay, deliver, total_counts
from jobs.demo.events import Event, user_events
from jobs.demo.items import Catalogue, make_catalogue
from jobs.demo.people import User, make_user
from jobs.demo.words import Domain, load_reviews


@dataclass(frozen=True)
class DemoLog:
    """A generated log with the truth behind it."""

    catalogue: Catalogue
    users: list[User]
    events: list[Event]
    days: dict[date, LogDay]


def make_log(domain: Domain, days: Sequence[date], users: int, seed: int) -> DemoLog:
    """The same arguments give the same log. A user's events do not depend on the number of users."""
    catalogue = make_catalogue(domain, load_reviews())
    people, events = [], []
    for number in range(1, users + 1):
        rng = np.random.default_rng([seed, domain.stream, number])
        people.append(make_user(number, domain, days, rng))
        events += user_events(people[-1], catalogue, days, rng)
    log_days = deliver(events, days, np.random.default_rng([seed, domain.stream, 0]))
    return DemoLog(catalogue, people, events, log_days)


def summary(log: DemoLog) -> str:
    """What a log holds, in four lines."""
    days, events, totals = log.days, len(log.events), total_counts(log.days)
    titles = {event.record["title"] for event in log.events if "title" in event.record}
    reviews = {event.record["text"] for event in log.events if "text" in event.record}
    dirt = ", ".join(f"{totals[kind]} {kind}" for kind in DIRT_SHARES)
    return (
        f"{len(days)} days ({min(days)} to {max(days)}), {len(log.users)} users\n"
        f"{events} events in {totals['lines']} lines, including {totals['retractions']} retractions\n"
        f"{len(titles) + len(reviews)} distinct texts: {len(titles)} titles, {len(reviews)} reviews\n"
        f"dirt: {dirt}"
    )
