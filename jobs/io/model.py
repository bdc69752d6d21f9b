"""The configured model, as the engine is given it and as tables name it."""

from jobs.io.messages import JobError
from schemas.settings import EngineSettings
from udfs.engines.contract import EngineConfig
from udfs.engines.model import model_key
from udfs.errors import EngineError


def engine_config(settings: EngineSettings) -> EngineConfig:
    """What an engine is made of, by the settings."""
    return EngineConfig(**settings.model_dump(exclude={"tile_texts", "partitions"}))


def model_key_of(settings: EngineSettings) -> str:
    """The key of the configured model, without starting it."""
    try:
        return model_key(engine_config(settings))
    except EngineError as error:
        raise JobError(str(error)) from error
