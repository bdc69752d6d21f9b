"""Every recipe of CONTRIBUTING.md does what it promises.

Its blocks are carried out, in order, in a copy of the repository.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"# ([\w./]+)\n")
ENVIRONMENTS = (".venv", ".venv-airflow")
# The linked environments are set up already; without this, make would compare them with the copied locks.
PREAMBLE = 'set -euo pipefail\nmake() { command make -o setup "$@"; }\n'
LIMIT_SECONDS = 1800


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str


def recipes() -> dict[str, list[Block]]:
    """The blocks of every section below "Recipes", by its title."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Recipes\n")[2]
    _, *parts = re.split(r"^### (.+)\n", page, flags=re.MULTILINE)
    return {
        title: [Block(*found) for found in FENCE.findall(text)]
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


RECIPES = recipes()
TOY, JOB, STEP, TABLE = "A toy warehouse", "Add a job", "Add a step to the night", "Add a table"
FACET, ENGINE, MAPPING = "Add a facet", "Add an engine", "Add a log mapping"
# Each recipe with the one that it continues, and whether it needs the toy warehouse. Slow ones take more than
# 20 s alone on two cores.
CASES = [
    pytest.param(JOB, None, False, id="job"),
    pytest.param(STEP, JOB, True, id="step", marks=pytest.mark.slow),
    pytest.param(TABLE, JOB, False, id="table", marks=pytest.mark.slow),
    pytest.param(FACET, None, True, id="facet", marks=pytest.mark.slow),
    pytest.param(ENGINE, None, True, id="engine", marks=pytest.mark.slow),
    pytest.param(MAPPING, None, False, id="mapping", marks=pytest.mark.slow),
]


def copy_repository(toy: Path) -> Path:
    """Copies the tracked files, as they are now, and links the environments."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (toy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, toy / name)
    for name in ENVIRONMENTS:
        (toy / name).symlink_to(ROOT / name)
    return toy


def follow(toy: Path, blocks: Sequence[Block], with_commands: bool = True) -> None:
    """Carries out the blocks in order: writes files, applies diffs, runs commands and reads their output."""
    printed = ""
    for language, text in blocks:
        if language == "diff":
            succeed(toy, ["git", "apply", "-"], stdin=text)
        elif language == "sh":
            printed = succeed(toy, ["bash", "-c", PREAMBLE + text]) if with_commands else ""
        elif language == "text":
            assert not with_commands or missing_lines(text, printed) == [], printed
        else:
            write_file(toy, text)


def write_file(toy: Path, text: str) -> None:
    """Writes a block's text below its first line to the file that this line names."""
    named = PATH.match(text)
    assert named, f"the block does not begin with a path: {text}"
    file = toy / named[1]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text[named.end() :], encoding="utf-8")


def check_style(toy: Path, blocks: Sequence[Block]) -> None:
    """The Python files that the blocks hold pass the linter and have its layout."""
    files = [block.text.splitlines()[0].removeprefix("# ") for block in blocks if block.language == "python"]
    for check in (["check"], ["format", "--check"]) if files else ():
        succeed(toy, [".venv/bin/ruff", *check, *files])


def succeed(toy: Path, command: list[str], stdin: str = "") -> str:
    """The output of a command, which must succeed at the toy's root."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | {
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": f"{toy}/.venv/bin/python",
        "PYTHONPATH": str(toy),
        # In a repository around the toy, git would take paths from that one's root.
        "GIT_CEILING_DIRECTORIES": str(toy.parent),
    }
    done = subprocess.run(
        command,
        cwd=toy,
        env=env,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command[-1]}\n{stdin}\n{done.stdout}"
    return done.stdout


def missing_lines(promised: str, printed: str) -> list[str]:
    """The promised lines that were not printed; `...` stands for anything, and runs of blanks are equal."""
    found = [words(line) for line in printed.splitlines()]
    return [
        line
        for line in promised.splitlines()
        if not any(re.fullmatch(re.escape(words(line)).replace(r"\.\.\.", ".*"), other) for other in found)
    ]


def words(line: str) -> str:
    return " ".join(line.split())


@pytest.fixture(scope="module")
def toy_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder build/ with the toy warehouse, made once."""
    toy = copy_repository(tmp_path_factory.mktemp("warehouse"))
    follow(toy, RECIPES[TOY])
    return toy / "build"


def toy_of(continued: str | None, folder: Path) -> Path:
    """A copy of the repository, with the files and diffs of the recipe that is continued."""
    toy = copy_repository(folder)
    if continued:
        follow(toy, RECIPES[continued], with_commands=False)
    return toy


@pytest.mark.parametrize(("title", "continued", "needs_warehouse"), CASES)
def test_a_recipe_does_what_it_promises(title, continued, needs_warehouse, tmp_path, request):
    toy = toy_of(continued, tmp_path)
    if needs_warehouse:
        shutil.copytree(request.getfixturevalue("toy_warehouse"), toy / "build")
    follow(toy, RECIPES[title])


# Quick, so that `make test` finds a diff that the code has left behind, even in a slow recipe.
@pytest.mark.parametrize(("title", "continued"), [case.values[:2] for case in CASES])
def test_the_files_and_diffs_of_a_recipe_fit_the_code(title, continued, tmp_path):
    toy = toy_of(continued, tmp_path)
    follow(toy, RECIPES[title], with_commands=False)
    check_style(toy, RECIPES[title])


def test_every_recipe_is_carried_out():
    assert sorted(RECIPES) == sorted([TOY, *(case.values[0] for case in CASES)])


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_runs_commands_and_ends_with_what_they_print(title):
    languages = [block.language for block in RECIPES[title]]
    assert set(languages) <= {"python", "yaml", "diff", "sh", "text"}
    assert languages[-2:] == ["sh", "text"]


def test_blocks_are_carried_out_in_order(tmp_path):
    blocks = [
        Block("python", "# a/b.py\nprint('one\\ntwo  three')\n"),
        Block(
            "diff",
            "--- a/a/b.py\n+++ b/a/b.py\n@@ -7,1 +7,2 @@\n+print('zero')\n print('one\\ntwo  three')\n",
        ),
        Block("sh", "python3 a/b.py\n"),
        Block("text", "zero\ntwo three\n...n...\n"),
    ]
    follow(tmp_path, blocks)


@pytest.mark.parametrize(
    "block",
    [
        Block("python", "print()\n"),
        Block("diff", "--- a/b.py\n+++ b/b.py\n@@ -1 +1 @@\n-a\n+b\n"),
        Block("sh", "false\ntrue\n"),
        Block("text", "never printed\n"),
    ],
    ids=lambda block: block.language,
)
def test_a_block_that_does_not_work_is_found(block, tmp_path):
    with pytest.raises(AssertionError):
        follow(tmp_path, [block])
