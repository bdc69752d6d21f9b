"""All that rankings are made of, of all days: events, catalogue and stored profiles."""

from dataclasses import dataclass

from jobs.rank.catalogue import Catalogue
from jobs.rank.events import Events
from jobs.rank.states import States


@dataclass(frozen=True)
class World:
    """Everything the warehouse knows, of all days; functions that take a day decide what a step may use."""

    events: Events
    catalogue: Catalogue
    states: States
