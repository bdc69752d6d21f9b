"""Who was erased, as hashes: the ingest stores nothing of them, and nights wait for an unfinished erasure."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.io.messages import JobError
from jobs.io.warehouse import Warehouse
from schemas.erased_users import SALT, TABLE

# Stands for an erased user among the companions of others: a place in the list stays, so that a facet by the
# number of companions means the same.
NOBODY = "[erased]"
# Bytes of a block of SHA-256, to which HMAC fills its key.
BLOCK = 64


@dataclass(frozen=True)
class ErasedUsers:
    """(user_hmac) of every erased user, and the salt under which a stored user_id is looked up among them."""

    hashes: DataFrame
    salt: bytes

    @classmethod
    def of(cls, warehouse: Warehouse) -> "ErasedUsers | None":
        """The erased users of a warehouse; None where there are none."""
        if not warehouse.exists(TABLE):
            return None
        hashes = warehouse.read(TABLE).select("user_hmac")
        salt = warehouse.properties(TABLE).get(SALT)
        return None if salt is None or hashes.isEmpty() else cls(hashes, bytes.fromhex(salt))

    def marked(self, rows: DataFrame, user: Column) -> DataFrame:
        """The rows with `is_erased`: whether a user in stored form is one of the erased."""
        known = F.broadcast(self.hashes.select("user_hmac", F.lit(True).alias("is_known")))
        joined = rows.withColumn("user_hmac", hmac_of(self.salt, user)).join(known, "user_hmac", "left")
        is_erased = F.coalesce("is_known", F.lit(False))
        return joined.withColumn("is_erased", is_erased).drop("user_hmac", "is_known")


def hmac_of(key: bytes, text: Column) -> Column:
    """HMAC-SHA-256 (RFC 2104) of a text's UTF-8 in lower-case hex; NULL for NULL.

    In Spark's own functions, so that an ingest needs no Python worker for it.

    key: at most BLOCK bytes.
    """
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(BLOCK, b"\0")).hex() for pad in (0x36, 0x5C))
    digest = F.sha2(F.concat(F.unhex(F.lit(inner)), F.encode(text, "UTF-8")), 256)
    return F.sha2(F.concat(F.unhex(F.lit(outer)), F.unhex(digest)), 256)


def companions_without(gone: str) -> Column:
    """The column companions with NOBODY in place of the names in the array column `gone`."""

    def hidden(name: Column) -> Column:
        return F.when(F.coalesce(F.array_contains(gone, name), F.lit(False)), NOBODY).otherwise(name)

    return F.transform("companions", hidden)


def unfinished_erasures(warehouse: Warehouse) -> int:
    """How many users were listed, but may still have rows: their erasure was stopped."""
    return warehouse.read(TABLE).where("NOT rows_gone").count() if warehouse.exists(TABLE) else 0


def erasures_so_far(warehouse: Warehouse) -> int | None:
    """Stands for who was erased so far: after another erasure it is another number.

    Raises JobError where an erasure stopped halfway.
    """
    refuse_unfinished_erasure(warehouse)
    return warehouse.same_since(TABLE)


def refuse_erased_since(warehouse: Warehouse, then: int | None, job: str) -> None:
    """Raises JobError where users were erased that the job still knew. then: erasures_so_far as it began."""
    if erasures_so_far(warehouse) != then:
        raise JobError(
            f"users were erased after {job} had read their events; run it again, nothing was stored"
        )


def refuse_unfinished_erasure(warehouse: Warehouse) -> None:
    """Raises JobError where an erasure stopped before every table was without the users' rows."""
    if left := unfinished_erasures(warehouse):
        raise JobError(
            f"erase_users stopped before {left} users were gone from every table; "
            "run it again with the same ids first"
        )
