"""What of a record may be stored: texts without private data, user ids under a key, and nothing of users who were erased."""

from collections.abc import Callable

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.functions import arrow_udf

from jobs.io import delta
from jobs.io.cli import read_secret
from jobs.io.messages import JobError
from schemas import behavior_events
from schemas.settings import PrivacySettings
from udfs.errors import KeyProblem
from udfs.privacy import check_key, erased_user, keyed_record, keyed_user, scrub, scrub_record
from udfs.text import map_distinct, normalise

# The property of behavior_events that names the key of its user ids; without it they are as they came.
USER_KEY, PLAIN = "nightfold.user_key", "plain"
KEY_VARIABLE = "NIGHTFOLD_KEY"


def hide(reasoned: DataFrame, privacy: PrivacySettings, key: bytes | None, erased: DataFrame) -> DataFrame:
    """Texts in their stored form; user ids hidden as the settings say; erased users marked.

    Before identities are made, so that what is derived from a record is derived from what may be stored of it. erased: user_hmac.
    """
    hidden = reasoned.withColumn("text", normal_form(privacy)(F.col("text")))
    if key is None:
        return hidden.withColumn("is_erased", F.lit(False))
    hmac = of_distinct(lambda user: erased_user(key, user))
    marks = erased.select("user_hmac").distinct().withColumn("is_erased", F.lit(True))
    marked = (
        hidden.withColumn("user_hmac", hmac(F.col("user_id")))
        .join(marks, "user_hmac", "left")
        .drop("user_hmac")
    )
    marked = marked.withColumn("is_erased", F.coalesce("is_erased", F.lit(False)))
    if privacy.user_ids == "plain":
        return marked
    return marked.withColumn("user_id", of_distinct(lambda user: keyed_user(key, user))(F.col("user_id")))


def hide_record(rejected: DataFrame, privacy: PrivacySettings, key: bytes | None) -> DataFrame:
    """Rejected records without what they give away: raw is empty where it names a user whom the settings hide, or may name an erased one.

    rejected: user_id, raw, record_hash; key: where ids are keyed, or users were erased.
    """
    shown = rejected
    if privacy.scrub_texts:
        shown = shown.withColumn(
            "raw", of_distinct(lambda raw: scrub_record(raw, privacy.phone_region))(F.col("raw"))
        )
    if key is None:
        return shown
    # Whom a record without a readable user is about nobody can tell. A short record could be guessed from its hash.
    is_hidden = F.lit(privacy.user_ids == "keyed") | F.col("user_id").isNull()
    keyed = of_distinct(lambda record: keyed_record(key, record))(F.col("record_hash"))
    hidden = {"raw": F.lit(""), "record_hash": keyed}
    return shown.withColumns(
        {name: F.when(is_hidden, column).otherwise(F.col(name)) for name, column in hidden.items()}
    )


def normal_form(privacy: PrivacySettings) -> Callable[[Column], Column]:
    """The stored form of a column of texts: scrubbed where that is asked for, and normal as udfs/text.py has it."""
    region, scrubs = privacy.phone_region, privacy.scrub_texts
    return of_distinct(lambda text: normalise(scrub(text, region) if scrubs else text) or None)


def scrubbed(privacy: PrivacySettings) -> Callable[[Column], Column]:
    """A column of texts that are stored as they came, without private data where that is asked for."""
    region = privacy.phone_region
    return of_distinct(lambda text: scrub(text, region)) if privacy.scrub_texts else lambda column: column


def of_distinct(function: Callable[[str], str | None]) -> Callable[[Column], Column]:
    """A function of one text as one of a column, computed in Python once for each distinct text of a batch."""

    def apply(texts: pa.Array) -> pa.Array:
        return map_distinct(texts, function)

    made: Callable[[Column], Column] = arrow_udf(apply, T.StringType())  # type: ignore[call-overload]
    return made


def user_key(privacy: PrivacySettings, is_needed: bool) -> bytes | None:
    """The secret key, where something asks for it."""
    if not is_needed:
        return None
    try:
        return check_key(read_secret(privacy.key_file, KEY_VARIABLE))
    except KeyProblem as error:
        raise JobError(str(error)) from error


def require_same_key(spark: SparkSession, warehouse: str, name: str) -> None:
    """Stops where the stored user ids were made by another key, or by none: a user would get a second profile."""
    stored = stored_key(spark, warehouse)
    if stored not in (None, name):
        shown = {PLAIN: "as they came"}
        raise JobError(
            f"this warehouse holds user ids {shown.get(stored, f'keyed by key {stored}')}, and the settings ask for ids "
            f"{shown.get(name, f'keyed by key {name}')}; the two never mix: use a new warehouse"
        )


def stored_key(spark: SparkSession, warehouse: str) -> str | None:
    """The name of the stored user ids' key, PLAIN where they are as they came, None where no id was ever stored."""
    if not delta.table_exists(spark, warehouse, behavior_events.TABLE):
        return None
    noted = delta.properties(spark, warehouse, behavior_events.TABLE).get(USER_KEY)
    # A job killed before it noted the key leaves a table that nothing was written to.
    return noted or (PLAIN if delta.table_version(spark, warehouse, behavior_events.TABLE) else None)


def name_key(spark: SparkSession, warehouse: str, name: str) -> None:
    """Notes the key of user ids in the table that holds them first."""
    if name != PLAIN and stored_key(spark, warehouse) is None:
        delta.open_table(spark, warehouse, behavior_events.TABLE)
        delta.set_property(spark, warehouse, behavior_events.TABLE, USER_KEY, name)
