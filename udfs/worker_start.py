"""Keeps a Python worker's start short: a small night waits for each of them."""

import sys
from functools import cache
from importlib.abc import MetaPathFinder

import pyarrow as pa


class _Without(MetaPathFinder):
    """Says that there is no pandas."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ImportError("not looked for")


@cache
def without_pandas() -> None:
    """Keeps pyarrow from importing pandas, which takes a worker a second and serves nothing here.

    pyarrow looks for it once, at its first array; where pandas is asked for by name later, as by to_pandas, it is imported then.
    """
    finder = _Without()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
