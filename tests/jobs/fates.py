"""What an ingest of a log would decide about its records, without the warehouse's tables."""

from pyspark.sql import DataFrame, SparkSession

from jobs.ingest.fates import decide_fates, identified, known_identities
from jobs.ingest.privacy import normal_form
from jobs.io import logs
from schemas import behavior_events, erased_users
from schemas.mapping import LogMapping
from schemas.settings import Settings


def fated(spark: SparkSession, root: str, mapping: LogMapping, settings: Settings | None = None) -> DataFrame:
    """The records of all day folders with their fates."""
    settings = settings or Settings()
    folders = [logs.day_folder(root, day) for day in logs.day_folders(spark, root)]
    known = known_identities(spark.createDataFrame([], behavior_events.TABLE.spark_schema()))
    erased = spark.createDataFrame([], erased_users.TABLE.spark_schema())
    records = logs.read_days(spark, mapping.source, folders, root)
    read = identified(records, erased, mapping, settings, None).localCheckpoint()
    return decide_fates(read, known, compares_texts=not mapping.texts, normal=normal_form(settings.privacy))
