"""What the days before a test decide: each model's parameters, and the weights of the blends."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.rank.content import MAIN, NEGATIVE
from jobs.rank.models import MODELS
from jobs.rank.popularity import Parameters
from jobs.rank.states import States
from udfs.rerank import Rules

CONTENT, RAW, FACET = "content", "content_raw", "content_with_"


@dataclass(frozen=True)
class Choice:
    """What the days before the test decided: the parameters of each model, and the weights of the blends.

    aversion: the weight of `negative` in content scores. blends: by name, the weight of each part, a row of
    the table itself. facets: context facets, each shown with and without. rerankings: by name, the rules by
    which lists are made of the last blend, rows too.
    """

    parameters: Mapping[str, Parameters]
    aversion: float
    blends: Mapping[str, Mapping[str, float]]
    facets: tuple[str, ...]
    rerankings: Mapping[str, Rules] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of the table, in their order."""
        facets = [f"{FACET}{facet}" for facet in self.facets]
        return (*[model.name for model in MODELS], CONTENT, RAW, *facets, *self.blends, *self.rerankings)


def context_facets(states: States) -> tuple[str, ...]:
    """The facets besides `main` and `negative`, by name."""
    return tuple(sorted(set(states.facets) - {MAIN, NEGATIVE}))
