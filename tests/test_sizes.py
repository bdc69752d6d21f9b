"""No function of the product is longer than a screen; ruff bounds its arguments, statements and branches."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 50


def functions(path: Path) -> list[tuple[str, int]]:
    """Name and lines of every function in a file, nested ones too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in found]


@pytest.mark.parametrize("room", ["schemas", "udfs", "jobs", "dags", "docker"])
def test_no_function_is_longer_than_a_screen(room):
    sizes = [(path, *size) for path in (ROOT / room).rglob("*.py") for size in functions(path)]
    assert sizes
    assert [f"{path.name}:{name} has {lines} lines" for path, name, lines in sizes if lines > LONGEST] == []
