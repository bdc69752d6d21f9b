"""Keeps erased users out: of events, of companions, and of what is kept of records nobody can use."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.ingest.fates import ERASED
from jobs.ingest.privacy import StoredForm
from jobs.io.erased import ErasedUsers, companions_without, hmac_of


def mark_erased(named: DataFrame, erased: ErasedUsers) -> DataFrame:
    """The records with the reason ERASED where their user was erased.

    Without an identity, so that no other record is compared with theirs. named: as
    jobs.ingest.fates.identify returns them.
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


def without_content(rejected: DataFrame, erased: ErasedUsers) -> DataFrame:
    """Rejected records (raw, record_hash) without their content, under a hash that needs the salt.

    Of all: any may name an erased user, whose id nobody has any more to look for. And a short record could be
    guessed from a plain hash.
    """
    keyed = hmac_of(erased.salt, F.col("record_hash"))
    return rejected.withColumns({"raw": F.lit(""), "record_hash": keyed})
