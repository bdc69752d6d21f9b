"""The model of a log mapping: a YAML file that defines Nightfold's fields over the columns of a source."""

import hashlib
import re
from datetime import tzinfo
from importlib import resources
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pyspark.sql import types as T

from schemas.documents import DocumentError, parse_document
from schemas.section import Section
from schemas.settings import first_problem
from schemas.table import DATE, DOUBLE, INT, STRING, STRINGS, TEXT_MAP, TIMESTAMP

# Every field a mapping may define, with its type; fields left out are NULL.
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
# The name of a mapping's only source, whose files lie in the day folder itself.
THE_DAY: Final = ""
# The key in a mapping's `texts` for all event types without a key of their own.
OTHER_TYPES: Final = "default"
# Every field that the items of a mapping may define; rows with valid_from count from a day of their own.
ITEM_FIELDS: Final[dict[str, T.DataType]] = {
    "item_id": STRING,
    "title": STRING,
    "text": STRING,
    "attributes": TEXT_MAP,
    "valid_from": DATE,
}


# Options of Spark's readers that say how a text is written. The others choose files, drop records without a
# count, or change types that the mapping declares.
_OF_TEXTS: Final = ("encoding", "lineSep", "multiLine")
READER_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "json": (
        *_OF_TEXTS,
        "allowComments",
        "allowUnquotedFieldNames",
        "allowSingleQuotes",
        "allowNumericLeadingZeros",
        "allowBackslashEscapingAnyCharacter",
        "allowUnquotedControlChars",
        "allowNonNumericNumbers",
    ),
    "csv": (
        *_OF_TEXTS,
        "sep",
        "header",
        "quote",
        "escape",
        "charToEscapeQuoteEscaping",
        "nullValue",
        "emptyValue",
        "ignoreLeadingWhiteSpace",
        "ignoreTrailingWhiteSpace",
        "maxCharsPerColumn",
        "maxColumns",
        "unescapedQuoteHandling",
    ),
    "parquet": ("datetimeRebaseMode", "int96RebaseMode"),
}
# Spark's other names of options.
OTHER_NAMES: Final = {"charset": "encoding", "delimiter": "sep"}
# Options that are true or false begin so.
FLAGS: Final = ("header", "multiLine", "allow", "ignore")


class MappingError(ValueError):
    """The mapping is invalid; the message is one sentence for its author."""


class Source(Section):
    """Files of one format: the options of Spark's reader, and the DDL type of each column used."""

    format: Literal["json", "csv", "parquet"]
    options: dict[str, str] = Field(default_factory=dict)
    columns: dict[str, str] = Field(min_length=1)
    # Files of a flat data set that import_dataset reads; all files of a dt folder are read.
    files: str = "*"

    @field_validator("options", mode="before")
    @classmethod
    def _as_strings(cls, options: Any) -> Any:
        """The reader takes text: YAML's true and 1 become "true" and "1"."""
        if not isinstance(options, dict):
            return options
        return {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in options.items()}

    @field_validator("options")
    @classmethod
    def _harmless(cls, options: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        """The options under the names and flags as the code asks for them: Spark's have no case."""
        format_ = info.data.get("format")
        if format_ is None:  # it is what the message is about
            return options
        known = {name.lower(): name for name in READER_OPTIONS[format_]}
        if format_ == "csv":
            known |= OTHER_NAMES
        found: dict[str, str] = {}
        for given, value in options.items():
            name = known.get(given.lower())
            if name is None:
                allowed = ", ".join(READER_OPTIONS[format_])
                raise ValueError(
                    f"the option '{given}' is not one that a mapping may set for {format_}: {allowed}"
                )
            if name in found:
                raise ValueError(f"the option '{name}' is set twice, as '{given}' too")
            found[name] = value
            if name.startswith(FLAGS):
                found[name] = value.lower()
                if found[name] not in ("true", "false"):
                    raise ValueError(f"the option '{name}' should be true or false, not '{value}'")
        return found

    @property
    def is_multiline(self) -> bool:
        """Whether a record may go on over several lines."""
        return self.options.get("multiLine") == "true"


class ItemSource(Section):
    """An item catalogue, delivered under LOGS/items/dt=YYYY-MM-DD."""

    source: Source
    fields: dict[str, str]

    @model_validator(mode="after")
    def _known(self) -> "ItemSource":
        _check_fields(self.fields, set(ITEM_FIELDS), {"item_id"})
        return self


class EventSource(Section):
    """How the rows of one source become events."""

    source: Source
    fields: dict[str, str] = Field(description="Spark SQL expression of each field over the source's columns")
    zone: str | None = Field(None, description="time zone of times without an offset; null: UTC")
    filter: str | None = Field(
        None, description="rows for which this is not true are skipped, and counted as filtered"
    )
    rating_min: float = Field(0.0, ge=-1e9, le=1e9, description="rating mapped to 0")
    rating_max: float = Field(1.0, ge=-1e9, le=1e9, description="rating mapped to 1")

    @property
    def expressions(self) -> dict[str, str]:
        """Every expression over the source's columns, by the name under which messages show it."""
        return {**self.fields, **({} if self.filter is None else {"filter": self.filter})}

    @model_validator(mode="after")
    def _consistent(self) -> "EventSource":
        _check_fields(self.fields, set(EVENT_FIELDS), {"user_id", "event_ts", "event_type"})
        if not {"item_id", "text"} & set(self.fields):
            raise ValueError("fields must define item_id or text")
        if self.zone is not None:
            _zone(self.zone)
            if "utc_offset_min" in self.fields:
                raise ValueError("utc_offset_min follows from zone; define only one of them")
        if not self.rating_min < self.rating_max:
            raise ValueError("rating_min must be below rating_max")
        return self


class LogMapping(Section):
    """How the rows of one or several sources become events, and those of a catalogue items.

    A mapping of one source is written without its name: `source` and `fields` stand at the top.
    """

    sources: dict[str, EventSource] = Field(
        min_length=1,
        description="by the folder below each day that holds its files; the only one may be the day itself",
    )
    max_bad_share: float | None = Field(
        None, ge=0, le=1, description="overrides ingest.max_bad_share for this source"
    )
    items: ItemSource | None = None
    texts: dict[str, str] = Field(
        {},
        description="text expression by event type, over the event's fields and "
        "item_title, item_text and item_attributes",
    )

    def mapping_hash(self) -> str:
        """Hash over the entire mapping, 8 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]

    @model_validator(mode="after")
    def _named(self) -> "LogMapping":
        for name in self.sources:
            if name != THE_DAY and re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]*", name) is None:
                raise ValueError(
                    f"'{name}' can't name a source, whose files lie in a folder of this name; use letters, "
                    "digits, - and _"
                )
        return self


def parse_mapping(text: str, source: str) -> LogMapping:
    """A mapping from YAML text; `source` names the file in errors. Raises MappingError with one sentence."""
    try:
        values = parse_document(text)
    except DocumentError as error:
        raise MappingError(f"{source} {error}") from error
    if not isinstance(values, dict):
        raise MappingError(f"{source} must contain source and fields")
    own = {key: values.pop(key) for key in EventSource.model_fields if key in values}
    if "sources" in values:
        if own:
            raise MappingError(f"{source}: {next(iter(own))} belongs to each of its sources; write it there")
        if isinstance(values["sources"], dict) and THE_DAY in values["sources"]:
            raise MappingError(f"{source}: sources has an empty name; it is the name of a folder")
    try:
        if "sources" not in values:
            values["sources"] = {THE_DAY: EventSource.model_validate(own)}
        return LogMapping.model_validate(values)
    except ValidationError as error:
        raise MappingError(f"{source}: {first_problem(error)}") from error


def shipped_mapping(name: str) -> str | None:
    """The YAML text of a mapping shipped with Nightfold; None if none has this name."""
    file = resources.files("schemas") / "log_mappings" / f"{name}.yaml"
    return file.read_text(encoding="utf-8") if name in shipped_names() else None


def shipped_names() -> list[str]:
    """The names of the shipped mappings, sorted."""
    folder = resources.files("schemas") / "log_mappings"
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def _check_fields(fields: dict[str, str], known: set[str], required: set[str]) -> None:
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"unknown field '{unknown[0]}'; the known fields are {', '.join(sorted(known))}")
    if missing := sorted(required - set(fields)):
        raise ValueError(f"fields must define {missing[0]}")


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"zone '{name}' is not a name of the time zone database like Europe/London"
        ) from error
