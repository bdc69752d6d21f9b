"""SQL and documentation derived from a declaration: names that need escaping, and what the example lacks."""

from dataclasses import replace

from schemas import table
from schemas.table import STRING, Check, Column, Table

PLAIN = Table("plain", "Plain.", (Column("name", STRING, "a name"),), ("name",), written_by=None)


def test_quotes_in_comments_and_checks_are_escaped_in_the_ddl():
    quoted = replace(
        PLAIN,
        comment="The user's \\ own.",
        columns=(Column("name", STRING, "it's a name"),),
        checks=(Check("known", "name IN ('a')"),),
    )
    ddl = quoted.ddl("/w/plain")
    assert r"COMMENT 'it\'s a name'" in ddl and r"COMMENT 'The user\'s \\ own.'" in ddl
    assert r"'delta.constraints.known' = 'name IN (\'a\')'" in ddl


def test_a_backtick_in_a_path_does_not_end_the_name():
    assert "delta.`/w/a``b/plain` (" in PLAIN.ddl("/w/a`b/plain")


def test_a_table_without_a_reach_is_documented_as_measured_in_full():
    assert PLAIN.reach is None
    measured = replace(PLAIN, rules=(table.unique("name"),))
    assert "Checked before a night is published:\n" in measured.markdown()
