"""The form in which a record may be stored: texts without private data, and user ids under a key."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.functions import arrow_udf

from jobs.io.messages import JobError
from jobs.io.secret import read_secret
from jobs.io.warehouse import Warehouse
from schemas import behavior_events
from schemas.settings import Settings
from udfs.errors import SecretKeyError
from udfs.privacy import check_key, key_id, keyed_record, keyed_user, scrub, scrub_record
from udfs.text import map_distinct, normalise, seen

# The property of behavior_events that names the key of its user ids; PLAIN where they are stored unchanged.
USER_KEY, PLAIN = "nightfold.user_key", "plain"
KEY_VARIABLE = "NIGHTFOLD_KEY"

ColumnFunction = Callable[[Column], Column]


@dataclass(frozen=True)
class StoredForm:
    """The settings of what is stored, resolved once: texts, user ids with their buckets, rejected records.

    key: the secret key of user ids; None where they are stored unchanged.
    """

    scrubs: bool
    phone_region: str | None
    key: bytes | None = field(repr=False)
    user_buckets: int

    @property
    def key_name(self) -> str:
        """Names the key without revealing it."""
        return PLAIN if self.key is None else key_id(self.key)

    @cached_property
    def text(self) -> ColumnFunction:
        """The stored form of a text.

        Scrubbed where configured, in normal form (udfs/text.py), NULL where empty.
        """
        region, scrubs = self.phone_region, self.scrubs
        # An unseen character inside would hide an address from the search.
        return on_distinct(lambda text: normalise(scrub(seen(text), region) if scrubs else text) or None)

    @cached_property
    def title(self) -> ColumnFunction:
        """The stored form of a title: scrubbed where configured, without what no eye sees."""
        region, scrubs = self.phone_region, self.scrubs
        return on_distinct(lambda text: (scrub(seen(text), region) if scrubs else seen(text)) or None)

    def user_id(self, user: str) -> str:
        """The stored form of one user's id."""
        return user if self.key is None else keyed_user(self.key, user)

    def user(self, users: Column) -> Column:
        """The stored form of a column of user ids."""
        if self.key is None:
            return users
        # The key alone goes to the workers.
        key = self.key
        return on_distinct(lambda user: keyed_user(key, user))(users)

    def redact(self, reasoned: DataFrame) -> DataFrame:
        """Texts and user ids in their stored form.

        Before identities are derived, so that they depend only on what may be stored.
        """
        return reasoned.withColumns(
            {"text": self.text(F.col("text")), "user_id": self.user(F.col("user_id"))}
        )

    def redact_rejected(self, rejected: DataFrame) -> DataFrame:
        """Rejected records (raw, record_hash) without private data; under keyed ids nothing of raw stays."""
        if self.key is not None:
            key = self.key
            # A short record could be guessed from its hash.
            keyed = on_distinct(lambda record: keyed_record(key, record))
            return rejected.withColumns({"raw": F.lit(""), "record_hash": keyed(F.col("record_hash"))})
        if self.scrubs:
            region = self.phone_region
            scrubbed = on_distinct(lambda raw: scrub_record(raw, region))
            return rejected.withColumn("raw", scrubbed(F.col("raw")))
        return rejected


def stored_form(settings: Settings) -> StoredForm:
    """The settings with the key they name. Raises JobError where the key is missing or unusable."""
    privacy = settings.privacy
    try:
        key = check_key(read_secret(privacy.key_file, KEY_VARIABLE)) if privacy.user_ids == "keyed" else None
    except SecretKeyError as error:
        raise JobError(str(error)) from error
    return StoredForm(privacy.scrub_texts, privacy.phone_region, key, settings.store.user_buckets)


def on_distinct(function: Callable[[str], str | None]) -> ColumnFunction:
    """A function of one text as one of a column, called in Python once for each distinct text of a batch."""

    def apply(texts: pa.Array) -> pa.Array:
        return map_distinct(texts, function)

    made: ColumnFunction = arrow_udf(apply, T.StringType())  # type: ignore[call-overload]
    return made


def text_key(text: Column) -> Column:
    """The key of a text in its stored form: SHA-256 of its UTF-8 as lower-case hex; NULL for NULL."""
    return F.sha2(text, 256)


# ---- the key of a warehouse's user ids


def require_same_key(warehouse: Warehouse, name: str) -> None:
    """Raises JobError where the stored user ids have another key, or none.

    Each user would get a second profile.
    """
    stored = stored_key(warehouse)
    if stored not in (None, name):
        shown = {PLAIN: "unchanged"}
        raise JobError(
            f"this warehouse holds user ids {shown.get(stored, f'keyed by key {stored}')}, and the settings "
            f"ask for ids {shown.get(name, f'keyed by key {name}')}; the two never mix: use a new warehouse"
        )


def stored_key(warehouse: Warehouse) -> str | None:
    """The name of the stored user ids' key, PLAIN without one, None where no id was ever stored."""
    if not warehouse.exists(behavior_events.TABLE):
        return None
    noted = warehouse.properties(behavior_events.TABLE).get(USER_KEY)
    # A job killed before it named the key leaves a table without rows, at version 0.
    return noted or (PLAIN if warehouse.version(behavior_events.TABLE) else None)
