"""The item catalogue: title, text and attributes of each item, by the log day they apply from."""

from schemas.table import DATE, STRING, TEXT_MAP, Check, Column, Table, unique

TABLE = Table(
    name="items",
    comment="Item versions: one row per log day on which an item's title, text or attributes changed.",
    key=("item_id", "valid_from"),
    written_by="ingest_events",
    erasure="nothing",
    reach="valid_from",
    columns=(
        Column("item_id", STRING, "the log's item id", private=True),
        Column("title", STRING, "title as delivered", nullable=True, private=True),
        Column("text", STRING, "normalised text of the item", nullable=True, private=True),
        Column("text_key", STRING, "SHA-256 of text, lower-case hex", nullable=True, private=True),
        Column("attributes", TEXT_MAP, "further fields of the item", nullable=True, private=True),
        Column("first_seen_date", DATE, "log day of the item's first version"),
        Column("valid_from", DATE, "log day from which this version applies"),
    ),
    checks=(Check("text_and_key_together", "(text IS NULL) = (text_key IS NULL)"),),
    rules=(unique("item_id", "valid_from"),),
)
