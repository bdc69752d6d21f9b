"""What an ingest tells of days that it does not write, and of names that move many users.

All of it is counted in the run's record as well.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.ingest.counts import unfilled
from jobs.ingest.fates import FILTERED
from jobs.ingest.names import few_sent, is_renamed, moved_users, votes_of
from jobs.ingest.scope import Judged, Names, Scope
from jobs.ingest.stale import Change, find_stale
from jobs.io.days import Days, is_in
from jobs.io.formats import SHOWN
from jobs.io.messages import say
from schemas import behavior_events

# Share of a day's users that titles of events may move, by another name of an item, without a warning. Items
# are renamed now and then, each of them seen by few; a twentieth of all users at once is more than that.
FEW_MOVED = 0.05


def warn_of_renamed_items(scope: Scope, judged: Judged, names: Names) -> None:
    """Counts the users whose events take another name of an item, which titles of other events gave it.

    Says so where on a day these are more than FEW_MOVED of the users.
    """
    count = scope.run.counts["renamed_items"]
    if not count:
        return
    renamed = few_sent(names.fresh.where(is_renamed()), count)
    moved = moved_users(judged.stored, renamed, bool(scope.logs.mapping.texts))
    by_day = {row["log_date"]: row["moved"] for row in moved.collect()}
    scope.run.counts["renamed_users"] = sum(by_day.values())
    if not by_day:
        return
    users = judged.stored.groupBy("log_date").agg(F.count_distinct("user_id").alias("users"))
    of_days = users.where(is_in("log_date", by_day)).collect()
    for day, all_users in sorted((row["log_date"], row["users"]) for row in of_days):
        if by_day[day] > FEW_MOVED * all_users:
            say(
                f"{scope.run.spec.job}: titles of events rename items of {by_day[day]} of the {all_users} "
                f"users of {day}: look at the versions of items that begin on this day before you trust them"
            )


def warn_of_stale_texts(scope: Scope, newest: date, names: Names, events: DataFrame) -> None:
    """Counts what would be different on later days: texts of stored events, and versions of items.

    Says which days to ingest again. newest: the last later day with an ingest.
    """
    change = Change(
        days=scope.days,
        versions_before=scope.versions_before,
        versions=names.versions,
        events=scope.run.warehouse.read(behavior_events.TABLE),
        votes=votes_of(events),
        newest=newest,
        window_days=scope.before.window_days,
    )
    # SQL's names have no case.
    by_attributes = any("item_attributes" in p.lower() for p in scope.settings.fold.predicates.values())
    stale = find_stale(change, scope.form, by_version=by_attributes or bool(scope.logs.mapping.texts))
    scope.run.counts |= {"stale_texts": stale.texts, "stale_names": stale.names}
    if stale.until is not None:
        differ = f"{stale.texts} events of later days would have another text, because"
        if by_attributes:
            differ = f"{stale.texts} events of later days would have another text or other facets, because"
        if not stale.texts:
            differ = f"{stale.names} names of items would begin on other days, because"
        # From the very next day: it may name an item as the day before did, without a version of its own.
        say(
            f"{scope.run.spec.job}: {differ} {scope.days.first}..{scope.days.last} name their items "
            f"differently: ingest {change.later.first}..{stale.until} again, in order"
        )


def say_unfilled(scope: Scope, found: Sequence[Row]) -> None:
    """Says which fields no record of the days has a value of, and that none passes a filter.

    A name that the log does not have gives NULL where the records themselves are all that tells of names, as
    in JSON, and then nobody would hear of it. found: fates, with the counts of jobs.ingest.counts.filled.
    """
    mapping, days = scope.logs.mapping, scope.days
    for field, texts in unfilled(mapping, found).items():
        read_from = " or ".join(texts)[:SHOWN]
        say(
            f"{scope.run.spec.job}: no record of {days} has a value of {field}, which the mapping reads "
            f"from {read_from}: is the name right?"
        )
    filters = sorted({one.filter for one in mapping.sources.values() if one.filter is not None})
    if found and filters and all(row["fate"] == FILTERED for row in found):
        told = " or ".join(filters)[:SHOWN]
        say(f"{scope.run.spec.job}: no record of {days} passes the mapping's filter {told}")


def say_held_later(scope: Scope, held: Days, most: int) -> None:
    """Says which days to read together, so that each record is on the day that delivered it first.

    A night can't: it would find the event stored under the later day, and that night the record under no day.
    """
    count, days = scope.run.counts["held_later"], scope.days
    first, last = held.first, min(held.last, held.first + timedelta(days=most - 1))
    more = "" if last == held.last else ", which then says what is left"
    say(
        f"{scope.run.spec.job}: {count} records of {days.first}..{days.last} are stored under later days, "
        f"which delivered them again: run backfill_profiles --start {first} --end {last}{more}"
    )
