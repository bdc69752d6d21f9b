"""Redaction on a small labelled list: personal data goes, and everything else stays."""

import json
import re

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.errors import SecretKeyError
from udfs.numbers import is_card, passes_luhn
from udfs.privacy import (
    LONGEST_FIND,
    RECORD_HELD,
    check_key,
    key_id,
    keyed_record,
    keyed_user,
    scrub,
    scrub_record,
)

# The text in the log, and as it is stored.
PRIVATE = [
    ("write to ann.smith+shop@mail.example.co.uk today", "write to [email] today"),
    ("Ann@Example.COM, please", "[email], please"),
    ("<a href='mailto:x_y%z@ex-ample.org'>", "<a href='mailto:[email]'>"),
    ("мой адрес: иван@пример.рф", "мой адрес: [email]"),
    ("call +44 20 7946 0958 after six", "call [phone] after six"),
    ("Tel. +1 (650) 253-0000!", "Tel. [phone]!"),
    ("ring +49-30-901820", "ring [phone]"),
    ("my card 4111 1111 1111 1111 was charged", "my card [card] was charged"),
    ("5500-0000-0000-0004", "[card]"),
    ("amex 378282246310005.", "amex [card]."),
    ("from 192.168.10.254, again", "from [ip], again"),
    ("at 8.8.8.8.", "at [ip]."),
    ("host 2001:db8::ff00:42:8329 is down", "host [ip] is down"),
    ("fe80::1", "[ip]"),
    ("a@b.io and 10.0.0.1 and +33 1 42 68 53 00", "[email] and [ip] and [phone]"),
]
PUBLIC = [
    "Size 42, in black", "bought 2 on 2025-04-01 at 19:30:15", "item 4111111111111112", "order 1234567890123",
    "£1,234.56 or 1.299,00 €", "version 1.2.3", "call std::sort here", "ratio 16:9, 4:3", "@shop follow us",
    "3 x 500 ml", "ISBN 978-3-16-148410-0", "10:15:30", "0000 0000 0000 0000", "999.999.999.999", "a :: b",
    "the 1990s, the 2000s", "e = mc2", "café №5", "100% cotton + 5% elastane",
]  # fmt: skip


@pytest.mark.parametrize(("text", "stored"), PRIVATE)
def test_personal_data_is_redacted(text, stored):
    assert scrub(text) == stored
    assert scrub(stored) == stored


@pytest.mark.parametrize("text", PUBLIC)
def test_other_text_stays(text):
    assert scrub(text) == text


def test_national_phone_numbers_are_recognised_in_their_region():
    assert scrub("ring 020 7946 0958", "GB") == "ring [phone]"
    assert scrub("ring 020 7946 0958") == "ring 020 7946 0958"


# What a pattern may begin with again and again without an end.
UNITS = [
    "a.",
    "1 ",
    ":",
    "1.",
    "@",
    "a@b.",
    "汉@",
    "4111 ",
    "4111-",
    "/",
    "a/",
    "/1",
    "www.",
    "x://",
    "2025-",
]
UNITS += [
    "2025.04.01 ",
    "号1",
    "97-",
    "AB12 ",
    "+1",
    "(",
    "202-555-0147 ",
    "1-",
    "a_1",
    "%",
    "~",
    "o'",
    "１",
    "．",
]


@pytest.mark.parametrize("unit", UNITS)
def test_no_text_makes_the_search_slow(unit):
    # A search that takes more than its length again at every unit would not end within the test's patience.
    assert len(scrub(unit * (100_000 // len(unit)) + "@ 12345678", "CN")) > 0


@pytest.mark.parametrize(
    ("number", "is_one"),
    [
        ("4111111111111111", True),
        ("4111 1111 1111 1111", True),
        ("6200 0000 0000 0000 000", True),
        ("30569309025904", True),
        ("9111111111111119", False),  # no issuer
        ("1111111111111117", False),
        ("37828224631000", False),  # American Express has 15 digits
        ("4006381333931", False),  # an article
        ("4222222222222", True),
    ],
)
def test_cards_have_an_issuer(number, is_one):
    assert is_card(number) == is_one
    assert scrub(f"paid with {number}.") == (f"paid with {'[card]' if is_one else number}.")


@pytest.mark.parametrize("gap", [" ", "\xa0", "-", "  ", ".", "\u2011", "\u2013", "\u2212", "\u202f"])
def test_cards_are_found_whatever_an_editor_puts_between_their_groups(gap):
    number = gap.join(["4111", "1111", "1111", "1111"])
    assert scrub(f"paid with {number}, thanks") == "paid with [card], thanks"


@pytest.mark.parametrize("text", ["411111111111 1111", "4111-1111 1111 1111", "41 11 11 11 11 11 11 11"])
def test_cards_have_the_groups_of_cards(text):
    assert scrub(text) == text


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789 .-()/xt;=#*~[]０１８a\n", max_size=60))
def test_without_a_region_and_a_plus_there_is_no_phone_number(text):
    """So texts without a plus skip the search, which tries every number of a text."""
    assert not list(phonenumbers.PhoneNumberMatcher(text, None))


def test_many_other_numbers_hide_no_phone_number_behind_them():
    assert scrub("+0 " * 66_000 + "+1 202-555-0147").endswith("+0 [phone]")


def test_a_record_is_scrubbed_behind_its_escapes():
    assert scrub_record(r'{"t": "ann\u0040mail.example \u00e4"}') == '{"t": "[email] ä"}'
    assert scrub_record('{"t": "020 7946 0958"}', "GB") == '{"t": "[phone]"}'


@settings(deadline=None)
@given(st.lists(st.sampled_from("\u200b\u00ad\ufeff\b\x01\x7f"), min_size=16, max_size=16), st.booleans())
def test_no_unseen_character_hides_an_address_in_a_record(between, is_ascii):
    address = "".join(a + b for a, b in zip("ann@mail.example", between, strict=True))
    record = json.dumps({"t": f"to {address} now"}, ensure_ascii=is_ascii)
    assert scrub_record(record) == '{"t": "to [email] now"}'


@pytest.mark.parametrize("text", ['"a@b.example"', "\\u0040", "c:\\new\t\n", "x\\b"])
def test_a_scrubbed_record_is_json_still(text):
    record = scrub_record(json.dumps({"t": text}))
    assert json.loads(record)["t"] == text.replace("a@b.example", "[email]")


@settings(deadline=None)
@given(st.integers(1, 64))
def test_no_part_of_an_address_stays_where_a_record_was_truncated(kept):
    record = "." * (RECORD_HELD - kept) + "a" * kept  # and then, before it was truncated, @mail.example
    assert scrub_record(record) == record[: RECORD_HELD - LONGEST_FIND]
    assert scrub_record(record[:-1]) == record[:-1]


def test_a_truncated_record_of_little_but_addresses_leaves_nothing():
    address = "a" * 64 + "@" + ("b" * 63 + ".") * 4 + "com "
    assert scrub_record((address * 99)[:RECORD_HELD]) == ""


def test_check_digits():
    assert passes_luhn("79927398713") and not passes_luhn("79927398710") and not passes_luhn("0000")


def test_ids_under_two_keys_never_coincide():
    one, two = b"k" * 16, b"l" * 16
    assert keyed_user(one, "u1") == keyed_user(one, "u1") != keyed_user(one, "u2")
    assert keyed_user(one, "u1").startswith(f"{key_id(one)}:") and key_id(one) != key_id(two)
    assert keyed_user(one, "u1").split(":")[1] != keyed_user(two, "u1").split(":")[1]
    assert check_key(one + b"\n") == one
    with pytest.raises(SecretKeyError, match="at least 16"):
        check_key(b"short")


def test_a_stored_id_names_its_key_and_a_hash_belongs_to_one_purpose():
    key = b"k" * 16
    found = re.fullmatch("([0-9a-f]{8}):([0-9a-f]{64})", keyed_user(key, "u1"))
    assert found and found[1] == key_id(key)
    assert re.fullmatch("[0-9a-f]{64}", keyed_record(key, "u1")) and keyed_record(key, "u1") != found[2]
    assert len({keyed_record(one, of) for one in (key, b"l" * 16) for of in ("r1", "r2")}) == 4
