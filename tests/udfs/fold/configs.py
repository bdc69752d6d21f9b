"""Fold constants for tests: the default settings with changes."""

from typing import Any

from schemas.fold_settings import FoldSettings
from udfs.fold.contract import FoldConstants


def constants(**changes: Any) -> FoldConstants:
    """The default settings' constants, with these fields changed."""
    fold = FoldSettings()
    defaults = fold.constants_of("main") | {"max_day_share": fold.max_day_share}
    return FoldConstants(**defaults | changes)
