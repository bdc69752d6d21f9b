"""Texts the model could not embed; they are not tried again unasked."""

from schemas.table import STRING, Column, Table

TABLE = Table(
    name="rejected_texts",
    comment="Texts that a model could not embed, with the engine's words; not tried again unasked.",
    key=("text_key", "model_key"),
    written_by="embed_texts",
    partition_by=("model_key",),
    columns=(
        Column("text_key", STRING, "SHA-256 of the text, lower-case hex", private=True),
        Column("model_key", STRING, "the model that refused it"),
        Column("reason", STRING, "why, as a code: zero_vector, not_finite, wrong_size, ..."),
        Column("message", STRING, "why, as a sentence", private=True),
    ),
)
