"""Users who were erased, by hash alone, so that no later ingest stores anything of them again."""

from typing import Final

from schemas.table import BOOLEAN, DATE, STRING, Column, Table, unique

# The property with the random key of the hashes. It lies beside them: who reads the table and guesses a
# stored user_id can tell whether that one was erased.
SALT: Final = "nightfold.erasure_salt"

TABLE = Table(
    name="erased_users",
    comment="Users who were erased: the ingest stores no record of theirs.",
    key=("user_hmac",),
    written_by="erase_users",
    erasure="nothing",
    columns=(
        Column(
            "user_hmac",
            STRING,
            f"HMAC-SHA-256 of the stored user_id under the property {SALT}, lower-case hex",
            private=True,
        ),
        Column("erased_on", DATE, "--date of the erasure; of several the first"),
        Column("rows_gone", BOOLEAN, "whether no table has a row of the user; nights are refused until then"),
    ),
    rules=(unique("user_hmac"),),
)
