"""The rooms of the repository and what each may import, so that imports go one way.

Runs without Spark, as `make check` does.
"""

import ast
import importlib
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Top-level folders that may hold Python.
FOLDERS = {"schemas", "udfs", "jobs", "dags", "tests", "docker", "docs"}
SPARK = {"pyspark", "py4j", "delta"}
# Siblings: none of them knows another.
DOMAINS = {"jobs.ingest", "jobs.embed", "jobs.fold"}
# Of the models that profiles are compared with.
ARRAYS = {"numpy", "scipy", "threadpoolctl"}
# What a file may import in addition to the standard library, by its room: the longest entry that its path
# starts with. A name covers everything below it. Each room is one floor: it knows the floors below, not its
# neighbours. `jobs` stands for the commands, and names none of them, so that nobody imports a command.
MAY_IMPORT = {
    "schemas": {"schemas", "pyspark.sql.types", "pydantic", "yaml"},
    "udfs": {"udfs", "numpy", "pyarrow", "numba", "llvmlite"},
    # Leaves: a driver imports them without what the workers need.
    "udfs/errors.py": set(),
    "udfs/small_files.py": set(),
    "udfs/engines/contract.py": {"udfs.errors", "numpy"},
    "udfs/fold/contract.py": {"pyarrow"},
    "jobs/io": {"jobs.io", "schemas", "udfs.engines", "udfs.errors", "udfs.small_files", *SPARK},
    # What only reads starts no Java: a session takes many seconds.
    "jobs/io/reading.py": {"jobs.io", "schemas", "deltalake", "pyarrow"},
    "jobs/query": {"jobs.query", "jobs.io", "schemas", "deltalake", "pyarrow"},
    "jobs/query_tables.py": {"jobs.query", "jobs.io", "schemas", "deltalake", "pyarrow"},
    "jobs/show_runs.py": {"jobs.night", "jobs.io", "schemas"},
    "jobs/ingest": {"jobs.ingest", "jobs.io", "schemas", "udfs", "pyarrow", *SPARK},
    "jobs/embed": {"jobs.embed", "jobs.io", "schemas", "udfs", "pyarrow", "numpy", *SPARK},
    "jobs/fold": {"jobs.fold", "jobs.io", "schemas", "udfs", "pyarrow", *SPARK},
    "jobs/erase": {"jobs.erase", "jobs.io", "schemas", "udfs", "pyarrow", *SPARK},
    "jobs/rank": {"jobs.rank", "jobs.io", "schemas", "udfs", *ARRAYS, "pyarrow", *SPARK},
    "jobs/evaluate": {"jobs.evaluate", "jobs.rank", "jobs.io", "schemas", "udfs", *ARRAYS, "yaml", *SPARK},
    "jobs/recommend": {
        "jobs.recommend",
        "jobs.rank",
        "jobs.io",
        "schemas",
        "udfs",
        *ARRAYS,
        "pyarrow",
        *SPARK,
    },
    "jobs/night": {"jobs.night", *DOMAINS, "jobs.rank", "jobs.recommend", "jobs.io", "schemas", "pyspark"},
    "jobs/demo": {"jobs.demo", "numpy", "yaml"},
    "jobs": {
        "jobs.night",
        "jobs.demo",
        "jobs.erase",
        "jobs.evaluate",
        "jobs.rank",
        "jobs.recommend",
        *DOMAINS,
        "jobs.io",
        "schemas",
        "udfs",
        "pyarrow",
        *SPARK,
    },
    "dags": {"airflow", "spark_jobs"},  # its own folder is all that Airflow puts on the path
}
# Inside functions only: loading one takes seconds that a run with nothing to embed must not pay.
MAY_IMPORT_LAZILY = {
    "udfs": {"vllm", "torch", "tokenizers", "huggingface_hub", "phonenumbers", "pydantic"},
    "jobs/rank": {"torch", "implicit"},
    "jobs/evaluate": {"matplotlib"},
}
# Ways to read and write, which schemas has none of. importlib.resources reads what ships with the package.
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


def room_of(name: str) -> str:
    """The narrowest room of a file, by its path below the root."""
    return max((room for room in MAY_IMPORT if f"{name}/".startswith(f"{room}/")), key=len)


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


def breaches(path: str, code: str) -> list[str]:
    """What the code of a file imports, or opens, that its room may not."""
    tree, room = ast.parse(code), room_of(path)
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
    assert breaches(name_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("schemas", "from pyspark.sql import SparkSession"),
        ("schemas", "from pyspark.sql import functions as F"),
        ("schemas", "import udfs.text"),
        ("schemas", "from jobs.io import days"),
        ("schemas", "from pathlib import Path"),
        ("schemas", "def f():\n    return open('x')"),
        ("udfs", "import pyspark"),
        ("udfs", "def f():\n    from schemas import items"),
        ("udfs", "from jobs import run_night"),
        ("udfs", "import torch"),
        ("udfs", "if True:\n    from vllm import LLM"),
        ("udfs", "class Engine:\n    import transformers"),
        ("udfs", "from . import text"),
        ("udfs/engines/contract.py", "from udfs.engines import model"),
        ("udfs/fold/contract.py", "def f():\n    from udfs.fold import kernel"),
        ("jobs/run_night.py", "import airflow"),
        ("jobs/run_night.py", "from dags import nightly"),
        ("jobs/run_night.py", "def f():\n    import vllm"),
        ("jobs/run_night.py", "from tests import oracle"),
        ("jobs/run_night.py", "from jobs import fold_profiles"),
        ("jobs/run_night.py", "def f():\n    from jobs.fold_profiles import run"),
        ("jobs/io/reading.py", "from pyspark.sql import SparkSession"),
        ("jobs/query/cells.py", "from jobs.fold.note import FoldNote"),
        ("jobs/show_runs.py", "from pyspark.sql import SparkSession"),
        ("jobs/io/runs.py", "from udfs import text"),
        ("jobs/io/runs.py", "from udfs.fold.contract import FoldConstants"),
        ("jobs/io/runs.py", "from jobs.fold.note import FoldNote"),
        ("jobs/io/runs.py", "from jobs import run_night"),
        ("jobs/io/runs.py", "def f():\n    import jobs.ingest_events"),
        ("jobs/ingest/days.py", "from jobs.fold.days import fold_days"),
        ("jobs/embed/days.py", "from jobs.ingest import privacy"),
        ("jobs/fold/days.py", "from jobs.embed.days import embed_days"),
        ("jobs/erase/rows.py", "from jobs.ingest.privacy import StoredForm"),
        ("jobs/fold/days.py", "from jobs.night import guards"),
        ("jobs/evaluate/judge.py", "from jobs.fold.days import fold_days"),
        ("jobs/evaluate/judge.py", "from jobs.recommend.training import train"),
        ("jobs/recommend/training.py", "from jobs.evaluate.judge import judge"),
        ("jobs/rank/models.py", "from jobs.recommend.training import train"),
        ("jobs/rank/factors.py", "import torch"),
        ("jobs/night/steps.py", "from jobs.demo import log"),
        ("jobs/night/steps.py", "import jobs.publish_run"),
        ("jobs/demo/log.py", "from jobs.io.messages import say"),
        ("dags", "from schemas import items"),
        ("dags", "import jobs.run_night"),
        ("dags", "def task():\n    from udfs import fold"),
        ("dags", "import pyspark"),
    ],
)
def test_the_import_rule_finds_a_breach(path, code):
    assert len(breaches(path, code)) == 1


TYPES = "from pyspark.sql import types as T\nfrom pyspark.sql.types import MapType\nimport importlib"
LAZY = "import os\nimport pyarrow.compute as pc\n\ndef load():\n    from vllm.config import PoolerConfig"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("schemas", TYPES),
        ("udfs", LAZY),
        ("udfs/engines/contract.py", "from udfs.errors import EngineError"),
        ("jobs/run_night.py", "from jobs.night.steps import Night\nfrom jobs.io.cli import Parser"),
        ("jobs/ingest/days.py", "from jobs.io.runs import Run\nfrom udfs.text import normalise"),
        ("jobs/night/steps.py", "from jobs.embed.days import JOB\nfrom jobs.fold.days import fold_days"),
        ("jobs/io/model.py", "from udfs.engines.model import model_key\nfrom udfs.errors import EngineError"),
        ("dags", "from datetime import date\nfrom airflow.sdk import DAG"),
    ],
)
def test_the_import_rule_allows_what_a_room_needs(path, code):
    assert breaches(path, code) == []


# ---- circles


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules among the sources that each of them imports, at any time."""
    graph: dict[str, set[str]] = {}
    for module, code in sources.items():
        names = {name for name, _ in imports(ast.parse(code))}
        # `from a.b import c` names a.b.c, which is a module or something in the module a.b.
        named = names | {name.rpartition(".")[0] for name in names}
        graph[module] = named & sources.keys()
    return graph


def first_circle(graph: Mapping[str, set[str]]) -> list[str] | None:
    """Modules that import each other in a circle; None where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def test_no_modules_import_each_other_in_a_circle():
    code = {module_of(path): path.read_text(encoding="utf-8") for path in sources("schemas", "udfs", "jobs")}
    graph = import_graph(code)
    assert sum(map(len, graph.values())) > 100
    assert first_circle(graph) is None


def test_a_lazy_import_closes_a_circle_too():
    code = {
        "jobs.a": "from jobs.b import f",
        "jobs.b": "from jobs import c",
        "jobs.c": "def f():\n    import jobs.a",
        "jobs.d": "import jobs.a",
    }
    assert set(first_circle(import_graph(code)) or []) == {"jobs.a", "jobs.b", "jobs.c"}
    assert first_circle(import_graph(code | {"jobs.c": "import sys"})) is None


# ---- files


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
