"""The stored events as rankings see them: which say that a user chose an item, and which were taken back."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.fold.facets import HIDDEN, facets_of, with_attributes, with_seen
from jobs.rank.tables import Tables, with_retractions
from jobs.rank.target import counted, default_target, target
from schemas import behavior_events, items
from schemas.fold_settings import FoldSettings


def marked_events(tables: Tables, fold: FoldSettings, predicate: str | None = None) -> DataFrame:
    """All events with `gone`, `chosen`, and the columns that predicates may use.

    predicate: which events are choices; by default those that weigh enough, are not negative and well rated.
    """
    stored = with_retractions(tables.read(behavior_events.TABLE))
    seen = with_seen(with_attributes(stored, tables.read(items.TABLE), fold))
    if predicate is None:
        chosen = default_target(fold, F.array_contains(facets_of(seen.drop("gone"), fold), "negative"))
    else:
        chosen = target(seen.drop(*HIDDEN, "gone"), predicate)
    return seen.withColumn("chosen", counted(fold) & F.coalesce(chosen, F.lit(False)))
