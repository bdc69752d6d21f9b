"""Who asked to be forgotten, without saying who."""

from schemas.table import DATE, STRING, Column, Table

TABLE = Table(
    name="erased_users",
    comment="Keyed HMAC of every erased user's id; ingest turns their events away.",
    key=("user_hmac",),
    columns=(
        Column(
            "user_hmac",
            STRING,
            "HMAC-SHA-256 of the user id under the erasure key, lower-case hex",
            private=True,
        ),
        Column("date", DATE, "when the erasure was carried out"),
    ),
)
