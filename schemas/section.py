"""The base of every section of settings and mappings: what is written is what is meant, or an error."""

from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A part of settings or of a mapping: fixed, without unknown keys, with finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_from_a_word(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes true for the number 1."""
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        for name, one in value.items() if isinstance(value, dict) else [("", value)]:
            if isinstance(one, bool) and bool not in kinds and kinds & {int, float}:
                raise ValueError(f"{name}{': ' if name else ''}should be a number, not true or false")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The types that a value may have; of values by name, theirs."""
    parts = get_args(annotation)
    if not parts:
        return {annotation}
    if get_origin(annotation) is Annotated:
        return _kinds(parts[0])
    return set().union(*map(_kinds, parts[1:] if get_origin(annotation) is dict else parts))
