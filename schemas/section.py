"""The base of every section of the settings: unknown keys, NaN and changes are errors."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
