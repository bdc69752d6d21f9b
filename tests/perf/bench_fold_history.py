"""What a night costs as history and sleepers grow, what a range costs against its nights, and what events cost in number."""

import sys
import tempfile
import time
from datetime import date

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.io import delta
from jobs.io.session import open_session
from schemas import profile_states, user_profiles
from schemas.settings import SparkSettings
from tests.perf.fold_tables import FIRST, day, fold, write_events, write_vectors
from tests.perf.report import Ratio, report

TEXTS = 5_000
A_DAY = 20_000
ACTIVE = 4_000
NIGHTS = 90


def timed_fold(spark: SparkSession, warehouse: str, first: date, last: date) -> float:
    began = time.perf_counter()
    fold(spark, warehouse, first, last)
    return time.perf_counter() - began


def night_after(spark: SparkSession, folder: str, days: int, sleepers: int) -> float:
    """Seconds of the night after so many days, with so many users who were active once, a month before them."""
    warehouse = f"{folder}/after_{days}_{sleepers}"
    write_vectors(spark, warehouse, TEXTS)
    write_events(spark, warehouse, day(0), 1, sleepers, sleepers, TEXTS, user_from=1_000_000)
    write_events(spark, warehouse, day(30), days + 2, A_DAY, ACTIVE, TEXTS, before=sleepers)
    fold(spark, warehouse, day(0), day(29 + days))
    fold(spark, warehouse, day(30 + days), day(30 + days))
    return timed_fold(spark, warehouse, day(31 + days), day(31 + days))


def same(spark: SparkSession, one: str, other: str) -> bool:
    """Whether two warehouses hold the same states and profiles."""
    return all(
        delta.same_rows(
            delta.read_table(spark, one, table), delta.read_table(spark, other, table), table.names
        )
        for table in (profile_states.TABLE, user_profiles.TABLE)
    )


def main() -> int:
    with (
        open_session("bench fold history", SparkSettings(driver_memory="3g")) as spark,
        tempfile.TemporaryDirectory() as folder,
    ):
        night_after(spark, folder, 2, 1_000)  # warms the session
        # What the others are held against comes last: a session gets faster with every night.
        long, many = night_after(spark, folder, NIGHTS, 20_000), night_after(spark, folder, 9, 200_000)
        short = night_after(spark, folder, 9, 20_000)

        whole, nightly = f"{folder}/whole", f"{folder}/nightly"
        for warehouse in (whole, nightly):
            write_vectors(spark, warehouse, TEXTS)
            write_events(spark, warehouse, FIRST, NIGHTS, A_DAY, ACTIVE, TEXTS)
        ranged = timed_fold(spark, whole, FIRST, day(NIGHTS - 1))
        # The last ten of the nights; all of them would be the same ten times over.
        fold(spark, nightly, FIRST, day(NIGHTS - 11))
        nights = (
            sum(timed_fold(spark, nightly, day(n), day(n)) for n in range(NIGHTS - 10, NIGHTS)) * NIGHTS / 10
        )
        assert same(spark, whole, nightly)
        states = delta.read_table(spark, whole, profile_states.TABLE).agg(F.count("*")).collect()[0][0]
        return report(
            "fold_history",
            [
                Ratio("a night over ten times the history", long / short, most=1.15),
                Ratio("a night over ten times the sleepers", many / short, most=1.5),
                Ratio("90 nights over one range", nights / ranged, least=10),
            ],
            {
                "night, s": round(short, 2),
                "range of 90 days, s": round(ranged, 2),
                "nights, s": round(nights, 1),
                "states": states,
            },
        )


if __name__ == "__main__":
    sys.exit(main())
