"""Which users' facets must be folded again, and from which state."""

from collections.abc import Collection
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.io.messages import JobError

KEY = ["user_id", "facet"]
# Dirty facets of which the keys and days are sent to every machine, some ten megabytes, so that states need not be moved to meet them.
FEW_FACETS = 200_000


# ---- pure: what must be folded


def digest_of(high: Column, low: Column) -> Column:
    """The digest of a day as text: 32 hexadecimal digits."""
    return F.lower(F.concat(F.lpad(F.hex(high), 16, "0"), F.lpad(F.hex(low), 16, "0")))


def find_dirty(folded: DataFrame, states: DataFrame) -> DataFrame:
    """(user_id, facet, first_dirty, events): the first day whose stored state is not what its events give, and the events of such days.

    Clean facets have no row.
    """
    digest = digest_of(F.bit_xor("digest_high"), F.bit_xor("digest_low"))
    wanted = folded.groupBy(*KEY, F.col("event_date").alias("as_of_date")).agg(
        digest.alias("wanted"), F.count("*").alias("events")
    )
    both = wanted.join(states.select(*KEY, "as_of_date", "events_digest"), [*KEY, "as_of_date"], "full")
    differ = both.where(~F.col("wanted").eqNullSafe(F.col("events_digest")))
    return differ.groupBy(*KEY).agg(F.min("as_of_date").alias("first_dirty"), F.sum("events").alias("events"))


def point_back(dirty: DataFrame, states: DataFrame) -> DataFrame:
    """(user_id, facet, as_of_date, replaced) of the dirty facets that have states from first_dirty on: the state before, None where
    there is none, and the days of those that will be replaced.
    """
    later = states.join(dirty, KEY).where("as_of_date >= first_dirty")
    before = F.min_by("previous_as_of_date", "as_of_date").alias("as_of_date")
    return later.groupBy(*KEY).agg(before, F.collect_list("as_of_date").alias("replaced"))


def find_priors(dirty: DataFrame, profiles: DataFrame, states: DataFrame, back: DataFrame) -> DataFrame:
    """The state before first_dirty of every dirty facet that has one: its latest, or the one its later states point back to."""
    latest = profiles.join(dirty, KEY).where("as_of_date < first_dirty").select(*states.columns)
    return latest.unionByName(states.join(back, [*KEY, "as_of_date"]).select(*states.columns))


def left_alone(priors: DataFrame, latest: DataFrame) -> DataFrame:
    """The priors of dirty facets of which no event is left, and so no fresh state: they are the latest states again."""
    return priors.join(latest.select(*KEY), KEY, "left_anti").select(*latest.columns)


def refuse_thinned(back: DataFrame, priors: DataFrame) -> None:
    """Stops where later states point back to one that is not there: folding on without it would fold from nothing.

    A dirty day that was thinned out itself ends here too: the states after it point to it, or to one between.
    """
    pointing = back.where("as_of_date IS NOT NULL")
    lost = pointing.join(priors, KEY, "left_anti").agg(F.count("*"), F.min("as_of_date")).collect()[0]
    if lost[0]:
        raise JobError(
            f"{lost[0]} profiles would have to be folded again from before {lost[1]}, a day whose states maintain_tables has thinned out; "
            "fold a later day, or backfill into a new warehouse"
        )


def days_before(back: DataFrame, known: DataFrame) -> tuple[set[date], set[date], set[date]]:
    """The days that later states point back to, the days of those, and the days of the dirty facets' profiles; asked for at once."""
    replaced = back.select(F.lit(1), F.explode("replaced").alias("as_of_date"))
    rows = back.select(F.lit(0), "as_of_date").union(replaced).union(known.select(F.lit(2), "as_of_date"))
    found = rows.where("as_of_date IS NOT NULL").distinct().collect()
    behind, days, left = ({day for kind, day in found if kind == wanted} for wanted in range(3))
    return behind, days, left


def days_of(rows: DataFrame) -> set[date]:
    return {row[0] for row in rows.select("as_of_date").distinct().collect()}


def in_days(days: Collection[date]) -> str:
    """A literal predicate on the day of a state, by which both tables are partitioned."""
    literals = ", ".join(f"DATE'{day}'" for day in sorted(days))
    return f"as_of_date IN ({literals or 'NULL'})"
