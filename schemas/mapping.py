"""The model of a log mapping: a YAML file that says how a source's columns become Nightfold's fields."""

import hashlib
from datetime import tzinfo
from importlib import resources
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pyspark.sql import types as T

from schemas.settings import first_problem
from schemas.table import DOUBLE, INT, STRING, STRINGS, TEXT_MAP, TIMESTAMP

# Every field a mapping may fill, with its type; what is missing is NULL.
EVENT_FIELDS: Final[dict[str, T.DataType]] = {
    "event_id": STRING,
    "user_id": STRING,
    "event_ts": TIMESTAMP,
    "utc_offset_min": INT,
    "event_type": STRING,
    "item_id": STRING,
    "title": STRING,
    "text": STRING,
    "rating": DOUBLE,
    "value": DOUBLE,
    "retracts_event_id": STRING,
    "place": STRING,
    "device": STRING,
    "session_id": STRING,
    "lat": DOUBLE,
    "lon": DOUBLE,
    "companions": STRINGS,
    "extra": TEXT_MAP,
    "attributes": TEXT_MAP,
}
# The key in a mapping's texts that stands for the event types it does not name.
OTHER_TYPES: Final = "default"
ITEM_FIELDS: Final[dict[str, T.DataType]] = {
    "item_id": STRING,
    "title": STRING,
    "text": STRING,
    "attributes": TEXT_MAP,
}


class MappingError(ValueError):
    """The mapping can't be used; the message is one sentence for its author."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """Files of one kind: their format, the reader's options, and the columns that are used, by DDL type."""

    format: Literal["json", "csv", "parquet"]
    options: dict[str, str] = {}
    columns: dict[str, str] = Field(min_length=1)
    # Which files of a flat data set import_dataset takes; dt folders are read whole.
    files: str = "*"

    @field_validator("options", mode="before")
    @classmethod
    def _as_strings(cls, options: Any) -> Any:
        """YAML's true and 1 are the reader's "true" and "1"."""
        if not isinstance(options, dict):
            return options
        return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in options.items()}


class ItemSource(_Part):
    """A catalogue delivered beside the events, under LOGS/items/dt=YYYY-MM-DD."""

    source: Source
    fields: dict[str, str]

    @model_validator(mode="after")
    def _known(self) -> "ItemSource":
        _check_fields(self.fields, set(ITEM_FIELDS), {"item_id"})
        return self


class LogMapping(_Part):
    """How the rows of a source become events."""

    source: Source
    fields: dict[str, str] = Field(description="Spark SQL expression of each field over the source's columns")
    zone: str | None = Field(
        None, description="event_ts is local time of this zone; null: event_ts is an instant"
    )
    filter: str | None = Field(
        None, description="rows for which this is not true are passed over, and counted as filtered"
    )
    rating_min: float = Field(0.0, description="rating that becomes 0")
    rating_max: float = Field(1.0, description="rating that becomes 1")
    max_bad_share: float | None = Field(
        None, ge=0, le=1, description="for this source, in place of ingest.max_bad_share"
    )
    items: ItemSource | None = None
    texts: dict[str, str] = Field(
        {}, description="expression of the text by event type, over the event's fields and item_title, ..."
    )

    def mapping_hash(self) -> str:
        """Hash over the whole mapping, 8 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]

    @model_validator(mode="after")
    def _consistent(self) -> "LogMapping":
        _check_fields(self.fields, set(EVENT_FIELDS), {"user_id", "event_ts", "event_type"})
        if not {"item_id", "text"} & set(self.fields):
            raise ValueError("fields must give item_id or text")
        if self.zone is not None:
            _zone(self.zone)
            if "utc_offset_min" in self.fields:
                raise ValueError("utc_offset_min follows from zone; give one of them")
        if not self.rating_min < self.rating_max:
            raise ValueError("rating_min must be below rating_max")
        return self


def parse_mapping(text: str, source: str) -> LogMapping:
    """A mapping from YAML text; `source` names it in errors. Raises MappingError with one sentence."""
    try:
        values: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MappingError(f"{source} is not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise MappingError(f"{source} must hold source and fields")
    try:
        return LogMapping.model_validate(values)
    except ValidationError as error:
        raise MappingError(f"{source}: {first_problem(error)}") from error


def shipped_mapping(name: str) -> str | None:
    """The text of a mapping that ships with Nightfold, None where there is none of that name."""
    file = resources.files("schemas") / "log_mappings" / f"{name}.yaml"
    return file.read_text(encoding="utf-8") if name.isidentifier() and file.is_file() else None


def shipped_names() -> list[str]:
    folder = resources.files("schemas") / "log_mappings"
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def _check_fields(fields: dict[str, str], known: set[str], required: set[str]) -> None:
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"unknown field '{unknown[0]}'; known are {', '.join(sorted(known))}")
    if missing := sorted(required - set(fields)):
        raise ValueError(f"fields must give {missing[0]}")


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"zone '{name}' is not in the time zone database, e.g. Europe/London") from error
