"""The dirty rule: which facets of which users must be folded again, from which day and which state.

A state is dirty where the digest of its day's stored events differs from the digest in the state. Late
events, retractions, redelivered days and crashes all show as such a difference.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

KEY = ["user_id", "facet"]


def digest_of(high: Column, low: Column) -> Column:
    """The digest of a day as text: 32 hexadecimal digits."""
    return F.lower(F.concat(F.lpad(F.hex(high), 16, "0"), F.lpad(F.hex(low), 16, "0")))


def find_dirty(folded: DataFrame, states: DataFrame) -> DataFrame:
    """(user_id, facet, first_dirty, events).

    The first dirty day of each facet, and the events of its dirty days.

    Clean facets have no row. folded: events by facet (marks.by_facet); states: rows of profile_states.
    """
    digest = digest_of(F.bit_xor("digest_high"), F.bit_xor("digest_low")).alias("wanted")
    day = F.col("event_date").alias("as_of_date")
    wanted = folded.groupBy(*KEY, day).agg(digest, F.count("*").alias("events"))
    stored = states.select(*KEY, "as_of_date", "events_digest")
    both = wanted.join(stored, [*KEY, "as_of_date"], "full")
    differ = both.where(~F.col("wanted").eqNullSafe(F.col("events_digest")))
    return differ.groupBy(*KEY).agg(F.min("as_of_date").alias("first_dirty"), F.sum("events").alias("events"))


def point_back(dirty: DataFrame, states: DataFrame) -> DataFrame:
    """(user_id, facet, as_of_date, replaced) of the dirty facets that have states from first_dirty on.

    as_of_date: the day of the state before those, NULL where there is none; replaced: their own days.
    """
    later = states.join(dirty, KEY).where("as_of_date >= first_dirty")
    before = F.min_by("previous_as_of_date", "as_of_date").alias("as_of_date")
    return later.groupBy(*KEY).agg(before, F.collect_list("as_of_date").alias("replaced"))


def find_priors(dirty: DataFrame, profiles: DataFrame, states: DataFrame, back: DataFrame) -> DataFrame:
    """The state before first_dirty of each dirty facet that has one.

    That is its latest state, or the one that its later states point back to.
    """
    latest = profiles.join(dirty, KEY).where("as_of_date < first_dirty").select(*states.columns)
    return latest.unionByName(states.join(back, [*KEY, "as_of_date"]).select(*states.columns))


def left_alone(priors: DataFrame, latest: DataFrame) -> DataFrame:
    """The priors of dirty facets that have no event left, and so no new state.

    They become the latest states again.
    """
    return priors.join(latest.select(*KEY), KEY, "left_anti").select(*latest.columns)
