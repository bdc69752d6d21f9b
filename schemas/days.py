"""The days that arguments and settings may name."""

import re
from datetime import date
from typing import Final

# A log of other days is a slip of the pen, and near the ends of the calendar no window has room.
FIRST_YEAR, LAST_YEAR = 1900, 2200
# Python would take the days of weeks too, as 2025-W14-2.
_FORM: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_day(text: str) -> date:
    """The day of YYYY-MM-DD. Raises ValueError, with a sentence.

    >>> parse_day("2025-04-01")
    datetime.date(2025, 4, 1)
    """
    try:
        day = date.fromisoformat(text) if _FORM.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None:
        raise ValueError(f"'{text}' is no date; write YYYY-MM-DD")
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"'{text}' is no day of a log: the years are {FIRST_YEAR} to {LAST_YEAR}")
    return day
