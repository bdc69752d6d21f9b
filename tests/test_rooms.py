"""The rooms of the repository and what each may import, so that imports go one way; runs without Spark, as `make check` does."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Top-level folders that may hold Python.
FOLDERS = {"schemas", "udfs", "jobs", "dags", "tests", "docker", "docs"}
# What a room may import beside the standard library. A name covers what is below it.
MAY_IMPORT = {
    "schemas": {"schemas", "pyspark.sql.types", "pyarrow", "pydantic", "yaml"},
    "udfs": {"udfs", "numpy", "pyarrow", "numba", "llvmlite"},
    "jobs": {"jobs", "schemas", "udfs", "pyspark", "delta", "deltalake", "pyarrow", "numpy"},
    "jobs/io": {"jobs.io", "schemas", "pyspark", "py4j", "delta"},
    "dags": {"airflow", "spark_jobs"},  # its own folder is all that Airflow puts on the path
}
# Inside functions only: loading one takes seconds that a run with nothing to embed must not pay.
MAY_IMPORT_LAZILY = {"udfs": {"vllm", "torch", "tokenizers", "huggingface_hub", "phonenumbers", "pydantic"}}
# Ways to read and write; schemas has none. What ships with the package is read by importlib.resources.
READS_AND_WRITES = {
    "asyncio",
    "ftplib",
    "glob",
    "http",
    "io",
    "os",
    "pathlib",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "urllib",
}
VAGUE = {"util", "utils", "helper", "helpers", "manager", "managers", "registry", "registries"}


def room_of(path: Path) -> str:
    """The narrowest room a file lies in."""
    parts = path.relative_to(ROOT).parts
    return "jobs/io" if parts[:2] == ("jobs", "io") else parts[0]


def sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(node: ast.AST, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """Every dotted name that is imported below the node, and whether only once a function runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            yield from ((f"{module}.{alias.name}", lazy) for alias in child.names)
        else:
            yield from imports(child, lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def within(name: str, allowed: set[str]) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in allowed)


def breaches(room: str, code: str) -> list[str]:
    """What the code imports, or opens, that its room may not."""
    tree = ast.parse(code)
    found = []
    for name, lazy in imports(tree):
        standard = name.partition(".")[0] in sys.stdlib_module_names
        allowed = MAY_IMPORT[room] | (MAY_IMPORT_LAZILY.get(room, set()) if lazy else set())
        if (standard and room == "schemas" and within(name, READS_AND_WRITES)) or not (
            standard or within(name, allowed)
        ):
            found.append(name)
    if room == "schemas":
        called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
        found += [
            function.id
            for function in called
            if isinstance(function, ast.Name) and function.id in ("open", "__import__")
        ]
    return found


@pytest.mark.parametrize("path", sources("schemas", "udfs", "jobs", "dags"), ids=name_of)
def test_a_file_imports_only_what_its_room_may(path):
    assert breaches(room_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("schemas", "from pyspark.sql import SparkSession"),
        ("schemas", "from pyspark.sql import functions as F"),
        ("schemas", "import udfs.text"),
        ("schemas", "from jobs.io import delta"),
        ("schemas", "from pathlib import Path"),
        ("schemas", "def f():\n    return open('x')"),
        ("udfs", "import pyspark"),
        ("udfs", "def f():\n    from schemas import items"),
        ("udfs", "from jobs import run_night"),
        ("udfs", "import torch"),
        ("udfs", "if True:\n    from vllm import LLM"),
        ("udfs", "class Engine:\n    import transformers"),
        ("udfs", "from . import text"),
        ("jobs", "import airflow"),
        ("jobs", "from dags import nightly"),
        ("jobs", "def f():\n    import vllm"),
        ("jobs", "from tests import oracle"),
        ("jobs/io", "from udfs import text"),
        ("jobs/io", "from jobs import run_night"),
        ("jobs/io", "def f():\n    import jobs.ingest_events"),
        ("dags", "from schemas import items"),
        ("dags", "import jobs.run_night"),
        ("dags", "def task():\n    from udfs import fold"),
        ("dags", "import pyspark"),
    ],
)
def test_the_import_rule_finds_a_breach(room, code):
    assert len(breaches(room, code)) == 1


@pytest.mark.parametrize(
    ("room", "code"),
    [
        (
            "schemas",
            "from pyspark.sql import types as T\nfrom pyspark.sql.types import MapType\nfrom importlib import resources",
        ),
        (
            "udfs",
            "import os\nimport pyarrow.compute as pc\n\ndef load():\n    from vllm.config import PoolerConfig",
        ),
        ("jobs", "from jobs.io import delta\nfrom schemas import items\nfrom udfs.text import normalise"),
        ("jobs/io", "from jobs.io.shell import JobError\nfrom schemas.table import Table"),
        ("dags", "from datetime import date\nfrom airflow.sdk import DAG"),
    ],
)
def test_the_import_rule_lets_through_what_a_room_is_for(room, code):
    assert breaches(room, code) == []


@pytest.mark.parametrize(
    "path", [path for path in sources("schemas", "udfs", "jobs") if path.name != "__init__.py"], ids=name_of
)
def test_every_module_can_be_imported(path):
    importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def test_python_lies_only_in_the_rooms():
    assert {path.parent.name for path in ROOT.glob("[!.]*/*.py")} <= FOLDERS


@pytest.mark.parametrize(
    "path",
    [path for path in sources("schemas", "udfs", "jobs", "tests") if path.name == "__init__.py"],
    ids=name_of,
)
def test_an_init_file_is_empty(path):
    assert path.read_bytes() == b""


def test_every_package_has_an_init_file():
    folders = {path.parent for path in sources("schemas", "udfs", "jobs", "tests")}
    assert [name_of(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_nothing_has_a_name_that_says_nothing():
    paths = [
        path
        for room in sorted(FOLDERS)
        for path in (ROOT / room).rglob("*")
        if path.is_dir() or path.suffix == ".py"
    ]
    assert [name_of(path) for path in paths if path.stem in VAGUE] == []


@pytest.mark.parametrize(
    "path",
    [path for path in sources("schemas", "udfs", "jobs", "dags", "tests") if path.name != "__init__.py"],
    ids=name_of,
)
def test_a_file_says_first_why_it_exists(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
