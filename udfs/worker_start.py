"""Skips unneeded imports, to shorten the start of a Python worker: a small night waits for each of them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import pyarrow as pa


@contextmanager
def hidden_imports(*packages: str) -> Iterator[None]:
    """Makes these packages look as if they were not installed, except those already loaded. Can't be nested.

    The path finder is replaced, since the simpler ways fail: Cython (pyarrow) takes a None in sys.modules for
    the module, and importlib.util.find_spec (transformers) passes on what a finder raises.
    """

    class Hiding(PathFinder):
        @classmethod
        def find_spec(
            cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
        ) -> ModuleSpec | None:
            return None if fullname in packages else super().find_spec(fullname, path, target)

    sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
    try:
        yield
    finally:
        sys.meta_path[sys.meta_path.index(Hiding)] = PathFinder


@cache
def without_pandas() -> None:
    """Keeps pyarrow from importing pandas, which takes a worker one second and is not used there.

    pyarrow tries the import once, when it makes its first array. Code that needs pandas later (to_pandas)
    still gets it.
    """
    with hidden_imports("pandas"):
        pa.array([0])
