"""What became of the records of an ingest, in numbers, and whether a day is mostly bad."""

from collections import Counter
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.ingest.fates import DUPLICATE, ERASED, FATES, QUARANTINED, REJECTED, STORED
from jobs.ingest.records import DERIVED
from jobs.io.days import Days
from schemas.mapping import LogMapping

# Prefix of the counts of records with a value of a field.
FILLED = "filled "


def count_fates(found: Sequence[Row]) -> dict[str, int]:
    """Records by fate, and quarantined ones by reason; read = stored + quarantined + duplicate + erased.

    cleaned: stored ones whose text or title lost characters that no eye sees. held_later: duplicates and
    conflicts that only events of later days make. found: fate, reason, count, cleaned, held_later.
    """
    by_fate = {fate: sum(row["count"] for row in found if row["fate"] == fate) for fate in FATES}
    reasons: Counter[str] = Counter()
    for row in found:
        if row["fate"] == QUARANTINED:
            reasons[f"quarantined_{row['reason']}"] += row["count"]
    read = sum(by_fate[fate] for fate in (STORED, QUARANTINED, DUPLICATE, ERASED))
    cleaned = sum(row["cleaned"] for row in found if row["fate"] == STORED)
    held = sum(row["held_later"] for row in found)
    return {"read": read, **by_fate, "cleaned": cleaned, "held_later": held, **dict(sorted(reasons.items()))}


def renamed_fields(mapping: LogMapping) -> dict[str, list[str]]:
    """The expressions of each event field that any source maps from something else than its own name.

    Names of our own fields are not misspelt, and most logs have few of those that the canonical mapping has.
    """
    found: dict[str, set[str]] = {}
    for source in mapping.sources.values():
        for field, text in source.fields.items():
            found.setdefault(field, set()).add(text)
    return {field: sorted(texts) for field, texts in sorted(found.items()) if texts != {field}}


def filled(mapping: LogMapping) -> list[Column]:
    """Counts of the records that have a value of each of renamed_fields: of event ids, one of the log's."""
    is_made = F.startswith("event_id", F.lit(DERIVED)) | F.startswith("event_id", F.lit(REJECTED))
    given = {"event_id": F.when(~is_made, F.col("event_id"))}
    fields = renamed_fields(mapping)
    return [F.count(given.get(field, F.col(field))).alias(f"{FILLED}{field}") for field in fields]


def unfilled(mapping: LogMapping, found: Sequence[Row]) -> dict[str, list[str]]:
    """Those of renamed_fields of which no record has a value; none where there are no records.

    found: with the counts of `filled`.
    """
    fields = renamed_fields(mapping)
    return {
        field: texts
        for field, texts in fields.items()
        if found and not any(row[f"{FILLED}{field}"] for row in found)
    }


def held_later(found: Sequence[Row]) -> Days | None:
    """From the first log day with a record that a later day holds to the last day that holds one.

    None where there is none. found: log_date, held_on.
    """
    held = [(row["log_date"], row["held_on"]) for row in found if row["held_on"] is not None]
    return Days(min(day for day, _ in held), max(day for _, day in held)) if held else None


def count_catalogue(catalogue: DataFrame) -> dict[str, int]:
    """Catalogue rows read, unusable ones, also by reason, and those that lost characters that no eye sees."""
    counted = F.count("*").alias("count"), F.count_if("cleaned").alias("cleaned")
    rows = catalogue.groupBy("reason").agg(*counted).collect()
    found, cleaned = {row["reason"]: row["count"] for row in rows}, sum(row["cleaned"] for row in rows)
    read, usable = sum(found.values()), found.pop(None, 0)
    by_reason = {reason.replace("item_", "items_", 1): count for reason, count in sorted(found.items())}
    return {"items_read": read, "items_unusable": read - usable, "items_cleaned": cleaned, **by_reason}


def bad_day(found: Sequence[Row], allowed: float) -> str | None:
    """The first log day with a larger share of unusable records than allowed, as a sentence.

    None where there is none.

    found: log_date, fate, reason, count, cleaned, held_later.
    """
    for day in sorted({row["log_date"] for row in found}):
        of_day = [row for row in found if row["log_date"] == day]
        counts = count_fates(of_day)
        bad, read = counts["quarantined"], counts["read"]
        if bad > allowed * read:
            reasons = Counter({row["reason"]: row["count"] for row in of_day if row["fate"] == QUARANTINED})
            shown = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
            return (
                f"{bad} of {read} records of {day} can't be used ({shown}), "
                f"more than max_bad_share allows ({allowed:g})"
            )
    return None
