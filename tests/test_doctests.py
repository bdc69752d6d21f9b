"""The examples in docstrings of schemas, udfs and jobs are run."""

import doctest
import importlib
import inspect

import pytest

from tests.test_rooms import module_of, sources

WITH_EXAMPLES = [
    module_of(path)
    for path in sources("schemas", "udfs", "jobs")
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_hold(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    # Functions that a decorator hides from doctest would be passed over.
    assert result.attempted == inspect.getsource(module).count(">>> ") and not result.failed


def test_there_are_examples():
    assert {"jobs.io.days", "jobs.io.messages", "jobs.night.estimate"} <= set(WITH_EXAMPLES)
