"""A span of days: the range a job runs over or a record covers, and its form as a SQL predicate."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Days:
    """The days first..last, both included.

    >>> days = Days(date(2025, 3, 1), date(2025, 3, 3))
    >>> str(days), len(days), date(2025, 3, 2) in days
    ('2025-03-01..2025-03-03', 3, True)
    >>> str(Days.only(date(2025, 3, 1)))
    '2025-03-01'
    >>> days.sql("log_date")
    "log_date >= DATE'2025-03-01' AND log_date <= DATE'2025-03-03'"
    >>> str(days.widened(before=7))
    '2025-02-22..2025-03-03'
    """

    first: date
    last: date

    @classmethod
    def only(cls, day: date) -> "Days":
        """One day."""
        return cls(day, day)

    def __iter__(self) -> Iterator[date]:
        return (self.first + timedelta(days=i) for i in range(len(self)))

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return str(self.last) if self.first == self.last else f"{self.first}..{self.last}"

    def overlaps(self, other: "Days") -> bool:
        """Whether the two share a day."""
        return self.first <= other.last and other.first <= self.last

    def covers(self, other: "Days") -> bool:
        """Whether every day of the other is in these."""
        return self.first <= other.first and other.last <= self.last

    def widened(self, before: int = 0, after: int = 0) -> "Days":
        """With this many days more before the first and after the last."""
        return Days(self.first - timedelta(days=before), self.last + timedelta(days=after))

    def chunks(self, size: int) -> list["Days"]:
        """Consecutive spans of at most `size` days.

        >>> [str(chunk) for chunk in Days(date(2025, 3, 1), date(2025, 3, 3)).chunks(2)]
        ['2025-03-01..2025-03-02', '2025-03-03']
        """
        starts = range(0, len(self), size)
        return [
            Days(day, min(day + timedelta(days=size - 1), self.last))
            for day in (self.first + timedelta(days=i) for i in starts)
        ]

    def sql(self, column: str) -> str:
        """A literal predicate on a date column; Delta prunes partitions and detects conflicts by it."""
        # Not BETWEEN: Delta can't take Spark's form of it in replaceWhere.
        return f"{column} >= DATE'{self.first}' AND {column} <= DATE'{self.last}'"


def is_in(column: str, days: Collection[date]) -> str:
    """A literal predicate on a date column for a set of days; false for every row where the set is empty.

    >>> is_in("as_of_date", [date(2025, 3, 2), date(2025, 3, 1)])
    "as_of_date IN (DATE'2025-03-01', DATE'2025-03-02')"
    """
    literals = ", ".join(f"DATE'{day}'" for day in sorted(days))
    return f"{column} IN ({literals or 'NULL'})"
