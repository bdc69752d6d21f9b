"""The fitted models that each step uses; of each model one fit is kept."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.rank.events import Events, History, history_at
from jobs.rank.models import BY_NAME, Model
from jobs.rank.moment import FitDays, fit_days
from jobs.rank.popularity import Parameters


class Models:
    """Models with their parameters by name, fitted when a step asks for them and kept as long as they serve.

    events: of all days; only what was known on the day of a fit is handed to it. steps: ascending.
    models: by name.
    """

    def __init__(
        self,
        events: Events,
        items: int,
        steps: Sequence[int],
        parameters: Mapping[str, Parameters],
        models: Mapping[str, Model] = BY_NAME,
    ) -> None:
        self._models = models
        self._events, self._items, self._parameters = events, items, parameters
        self._days: FitDays = fit_days(events, steps)
        self._kept: dict[str, tuple[int, dict[str, NDArray[np.generic]]]] = {}

    def fitted_for(self, step: int) -> dict[str, dict[str, NDArray[np.generic]]]:
        """The arrays of each model by its name."""
        histories: dict[int, History] = {}
        for name, own in self._parameters.items():
            model = self._models[name]
            day = (self._days.grown if model.is_slow else self._days.weekly)[step]
            if self._kept.get(name, (None,))[0] != day:
                if day not in histories:
                    histories[day] = history_at(self._events, day, self._items)
                self._kept[name] = day, model.fit(histories[day], own)
        return {name: arrays for name, (_, arrays) in self._kept.items()}
