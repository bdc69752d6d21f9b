"""The middle of the catalogue, from which scores are seen."""

from schemas.table import DATE, LONG, STRING, VECTOR, Check, Column, Rule, Table, finite_vector, unique

TABLE = Table(
    name="catalogue_stats",
    comment="Mean vector of the items in force, from each log day on which one began or changed. Scores are "
    "cosines of vectors and profiles minus this mean.",
    key=("as_of_date", "model_key"),
    written_by="embed_texts",
    erasure="nothing",
    reach="as_of_date",
    columns=(
        Column("as_of_date", DATE, "log day from which the row holds, until the model's next one"),
        Column("model_key", STRING, "embedding model of the vectors"),
        Column("item_count", LONG, "items in force whose text has a vector"),
        Column("mean_vector", VECTOR, "mean of their vectors"),
    ),
    checks=(Check("item_count_positive", "item_count > 0"), finite_vector("mean_vector")[0]),
    rules=(
        unique("as_of_date", "model_key"),
        Rule(
            "one_size_per_model", "count(DISTINCT model_key, size(mean_vector)) - count(DISTINCT model_key)"
        ),
    ),
)
