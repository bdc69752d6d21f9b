"""Engine configurations for tests: the default settings with changes."""

from dataclasses import replace
from typing import Any

from jobs.io.model import engine_config
from schemas.settings import EngineSettings
from udfs.engines.contract import EngineConfig


def config(**changes: Any) -> EngineConfig:
    """The default settings' configuration, with these fields changed."""
    return replace(engine_config(EngineSettings()), **changes)
