"""Hides what is private before anything is stored: what a text gives away of a person, and who a user is.

Card numbers are told from other numbers by their check digit, phone numbers by the numbering plans of the phonenumbers
library, IP addresses by Python's own parser; so a price, a date or an item number stays.
"""

import hashlib
import hmac
import ipaddress
import re
from typing import Final

from udfs.errors import KeyProblem

# Bounded repeats: a text made to be slow to search is not.
EMAIL: Final = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
CARD: Final = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d])")
IPV4: Final = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
IPV6: Final = re.compile(
    r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\d{1,3}(?:\.\d{1,3}){3})?(?![\w:])"
)
# The shortest number that phonenumbers takes has 7 digits: without them its slow search is not begun.
SEVEN_DIGITS: Final = re.compile(r"(?:\d\D{0,3}){7}")
SHORTEST_KEY: Final = 16
# Visible ASCII but for quotes and backslashes, as JSON may write it.
ESCAPED: Final = re.compile(r"\\u00(2[013-9a-f]|[346][0-9a-f]|5[0-9abd-f]|7[0-9a-e])", re.IGNORECASE)
# Characters of a rejected record that are looked through, and what no single find above is longer than.
RECORD_HELD: Final = 20_000
LONGEST_FIND: Final = 700


def scrub(text: str, phone_region: str | None = None) -> str:
    """The text with [email], [ip], [card] and [phone] in the place of such; numbers without +code only of the region."""
    if "@" in text:
        text = EMAIL.sub("[email]", text)
    if "." in text:
        text = IPV4.sub(_address, text)
    if ":" in text:
        text = IPV6.sub(_address, text)
    if SEVEN_DIGITS.search(text) is None:
        return text
    text = CARD.sub(lambda found: "[card]" if passes_luhn(found[0]) else found[0], text)
    return _without_phones(text, phone_region)


def scrub_record(record: str, phone_region: str | None = None) -> str:
    """A record as it was read, scrubbed: what JSON may write as \\u0040 too. The end may be of something that was cut, and goes."""
    shown = ESCAPED.sub(lambda found: chr(int(found[1], 16)), record)
    scrubbed = scrub(shown, phone_region)
    return scrubbed[: max(0, len(scrubbed) - LONGEST_FIND)] if len(record) >= RECORD_HELD else scrubbed


def passes_luhn(number: str) -> bool:
    """Whether the digits of the number end in their check digit (ISO/IEC 7812-1, annex B)."""
    digits = [int(c) for c in reversed(number) if c.isdecimal()]
    total = sum(digits[::2]) + sum(sum(divmod(2 * d, 10)) for d in digits[1::2])
    return total > 0 and total % 10 == 0


def _address(found: re.Match[str]) -> str:
    try:
        ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return "[ip]" if any(c.isalnum() for c in found[0]) else found[0]


def _without_phones(text: str, region: str | None) -> str:
    import phonenumbers

    parts, end = [], 0
    for match in phonenumbers.PhoneNumberMatcher(text, region):
        parts += [text[end : match.start], "[phone]"]
        end = match.end
    return "".join([*parts, text[end:]])


def check_key(key: bytes) -> bytes:
    """The key without the newline that editors leave. Raises KeyProblem where it is too short to keep a secret."""
    stripped = key.strip()
    if len(stripped) < SHORTEST_KEY:
        raise KeyProblem(f"the key of user ids must have at least {SHORTEST_KEY} bytes")
    return stripped


def key_id(key: bytes) -> str:
    """Names a key without giving it away: 8 hexadecimal digits."""
    return _hmac(key, "key id", "")[:8]


def keyed_user(key: bytes, user_id: str) -> str:
    """What is stored in a user id's place: the key's name and HMAC-SHA-256 (RFC 2104) in lower-case hex, so that keys never mix."""
    return f"{key_id(key)}:{_hmac(key, 'user', user_id)}"


def keyed_record(key: bytes, record_hash: str) -> str:
    """What is stored in a record hash's place: a short record could be guessed from the hash alone."""
    return _hmac(key, "record", record_hash)


def erased_user(key: bytes, user_id: str) -> str:
    """What erased_users holds of a user id; it can't be linked with what keyed_user gives."""
    return _hmac(key, "erased", user_id)


def _hmac(key: bytes, purpose: str, value: str) -> str:
    return hmac.new(key, f"{purpose}\0{value}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()
