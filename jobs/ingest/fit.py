"""Whether everything that a mapping says fits the columns it is said of, found without reading a record."""

from collections.abc import Mapping

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.ingest.items import catalogue_rows
from jobs.ingest.names import SHOWN
from jobs.ingest.records import map_records, misfit
from jobs.ingest.texts import with_texts
from jobs.io.columns import may_fit
from jobs.io.logs import read_days
from jobs.io.messages import JobError, one_sentence
from jobs.io.plans import require_plain, require_type
from jobs.io.versions import with_item
from jobs.io.warehouse import Warehouse
from schemas import items
from schemas.mapping import EVENT_FIELDS, ITEM_FIELDS, EventSource, ItemSource, LogMapping, Source
from schemas.settings import IngestSettings


def require_fit(warehouse: Warehouse, mapping: LogMapping) -> None:
    """Raises JobError where a type, a field, the filter, a text or the catalogue does not fit."""
    for name, one in mapping.sources.items():
        mapped = _mapped(warehouse, one, f"{name}: " if name else "")
    if mapping.texts:
        # The ingest adds the keys of texts later.
        keyed = mapped.withColumn("text_key", F.lit(None).cast("string"))
        of_item = with_item(keyed, warehouse.no_rows(items.TABLE), SHOWN)
        _require_texts(of_item, mapping.texts)
    if mapping.items is not None:
        _require_catalogue(warehouse, mapping.items)


def _mapped(warehouse: Warehouse, mapping: EventSource, where: str) -> DataFrame:
    """No records, mapped. where: names the source to start a sentence."""
    _require_types(warehouse, mapping.source, where)
    records = read_days(warehouse.spark, mapping.source, [], "", mapping.zone)
    try:
        require_plain(
            records, {f"the mapping's {where}{name}": text for name, text in mapping.expressions.items()}
        )
        _require_fields(records, f"the mapping's {where}", mapping.fields, EVENT_FIELDS)
        return map_records(records, mapping, warehouse.spark)
    except AnalysisException as error:
        told = f"{where}{misfit(records, mapping)}{one_sentence(error)}"
        raise JobError(f"the mapping does not fit the logs: {told}") from error


def _require_texts(of_item: DataFrame, texts: Mapping[str, str]) -> None:
    try:
        require_plain(of_item, {f"the mapping's texts: {type_}": text for type_, text in texts.items()})
        _require_fields(of_item, "the mapping's texts: ", texts, dict.fromkeys(texts, T.StringType()))
    except AnalysisException as error:
        raise JobError(f"the mapping's texts do not fit: {one_sentence(error)}") from error
    with_texts(of_item, texts, lambda text: text)


def _require_catalogue(warehouse: Warehouse, source: ItemSource) -> None:
    _require_types(warehouse, source.source, "items: ")
    rows = read_days(warehouse.spark, source.source, [], "")
    try:
        require_plain(rows, {f"the mapping's items: {name}": text for name, text in source.fields.items()})
        _require_fields(rows, "the mapping's items: ", source.fields, ITEM_FIELDS)
        catalogue_rows(rows, source, IngestSettings())
    except AnalysisException as error:
        raise JobError(f"the mapping's items do not fit the catalogue: {one_sentence(error)}") from error


def _require_types(warehouse: Warehouse, source: Source, where: str) -> None:
    for name, kind in source.columns.items():
        try:
            require_type(warehouse.spark, kind)
        except PySparkException as error:
            told = f"the mapping's {where}column {name} has the type '{kind}', which Spark does not know"
            raise JobError(told) from error


def _require_fields(
    rows: DataFrame, where: str, fields: Mapping[str, str], types: Mapping[str, T.DataType]
) -> None:
    kinds = rows.select(*[F.expr(text).alias(name) for name, text in fields.items()]).schema
    for name, text in fields.items():
        kind = kinds[name].dataType
        if not may_fit(kind, types[name]):
            raise JobError(
                f"{where}{name}: '{text}' is {kind.simpleString()}, no value of which fits "
                f"{types[name].simpleString()}; name a part of it, or convert it"
            )
