"""The rejects: one row for each record that could not become an event, with its reason."""

from schemas.table import DATE, INT, STRING, Column, Table, unique

TABLE = Table(
    name="quarantined_events",
    comment="Records that could not be used, with a reason each; nothing that was read is lost.",
    key=("source_file", "record_hash", "ordinal"),
    written_by="ingest_events",
    reach="log_date",
    reach_margin_days=1,
    partition_by=("log_date",),
    columns=(
        Column("log_date", DATE, "day of the log folder it arrived in"),
        Column("source_file", STRING, "file it was read from, relative to the logs folder", private=True),
        Column("record_hash", STRING, "SHA-256 of the whole raw record", private=True),
        Column("ordinal", INT, "its place among equal records of its file, from 0"),
        Column("raw", STRING, "the record as read, cut to 2000 characters", private=True),
        Column("reason", STRING, "why, as a code: unreadable, missing_user, bad_time, too_late, ..."),
        Column("message", STRING, "why, as a sentence", private=True),
    ),
    rules=(unique("source_file", "record_hash", "ordinal"),),
)
