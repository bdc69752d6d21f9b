"""The models that lists of items may be made by: what each was trained on, how it ranked, the verdict."""

from typing import Final

from pyspark.sql import types as T

from schemas.table import BOOLEAN, DATE, DOUBLE, INT, STRING, Check, Column, Table, unique

# Folder of the warehouse with the models' files.
FOLDER: Final = "_models"
NUMBERS: Final = T.MapType(STRING, DOUBLE)

TABLE = Table(
    name="ranking_models",
    comment="Blends of scores, trained by the choices of some days. Lists are made by the newest accepted "
    "one that was trained to their day or before it, for the same treatment of repeats, and was there when "
    "their night ran. An erasure takes all: each was fitted to every user.",
    key=("version",),
    written_by="train_ranker",
    erasure="model",
    columns=(
        Column(
            "version",
            STRING,
            "trained_to, a dash and a hash over the rest of the row but `sequence` and `in_force_from`",
        ),
        Column("sequence", INT, "1 for the first model of the warehouse, then one more each"),
        Column("kind", STRING, "the collaborative model of the blend: ease, item_knn or last_item"),
        Column("trained_from", DATE, "first day whose choices were asked for"),
        Column("trained_to", DATE, "last such day; the model knows the log up to its end"),
        Column("in_force_from", DATE, "the day after the newest that was published or had lists before it"),
        Column("model_key", STRING, "embedding model of the profiles and items that were ranked"),
        Column("repeat", STRING, "treatment of items chosen before: allow, exclude or only"),
        Column("parameters", NUMBERS, "weights of the parts, half-lives in days, penalties"),
        Column("metrics", NUMBERS, "NDCG and users of the days of tuning; `held_`: of the held-out ones"),
        Column("artefact", STRING, "file below the warehouse: NumPy arrays, without pickle"),
        Column("artefact_sha256", STRING, "SHA-256 of the file, lower-case hex"),
        Column("accepted", BOOLEAN, "whether lists may be made by it"),
        Column("verdict", STRING, "why: buckets of users, differences of NDCG and their 95% intervals"),
    ),
    checks=(Check("trained_in_order", "trained_from <= trained_to"),),
    rules=(unique("version"),),
)
