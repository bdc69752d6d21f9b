"""The imports of a worker before its first row, and packages that are hidden from imports."""

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from udfs.worker_start import hidden_imports

CODE = """
import sys
import pyarrow as pa
from udfs.text import map_distinct
print(map_distinct(pa.nulls(1, pa.string()), str.upper).to_pylist(), "pandas" in sys.modules)
print(pa.table({"a": [1]}).to_pandas()["a"].tolist(), "pandas" in sys.modules)
"""


def test_a_text_function_imports_no_pandas_and_later_code_still_can():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[None] False", "[1] True"]


def test_hidden_packages_are_found_again_afterwards(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with hidden_imports("wave", "json"):
        with pytest.raises(ModuleNotFoundError):
            import wave  # noqa: F401
        # Libraries look for optional packages this way.
        assert importlib.util.find_spec("wave") is None
        import json as still_loaded
    import wave as back

    assert back and still_loaded is json is sys.modules["json"]


def test_an_error_while_packages_are_hidden_makes_them_visible_again():
    finders = list(sys.meta_path)
    with pytest.raises(KeyError), hidden_imports("wave"):
        raise KeyError
    assert sys.meta_path == finders
