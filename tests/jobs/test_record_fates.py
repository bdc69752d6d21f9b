"""What decides about a record, held to what the rest of the program takes for the same."""

import re

from jobs.record_fates import BLANKS


def test_blank_is_what_normalising_takes_for_white_space():
    spaces = {chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and chr(code).isspace()}
    assert set(re.findall(f"[{BLANKS}]", "".join(map(chr, range(0xD800))) + "".join(map(chr, range(0xE000, 0x110000))))) == spaces
