"""How much lists change: from those in force before, by a new ranker alone, and for users who keep theirs.

Counted are items, so that SQL can divide sums: those in both lists over those in either is their Jaccard
index, each user weighted by the items of both. Where lists must be made for it, it is for a sample of users.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.io.days import Days
from jobs.rank.tables import Tables, sampled
from schemas import recommendations

# Users whose lists are compared as they are stored, and those for whom lists are made to compare.
COMPARED: Final = 10_000
MADE: Final = 1_000


@dataclass(frozen=True)
class Earlier:
    """The lists of a facet that were in force before a day, not older than `oldest` days."""

    tables: Tables
    facet: str
    day: date
    oldest: int

    def rows(self) -> DataFrame:
        """The rows of recommendations, those of lists since replaced included."""
        days = Days(self.day - timedelta(days=self.oldest), self.day - timedelta(days=1))
        stored = self.tables.read(recommendations.TABLE)
        return stored.where(days.sql("as_of_date")).where(F.col("facet") == self.facet)

    def days(self) -> DataFrame:
        """(user_id, listed_on): the day of each user's list in force."""
        first = self.rows().where("rank = 1")
        return first.groupBy("user_id").agg(F.max("as_of_date").alias("listed_on"))

    def items(self, users: DataFrame) -> DataFrame:
        """(user_id, item_id) of the lists in force of some users."""
        own = self.rows().join(users.select("user_id"), "user_id", "left_semi")
        lists = own.groupBy("user_id", "as_of_date").agg(F.collect_list("item_id").alias("items"))
        newest = lists.groupBy("user_id").agg(F.max_by("items", "as_of_date").alias("items"))
        return newest.select("user_id", F.explode("items").alias("item_id"))

    def version(self) -> str | None:
        """The ranker of the newest of these lists; None without any."""
        row = self.rows().where("rank = 1").agg(F.max_by("version", "as_of_date")).first()
        return None if row is None else row[0]


def some_of(rows: DataFrame, users: int, most: int) -> DataFrame:
    """The rows of about `most` of so many users, by a hash of their ids."""
    return sampled(rows, min(1.0, most / max(users, 1)))


def overlap(name: str, new: DataFrame, old: DataFrame) -> dict[str, int]:
    """Counts under the name: users with both lists, items in both, and items in either.

    new, old: (user_id, item_id, ...), an item at most once for a user.
    """
    of_new = new.select("user_id", "item_id", F.lit(1).alias("new"), F.lit(0).alias("old"))
    of_old = old.select("user_id", "item_id", F.lit(0).alias("new"), F.lit(1).alias("old"))
    items = (
        of_new.unionAll(of_old)
        .groupBy("user_id", "item_id")
        .agg(F.sum("new").alias("new"), F.sum("old").alias("old"))
    )
    both = F.col("new") * F.col("old")
    users = items.groupBy("user_id").agg(
        F.sum("new").alias("new"), F.sum("old").alias("old"), F.sum(both).alias("both")
    )
    either = F.col("new") + F.col("old") - F.col("both")
    with_both = users.where("new > 0 AND old > 0")
    found = with_both.agg(F.count("*"), F.sum("both"), F.sum(either)).collect()[0]
    names = (f"{name}_users", f"{name}_items_in_both", f"{name}_items_in_either")
    return {key: int(count or 0) for key, count in zip(names, found, strict=True)}
