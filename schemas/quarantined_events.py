"""Rejected records: one row, with a reason, per record that could not become an event or an item."""

from schemas.table import DATE, INT, STRING, Column, Table, unique

TABLE = Table(
    name="quarantined_events",
    comment="Records that could not become events, with the reason; no record read is lost.",
    # A catalogue is read by more than one ingest where days arrive out of order.
    key=("log_date", "source_file", "record_hash", "ordinal"),
    written_by="ingest_events",
    erasure="search",
    reach="log_date",
    reach_margin_days=1,
    partition_by=("log_date",),
    columns=(
        Column("log_date", DATE, "date of the log folder in which the record arrived"),
        Column("source_file", STRING, "log file, relative to the logs folder", private=True),
        Column("record_hash", STRING, "SHA-256 of the entire raw record", private=True),
        Column("ordinal", INT, "position among identical records of the file, from 0"),
        Column("raw", STRING, "record as read, truncated to 2000 characters", private=True),
        Column("reason", STRING, "reason code: unreadable, missing_user, bad_time, too_late, ..."),
        Column("message", STRING, "reason as a sentence", private=True),
    ),
    rules=(unique("log_date", "source_file", "record_hash", "ordinal"),),
)
