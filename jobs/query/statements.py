"""Which statements a query may be: one that only reads, SHOW TABLES, or DESCRIBE.

The query engine can do more: its COPY writes files, and its CREATE EXTERNAL TABLE reads any.
"""

import re
from typing import Final

from jobs.io.messages import JobError

READING: Final = {"select", "with", "values"}
# Words that make a statement write although its first word reads.
WRITING: Final = {"insert", "update", "delete", "merge", "into"}
ALLOWED: Final = "write SELECT, WITH ... SELECT, VALUES, SHOW TABLES or DESCRIBE table"

_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<quoted>'[^']*'|"[^"]*"|`[^`]*`)|(?P<word>[a-z_]\w*)|.""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_SHOW_TABLES = re.compile(r"show\s+tables", re.IGNORECASE)
_DESCRIBE = re.compile(r'desc(?:ribe)?\s+(?:table\s+)?("?)(?P<table>\w+)\1', re.IGNORECASE)


def bare(sql: str) -> str:
    """A statement without comments and without the semicolons at its end.

    >>> bare("SELECT '--' -- two dashes; ;")
    "SELECT '--'"
    """
    kept = (" " if token["comment"] else token[0] for token in _TOKEN.finditer(sql))
    return re.sub(r"[;\s]+$", "", "".join(kept)).strip()


def is_show_tables(statement: str) -> bool:
    """Whether the statement asks which tables there are."""
    return _SHOW_TABLES.fullmatch(statement) is not None


def described_table(statement: str) -> str | None:
    """The table whose columns the statement asks for, in lower case; None for any other statement.

    >>> described_table("desc Items")
    'items'
    """
    found = _DESCRIBE.fullmatch(statement)
    return found["table"].lower() if found else None


def reading_query(statement: str) -> str:
    """The bare statement in the form that is run. Raises JobError where it may do more than read.

    The words are looked at for the sake of a clear message. What holds whatever they are is the pair of
    parentheses around the statement: the engine's own parser takes nothing but a query there.
    """
    tokens = [t for t in _TOKEN.finditer(statement) if not t[0].isspace()]
    if not tokens:
        raise JobError(f"the query is empty; {ALLOWED}")
    if any(token[0] == ";" for token in tokens):
        raise JobError("this is more than one statement: give each its own command")
    words = [token["word"].lower() for token in tokens if token["word"]]
    first = words[0] if words else tokens[0][0]
    if first not in READING:
        raise JobError(f"{first.upper()} is no query, and a query only reads; {ALLOWED}")
    if written := [word for word in words if word in WRITING]:
        raise JobError(
            f"{written[0].upper()} writes, and a query only reads; a column of that name needs quotes"
        )
    return f"({statement}\n)"
