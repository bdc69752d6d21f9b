"""The configured model: its settings as the engine takes them, and the key that names it in the tables."""

from dataclasses import fields

from jobs.io.messages import JobError
from schemas.settings import EngineSettings
from udfs.engines.contract import EngineConfig
from udfs.engines.model import model_key
from udfs.errors import EngineError


def engine_config(settings: EngineSettings) -> EngineConfig:
    """The engine's own settings, without those of the embed stage around it (tiles, partitions)."""
    return EngineConfig(**settings.model_dump(include={field.name for field in fields(EngineConfig)}))


def model_key_of(settings: EngineSettings) -> str:
    """The model_key of the configured model; the engine is not started.

    Raises JobError if its files are missing.
    """
    try:
        return model_key(engine_config(settings))
    except EngineError as error:
        raise JobError(str(error)) from error
