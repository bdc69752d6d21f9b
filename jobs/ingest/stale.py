"""What an ingest of older days makes stale on later ones: names that would be others, and texts that follow.

The rule of names is carried out once more over the later days, for the items that an older day touched, with
the title_keys of the stored events. So only what would really differ is found, and nothing once the days were
ingested again.
"""

from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.ingest.items import before_catalogue, face
from jobs.ingest.names import (
    VOTE,
    elected,
    few_sent,
    in_force,
    own_title_key,
    version_key,
    votes_of,
)
from jobs.ingest.privacy import StoredForm, text_key
from jobs.io.days import Days
from jobs.io.versions import with_item
from schemas.items import BY_CATALOGUE

# What an event's text follows from in a version: which one it is, the key of its title, the key of its text.
FOLLOWED = ["version_key", "name_key", "text_key"]


@dataclass(frozen=True)
class Change:
    """The tables before an ingest of the days and what it makes of them.

    versions_before: all versions of items as they were; versions: those up to the last day, as they are now.
    events: all stored events as they were; votes: those of the days as they are now (jobs/ingest/names.py
    VOTE). newest: the last day with an ingest.
    """

    days: Days
    versions_before: DataFrame
    versions: DataFrame
    events: DataFrame
    votes: DataFrame
    newest: date
    window_days: int

    @property
    def later(self) -> Days:
        """The days after those of the ingest."""
        return Days(self.days.last + timedelta(days=1), self.newest)

    @property
    def later_events(self) -> DataFrame:
        """The stored events of the later days."""
        return self.events.where(self.later.sql("log_date"))


@dataclass(frozen=True)
class Stale:
    """Events with another text and versions that would be others; until: the last day with one, or None."""

    texts: int
    names: int
    until: date | None


def find_stale(change: Change, form: StoredForm, by_version: bool) -> Stale:
    """What of the later days would be different.

    by_version: whether each event of another version may differ, since a mapping makes texts of items, or a
    facet asks for their attributes.
    """
    # Most reruns change neither names nor votes; then later days are not read.
    touched = touched_items(change).localCheckpoint(eager=False)
    if touched.isEmpty():
        return Stale(0, 0, None)
    unsettled = unsettled_items(change, touched).localCheckpoint(eager=False)
    count = unsettled.count()
    if not count:
        return Stale(0, 0, None)
    items = few_sent(unsettled, count)
    old = _followed(change.versions_before.join(items, "item_id", "left_semi"), form)
    new = versions_anew(change, items, form)
    old, new = old.localCheckpoint(eager=False), new.localCheckpoint(eager=False)
    events = change.later_events.join(items, "item_id", "left_semi")
    texts = with_stale_text(events, old, new, by_version).agg(F.count("*"), F.max("log_date")).collect()[0]
    rows = [versions.select("item_id", "valid_from", "version_key") for versions in (old, new)]
    differ = rows[0].exceptAll(rows[1]).union(rows[1].exceptAll(rows[0]))
    differ = differ.where(change.later.sql("valid_from"))
    names = differ.agg(F.count_distinct("item_id", "valid_from"), F.max("valid_from")).collect()[0]
    return Stale(texts[0], names[0], max(filter(None, (texts[1], names[1])), default=None))


def touched_items(change: Change) -> DataFrame:
    """(item_id, is_renamed) of the items whose name at the end of the days, or whose votes, changed."""
    of_days = change.days.sql("valid_from")
    sides = (change.versions_before, change.versions)
    dated = [versions.where(of_days).select("item_id") for versions in sides]
    # Only items with a version on the days can have another name.
    dated_items = dated[0].union(dated[1]).distinct().localCheckpoint(eager=False)
    until_now = F.col("valid_from") <= change.days.last
    old, new = (
        in_force(versions.where(until_now), dated_items).select("item_id", face().alias(name))
        for name, versions in zip(("old", "new"), sides, strict=True)
    )
    renamed = _differing(old, new)
    digest = F.bit_xor(F.xxhash64(*VOTE))
    before = votes_of(change.events.where(change.days.sql("log_date")))
    voted = _differing(
        before.groupBy("item_id").agg(digest.alias("old")),
        change.votes.groupBy("item_id").agg(digest.alias("new")),
    )
    both = renamed.withColumn("is_renamed", F.lit(True)).union(voted.withColumn("is_renamed", F.lit(False)))
    return both.groupBy("item_id").agg(F.bool_or("is_renamed").alias("is_renamed"))


def _differing(old: DataFrame, new: DataFrame) -> DataFrame:
    both = old.join(new, "item_id", "full")
    return both.where(~F.col("old").eqNullSafe(F.col("new"))).select("item_id")


def unsettled_items(change: Change, touched: DataFrame) -> DataFrame:
    """(item_id) of touched items with another name, or with votes of later days for more than one."""
    only_voted = touched.where("NOT is_renamed").select("item_id")
    held = in_force(change.versions, only_voted).where("title_key IS NOT NULL")
    called = votes_of(change.later_events).join(held.select("item_id"), "item_id", "left_semi")
    keys = held.select("item_id", "title_key").union(called.select("item_id", "title_key"))
    differ = F.min("title_key") < F.max("title_key")
    called_several = keys.groupBy("item_id").agg(differ.alias("differ")).where("differ").select("item_id")
    return touched.where("is_renamed").select("item_id").union(called_several)


def versions_anew(change: Change, items: DataFrame, form: StoredForm) -> DataFrame:
    """(item_id, valid_from, FOLLOWED) of the items, as an ingest of the later days would leave them."""
    versions = change.versions.join(items, "item_id", "left_semi")
    held = in_force(versions, items)
    since = change.later.first - timedelta(days=change.window_days)
    stored = change.events.where(
        f"{Days(since, change.newest).sql('log_date')} AND NOT ({change.days.sql('log_date')})"
    )
    of_days = change.votes.where(F.col("log_date") >= since)
    votes = votes_of(stored).union(of_days).join(items, "item_id", "left_semi")
    names = held.where("title_key IS NOT NULL")
    given = elected(votes, names, change.later, change.window_days)
    by_catalogue = F.col("named_by") == BY_CATALOGUE
    is_later = F.expr(change.later.sql("valid_from"))
    catalogue = change.versions_before.where(by_catalogue & is_later).join(items, "item_id", "left_semi")
    day = F.col("valid_from").alias("log_date")
    since_when = catalogue.select("item_id", day).union(held.where(by_catalogue).select("item_id", day))
    own = own_title_key()
    voted = before_catalogue(given, since_when).select(
        "item_id", F.col("log_date").alias("valid_from"), "title_key", own.alias("n"), own.alias("t")
    )
    return _followed(versions, form).union(_followed(catalogue, form)).union(voted)


def _followed(versions: DataFrame, form: StoredForm) -> DataFrame:
    """(item_id, valid_from, FOLLOWED) of rows of items."""
    which = F.coalesce(version_key(), F.sha2(face(), 256)).alias("version_key")
    name = text_key(form.text(F.col("title"))).alias("name_key")
    return versions.select("item_id", "valid_from", which, name, "text_key")


def with_stale_text(events: DataFrame, old: DataFrame, new: DataFrame, by_version: bool) -> DataFrame:
    """The events whose text would be different under the new versions.

    old, new: (item_id, valid_from, FOLLOWED). by_version: as find_stale takes it.
    """
    read = events.where("event_type <> 'retract'")
    if by_version:
        key = ["version_key"]
        before = with_item(read, old, key).withColumnRenamed("item_version_key", "old_version_key")
        after = with_item(before, new, key)
        return after.where(~F.col("old_version_key").eqNullSafe(F.col("item_version_key")))
    has_own = F.col("own_text_key").isNull() & F.col("text_key").isNotNull()
    return with_item(read, new, FOLLOWED).where(~has_own & ~F.col("text_key").eqNullSafe(_expected()))


def _expected() -> Column:
    """The key of the text that an event without one of its own has under the new version of its item."""
    own, name, text = own_title_key(), F.col("item_name_key"), F.col("item_text_key")
    # As in jobs/ingest/names.py own_titles.
    differs = text.isNull() | (name.isNotNull() & (name != own))
    return F.when(own.isNotNull() & differs, own).otherwise(text)
