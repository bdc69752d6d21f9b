"""Redacts personal data before anything is stored: contact data in texts, and user ids.

Cards and phones are found in udfs/numbers.py, and IP addresses by Python's own parser, so that prices, dates
and item numbers stay.
"""

import hashlib
import hmac
import ipaddress
import re
import unicodedata
from typing import Final

from udfs.errors import SecretKeyError
from udfs.numbers import LETTER, UNSPACED, find_numbers
from udfs.text import seen

# Every repeat is bounded, so that no text can make the search slow (catastrophic backtracking).
# An address ends where a script without blanks begins, unless it is written in that script itself (RFC 6531).
EMAIL: Final = re.compile(
    rf"(?:(?<!{LETTER})(?<![.%+-])(?:[oO]['’])?(?:{LETTER}|[.%+-]){{1,64}}|[{UNSPACED}]{{1,64}})[@＠﹫]"
    rf"(?:(?:(?:\w|-){{1,63}}[.．]){{1,8}}(?:(?![\d_]){LETTER}){{2,24}}(?!{LETTER}|-)"
    rf"|(?:(?:\w|-){{1,63}}[.．]){{0,7}}[\w-]{{0,62}}[{UNSPACED}][.．][{UNSPACED}]{{2,24}})"
)
IPV4: Final = re.compile(rf"(?<!{LETTER})(?<!\.)\d{{1,3}}(?:[.．]\d{{1,3}}){{3}}(?!{LETTER}|\.\d)")
IPV6: Final = re.compile(
    rf"(?<!{LETTER})(?<![:.])[0-9A-Fa-f]{{0,4}}(?::[0-9A-Fa-f]{{0,4}}){{2,7}}(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}})?"
    rf"(?!{LETTER}|:)"
)
# Words before four numbers with points that are no address.
VERSION: Final = re.compile(
    r"(?:(?<![A-Za-z])(?:v|ver|version|release|build|firmware|driver|kernel|section|chapter)"
    r"|[§第]|版本|固件|驱动|驅動|章节)[号號]?[\s.:：]{0,3}$",
    re.IGNORECASE,
)
# An identifier of 64 bits, as of network cards (EUI-64), reads like an IPv6 address.
EUI64: Final = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){7}")
# phonenumbers finds nothing with fewer than 7 digits; texts without them skip its slow search.
SEVEN_DIGITS: Final = re.compile(r"(?:\d\D{0,3}){7}")
SHORTEST_KEY: Final = 16
# JSON's escapes, read from left to right, so that an escaped backslash begins none.
ESCAPED: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL)
# Characters kept of a rejected record, and an upper bound on the length of one match of the patterns above.
RECORD_HELD: Final = 20_000
LONGEST_FIND: Final = 700


def scrub(text: str, phone_region: str | None = None) -> str:
    """The text with placeholders [email], [ip], [card] and [phone] for personal data.

    Phone numbers without their +code are recognised only for `phone_region`.
    """
    if "@" in text or "＠" in text or "﹫" in text:
        text = EMAIL.sub("[email]", text)
    if "." in text or "．" in text:
        text = IPV4.sub(_address, text)
    if ":" in text:
        text = IPV6.sub(_address, text)
    if SEVEN_DIGITS.search(text) is None:
        return text
    parts, last = [], 0
    for begin, end, kind in find_numbers(text, phone_region):
        parts += [text[last:begin], f"[{kind}]"]
        last = end
    return "".join([*parts, text[last:]])


def scrub_record(record: str, phone_region: str | None = None) -> str:
    r"""A raw record, scrubbed, with JSON escapes such as \u0040 resolved, and without what no eye sees.

    The end of a truncated record is dropped, since it may be a part of personal data.

    >>> scrub_record(r'{"text": "a\u0040b\b.\u200bexample"}')
    '{"text": "[email]"}'
    """
    scrubbed = scrub(seen(ESCAPED.sub(_resolved, record)), phone_region)
    return scrubbed[: max(0, len(scrubbed) - LONGEST_FIND)] if len(record) >= RECORD_HELD else scrubbed


def _resolved(escape: re.Match[str]) -> str:
    """What a JSON escape stands for, or itself where JSON needs it."""
    if escape[0] == r"\b":
        return "\b"
    if escape[1] is None:
        return escape[0]
    character = chr(int(escape[1], 16))
    is_line_end = character < " " and character.isspace()
    is_half = "\ud800" <= character <= "\udfff"
    return escape[0] if character in '"\\' or is_line_end or is_half else character


def _address(found: re.Match[str]) -> str:
    # Full-width digits count as digits here, but not for the parser.
    address = unicodedata.normalize("NFKC", found[0])
    before = found.string[max(0, found.start() - 20) : found.start()]
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return found[0]
    is_other = VERSION.search(before) if ":" not in address else EUI64.fullmatch(address)
    # Names of a program may be joined by two colons, dead::beef; addresses have digits.
    return found[0] if is_other or not any(c.isdecimal() for c in address) else "[ip]"


def check_key(key: bytes) -> bytes:
    """The key without surrounding white space, such as an editor's newline.

    Raises SecretKeyError if it is too short.
    """
    stripped = key.strip()
    if len(stripped) < SHORTEST_KEY:
        raise SecretKeyError(f"the key of user ids must have at least {SHORTEST_KEY} bytes")
    return stripped


def key_id(key: bytes) -> str:
    """Identifies a key without revealing it: 8 hexadecimal digits."""
    return _hmac(key, "key id", "")[:8]


def keyed_user(key: bytes, user_id: str) -> str:
    """The stored form of a user id: key id and HMAC-SHA-256 (RFC 2104) in lower-case hex.

    The key id keeps ids under different keys apart.
    """
    return f"{key_id(key)}:{_hmac(key, 'user', user_id)}"


def keyed_record(key: bytes, record_hash: str) -> str:
    """The stored form of a record hash: from a plain hash, a short record could be guessed."""
    return _hmac(key, "record", record_hash)


def _hmac(key: bytes, purpose: str, value: str) -> str:
    return hmac.new(key, f"{purpose}\0{value}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()
