"""Small logs for the evaluator's tests: choices drawn under a rule, with or without a signal."""

from collections.abc import Sequence

import numpy as np

from jobs.rank.catalogue import Catalogue
from jobs.rank.events import NEVER, Events
from jobs.rank.states import Changes, FacetStates, States
from jobs.rank.world import World

DIM = 4
NO_DAYS = np.zeros(0, np.int32)
NO_CHANGES = Changes(np.zeros(0, np.int64), NO_DAYS, NO_DAYS)


def events_of(rows: Sequence[tuple[int, int, int] | tuple[int, int, int, int]], users: int) -> Events:
    """Choices from rows of (user, item, day) and, where it is another day, the log day. Keys are 0, 1, ..."""
    ordered = sorted(((*row, row[2])[:4] for row in rows), key=lambda row: (row[0], row[2]))
    user, item, day, arrived = np.array(ordered, np.int64).reshape(-1, 4).T
    return Events(
        np.arange(users, dtype=np.int64),
        np.searchsorted(user, np.arange(users + 1)),
        item.astype(np.int32),
        day.astype(np.int32),
        arrived.astype(np.int32),
        np.full(len(user), NEVER, np.int32),
        np.ones(len(user), bool),
    )


def catalogue_of(
    items: int, vectors: np.ndarray | None = None, known: Sequence[int] | None = None
) -> Catalogue:
    """Items that are known from day 0 (or `known`), each with a text and vector of its own."""
    drawn = np.random.default_rng(0).normal(size=(items, DIM)).astype(np.float32)
    every = np.arange(items, dtype=np.int32)
    since = np.zeros(items, np.int32) if known is None else np.array(known, np.int32)
    return Catalogue(since, every, since, every, drawn if vectors is None else vectors)


def states_of(events: Events, catalogue: Catalogue) -> States:
    """`main`: after each day with a choice, the mean vector of all items chosen so far."""
    keys, days, vectors = [], [], []
    for user, (first, last) in enumerate(zip(events.starts[:-1], events.starts[1:], strict=True)):
        for day in np.unique(events.day[first:last]):
            so_far = events.item[first:last][events.day[first:last] <= day]
            keys.append(events.users[user])
            days.append(day)
            vectors.append(catalogue.vectors[so_far].mean(axis=0))
    found = np.array(vectors, np.float32).reshape(-1, catalogue.vectors.shape[1])
    main = FacetStates(np.array(keys, np.int64), np.array(days, np.int32), found)
    return States({"main": main}, NO_CHANGES)


def world_of(events: Events, catalogue: Catalogue) -> World:
    """A world with the states that its events give."""
    return World(events, catalogue, states_of(events, catalogue))


def random_world(seed: int, users: int = 60, items: int = 30, days: int = 60, a_day: int = 40) -> World:
    """Choices without any signal: each day so many of random users and items."""
    draws = np.random.default_rng(seed)
    size = days * a_day
    user, item = draws.integers(0, users, size), draws.integers(0, items, size)
    day = np.repeat(np.arange(days), a_day)
    rows = [(int(u), int(i), int(d)) for u, i, d in zip(user, item, day, strict=True)]
    return world_of(events_of(rows, users), catalogue_of(items))
