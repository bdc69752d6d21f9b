"""The vocabulary of the demo logs as data: a new domain is one more YAML file in catalogue/.

The texts of two topics differ enough in meaning that an embedder can tell the topics apart.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import yaml

PACKAGE: Final = resources.files("jobs.demo")


@dataclass(frozen=True)
class Topic:
    """The words of one topic. Each combination of a thing and a detail is an item."""

    price: float  # of a typical item
    things: list[str]
    details: list[str]
    praise: list[str]  # sentences that fit a review of any item of the topic
    complaints: list[str]


@dataclass(frozen=True)
class Domain:
    """One catalogue file: eight topics of 40 items each (ten things, four details).

    A user draws up to seven topics and may dislike one more; popularity has ranks 1 to 40. The order of
    `type_weights` and `topics` is part of the draws: changing it changes the log of a seed.
    """

    name: str  # of the file
    stream: int  # part of the random seed; every domain needs its own
    type_weights: dict[str, float]  # share of each event type, except reviews: only some users write them
    joint: str  # between thing and detail in a title
    reference: str  # how a review refers to an item, by {name} or {title}
    family_topics: list[str]  # two topics that users turn to when with their family
    topics: dict[str, Topic]


@dataclass(frozen=True)
class Reviews:
    """First and last sentences of reviews by tone: good, mixed or bad; {it} stands for the item."""

    openings: dict[str, list[str]]
    closings: dict[str, list[str]]


def domain_names() -> list[str]:
    """The domains that have a catalogue file, in alphabetical order."""
    files = (PACKAGE / "catalogue").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_domain(name: str) -> Domain:
    """The domain of a catalogue file. Raises TypeError for a missing or an unknown key."""
    values = _read(f"catalogue/{name}.yaml")
    topics = {topic: Topic(**words) for topic, words in values.pop("topics").items()}
    return Domain(name=name, topics=topics, **values)


def load_reviews() -> Reviews:
    """The openings and closings that reviews of every domain share."""
    return Reviews(**_read("reviews.yaml"))


def _read(file: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((PACKAGE / file).read_text(encoding="utf-8"))
    return values
