"""What a worker imports before its first row."""

import subprocess
import sys

CODE = """
import sys
import pyarrow as pa
from udfs.text import map_distinct
print(map_distinct(pa.nulls(1, pa.string()), str.upper).to_pylist(), "pandas" in sys.modules)
print(pa.table({"a": [1]}).to_pandas()["a"].tolist(), "pandas" in sys.modules)
"""


def test_a_text_function_imports_no_pandas_and_whoever_asks_for_it_later_gets_it():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[None] False", "[1] True"]
