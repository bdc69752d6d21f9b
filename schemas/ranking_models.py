"""Trained rankers, each version with what it was trained on."""

from pyspark.sql.types import MapType

from schemas.table import DATE, DOUBLE, STRING, TEXT_MAP, Column, Table

TABLE = Table(
    name="ranking_models",
    comment="Trained ranking models; the artefact lies in the warehouse.",
    key=("version",),
    columns=(
        Column("version", STRING, "name of this version"),
        Column("kind", STRING, "what kind of model it is"),
        Column("trained_to", DATE, "last event_date it has seen"),
        Column("parameters", TEXT_MAP, "its settings"),
        Column("metrics", MapType(STRING, DOUBLE), "its measured quality"),
        Column("artefact_path", STRING, "file under the warehouse"),
    ),
)
