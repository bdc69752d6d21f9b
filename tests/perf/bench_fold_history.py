"""The cost of a night as history and inactive users grow, and of a range compared with its nights."""

import sys
import tempfile
import time
from datetime import date

from pyspark.sql import SparkSession

from jobs.io.session import open_session
from jobs.io.warehouse import Warehouse, same_rows
from schemas import profile_states, user_profiles
from schemas.settings import SparkSettings
from tests.perf.fold_tables import FIRST, Traffic, day, fold, write_events, write_vectors
from tests.perf.report import Ratio, report

TEXTS = 5_000
A_DAY = 20_000
ACTIVE = 4_000
NIGHTS = 90


def timed_fold(warehouse: Warehouse, first: date, last: date) -> float:
    """Seconds of the fold of these days."""
    began = time.perf_counter()
    fold(warehouse, first, last)
    return time.perf_counter() - began


def night_after(spark: SparkSession, folder: str, days: int, inactive: int) -> float:
    """Seconds of a night after this many days. inactive: users with one event, a month before these days."""
    warehouse = Warehouse(spark, f"{folder}/after_{days}_{inactive}")
    write_vectors(warehouse, TEXTS)
    write_events(warehouse, Traffic(inactive, inactive, TEXTS, user_from=1_000_000))
    write_events(warehouse, Traffic(A_DAY, ACTIVE, TEXTS, first=day(30), days=days + 2, before=inactive))
    fold(warehouse, day(0), day(29 + days))
    fold(warehouse, day(30 + days), day(30 + days))
    return timed_fold(warehouse, day(31 + days), day(31 + days))


def hold_the_same(one: Warehouse, other: Warehouse) -> bool:
    """Whether two warehouses hold the same states and profiles."""
    tables = (profile_states.TABLE, user_profiles.TABLE)
    return all(same_rows(one.read(table), other.read(table), table.names) for table in tables)


def range_and_nights(spark: SparkSession, folder: str) -> tuple[float, float, int]:
    """Seconds of a range of NIGHTS days, of the same days night by night, and the number of their states."""
    whole, nightly = (Warehouse(spark, f"{folder}/{name}") for name in ("whole", "nightly"))
    for warehouse in (whole, nightly):
        write_vectors(warehouse, TEXTS)
        write_events(warehouse, Traffic(A_DAY, ACTIVE, TEXTS, days=NIGHTS))
    ranged = timed_fold(whole, FIRST, day(NIGHTS - 1))
    # Only the last ten nights are measured; the others take the same time.
    fold(nightly, FIRST, day(NIGHTS - 11))
    last_ten = sum(timed_fold(nightly, day(n), day(n)) for n in range(NIGHTS - 10, NIGHTS))
    assert hold_the_same(whole, nightly)
    return ranged, last_ten * NIGHTS / 10, whole.read(profile_states.TABLE).count()


def main() -> int:
    with (
        open_session("bench fold history", SparkSettings(driver_memory="3g")) as spark,
        tempfile.TemporaryDirectory() as folder,
    ):
        night_after(spark, folder, 2, 1_000)  # warms up the session
        # The baseline comes last, since a session gets faster with every night.
        long = night_after(spark, folder, NIGHTS, 20_000)
        many = night_after(spark, folder, 9, 200_000)
        short = night_after(spark, folder, 9, 20_000)
        ranged, nights, states = range_and_nights(spark, folder)
    ratios = [
        Ratio("a night over ten times the history", long / short, most=1.15),
        Ratio("a night over ten times the inactive users", many / short, most=1.5),
        Ratio("90 nights over one range", nights / ranged, least=10),
    ]
    figures = {
        "night, s": round(short, 2),
        "range of 90 days, s": round(ranged, 2),
        "nights, s": round(nights, 1),
        "states": states,
    }
    return report("fold_history", ratios, figures)


if __name__ == "__main__":
    sys.exit(main())
