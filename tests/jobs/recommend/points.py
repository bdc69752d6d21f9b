"""Short grids, for tests that are not about tuning."""

import pytest

from jobs.rank.models import DECAYED
from jobs.recommend import models, training


def one_point_each(patch: pytest.MonkeyPatch) -> None:
    """One point of each grid of the models that lists are made by."""
    for model in (DECAYED, models.SUPPORT, models.OWN, *models.COLLABORATIVE):
        patch.setitem(model.__dict__, "grid", model.grid[:1])
    patch.setattr(training, "AVERSIONS", (0.25,))
    patch.setattr(training, "FRESHNESS_GRID", training.FRESHNESS_GRID[:1])
