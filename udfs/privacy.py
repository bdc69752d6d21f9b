"""Redacts personal data before anything is stored: contact data in texts, and user ids.

Card numbers are recognised by their check digit, phone numbers by the numbering plans of the phonenumbers
library, and IP addresses by Python's own parser, so that prices, dates and item numbers stay.
"""

import hashlib
import hmac
import ipaddress
import re
from typing import Final

from udfs.errors import SecretKeyError

# Every repeat is bounded, so that no text can make the search slow (catastrophic backtracking).
EMAIL: Final = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
CARD: Final = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d])")
IPV4: Final = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
IPV6: Final = re.compile(
    r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\d{1,3}(?:\.\d{1,3}){3})?(?![\w:])"
)
# phonenumbers finds nothing with fewer than 7 digits; texts without them skip its slow search.
SEVEN_DIGITS: Final = re.compile(r"(?:\d\D{0,3}){7}")
SHORTEST_KEY: Final = 16
# Visible ASCII, except quotes and backslashes, in the escaped form that JSON allows.
ESCAPED: Final = re.compile(r"\\u00(2[013-9a-f]|[346][0-9a-f]|5[0-9abd-f]|7[0-9a-e])", re.IGNORECASE)
# Characters kept of a rejected record, and an upper bound on the length of one match of the patterns above.
RECORD_HELD: Final = 20_000
LONGEST_FIND: Final = 700


def scrub(text: str, phone_region: str | None = None) -> str:
    """The text with placeholders [email], [ip], [card] and [phone] for personal data.

    Phone numbers without their +code are recognised only for `phone_region`.
    """
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
    r"""A raw record, scrubbed, with JSON escapes such as \\u0040 resolved first.

    The end of a truncated record is dropped, since it may be a part of personal data.
    """
    shown = ESCAPED.sub(lambda found: chr(int(found[1], 16)), record)
    scrubbed = scrub(shown, phone_region)
    return scrubbed[: max(0, len(scrubbed) - LONGEST_FIND)] if len(record) >= RECORD_HELD else scrubbed


def passes_luhn(number: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others (ISO/IEC 7812-1, annex B)."""
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
