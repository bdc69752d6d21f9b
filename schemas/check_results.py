"""The outcomes of the checks made before a night is published."""

from schemas.table import BOOLEAN, DOUBLE, STRING, Check, Column, Table

TABLE = Table(
    name="check_results",
    comment="Outcome of every rule, measured before a night is published.",
    key=("run_id", "rule"),
    written_by="check_tables",
    erasure="nothing",
    append_only=True,
    columns=(
        Column("run_id", STRING, "run that measured the rule"),
        Column("rule", STRING, "table and rule, as table.rule"),
        Column("level", STRING, "fail or warn"),
        Column("value", DOUBLE, "measured value; null: nothing to measure", nullable=True),
        Column("passed", BOOLEAN, "whether the rule held"),
    ),
    checks=(Check("level_known", "level IN ('fail', 'warn')"),),
)
