"""What must stay as it was when a warehouse got its first event: stored rows are made with it.

Everything else that rows are made with is named in them (model_key, fold_hash) or may change from one ingest
to the next (limits, redaction, mappings).
"""

from jobs.ingest.privacy import USER_KEY, StoredForm, require_same_key, stored_key
from jobs.io.messages import JobError
from jobs.io.warehouse import Warehouse, Writer
from schemas import behavior_events

# The property of behavior_events with the number of user buckets.
USER_BUCKETS = "nightfold.user_buckets"


def refuse_other_form(warehouse: Warehouse, form: StoredForm) -> None:
    """Raises JobError where events were stored under another key of user ids or with other user buckets."""
    require_same_key(warehouse, form.key_name)
    require_same_buckets(warehouse, form.user_buckets)


def require_same_buckets(warehouse: Warehouse, buckets: int) -> None:
    """Raises JobError where the stored users are in another number of buckets.

    Reads by bucket would miss the rows of one or the other.
    """
    if not warehouse.exists(behavior_events.TABLE):
        return
    stored = warehouse.properties(behavior_events.TABLE).get(USER_BUCKETS)
    if stored not in (None, str(buckets)):
        raise JobError(
            f"this warehouse has its users in {stored} buckets, and store.user_buckets is {buckets}; "
            f"set store.user_buckets to {stored}, or use a new warehouse"
        )


def name_form(writer: Writer, form: StoredForm) -> None:
    """Names key and buckets in the table, in one commit before it gets its first rows."""
    if stored_key(writer.warehouse) is None:
        named = {USER_KEY: form.key_name, USER_BUCKETS: str(form.user_buckets)}
        writer.set_properties(behavior_events.TABLE, named)
