"""The mean of all item vectors: subtracted before scores are taken."""

from schemas.table import DATE, LONG, STRING, VECTOR, Column, Table, finite_vector

TABLE = Table(
    name="catalogue_stats",
    comment="Mean vector of the catalogue as of a day; scores take cosine after subtracting it.",
    key=("as_of_date", "model_key"),
    columns=(
        Column("as_of_date", DATE, "the day"),
        Column("model_key", STRING, "the model of the vectors"),
        Column("item_count", LONG, "distinct item vectors in the mean"),
        Column("mean_vector", VECTOR, "their mean"),
    ),
    checks=finite_vector("mean_vector"),
)
