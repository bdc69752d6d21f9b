"""One vector per distinct text and model, computed once."""

from schemas.table import BOOLEAN, INT, STRING, VECTOR, Check, Column, Rule, Table, finite_vector, unique

TABLE = Table(
    name="text_embeddings",
    comment="One vector per distinct text and model. Engines differ in bits: the stored vector counts.",
    key=("text_key", "model_key"),
    written_by="embed_texts",
    erasure="text",
    sizes_night=True,
    partition_by=("model_key",),
    columns=(
        Column("text_key", STRING, "SHA-256 of the embedded text, lower-case hex", private=True),
        Column(
            "model_key",
            STRING,
            "model: a readable name and a hash over everything that changes its vectors' meaning",
        ),
        Column("dim", INT, "length of the vector"),
        Column("token_count", INT, "tokens given to the model"),
        Column("truncated", BOOLEAN, "whether the text was truncated to fit the model"),
        Column("engine", STRING, "vllm, vllm_server or hash"),
        Column("dtype", STRING, "number format of the computation"),
        Column("created_run", STRING, "run_id of the run that embedded the text"),
        Column("vector", VECTOR, "unit-length embedding", private=True),
    ),
    checks=(Check("vector_has_dim", "size(vector) = dim"), *finite_vector()),
    rules=(
        unique("text_key", "model_key"),
        Rule("one_size_per_model", "count(DISTINCT model_key, dim) - count(DISTINCT model_key)"),
    ),
)
