"""Every message that the operating guide explains is one that the jobs or the workers can print."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import evaluate_profiles, recommend_items, train_ranker
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^\| message \| what to do \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
MESSAGES = [row.split(" | ")[0].removeprefix("| ") for table in TABLES for row in table.splitlines()]
# What stands for the varying parts of a message.
VARIES = re.compile(r"\.\.\.|\b[A-Z]\b|\bA\.\.B\b")


def texts(path: Path) -> Iterator[str]:
    """The strings of a file; constants of the module are filled in, and a null byte is what else varies."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value)
                if isinstance(part, ast.Constant)
                else str(constants.get(ast.unparse(part.value), "\0"))
                for part in node.values
                if isinstance(part, ast.Constant | ast.FormattedValue)
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


TEXTS = [text for room in ("jobs", "udfs") for path in (ROOT / room).rglob("*.py") for text in texts(path)]


def unknown_parts(message: str) -> list[str]:
    """The fixed parts of a message that no string of the code contains."""
    parts = [part.strip() for part in VARIES.split(message)]
    return [part for part in parts if not any(part in text for text in TEXTS)]


# Where messages come from, and the commands whose arguments they may name.
ARGUMENTS_OF = {
    "jobs/train_ranker.py": train_ranker,
    "jobs/recommend/gate.py": train_ranker,
    "jobs/recommend/training.py": train_ranker,
    "jobs/recommend_items.py": recommend_items,
    "jobs/recommend/catalogue.py": recommend_items,
    "jobs/recommend/lists.py": recommend_items,
    "jobs/recommend/artefact.py": recommend_items,
    "jobs/recommend/stored.py": recommend_items,
    "jobs/rank": evaluate_profiles,
    "jobs/evaluate": evaluate_profiles,
    "jobs/evaluate_profiles.py": evaluate_profiles,
}


@pytest.mark.parametrize("place", ARGUMENTS_OF)
def test_messages_name_arguments_that_their_command_has_and_commands_that_there_are(place):
    known = set(ARGUMENTS_OF[place].arg_parser()._option_string_actions)
    path = ROOT / place
    found = [text for file in (path.rglob("*.py") if path.is_dir() else [path]) for text in texts(file)]
    assert {name for text in found for name in re.findall(r"--[a-z][a-z-]*", text)} <= known
    commands = {word for text in found for word in re.findall(r"\brun ([a-z]+_[a-z_]+)", text)}
    assert {name for name in commands if not (ROOT / "jobs" / f"{name}.py").is_file()} == set()


def test_the_guide_has_two_tables_of_messages():
    assert len(TABLES) == 2 and len(MESSAGES) > 30


@pytest.mark.parametrize("message", MESSAGES)
def test_a_documented_message_is_one_of_the_code(message):
    assert unknown_parts(message) == []


def test_a_message_that_nobody_prints_is_found():
    assert unknown_parts("W is being written by J; have a cup of tea") == ["; have a cup of tea"]
