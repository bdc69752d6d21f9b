"""Content scores: how near the texts of items are to what a user's profile says.

No fit: everything comes from the stored states and vectors of the day.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.rank.catalogue import Shelf
from jobs.rank.events import Bools, Keys
from jobs.rank.states import NO_STATE, States
from udfs.score import centred_units

MAIN, NEGATIVE = "main", "negative"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Profiles:
    """The profiles of some users on a day, by facet: directions float64[users, d], zeros where there is none.

    centred: seen from the mean of the catalogue. raw: as they are. there: bool[users].
    """

    centred: Mapping[str, Floats]
    raw: Mapping[str, Floats]
    there: Mapping[str, Bools]


def profiles_on(states: States, shelf: Shelf, users: Keys, day: int) -> Profiles:
    """What the users' usable states say. users: keys, ascending."""
    centred, raw, there = {}, {}, {}
    for facet, own in states.facets.items():
        rows = states.usable(facet, users, day)
        has = rows != NO_STATE
        vectors = own.vectors[rows[has]]
        both = np.zeros((2, len(users), len(shelf.mean)))
        both[0, has] = centred_units(vectors, shelf.mean)
        both[1, has] = centred_units(vectors, np.zeros_like(shelf.mean))
        centred[facet], raw[facet], there[facet] = both[0], both[1], has
    return Profiles(centred, raw, there)


def cosines(items: Floats, profiles: Floats) -> Floats:
    """float64[users, items] of directions: items float64[items, d], profiles float64[users, d].

    A user at a time: a product of matrices would round by how many users there are.
    """
    found = np.zeros((len(profiles), len(items)))
    for place, own in enumerate(profiles):
        if own.any():
            found[place] = items @ own
    return found


def content_scores(shelf: Shelf, profiles: Profiles, aversion: float) -> Floats:
    """Centred cosine with `main`, minus `aversion` times that with `negative`."""
    scores = cosines(shelf.centred, profiles.centred[MAIN])
    if aversion and NEGATIVE in profiles.centred:
        scores -= aversion * cosines(shelf.centred, profiles.centred[NEGATIVE])
    return scores


def raw_scores(shelf: Shelf, profiles: Profiles) -> Floats:
    """Cosine with `main` as it is, not centred."""
    return cosines(shelf.raw, profiles.raw[MAIN])


def with_facet(content: Floats, shelf: Shelf, profiles: Profiles, facet: str) -> Floats:
    """Content scores with the mean cosine of `main` and a context facet, where the user has one."""
    nearer = cosines(shelf.centred, profiles.centred[facet]) - cosines(shelf.centred, profiles.centred[MAIN])
    found: Floats = content + np.where(profiles.there[facet][:, None], nearer / 2, 0.0)
    return found
