"""Fold constants for tests: the default settings with changes."""

from dataclasses import fields
from typing import Any

from schemas.settings import FoldSettings
from udfs.fold.contract import FoldConstants


def constants(**changes: Any) -> FoldConstants:
    """The default settings' constants, with these fields changed."""
    defaults = FoldSettings().model_dump(include={field.name for field in fields(FoldConstants)})
    return FoldConstants(**defaults | changes)
