"""The two copies of the retail data set, cleaned and as exported, hold the same events and texts."""

import pandas as pd
import pytest
from pyspark.sql import functions as F

from jobs.ingest.privacy import stored_form
from jobs.ingest.records import IDS
from schemas.mapping import parse_mapping, shipped_mapping
from schemas.settings import Settings
from tests.jobs.records import fated, only_source, with_source

CLEAN = parse_mapping(shipped_mapping("online_retail") or "", "online_retail")
OF_EXPORT = {"format": "csv", "options": {}}
EXPORTED = with_source(CLEAN, source=only_source(CLEAN).source.model_copy(update=OF_EXPORT))
# Days with some broken descriptions: a pound sign read in the wrong encoding.
SOME = ["2010-12-20", "2010-12-23", "2011-01-05"]


def write_days(rows, folder, days, suffix, write):
    for day, of_day in rows.groupby(rows["InvoiceDate"].str[:10]):
        if days is None or day in days:
            place = folder / f"dt={day}"
            place.mkdir(parents=True)
            write(of_day, place / f"rows{suffix}")


def decided(spark, root, mapping):
    is_stored = F.col("fate") == "stored"
    item_text = stored_form(Settings()).text(F.col("title"))
    of_events = {
        "event_id": F.when(is_stored, F.col("event_id")),
        "item_key": F.when(is_stored, F.sha2("item_text", 256)),
    }
    facts = [
        "fate",
        "reason",
        "event_date",
        *IDS,
        "value",
        F.array_sort(F.map_entries("extra")).alias("extra"),
    ]
    rows = fated(spark, str(root), mapping).withColumn("item_text", item_text)
    return rows.withColumns(of_events).select(*facts, "item_key", "item_text")


@pytest.mark.parametrize(
    "days", [SOME, pytest.param(None, marks=pytest.mark.slow)], ids=["some days", "all days"]
)
def test_both_copies_give_the_same(spark, shared_data, tmp_path, days):
    folder = shared_data / "uci-online-retail"
    clean = pd.read_parquet(folder / "online_retail.parquet")
    write_days(
        clean, tmp_path / "clean", days, ".parquet", lambda rows, path: rows.to_parquet(path, index=False)
    )
    exported = pd.read_csv(folder / "online_retail.csv.gz", dtype=str, keep_default_na=False)
    write_days(
        exported, tmp_path / "exported", days, ".csv.gz", lambda rows, path: rows.to_csv(path, index=False)
    )
    one, other = (
        decided(spark, tmp_path / "clean", CLEAN).persist(),
        decided(spark, tmp_path / "exported", EXPORTED).persist(),
    )
    assert one.count() == other.count() > 1000
    assert one.where("fate = 'stored'").count() > 1000
    for left, right in ((one, other), (other, one)):
        # Only broken texts differ. None of their rows has a customer, so they are no events.
        assert left.drop("item_text").exceptAll(right.drop("item_text")).count() == 0
        assert left.exceptAll(right).count() == (32 if days is None else 3 + 1)
    one.unpersist()
    other.unpersist()
