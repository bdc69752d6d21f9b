"""Keeps erased users out: of events, of companions, and of what is kept of records nobody can use."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.ingest.fates import ERASED
from jobs.ingest.privacy import StoredForm
from jobs.io.erased import NOBODY, ErasedUsers, companions_without


def mark_erased(named: DataFrame, erased: ErasedUsers) -> DataFrame:
    """The records with the reason ERASED where their user was erased.

    Without an identity, so that no other record is compared with theirs. named: as
    jobs.ingest.fates.identified returns them.
    """
    marked = erased.marked(named, F.col("user_id"))
    own = {name: F.when(~F.col("is_erased"), F.col(name)) for name in ("same", "same_hash")}
    own["reason"] = F.when(F.col("is_erased"), ERASED).otherwise(F.col("reason"))
    return marked.withColumns(own).drop("is_erased")


def hide_companions(records: DataFrame, erased: ErasedUsers, form: StoredForm) -> DataFrame:
    """The records with NOBODY in place of erased users among their companions.

    Identities cover the companions as they came, and so stay. records: checkpointed, since their names are
    read first.
    """
    names = records.select(F.explode("companions").alias("name")).where("name IS NOT NULL").distinct()
    named = erased.marked(names.withColumn("user", form.user(F.col("name"))), F.col("user"))
    gone = named.where("is_erased").agg(F.collect_set("name").alias("gone")).localCheckpoint()
    if gone.where("size(gone) > 0").isEmpty():
        return records
    joined = records.crossJoin(F.broadcast(gone))
    return joined.withColumn("companions", companions_without("gone")).drop("gone")


def without_content(rejected: DataFrame) -> DataFrame:
    """Rejected records, without the content of those that may be, or may name, an erased user's.

    Nobody can tell whose a record is where its user can't be read, or has characters that no id may have.
    """
    is_named = F.coalesce(F.array_contains("companions", NOBODY), F.lit(False))
    is_unknown = F.col("user_id").isNull() | (F.col("reason") == "control_characters")
    return rejected.withColumn("raw", F.when(is_named | is_unknown, "").otherwise(F.col("raw")))
