"""Profiles in words, each sentence with its evidence."""

from pyspark.sql import types as T

from schemas.table import DATE, STRING, STRINGS, Column, Table

TABLE = Table(
    name="profile_texts",
    comment="The profile of a user in words; each sentence names the events that bear it out.",
    key=("as_of_date", "user_id"),
    partition_by=("as_of_date",),
    columns=(
        Column("as_of_date", DATE, "the day whose states were used"),
        Column("user_id", STRING, "whose profile it is", private=True),
        Column("text", STRING, "the whole text", private=True),
        Column(
            "sentences",
            T.ArrayType(T.StructType([T.StructField("text", STRING), T.StructField("event_ids", STRINGS)])),
            "its sentences, each with the events behind it",
            private=True,
        ),
        Column("writer", STRING, "what wrote it: a template or a model, with version"),
    ),
)
