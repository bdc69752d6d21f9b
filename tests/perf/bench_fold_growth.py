"""The cost of an event as their number grows, and the heap that the driver keeps afterwards."""

import gc
import sys
import tempfile
import time
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.io.session import fit_to_size, open_session
from jobs.io.warehouse import Warehouse
from schemas.settings import SparkSettings
from tests.perf.fold_tables import FIRST, Traffic, fold, write_events, write_vectors
from tests.perf.report import Ratio, report

TEXTS, EVENTS_A_USER = 10_000, 20
MILLION = 1_000_000


def heap_in_use(spark: SparkSession) -> float:
    """Bytes that Java holds after garbage collection."""
    java = spark._jvm.java.lang
    # Python's reference cycles keep Java objects alive; and Spark drops what Java collected from its store
    # later, in a thread of its own.
    gc.collect()
    for _ in range(2):
        java.System.gc()
        time.sleep(2)
    return java.Runtime.getRuntime().totalMemory() - java.Runtime.getRuntime().freeMemory()


def seconds_and_heap(spark: SparkSession, folder: str, events: int) -> tuple[float, float]:
    """The time to fold this many events of one day, and the heap in use afterwards, bytes."""
    warehouse = Warehouse(spark, str(Path(folder) / str(events)))
    write_events(warehouse, Traffic(events, events // EVENTS_A_USER, TEXTS))
    write_vectors(warehouse, TEXTS)
    fit_to_size(spark, [warehouse.uri])
    began = time.perf_counter()
    fold(warehouse, FIRST, FIRST)
    return time.perf_counter() - began, heap_in_use(spark)


def main() -> int:
    with (
        open_session("bench fold growth", SparkSettings(driver_memory="3g")) as spark,
        tempfile.TemporaryDirectory() as folder,
    ):
        seconds_and_heap(spark, folder, MILLION // 5)  # warms up the session
        (one, heap), (five, heap_of_five) = (
            seconds_and_heap(spark, folder, events) for events in (MILLION, 5 * MILLION)
        )
        ratios = [
            Ratio("cost of an event of 5M over one of 1M", five / 5 / one, most=1.2),
            Ratio("heap after 5M over heap after 1M", heap_of_five / heap, most=1.2),
        ]
        figures = {
            "1M events, s": round(one, 1),
            "5M events, s": round(five, 1),
            "heap, MB": round(heap_of_five / 1e6),
        }
        return report("fold_growth", ratios, figures)


if __name__ == "__main__":
    sys.exit(main())
