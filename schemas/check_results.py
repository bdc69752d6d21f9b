"""What the checks before publication found."""

from schemas.table import BOOLEAN, DOUBLE, STRING, Check, Column, Table

TABLE = Table(
    name="check_results",
    comment="Outcome of every rule checked before a night was published.",
    key=("run_id", "rule"),
    written_by="check_tables",
    append_only=True,
    columns=(
        Column("run_id", STRING, "the run that checked"),
        Column("rule", STRING, "table and rule"),
        Column("level", STRING, "fail or warn"),
        Column("value", DOUBLE, "what was measured", nullable=True),
        Column("passed", BOOLEAN, "whether it held"),
    ),
    checks=(Check("level_known", "level IN ('fail', 'warn')"),),
)
