"""The YAML of settings and mappings: one value for each key, and words that mean what they say.

YAML 1.1 takes `no` for false, 2025-02-29 for a date that does not exist, 12:30 for 750 and the last of two
equal keys for the value. Here the core schema of YAML 1.2 is read, keys are texts, and a key stands once.
"""

import re
from typing import Any, Final

import yaml

# Larger, or nested more deeply, no settings and no mapping are.
LARGEST: Final = 1 << 20
DEEPEST: Final = 20
# Half of a character beyond the first 65,536, as "\ud800" writes it: no UTF-8 can hold it.
HALF: Final = re.compile("[\ud800-\udfff]")
# Values of the largest that anybody wrote, ten times: more would take the reader minutes.
MOST_VALUES: Final = 20_000
# Longest message about one, characters.
LONGEST: Final = 300
# What !! stands for.
YAML_TAGS: Final = "tag:yaml.org,2002:"
_CORE: Final = {
    "bool": (r"^(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "null": (r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "int": (r"^[-+]?[0-9]{1,30}$", "-+0123456789"),
    "float": (
        r"^([-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?|[-+]?[.](inf|Inf|INF)|[.](nan|NaN|NAN))$",
        "-+0123456789.",
    ),
}


class DocumentError(ValueError):
    """The text is no such document; the message says why, to follow the document's name."""


def told(text: str) -> str:
    r"""A message in one printable line: what a document holds may be long, or move a terminal's cursor.

    >>> told("a\x1b[31m\n b")
    'a\\x1b[31m b'
    """
    line = " ".join(text.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line[:LONGEST])
    return shown if len(line) <= LONGEST else f"{shown}..."


class _Loader(yaml.SafeLoader):
    """Reads the core schema; the position of a mistake goes into the message."""

    depth = values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuses aliases and tags, which make values something else, and what is too deep or has no end."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise DocumentError("uses an alias (*name); write out what it stands for")
        if event.tag is not None:
            tag = event.tag.replace(YAML_TAGS, "!!")
            raise DocumentError(told(f"uses a tag on line {event.start_mark.line + 1}; leave it out: {tag}"))
        self.depth += 1
        self.values += 1
        if self.values > MOST_VALUES:
            raise DocumentError(f"has more than {MOST_VALUES:,} keys and values")
        if self.depth > DEEPEST:
            raise DocumentError(f"is nested more than {DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and HALF.search(node.value):
            raise DocumentError(f"has half of a character on line {node.start_mark.line + 1}")
        self.depth -= 1
        return node


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise DocumentError(f"has a key on line {line} that is not a word")
        key = str(key_node.value)
        if key in values:
            raise DocumentError(told(f"has the key '{key}' twice, the second time on line {line}"))
        values[key] = loader.construct_object(value_node, deep=True)
    return values


def _int(_: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value)


_Loader.yaml_implicit_resolvers = {}
for _kind, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(f"{YAML_TAGS}{_kind}", re.compile(_pattern), [*_first])
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# Without YAML 1.1's octal numbers.
_Loader.add_constructor(f"{YAML_TAGS}int", _int)


def parse_document(text: str) -> Any:
    """The values of a YAML text. Raises DocumentError.

    >>> parse_document("{no: yes, day: 2025-02-29, at: 12:30, n: 010, x: 1e3, on: true}")
    {'no': 'yes', 'day': '2025-02-29', 'at': '12:30', 'n': 10, 'x': 1000.0, 'on': True}
    """
    if len(text) > LARGEST:
        raise DocumentError(f"is larger than {LARGEST >> 20} MiB")
    try:
        return yaml.load(text, Loader=_Loader)
    except DocumentError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # An escape of no character and a version of many digits are no YAMLError.
        raise DocumentError(told(f"is not valid YAML: {error}")) from error
