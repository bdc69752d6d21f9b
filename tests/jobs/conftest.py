"""What tests of several packages share."""

import pytest


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """One point of each grid, for tests that are not about tuning."""
    from jobs.rank.models import MODELS

    for model in MODELS:
        monkeypatch.setitem(model.__dict__, "grid", model.grid[:1])
