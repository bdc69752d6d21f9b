"""What decides about a record agrees with what the rest of the program takes for the same."""

import re

from jobs.ingest.records import BLANKS


def test_blank_is_what_normalising_takes_for_white_space():
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    spaces = {character for character in characters if character.isspace()}
    assert set(re.findall(f"[{BLANKS}]", "".join(characters))) == spaces
