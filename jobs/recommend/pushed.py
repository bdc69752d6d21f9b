"""Which items are chosen of late by new accounts nearly alone, as where somebody pushes an item."""

from datetime import timedelta
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.io.days import Days
from jobs.io.messages import say
from jobs.io.runs import Run

# Days that are looked at; with fewer choosers on them an item is passed over.
LATELY: Final = 7
FEWEST: Final = 30
# The share of new accounts among the choosers that is told.
MOST_NEW: Final = 0.8
NAMED: Final = 5


def tell_pushed(run: Run, events: DataFrame, days: Days) -> None:
    """Counts `pushed_items` and names the first of them. events: those known, that count."""
    found = pushed_items(events.where("chosen"), days).orderBy(F.desc("choosers"), "item_id")
    rows = found.limit(NAMED).collect()
    run.add_counts({"pushed_items": found.count() if len(rows) == NAMED else len(rows)})
    for row in rows:
        say(
            f"{run.spec.job} {days.last}: {row['newcomers']:,} of {row['choosers']:,} users who lately chose "
            f"the item {row['item_id']} are new accounts; if they are fake, put it into recommend.block_items"
        )


def pushed_items(choices: DataFrame, days: Days) -> DataFrame:
    """(item_id, choosers, newcomers) of items that FEWEST users chose lately, MOST_NEW of them new accounts.

    As popularity has it (jobs/rank/popularity.py): an account is established once it chose two items and
    on two days.
    """
    is_established = (F.min("item_id") < F.max("item_id")) & (F.min("event_date") < F.max("event_date"))
    users = choices.groupBy("user_id").agg((~is_established).alias("is_new"))
    since = Days(days.last - timedelta(days=LATELY - 1), days.last)
    lately = choices.where(since.sql("event_date")).select("user_id", "item_id").distinct()
    counts = (
        lately.join(users, "user_id")
        .groupBy("item_id")
        .agg(F.count("*").alias("choosers"), F.count_if("is_new").alias("newcomers"))
    )
    return counts.where((F.col("choosers") >= FEWEST) & (F.col("newcomers") >= MOST_NEW * F.col("choosers")))
