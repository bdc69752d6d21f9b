"""What YAML says is what its author meant, or one sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents import LONGEST, DocumentError, parse_document, told
from schemas.mapping import THE_DAY, MappingError, parse_mapping
from schemas.settings import SettingsError, parse_settings


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "has the key 'a' twice, the second time on line 3"),
        ("x: {a: 1, 'a': 1}", "has the key 'a' twice"),
        ("[1]: 2", "has a key on line 1 that is not a word"),
        ("a: &x [1]\nb: *x", "uses an alias"),
        ("[" * 100_000, "nested more than 20 levels"),
        ("a: " * 3, "is not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "uses a tag on line 1; leave it out: !!python/obj"),
        ("a: 1\nb: !!bool foo", "uses a tag on line 2; leave it out: !!bool"),
        ("!!timestamp foo", "uses a tag"),
        ("!!timestamp 2025-02-29", "uses a tag"),
        ("a: [!!int abc]", "uses a tag"),
        ("!!float abc: 1", "uses a tag"),
        ("a: !!binary x", "uses a tag"),
        ("a: !!map {b: 1}", "uses a tag"),
        ("a: !<tag:yaml.org,2002:str> b", "leave it out: !!str"),
        ("%TAG !e! tag:e,1:\n--- !e!x a", "leave it out: tag:e,1:x"),
        ("a: ! 1", "uses a tag"),
        (r'a: "\UFFFFFFFF"', "is not valid YAML"),
        (r'a: "\U00110000"', "is not valid YAML"),
        ("%YAML " + "1" * 5000 + ".1\n--- a", "is not valid YAML"),
        (r'a: "\ud83d\ude00"', "has half of a character on line 1"),
        ("a: b\n" * 300_000, "larger than 1 MiB"),
        ("a: [" + "1," * 100_000 + "]", "has more than 20,000 keys and values"),
        ("a: [" + "[]," * 100_000 + "]", "has more than 20,000 keys and values"),
        ("".join(f"k{n}: x\n" for n in range(50_000)), "has more than 20,000 keys and values"),
        ("a: " + "9" * 500_000 + "\na: 1", "has the key 'a' twice"),
        ("k" * 100_000 + ": 1\n" + "k" * 100_000 + ": 2", "is not valid YAML|has the key 'k+\\.\\.\\."),
        ("? " + "k" * 900 + "\n: 1\n? " + "k" * 900 + "\n: 2", r"has the key 'k+\.\.\."),
        ("a\0: 1", "is not valid YAML"),
        ('"\\e[31m": 1\n"\\e[31m": 2', "twice"),
        ("!" + "t" * 100_000 + " a: 1", "uses a tag|is not valid YAML"),
    ],
    ids=range(31),
)
def test_what_is_no_document_is_said_in_one_sentence(text, problem):
    with pytest.raises(DocumentError, match=problem) as raised:
        parse_document(text)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 400


PIECES = [
    "!!",
    "!",
    "bool",
    "int ",
    "float ",
    "timestamp ",
    "set ",
    "null",
    "2025-02-29",
    "9" * 40,
    "&a ",
    "*a",
]
PIECES += [
    ": ",
    "? ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    '"',
    "'",
    "\\",
    "U00110000",
    "ud800",
    "%YAML ",
    "---",
    "\n",
    " ",
    "a",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=2)), max_size=12).map("".join))
def test_any_text_is_a_document_or_is_refused(text):
    said = ""
    try:
        repr(parse_document(text)).encode()
    except DocumentError as error:
        said = str(error)
    assert said.isprintable() and len(said) < 400


@given(st.text())
def test_a_message_is_one_short_printable_line(text):
    assert told(text).isprintable() and len(told(text)) <= 10 * LONGEST


def test_a_setting_s_name_moves_no_cursor_and_fills_no_screen():
    for name in ('"\\e[2J\\n"', "? " + "k" * 5000 + "\n"):
        with pytest.raises(SettingsError, match="unknown key") as raised:
            parse_settings(f"{name}: 1", "s.yaml")
        assert str(raised.value).isprintable() and len(str(raised.value)) < 400


@pytest.mark.parametrize("word", ["no", "on", "yes", "off", "y", "2025-02-29", "12:30", "1_000", "0x1F", "="])
def test_a_word_is_a_text_as_key_and_as_value(word):
    assert parse_document(f"{word}: {word}") == {word: word}


def test_numbers_are_decimal():
    assert parse_document("[010, -7, 1e3, .5, 1., +2.5e-1]") == [10, -7, 1000.0, 0.5, 1.0, 0.25]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("fold: {first_day: 2025-02-29}", ["fold.first_day", "'2025-02-29'", "day"]),
        ("fold: {first_day: 86400}", ["fold.first_day", "'86400' is no date"]),
        ("fold: {first_day: '86400'}", ["fold.first_day", "'86400' is no date"]),
        ("fold: {first_day: 2025-04-01T00:00:00}", ["fold.first_day", "is no date"]),
        ("fold: {first_day: 2025-W14-2}", ["fold.first_day", "is no date"]),
        ("fold: {first_day: 0001-01-03}", ["fold.first_day", "the years are 1900 to 2200"]),
        ("fold: {first_day: true}", ["fold.first_day", "is no date"]),
        ("fold: {alpha: .nan}", ["fold.alpha", "nan"]),
        ("fold: {type_weights: {view: .inf}}", ["fold.type_weights.view", "inf"]),
        ("fold: {daily_cap: many}", ["fold.daily_cap", "'many'"]),
        ("privacy: {scrub_texts: maybe}", ["privacy.scrub_texts", "'maybe'"]),
        ("fold: {window_days: 99999999999999999999999}", ["fold.window_days"]),
        ("fold: {window_days: " + "9" * 5000 + "}", ["fold.window_days"]),
        ("on: {}", ["unknown key 'on'"]),
    ],
)
def test_a_setting_s_mistake_names_key_value_and_reason(text, named):
    with pytest.raises(SettingsError) as raised:
        parse_settings(text, "s.yaml")
    assert [part for part in named if part not in str(raised.value)] == []


def test_an_address_with_a_password_is_not_shown():
    with pytest.raises(SettingsError) as raised:
        parse_settings("engine: {kind: vllm_server, endpoints: 'http://me:secret@host'}", "s.yaml")
    assert "secret" not in str(raised.value)


def test_settings_of_yaml_s_older_words_still_work():
    assert parse_settings("privacy: {scrub_texts: yes, phone_region: NO}", "s").privacy.phone_region == "NO"
    assert parse_settings("privacy: {scrub_texts: on}", "s").privacy.scrub_texts


def test_a_mapping_may_name_columns_by_any_word():
    source = "source: {format: json, columns: {no: string, on: string, 404: string}}"
    fields = "fields: {user_id: no, event_ts: on, event_type: '`404`', item_id: no}"
    assert set(parse_mapping(f"{source}\n{fields}", "m").sources[THE_DAY].source.columns) == {
        "no",
        "on",
        "404",
    }
    with pytest.raises(MappingError, match="has the key 'no' twice"):
        parse_mapping("source: {format: json, columns: {no: string, no: int}}", "m")
