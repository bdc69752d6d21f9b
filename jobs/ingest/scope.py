"""What the parts of an ingest hand on: what it works on, its records with their fates, the items' names."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.ingest.fates import STORED
from jobs.ingest.items import Before
from jobs.ingest.privacy import StoredForm
from jobs.io.days import Days
from jobs.io.erased import ErasedUsers
from jobs.io.logs import Logs
from jobs.io.runs import Run
from schemas.settings import Settings


@dataclass(frozen=True)
class Scope:
    """What an ingest works on, resolved once."""

    run: Run
    logs: Logs
    settings: Settings
    days: Days
    form: StoredForm
    erased: ErasedUsers | None
    # All item versions as they were, and what was before the days.
    versions_before: DataFrame
    before: Before


@dataclass(frozen=True)
class Judged:
    """Every record with its fate (jobs/ingest/fates.py DECIDED), the counts, and the catalogue's rows.

    refused: why the days can't be stored, in a sentence. is_rerun: whether an ingest of one of the days was
    ever started before. newest_later: the last later day with an ingest. held_later: as the function
    held_later returns it.
    """

    records: DataFrame
    counts: dict[str, int]
    refused: str | None
    catalogue: DataFrame | None
    is_rerun: bool
    newest_later: date | None
    held_later: Days | None

    @cached_property
    def stored(self) -> DataFrame:
        """The records that become events."""
        return self.records.where(F.col("fate") == STORED)


@dataclass(frozen=True)
class Names:
    """The items' names for the days' events.

    fresh: the versions that begin on the days; versions: all up to the last day. own: as
    jobs.ingest.names.own_titles returns it, None where it has no rows. Both broadcast where they are few.
    """

    fresh: DataFrame
    versions: DataFrame
    own: DataFrame | None
