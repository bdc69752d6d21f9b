"""The item catalogue: title, text and attributes of each item, by the log day they apply from."""

from typing import Final

from schemas.table import DATE, STRING, TEXT_MAP, Check, Column, Table, unique

# Who named an item.
BY_CATALOGUE: Final = "catalogue"
BY_EVENTS: Final = "events"

TABLE = Table(
    name="items",
    comment="Item versions: one row per log day on which an item's title, text or attributes changed. "
    "A catalogue's name holds until its next one. Without a catalogue each user has one vote on an item: the "
    "latest title, with its attributes, of the user's events that arrived on the day or in the "
    "fold.window_days before; an event dated after its log day is no vote. On a day that brings it votes, a "
    "title takes over if it has more of them than the name in force, which counts as one at least: no single "
    "user renames an item. A new item gets the title with most votes, and of equals the older one.",
    key=("item_id", "valid_from"),
    written_by="ingest_events",
    erasure="item",
    reach="valid_from",
    columns=(
        Column("item_id", STRING, "the log's item id", private=True),
        Column("title", STRING, "title as delivered", nullable=True, private=True),
        Column("text", STRING, "normalised text of the item", nullable=True, private=True),
        Column("text_key", STRING, "SHA-256 of text, lower-case hex", nullable=True, private=True),
        Column("attributes", TEXT_MAP, "further fields of the item", nullable=True, private=True),
        Column("first_seen_date", DATE, "log day of the item's first version"),
        Column("valid_from", DATE, "log day from which this version applies"),
        Column(
            "named_by",
            STRING,
            f"who named it: {BY_CATALOGUE} or {BY_EVENTS}; NULL, by older code, counts as {BY_EVENTS}",
            nullable=True,
        ),
    ),
    checks=(
        Check("text_and_key_together", "(text IS NULL) = (text_key IS NULL)"),
        Check("named_by_known", f"named_by IS NULL OR named_by IN ('{BY_CATALOGUE}', '{BY_EVENTS}')"),
    ),
    rules=(unique("item_id", "valid_from"),),
)
