"""The fold's two tables.

Profile_states and user_profiles, each changed in one commit whose note ties them together.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.fold.dirty import KEY
from jobs.fold.meaning import FoldMeaning
from jobs.fold.note import FoldNote
from jobs.io.days import is_in
from jobs.io.messages import JobError
from jobs.io.warehouse import Warehouse, Writer
from schemas import profile_states, user_profiles
from schemas.settings import Settings


def write_states(
    into: Writer, fresh: DataFrame, states: DataFrame, dirty: DataFrame, days: set[date], note: FoldNote
) -> None:
    """Writes new states: the days that change are written again, with the clean states of the same days.

    states: rows of profile_states before; dirty: (user_id, facet, first_dirty).
    """
    touched = is_in("as_of_date", days)
    others = states.where(touched).join(dirty, KEY, "left")
    kept = others.where("first_dirty IS NULL OR as_of_date < first_dirty").select(*fresh.columns)
    with into.noting({}, content=note.to_json()):
        into.replace(profile_states.TABLE, fresh.unionByName(kept), touched)


def write_profiles(
    into: Writer, latest: DataFrame, profiles: DataFrame, dirty: DataFrame, days: set[date], note: FoldNote
) -> None:
    """Writes the latest states of dirty facets: only the days that they leave or enter are written again.

    latest: rows of user_profiles; profiles: all of them before.
    """
    touched = is_in("as_of_date", days)
    kept = profiles.where(touched).join(dirty, KEY, "left_anti")
    rows = latest.unionByName(kept.select(*latest.columns).repartition("as_of_date"))
    version = into.warehouse.same_since(profile_states.TABLE)
    with into.noting({}, content=note.beside_states(version).to_json()):
        into.replace(user_profiles.TABLE, rows, touched)


def sound_profiles(into: Writer, states: DataFrame) -> DataFrame:
    """user_profiles, rewritten first where a killed job left it behind profile_states.

    Its last commit names the version of profile_states that it belongs to. Maintenance raises versions
    without changing a latest state, so the version is the one since which the states are the same.
    """
    warehouse = into.warehouse
    version = warehouse.same_since(profile_states.TABLE)
    if version is not None and FoldNote.of(warehouse, user_profiles.TABLE).states_version != version:
        latest = F.max_by(F.struct(*states.columns), "as_of_date").alias("s")
        rows = states.groupBy(*KEY).agg(latest).select("s.*").repartition("as_of_date")
        note = FoldNote.of(warehouse, profile_states.TABLE).beside_states(version)
        with into.noting({}, content=note.to_json()):
            into.overwrite(user_profiles.TABLE, rows)
    return warehouse.read(user_profiles.TABLE)


def newest_of_fold(warehouse: Warehouse, profiles: DataFrame, hashes: Mapping[str, str]) -> date | None:
    """The newest day of the profiles, None without any.

    Raises JobError where some were folded under other settings. The last commit's note answers both, unless
    it was not a fold's: then the profiles are read.
    """
    note = FoldNote.of(warehouse, user_profiles.TABLE)
    if note.facet_hashes == hashes and note.newest is not None:
        return note.newest
    found = profiles.groupBy("facet", "fold_hash").agg(F.max("as_of_date")).collect()
    noted = (hashes if note.facet_hashes is None else note.facet_hashes) if found else hashes
    if noted != hashes or any(hashes.get(facet) != other for facet, other, _ in found):
        raise JobError(
            "the profiles here were folded under other settings or another model; "
            "put the settings back, or run backfill_profiles --rebuild"
        )
    return max((newest for *_, newest in found), default=None)


def refuse_other_settings(warehouse: Warehouse, settings: Settings) -> None:
    """Raises JobError where the profiles were folded under other settings.

    To be asked before a day is ingested.
    """
    hashes = FoldMeaning.of(settings).facet_hashes
    if FoldNote.of(warehouse, user_profiles.TABLE).facet_hashes != hashes:
        newest_of_fold(warehouse, warehouse.read(user_profiles.TABLE), hashes)


def note_of_fold(hashes: dict[str, str], fresh: set[date], left: set[date], newest: date | None) -> FoldNote:
    """The note of a fold's commits.

    fresh: days of new states; left: days that latest states leave; newest: the newest day before. Where the
    newest day's profiles may all have left for older days, only the profiles themselves can tell it, and it
    is not noted.
    """
    note = FoldNote(facet_hashes=hashes)
    known = fresh | ({newest} - left if newest else set())
    is_known = bool(known) and (newest is None or max(known) >= newest)
    return replace(note, newest=max(known)) if is_known else note
