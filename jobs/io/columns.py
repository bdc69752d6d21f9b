"""Values of any type as the type that a mapping declares, where no value changes by that.

What can't be taken over unchanged becomes NULL, and its record is quarantined as `wrong_type`.
"""

from collections.abc import Mapping
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io.times import instant_of, instant_of_text

# Texts of numbers: without the suffixes and hexadecimal digits that Java takes, too.
WHOLE: Final = r"^\s*[+-]?[0-9]+([.]0*)?\s*$"
NUMBER: Final = (
    r"(?i)^\s*[+-]?([0-9]+[.]?[0-9]*(e[+-]?[0-9]+)?|[.][0-9]+(e[+-]?[0-9]+)?|nan|inf|infinity)\s*$"
)
FULL_DATE: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
# Up to these a floating point number has every whole number.
EXACT_DOUBLE, EXACT_FLOAT = 2**53, 2**24
NUMERIC = (T.IntegralType, T.FractionalType)
NESTED = (T.ArrayType, T.MapType, T.StructType)
TIMES = (T.TimestampType, T.TimestampNTZType, T.DateType)
# Types whose values are no texts even in a map of texts.
UNPRINTED = (*NESTED, T.BinaryType)


def quoted(name: str) -> str:
    """A column's name in backticks: Spark then takes any name."""
    return "`" + name.replace("`", "``") + "`"


def as_read_from_json(declared: T.DataType) -> T.DataType:
    """The type in which JSON's reader keeps what a value is: a variant but for the values in a map of texts.

    Declared as text, the reader would turn true, 7.0 and {"id": 7} into texts; a map of texts is meant so.
    """
    if isinstance(declared, T.StructType):
        return T.StructType(
            [T.StructField(field.name, as_read_from_json(field.dataType)) for field in declared]
        )
    if isinstance(declared, T.ArrayType):
        return T.ArrayType(as_read_from_json(declared.elementType))
    if isinstance(declared, T.MapType):
        is_text = isinstance(declared.valueType, T.StringType)
        return declared if is_text else T.MapType(declared.keyType, as_read_from_json(declared.valueType))
    return T.VariantType()


def is_present(column: Column, kind: T.DataType) -> Column:
    """Whether there is a value: neither NULL nor JSON's null nor a blank text."""
    if isinstance(kind, T.VariantType):
        return F.coalesce(F.trim(_text_of_variant(column)) != "", F.lit(False))
    if isinstance(kind, T.StringType | T.BinaryType):
        return F.coalesce(F.trim(column.cast("string")) != "", F.lit(False))
    return column.isNotNull()


def as_type(column: Column, kind: T.DataType, declared: T.DataType) -> Column:
    """The values of a column of one type as the declared one; NULL where that would change them.

    A whole number that came as a floating point or decimal number is that number: 7.0 declared as a text is
    7. Texts are read as numbers, dates, times and booleans. A time without an offset is local time of the
    session's zone.
    """
    if isinstance(declared, T.VariantType) and isinstance(kind, T.VariantType):
        return column
    if isinstance(declared, NESTED) and isinstance(kind, T.VariantType):
        kind = as_read_from_json(declared)
        column = F.try_variant_get(column, "$", kind.simpleString())
    if isinstance(declared, NESTED):
        return _nested(column, kind, declared).cast(declared)
    if isinstance(kind, T.VariantType):
        return _of_variant(column, declared)
    return _scalar(column, kind, declared).cast(declared)


def typed_columns(
    kinds: Mapping[str, T.DataType], declared: T.StructType, from_bytes: bool
) -> tuple[dict[str, Column], list[Column]]:
    """The declared columns as their types; and for each that may not fit its name where it does not, or NULL.

    kinds: the types of the columns that are there; the others are NULL. from_bytes: whether no reader has
    checked the bytes of texts.
    """
    typed, wrong = {}, []
    for field in declared:
        name, kind = field.name, kinds.get(field.name)
        if kind is None:
            typed[name] = F.lit(None).cast(field.dataType)
            continue
        column = F.col(quoted(name))
        if from_bytes and isinstance(kind, T.StringType | T.BinaryType):
            column, kind = F.make_valid_utf8(column.cast("string")), T.StringType()
        typed[name] = as_type(column, kind, field.dataType)
        if from_bytes and isinstance(kind, NESTED):
            # As one string it contains the bytes of all strings inside.
            typed[name] = F.when(F.is_valid_utf8(column.cast("string")), typed[name])
        if kind != field.dataType or isinstance(kind, NESTED):
            unfit = _is_unfit(column, kind, typed[name], field.dataType)
            wrong.append(F.when(unfit, F.lit(name)))
    return typed, wrong


def fitted(column: Column, kind: T.DataType, wanted: T.DataType) -> tuple[Column, Column | None]:
    """What an expression gives as the wanted type; and whether a value does not fit, None where all do.

    A map of texts takes the texts of all that has no parts, as it does in JSON.
    """
    if always_fits(kind, wanted):
        return column.cast(wanted), None
    typed = as_type(column, kind, wanted)
    return typed, _is_unfit(column, kind, typed, wanted)


def always_fits(kind: T.DataType, wanted: T.DataType) -> bool:
    """Whether Spark's cast changes no value of a type, or none in a way that matters."""
    if kind.simpleString() == wanted.simpleString() or isinstance(kind, T.NullType):
        return True
    if isinstance(wanted, T.MapType):
        return may_fit(kind, wanted) and not isinstance(kind, T.VariantType)
    if isinstance(wanted, T.StringType):
        return isinstance(kind, T.IntegralType)
    return isinstance(wanted, T.DoubleType) and isinstance(kind, T.FractionalType)


def may_fit(kind: T.DataType, wanted: T.DataType) -> bool:
    """Whether a type may have values that are ones of the wanted type as they are."""
    if kind == wanted or isinstance(kind, T.NullType | T.VariantType):
        return True
    if isinstance(kind, T.MapType) and isinstance(wanted, T.MapType):
        return not isinstance(kind.keyType, UNPRINTED) and not isinstance(kind.valueType, UNPRINTED)
    if isinstance(kind, T.ArrayType) and isinstance(wanted, T.ArrayType):
        return may_fit(kind.elementType, wanted.elementType)
    if isinstance(wanted, NESTED):
        return False
    if isinstance(kind, TIMES):
        return isinstance(wanted, TIMES)
    is_number = isinstance(kind, NUMERIC) and not isinstance(wanted, T.DateType)
    return is_number or isinstance(kind, T.StringType)


def _is_unfit(column: Column, kind: T.DataType, typed: Column, wanted: T.DataType) -> Column:
    """Whether there is a value that is none of the wanted type."""
    # Whether it is blank is asked last: hardly any value gets so far.
    unfit = column.isNotNull() & typed.isNull() & is_present(column, kind)
    if isinstance(kind, T.VariantType) and isinstance(wanted, T.StringType):
        # Texts and whole numbers are texts: that spares to convert nearly every value a second time.
        unfit = ~F.schema_of_variant(column).isin("STRING", "BIGINT") & unfit
    return unfit


# ---- values of one kind


def _scalar(column: Column, kind: T.DataType, declared: T.DataType) -> Column:
    if isinstance(kind, T.StringType | T.BinaryType):
        return _of_text(column.cast("string"), declared)
    if isinstance(kind, NUMERIC):
        return _of_number(column, kind, declared)
    if isinstance(kind, TIMES):
        return _of_time(column, kind, declared)
    both_boolean = isinstance(kind, T.BooleanType) and isinstance(declared, T.BooleanType)
    return column if both_boolean else _nothing()


def _nothing() -> Column:
    return F.lit(None)


def _of_text(text: Column, declared: T.DataType) -> Column:
    if isinstance(declared, T.IntegralType):
        digits = F.regexp_replace(F.trim(text), "[.]0*$", "")
        return F.when(text.rlike(WHOLE), digits).try_cast(declared)
    if isinstance(declared, T.FractionalType):
        given = F.when(text.rlike(NUMBER), F.trim(text)).try_cast(declared)
        # Rounded to the declared digits it would be another number, and so would a large whole number.
        if isinstance(declared, T.DecimalType):
            finest = T.DecimalType(38, declared.scale + 38 - declared.precision)
            return F.when(given == text.try_cast(finest), given)
        is_rounded = text.rlike(WHOLE) & (text.try_cast("decimal(38,0)") != given.cast("decimal(38,0)"))
        largest = EXACT_FLOAT if isinstance(declared, T.FloatType) else EXACT_DOUBLE
        return F.when((F.abs(given) < largest) | ~F.coalesce(is_rounded, F.lit(False)), given)
    if isinstance(declared, T.DateType):
        return F.when(F.trim(text).rlike(FULL_DATE), F.trim(text))
    is_time = isinstance(declared, T.TimestampType | T.TimestampNTZType)
    return instant_of_text(text) if is_time else text


def _of_number(column: Column, kind: T.DataType, declared: T.DataType) -> Column:
    if isinstance(declared, T.StringType):
        return _whole(column, kind).cast("string")
    if isinstance(declared, T.IntegralType):
        return _whole(column, kind).try_cast(declared)
    if isinstance(declared, T.FractionalType):
        given = column.try_cast(declared)
        # The nearest floating point number is what a decimal one means.
        is_near = isinstance(declared, T.DoubleType) and isinstance(kind, T.FractionalType)
        return given if is_near else F.when(given.cast(kind).eqNullSafe(column), given)
    if isinstance(declared, T.BooleanType):
        return F.when(column.isin(0, 1), column)
    is_time = isinstance(declared, T.TimestampType | T.TimestampNTZType)
    return instant_of(column) if is_time else _nothing()


def _whole(column: Column, kind: T.DataType) -> Column:
    """A number without a fraction, from among those that its type holds exactly."""
    if isinstance(kind, T.IntegralType):
        return column
    if isinstance(kind, T.DecimalType):
        return F.when(column == F.floor(column), column.cast(T.DecimalType(38, 0)))
    largest = EXACT_FLOAT if isinstance(kind, T.FloatType) else EXACT_DOUBLE
    return F.when((F.abs(column) <= largest) & (column == F.floor(column)), column.cast("bigint"))


def _of_time(column: Column, kind: T.DataType, declared: T.DataType) -> Column:
    if isinstance(declared, T.TimestampType | T.TimestampNTZType):
        return column
    if not isinstance(declared, T.DateType):
        return _nothing()
    is_date = isinstance(kind, T.DateType)
    return column if is_date else F.when(column == F.date_trunc("day", column), column)


# ---- variants


def _text_of_variant(column: Column) -> Column:
    return F.try_variant_get(column, "$", "string")


def _of_variant(column: Column, declared: T.DataType) -> Column:
    """One JSON value that is neither an object nor an array as the declared type."""
    kind, text = F.schema_of_variant(column), _text_of_variant(column)
    of_text = _scalar(text, T.StringType(), declared).cast(declared)
    is_whole, is_decimal = kind == "BIGINT", kind.startswith("DECIMAL")
    # Whole and decimal numbers have their digits as a text.
    if isinstance(declared, T.StringType):
        exact = F.when(is_whole | (is_decimal & text.rlike(WHOLE)), text)
    elif isinstance(declared, T.BooleanType):
        exact = F.when(is_whole | (kind == "BOOLEAN"), of_text)
    else:
        exact = F.when(is_whole | is_decimal, of_text)
    number = F.try_variant_get(column, "$", "double")
    of_number = _scalar(number, T.DoubleType(), declared).cast(declared)
    return F.when(kind == "STRING", of_text).when(kind == "DOUBLE", of_number).otherwise(exact)


# ---- nested values


def _nested(column: Column, kind: T.DataType, declared: T.DataType) -> Column:
    """Every part as its declared type; NULL where one is present and does not fit."""
    if isinstance(kind, T.ArrayType) and isinstance(declared, T.ArrayType):
        inner, wanted = kind.elementType, declared.elementType
        fits = F.forall(column, lambda x: ~is_present(x, inner) | as_type(x, inner, wanted).isNotNull())
        return F.when(fits, F.transform(column, lambda x: as_type(x, inner, wanted)))
    if isinstance(kind, T.MapType) and isinstance(declared, T.MapType):
        inner, wanted = kind.valueType, declared.valueType
        values = F.map_values(column)
        fits = F.forall(values, lambda x: ~is_present(x, inner) | as_type(x, inner, wanted).isNotNull())
        return F.when(fits, F.transform_values(column, lambda _, x: as_type(x, inner, wanted)))
    if isinstance(kind, T.StructType) and isinstance(declared, T.StructType):
        given = {field.name: field.dataType for field in kind}
        parts, fits = [], column.isNotNull()
        for field in declared:
            if field.name not in given:
                parts.append(F.lit(None).cast(field.dataType).alias(field.name))
                continue
            part, inner = column[field.name], given[field.name]
            typed = as_type(part, inner, field.dataType)
            fits &= ~is_present(part, inner) | typed.isNotNull()
            parts.append(typed.alias(field.name))
        return F.when(fits, F.struct(*parts))
    return _nothing()
