"""What an answer looks like: as a table for people, or as JSON lines with everything in them.

A value may hold whatever a log held: nothing but printable characters reaches the terminal.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from jobs.io.messages import JobError

ROWS_SHOWN: Final = 100
# Characters of a cell; hashes and run ids are whole.
WIDTH: Final = 72


@dataclass(frozen=True)
class Sheet:
    """The first rows of an answer as lines, how many rows it has, and whether a cell was cut."""

    lines: list[str]
    row_count: int
    is_cut: bool


def plain(value: Any, kind: pa.DataType) -> Any:
    """A value in the types of JSON; what JSON has no type for as a text."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return {str(plain(k, kind.key_type)): plain(v, kind.item_type) for k, v in value}
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type) for field in kind}
    if isinstance(value, list):
        return [plain(item, kind.value_type) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, bool | int | float | str) else str(value)


def escaped(text: str) -> str:
    r"""The text with everything that is not printable as an escape.

    >>> escaped("a\x1b[31m\n")
    'a\\x1b[31m\\n'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(value: Any, width: int | None = None) -> str:
    """A plain value as the text of a cell, cut to the width; a list or map that is cut says its length.

    >>> cell([0.5, None, "a"]), cell([0.25] * 300, 30), cell(None), cell(float("nan"))
    ('[0.5, NULL, "a"]', '[0.25, 0.25, 0.2… (300 in all)', 'NULL', 'nan')
    """
    text = escaped(value) if isinstance(value, str) else _text(value, width)
    if width is None or len(text) <= width:
        return text
    tail = f"… ({len(value):,} in all)" if isinstance(value, list | dict) else "…"
    return text[: width - len(tail)] + tail


def _text(value: Any, longest: int | None) -> str:
    """A value as it stands inside a list or map, of which no more than the first elements are needed."""
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, str):
        return escaped(json.dumps(value, ensure_ascii=False))
    if isinstance(value, list):
        return f"[{', '.join(_text(item, longest) for item in value[:longest])}]"
    if isinstance(value, dict):
        pairs = list(value.items())[:longest]
        return f"{{{', '.join(f'{_text(k, longest)}: {_text(v, longest)}' for k, v in pairs)}}}"
    return "NULL" if value is None else str(value).lower()


def _float_text(value: float) -> str:
    """Six decimals at most, and six digits of what is very small or large."""
    ordinary = value == 0 or 1e-3 <= abs(value) < 1e15
    return repr(round(value, 6)) if ordinary else f"{value:.6g}"


def sheet(answer: pa.RecordBatchReader, width: int | None = WIDTH) -> Sheet:
    """The answer as aligned columns: numbers to the right, everything else to the left."""
    shown, count = [], 0
    for batch in answer:
        if count < ROWS_SHOWN:
            shown.append(batch.slice(0, ROWS_SHOWN - count))
        count += batch.num_rows
    table = pa.Table.from_batches(shown, answer.schema)
    columns, is_cut = [], False
    for field, values in zip(table.schema, table.columns, strict=True):
        plains = [plain(value, field.type) for value in values.to_pylist()]
        texts = [cell(value, width) for value in plains]
        is_cut |= any(text != cell(value) for text, value in zip(texts, plains, strict=True) if "…" in text)
        heading = escaped(field.name)
        longest = max(map(len, [heading, *texts]))
        to_right = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        align = str.rjust if to_right or pa.types.is_decimal(field.type) else str.ljust
        columns.append([align(text, longest) for text in (heading, *texts)])
    lines = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    return Sheet(lines, count, is_cut)


def json_lines(answer: pa.RecordBatchReader) -> Iterator[str]:
    """Every row as a JSON object, uncut; NaN and infinities are texts. Raises JobError for equal names."""
    names, kinds = answer.schema.names, answer.schema.types
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise JobError(f"two columns have the name {escaped(repeated[0])}; rename one with AS")
    for batch in answer:
        columns = [
            [_finite(plain(value, kind)) for value in column.to_pylist()]
            for column, kind in zip(batch.columns, kinds, strict=True)
        ]
        for row in zip(*columns, strict=True):
            yield _printable_json(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _printable_json(text: str) -> str:
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
