"""The item catalogue of a demo log: each thing of a topic with each detail, a price and a popularity."""

from dataclasses import dataclass
from typing import Final

from jobs.demo.words import Domain, Reviews

# Price band of an item, and its price as a multiple of the topic's.
PRICE_FACTORS: Final = (
    ("budget", 0.6),
    ("budget", 0.8),
    ("standard", 1.0),
    ("standard", 1.3),
    ("premium", 1.9),
)


@dataclass(frozen=True)
class Item:
    """An item of the catalogue."""

    item_id: str
    title: str
    topic: str
    name: str  # the title as written inside a sentence
    price: float
    band: str


@dataclass(frozen=True)
class Catalogue:
    """What the users of a demo log can meet, and the words they review it with."""

    domain: Domain
    reviews: Reviews
    items: dict[str, dict[Item, float]]  # by topic, with each item's popularity


def make_catalogue(domain: Domain, reviews: Reviews) -> Catalogue:
    """The items of each topic. Popularity is rank ** -0.7 (ranks shuffled): a few items get most events."""
    items: dict[str, dict[Item, float]] = {}
    number = 0
    for topic, words in domain.topics.items():
        items[topic] = {}
        names = [f"{thing}{domain.joint}{detail}" for thing in words.things for detail in words.details]
        for i, name in enumerate(names):
            number += 1
            band, factor = PRICE_FACTORS[i * 7 % 5]
            item = Item(
                item_id=f"{domain.name[0].upper()}{number:04d}",
                title=name[0].upper() + name[1:],
                topic=topic,
                name=name,
                price=round(words.price * factor) - 0.01,
                band=band,
            )
            items[topic][item] = (1 + i * 17 % 40) ** -0.7
    return Catalogue(domain, reviews, items)
