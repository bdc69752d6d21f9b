"""What an event says about a user must not be readable from the table's log."""

import json
import re
from pathlib import Path

from schemas import behavior_events
from tests.builders import row, store


def test_private_values_of_an_event_stay_out_of_the_log(spark, warehouse):
    event = row(
        behavior_events.TABLE,
        event_id="secret-event",
        user_id="secret-user",
        item_id="secret-item",
        text="secret text",
        text_key="5ec4e7",
        title_key="5ec4e7",
        own_text_key="5ec4e7",
        place="secret place",
        lat=12.3456,
        companions=["secret friend"],
        extra={"secret": "1"},
        source_file="dt=2025-03-03/secret-name.jsonl",
    )
    path = store(spark, warehouse, behavior_events.TABLE, [event])
    commit = (Path(path) / "_delta_log" / f"{1:020}.json").read_text(encoding="utf-8")
    added = next(json.loads(line)["add"] for line in commit.splitlines() if line.startswith('{"add"'))
    assert json.loads(added["stats"])["minValues"].keys() >= {"user_bucket", "event_date"}
    assert not re.search("secret|5ec4e7|12.3456", commit)
