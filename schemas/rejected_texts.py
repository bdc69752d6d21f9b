"""Texts the model could not embed; they are retried only on request."""

from schemas.table import STRING, Column, Table

TABLE = Table(
    name="rejected_texts",
    comment="Texts a model could not embed, with the engine's message; retried only on request.",
    key=("text_key", "model_key"),
    written_by="embed_texts",
    erasure="text",
    partition_by=("model_key",),
    columns=(
        Column("text_key", STRING, "SHA-256 of the text, lower-case hex", private=True),
        Column("model_key", STRING, "model that rejected the text"),
        Column("reason", STRING, "reason code: zero_vector, not_finite, wrong_size, ..."),
        Column("message", STRING, "reason as a sentence", private=True),
    ),
)
