"""The state of the world at the end of a day, as far as it concerns all users: what the ranking may use."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from jobs.io.messages import JobError
from jobs.rank.catalogue import Catalogue
from jobs.rank.events import Bools, Events, history_at
from jobs.rank.metrics import Floats, self_information

EPOCH = date(1970, 1, 1)
# Days after which models are fitted anew, and the growth of the history before a slow one is.
REFIT_DAYS, GROWTH = 7, 1.01
# Steps before the test on which parameters are chosen, and how many users, counted at each step, are enough.
FEWEST_STEPS, MOST_STEPS, ENOUGH_TO_TUNE = 4, 104, 200


def day_number(day: date) -> int:
    """Days since 1970-01-01.

    >>> day_number(date(1970, 1, 3))
    2
    """
    return (day - EPOCH).days


def day_of(number: int) -> date:
    """The day of a number of days since 1970-01-01."""
    return EPOCH + timedelta(days=number)


@dataclass(frozen=True)
class Moment:
    """A step of the replay, at the end of a day.

    known: bool[items], which items can be ranked. cold: bool[items], those of them without any event so far.
    surprise: float64[items], bits of self-information by the users who had chosen each.
    """

    day: int
    known: Bools
    cold: Bools
    surprise: Floats


def moment_at(events: Events, catalogue: Catalogue, day: int) -> Moment:
    """What was known at the end of a day."""
    known = catalogue.known_on(day)
    seen = np.bincount(events.item[events.known(day)], minlength=catalogue.size)
    matrix = history_at(events, day, catalogue.size).matrix
    had = np.bincount(matrix.indices, minlength=catalogue.size)
    users = int(np.count_nonzero(np.diff(matrix.indptr)))
    return Moment(day, known, known & (seen == 0), self_information(had, users))


def replay_steps(first: int, last: int, horizon: int, every: int) -> list[int]:
    """The days at whose end the replay predicts: what it predicts lies within first..last.

    Raises JobError where the range is shorter than the horizon.

    >>> replay_steps(10, 30, 7, 7)
    [9, 16, 23]
    """
    found = list(range(first - 1, last - horizon + 1, every))
    if not found:
        raise JobError(
            f"the range {day_of(first)}..{day_of(last)} is shorter than the horizon of {horizon} days; "
            "choose an earlier --start or a shorter --horizon"
        )
    return found


def tuning_steps(events: Events, first: int, horizon: int, every: int) -> list[int]:
    """The days, `every` days apart, that come last before the test: what they predict ends before it.

    As many as have ENOUGH_TO_TUNE users, a user counting at each step, within FEWEST_STEPS..MOST_STEPS.

    events: the log as it was before the test.
    """
    found, asked = list[int](), 0
    for day in reversed(possible_tuning_steps(first, horizon, every)):
        if len(found) >= FEWEST_STEPS and asked >= ENOUGH_TO_TUNE:
            break
        found.append(day)
        asked += int(np.count_nonzero(asked_at(events, day, horizon)))
    return found[::-1]


def possible_tuning_steps(first: int, horizon: int, every: int) -> list[int]:
    """The days, ascending, that tuning may go back to.

    >>> possible_tuning_steps(800, 7, 7)[-2:]
    [785, 792]
    """
    last = first - 1 - horizon
    return [last - back * every for back in reversed(range(MOST_STEPS))]


def asked_at(events: Events, day: int, horizon: int) -> Bools:
    """bool[users]: who was seen by a day and chooses something in the horizon after it."""
    seen = np.bincount(events.row_user[events.known(day)], minlength=len(events.users))
    acted = np.bincount(events.row_user[events.choices(day + 1, day + horizon)], minlength=len(events.users))
    asked: Bools = (seen > 0) & (acted > 0)
    return asked


@dataclass(frozen=True)
class FitDays:
    """The day of the models that each step uses: weekly, and of slow ones only once the history has grown."""

    weekly: dict[int, int]
    grown: dict[int, int]


def fit_days(events: Events, steps: Sequence[int]) -> FitDays:
    """The days on which models are fitted for these steps, ascending: the first, then after REFIT_DAYS.

    Slow models are fitted anew once the known choices are GROWTH times those of their last fit.
    """
    weekly, grown, size = dict[int, int](), dict[int, int](), 0
    for step in steps:
        last = max(weekly.values(), default=step - REFIT_DAYS)
        weekly[step] = step if step - last >= REFIT_DAYS else last
        known = int(np.count_nonzero(events.known(step) & events.chosen)) if weekly[step] == step else 0
        is_grown = not grown or known >= GROWTH * size
        grown[step] = step if is_grown else max(grown.values())
        size = known if is_grown else size
    return FitDays(weekly, grown)
