"""Which rows an erasure takes from each table, and their removal: by what the tables declare (erased_by).

Rows that name a user go with the user; rejected records that hold an id go, whoever's they are; items go
that only the users' events name, and lists' rows of them; vectors and refusals of texts go where no event
and no item needs the text any more; all models go that were fitted to every user.
"""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io.erased import companions_without, hmac_of
from jobs.io.warehouse import Warehouse, Writer
from schemas import erased_users, items
from schemas.all_tables import ALL_TABLES
from schemas.erased_users import SALT
from schemas.items import BY_CATALOGUE
from schemas.table import APPEND_ONLY, Table
from udfs.traces import Ids

USER, SEARCH, TEXT, ITEM, MODEL, MESSAGE = "user", "search", "text", "item", "model", "message"
# Stands for the message of a run that held an id.
HIDDEN = "[it held the id of an erased user]"


@dataclass(frozen=True)
class Wanted:
    """The users to erase. ids: as the log has them; stored: as user_id has them, in the same order."""

    spark: SparkSession
    ids: tuple[str, ...] = field(repr=False)
    stored: tuple[str, ...] = field(repr=False)

    @cached_property
    def users(self) -> DataFrame:
        """(user_id) in stored form."""
        return F.broadcast(self.spark.createDataFrame([(user,) for user in self.stored], "user_id string"))

    @cached_property
    def names(self) -> DataFrame:
        """(gone) with one row: all ids as the log has them."""
        return F.broadcast(self.spark.createDataFrame([(list(self.ids),)], "gone array<string>"))

    @cached_property
    def spellings(self) -> DataFrame:
        """(spelling, pattern): how a record may write an id, and the expression for one that stands alone."""
        return self._patterns({s for id_ in self.ids for s in spellings_of(id_)})

    @cached_property
    def in_messages(self) -> DataFrame:
        """(spelling, pattern) of the ids that no message may hold: those that are looked for everywhere."""
        return self._patterns({text.decode() for text in self.searched.everywhere.texts})

    @cached_property
    def searched(self) -> Ids:
        """The ids that the proof looks for."""
        return Ids(frozenset({*self.ids, *self.stored}))

    def _patterns(self, texts: set[str]) -> DataFrame:
        rows = [(text, alone(text)) for text in sorted(texts)]
        return F.broadcast(self.spark.createDataFrame(rows, "spelling string, pattern string"))


def spellings_of(text: str) -> set[str]:
    r"""How JSON, and so a raw record, may write a text.

    >>> sorted(spellings_of('zoé "z"'))
    ['zo\\u00e9 \\"z\\"', 'zoé "z"', 'zoé \\"z\\"']
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    ascii_only = "".join(c if c.isascii() else utf16_escape(c) for c in escaped)
    return {text, escaped, ascii_only}


def utf16_escape(character: str) -> str:
    r"""JSON's escape of a character: two where it lies beyond the first 65,536."""
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def alone(text: str) -> str:
    """A regular expression, for Java, of a text that is no part of a longer word or number.

    Of ASCII, as in udfs/traces.py: what the proof finds must have been removed.
    """
    return f"(?<![A-Za-z0-9]){re.escape(text)}(?![A-Za-z0-9])"


# ---- what goes


def doomed(warehouse: Warehouse, table: Table, wanted: Wanted) -> DataFrame | None:
    """The rows that go, in the columns that name them; None where the table has nothing of users."""
    find: dict[str, Callable[[Warehouse, Table, Wanted], DataFrame]]
    find = {USER: of_users, SEARCH: holding_an_id, TEXT: of_no_use, ITEM: of_no_event, MODEL: of_everybody}
    if table.erased_by == USER and "item_id" in table.names and not is_fact(table):
        return of_users_and_items(warehouse, table, wanted)
    return find[table.erased_by](warehouse, table, wanted) if table.erased_by in find else None


def of_users(warehouse: Warehouse, table: Table, wanted: Wanted) -> DataFrame:
    """(user_id) of the users' rows."""
    return warehouse.read(table).select("user_id").join(wanted.users, "user_id", "left_semi")


def of_users_and_items(warehouse: Warehouse, table: Table, wanted: Wanted) -> DataFrame:
    """The keys of the users' rows, and of others' rows of items that nothing names any more."""
    rows, facts = warehouse.read(table), [other for other in ALL_TABLES if is_fact(other)]
    named = [left_of(warehouse, fact, wanted).select("item_id") for fact in facts]
    lost = rows.join(reduce(DataFrame.unionAll, named).distinct(), "item_id", "left_anti")
    own = rows.join(wanted.users, "user_id", "left_semi")
    return own.select(*table.key).unionAll(lost.select(*table.key))


def of_everybody(warehouse: Warehouse, table: Table, _: Wanted) -> DataFrame:
    """The keys of all rows."""
    return warehouse.read(table).select(*table.key)


def is_fact(table: Table) -> bool:
    """Whether the table has items as the log named them; what follows from it keeps no item alive."""
    return "item_id" in table.names and table.written_by == items.TABLE.written_by


def holding_an_id(warehouse: Warehouse, table: Table, wanted: Wanted) -> DataFrame:
    """The keys of rows in whose texts an id stands alone: rather too many than one too few."""
    texts = [F.col(column.name) for column in table.columns if column.type == T.StringType()]
    rows = warehouse.read(table).withColumn("everything", F.concat_ws("\n", *texts))
    return rows.join(wanted.spellings, holds("everything"), "left_semi").select(*table.key)


def holds(name: str) -> Column:
    """Whether the column holds a spelling."""
    # The pattern is the slow part, and rarely asked.
    return F.contains(name, "spelling") & F.rlike(name, F.col("pattern"))


def of_no_use(warehouse: Warehouse, table: Table, wanted: Wanted) -> DataFrame:
    """(text_key) of texts that no other user's row and no item needs.

    Not only the erased users' own: whose a text was that nothing needs, nobody can tell.
    """
    needed = [
        left_of(warehouse, other, wanted).select("text_key")
        for other in ALL_TABLES
        if "text_key" in other.names and other.erased_by != TEXT
    ]
    keys = reduce(DataFrame.unionAll, needed).where("text_key IS NOT NULL").distinct()
    return warehouse.read(table).select("text_key").join(keys, "text_key", "left_anti")


def of_no_event(warehouse: Warehouse, table: Table, wanted: Wanted) -> DataFrame:
    """The keys of items that only events name, and none of another user: their titles are the users' own."""
    others = [
        left_of(warehouse, other, wanted).select("item_id")
        for other in ALL_TABLES
        if is_fact(other) and other.erased_by == USER
    ]
    rows = warehouse.read(table)
    of_catalogues = rows.where(F.col("named_by") == BY_CATALOGUE).select("item_id")
    needed = reduce(DataFrame.unionAll, [*others, of_catalogues]).distinct()
    return rows.join(needed, "item_id", "left_anti").select(*table.key)


def left_of(warehouse: Warehouse, table: Table, wanted: Wanted) -> DataFrame:
    """The rows of a table of users or of items that stay."""
    rows = warehouse.read(table)
    if table.erased_by == ITEM:
        return rows.join(of_no_event(warehouse, table, wanted), list(table.key), "left_anti")
    return rows.join(wanted.users, "user_id", "left_anti") if table.erased_by == USER else rows


def beside_others(warehouse: Warehouse, table: Table, wanted: Wanted) -> DataFrame:
    """The keys of other users' rows whose companions are among the users, with companions as they will be."""
    others = left_of(warehouse, table, wanted).where("size(companions) > 0")
    found = others.crossJoin(wanted.names).where(F.arrays_overlap("companions", "gone"))
    return found.select(*table.key, companions_without("gone").alias("companions"))


def telling_runs(warehouse: Warehouse, table: Table, wanted: Wanted) -> DataFrame:
    """The keys of run records whose messages hold an id, as the name of a file may, and other messages."""
    found = warehouse.read(table).join(wanted.in_messages, holds("message"), "left_semi")
    return found.select(*table.key, F.lit(HIDDEN).alias("message"))


def known_users(warehouse: Warehouse, wanted: Wanted) -> int:
    """How many of the users have a row in any table."""
    found = [
        of_users(warehouse, table, wanted)
        for table in ALL_TABLES
        if table.erased_by == USER and warehouse.exists(table)
    ]
    return reduce(DataFrame.unionAll, found).distinct().count() if found else 0


# ---- what is done


def erase_rows(warehouse: Warehouse, writer: Writer | None, wanted: Wanted) -> dict[str, int]:
    """Removes the users from every table, one commit each; returns the rows of each.

    Without a writer it only counts. Killed in the middle, a rerun does the rest.
    """
    counts = {}
    for table in (table for table in ALL_TABLES if warehouse.exists(table)):
        if table.erased_by == MESSAGE:
            counts["messages_hidden"] = hide_messages(warehouse, writer, table, wanted)
        rows = doomed(warehouse, table, wanted)
        if rows is None:
            continue
        counts[f"{table.name}_removed"] = count = rows.count()
        if count and writer is not None:
            with writer.keeping_content(table):
                writer.delete(table, rows)
        if "companions" in table.names:
            beside = beside_others(warehouse, table, wanted)
            counts["companions_hidden"] = count = beside.count()
            if count and writer is not None:
                with writer.keeping_content(table):
                    writer.update(table, beside)
    return counts


def hide_messages(warehouse: Warehouse, writer: Writer | None, table: Table, wanted: Wanted) -> int:
    """Takes the ids out of the messages of run records; returns how many. Without a writer it only counts."""
    rows = telling_runs(warehouse, table, wanted)
    count = rows.count()
    if writer is None:
        return count
    if count:
        writer.set_properties(table, {APPEND_ONLY: "false"})
        writer.update(table, rows)
    # Also where an erasure was killed before.
    if warehouse.properties(table).get(APPEND_ONLY) != "true":
        writer.set_properties(table, {APPEND_ONLY: "true"})
    return count


def list_users(writer: Writer, wanted: Wanted, day: date) -> None:
    """Adds the users to erased_users, before the first row goes: from now on no ingest stores them."""
    warehouse = writer.warehouse
    writer.create(erased_users.TABLE)
    if SALT not in warehouse.properties(erased_users.TABLE):
        writer.set_properties(erased_users.TABLE, {SALT: secrets.token_hex(32)})
    rows = _hashes(warehouse, wanted).withColumns({"erased_on": F.lit(day), "rows_gone": F.lit(False)})
    writer.insert_absent(erased_users.TABLE, rows, F.lit(True))


def mark_gone(writer: Writer, wanted: Wanted) -> None:
    """Says of the users that no table has a row of them any more."""
    warehouse = writer.warehouse
    left = warehouse.read(erased_users.TABLE).where("NOT rows_gone").select("user_hmac")
    gone = left.join(_hashes(warehouse, wanted), "user_hmac", "left_semi")
    if not gone.isEmpty():
        writer.update(erased_users.TABLE, gone.withColumn("rows_gone", F.lit(True)))


def _hashes(warehouse: Warehouse, wanted: Wanted) -> DataFrame:
    salt = bytes.fromhex(warehouse.properties(erased_users.TABLE)[SALT])
    return wanted.users.select(hmac_of(salt, F.col("user_id")).alias("user_hmac"))
