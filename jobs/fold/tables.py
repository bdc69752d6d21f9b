"""The fold's two tables: states and profiles, each changed in one commit."""

from collections.abc import Mapping
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.fold.dirty import KEY, in_days
from jobs.io import delta
from jobs.io.messages import JobError
from jobs.io.model import model_key_of
from schemas import profile_states, user_profiles
from schemas.settings import Settings


def refuse_other_settings(spark: SparkSession, warehouse: str, settings: Settings) -> None:
    """Stops before the ingest where the profiles were folded under other settings: a day that was begun would have to be finished."""
    hashes = settings.facet_hashes(model_key_of(settings.engine))
    if delta.commit_note(spark, warehouse, user_profiles.TABLE).get("facet_hashes") != hashes:
        newest_of_fold(spark, warehouse, delta.read_table(spark, warehouse, user_profiles.TABLE), hashes)


def newest_of_fold(
    spark: SparkSession, warehouse: str, profiles: DataFrame, hashes: Mapping[str, str]
) -> date | None:
    """The newest day of the profiles, None without any; stops where some were folded under other settings.

    The last commit says both, unless it was no fold's: then all profiles are asked.
    """
    note = delta.commit_note(spark, warehouse, user_profiles.TABLE)
    if note.get("facet_hashes") == hashes and "newest" in note:
        return date.fromisoformat(note["newest"])
    found = profiles.groupBy("facet", "fold_hash").agg(F.max("as_of_date")).collect()
    noted = note.get("facet_hashes", hashes) if found else hashes
    if noted != hashes or any(hashes.get(facet) != other for facet, other, _ in found):
        raise JobError(
            "the profiles here were folded under other settings or another model; put the settings back, or run backfill_profiles --rebuild"
        )
    return max((newest for *_, newest in found), default=None)


def write_states(
    spark: SparkSession,
    warehouse: str,
    fresh: DataFrame,
    states: DataFrame,
    dirty: DataFrame,
    days: set[date],
    note: dict[str, object],
) -> None:
    """One commit for the states of the days that change."""
    touched = in_days(days)
    kept = (
        states.where(touched)
        .join(dirty, KEY, "left")
        .where("first_dirty IS NULL OR as_of_date < first_dirty")
    )
    with delta.noting(spark, note):
        delta.overwrite_where(
            spark, warehouse, profile_states.TABLE, fresh.unionByName(kept.select(*fresh.columns)), touched
        )


def write_profiles(
    spark: SparkSession,
    warehouse: str,
    latest: DataFrame,
    profiles: DataFrame,
    dirty: DataFrame,
    days: set[date],
    note: dict[str, object],
) -> None:
    """One commit for the latest states: the days that dirty facets leave or enter are written anew, all others stay as they are."""
    touched = in_days(days)
    kept = profiles.where(touched).join(dirty, KEY, "left_anti")
    rows = latest.unionByName(kept.select(*latest.columns).repartition("as_of_date"))
    with delta.noting(
        spark, note | {"profile_states": delta.same_since(spark, warehouse, profile_states.TABLE)}
    ):
        delta.overwrite_where(spark, warehouse, user_profiles.TABLE, rows, touched)


def sound_profiles(spark: SparkSession, warehouse: str, states: DataFrame) -> DataFrame:
    """user_profiles, written anew where a killed job left it behind profile_states: its last commit names their version.

    Upkeep raises versions and changes no latest state, so it is the version since which the states say the same that counts.
    """
    version = delta.same_since(spark, warehouse, profile_states.TABLE)
    if (
        version is not None
        and delta.commit_note(spark, warehouse, user_profiles.TABLE).get("profile_states") != version
    ):
        latest = (
            states.groupBy(*KEY)
            .agg(F.max_by(F.struct(*states.columns), "as_of_date").alias("s"))
            .select("s.*")
        )
        noted = delta.commit_note(spark, warehouse, profile_states.TABLE)
        with delta.noting(
            spark,
            {"profile_states": version}
            | {key: noted[key] for key in ("facet_hashes", "newest") if key in noted},
        ):
            delta.overwrite(spark, warehouse, user_profiles.TABLE, latest.repartition("as_of_date"))
    return delta.read_table(spark, warehouse, user_profiles.TABLE)
