"""Polarity of each distinct text."""

from schemas.table import DOUBLE, STRING, Check, Column, Table

TABLE = Table(
    name="text_sentiments",
    comment="Polarity of each distinct text by a pinned sentiment model.",
    key=("text_key", "sentiment_key"),
    partition_by=("sentiment_key",),
    columns=(
        Column("text_key", STRING, "SHA-256 of the text, lower-case hex", private=True),
        Column("sentiment_key", STRING, "the sentiment model: a readable name and a hash"),
        Column("polarity", DOUBLE, "-1 (negative) to 1 (positive)"),
    ),
    checks=(Check("polarity_in_range", "polarity BETWEEN -1 AND 1"),),
)
