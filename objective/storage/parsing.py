"""YAML and JSON texts that a user gives, within limits: the content, or one line that says what is wrong where.

YAML's aliases are counted as if written out, before anything is built: a "billion laughs" of 500 bytes stands for more
nodes than any memory holds.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn

from sharpen.objective.errors import InputError, shorten

MIB = 2**20
_SURROGATE = re.compile("[\ud800-\udfff]")
_TEXT = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")  # dates, and a lone "=": nothing here wants them
_PLAIN_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Limits:
    """How much of a file is read.

    Args:
        bytes: Of the file.
        line: Bytes of one line, where a file is read by lines.
        depth: Nested lists and mappings.
        nodes: Values, lists and mappings together, an alias counted as what it stands for.
        digits: Characters of an integer.
    """

    bytes: int = 4 * MIB
    line: int = MIB
    depth: int = 50
    nodes: int = 100_000
    digits: int = 1000


SETTINGS = Limits()  # what a person writes
NUMBERS = Limits(bytes=512 * MIB, nodes=40_000_000)  # lists of numbers: 10^7 of 25 characters, twice
ROWS = Limits(bytes=4096 * MIB, line=16 * MIB, nodes=1_000_000)  # JSON lines: nodes of one line
TABLE = Limits(bytes=512 * MIB, nodes=20_000_000)  # rows that are read at once


class _UnreadableError(Exception):
    """What is wrong with a text, and where in it."""

    def __init__(self, allowed: str, line: int | None = None) -> None:
        self.allowed, self.line = allowed, line
        super().__init__(allowed)


def reason(error: BaseException) -> str:
    """Return why something failed, for a person, in one line of at most 200 characters and without a file's name.

    Example:
        >>> reason(FileNotFoundError(2, "No such file or directory", "a" * 5000))
        'No such file or directory'
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:197] + "..."


def parse_json(
    text: str,
    name: str,
    place: str | None = None,
    limits: Limits = SETTINGS,
    *,
    finite: bool = True,
    keep: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Any:
    """Return what a JSON text holds.

    Args:
        text: The text.
        name: What the message calls it: the flag or the field.
        place: Where it is from, ``FILE`` or ``FILE:LINE``; None: the message shows the text itself.
        limits: ``depth``, ``nodes`` and ``digits`` count.
        finite: Refuse NaN and infinities, which JSON does not have. Our own records may hold some.
        keep: Applied to each object as soon as it is parsed: what it drops is never checked or held.

    Raises:
        InputError: it is no JSON, repeats a key, or is beyond the limits.

    Example:
        >>> parse_json('{"a": [1, 2.5]}', "set")
        {'a': [1, 2.5]}
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            again = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise _UnreadableError(f"each key once, and {shorten(again)} comes again")
        return found if keep is None else keep(found)

    def whole(digits: str) -> int:
        if len(digits) > limits.digits:
            raise _UnreadableError(f"integers of at most {limits.digits} digits")
        return int(digits)

    try:
        # No number can be too long where no digits follow each other for so long: most texts are read without asking.
        long = re.search(rf"[0-9]{{{limits.digits}}}", text) is not None
        found = json.loads(text, object_pairs_hook=unique, parse_int=whole if long else None)
        _check(found, limits, finite)
    except _UnreadableError as error:
        _refuse(name, place, text, error.allowed, error.line)
    except RecursionError:
        _refuse(name, place, text, f"at most {limits.depth} lists and objects inside each other")
    except json.JSONDecodeError as error:
        line = error.lineno if error.lineno > 1 or "\n" in text else None
        _refuse(name, place, text, f"JSON ({error.msg} at column {error.colno})", line)
    return found


def parse_yaml(text: str, name: str, place: str | None = None, limits: Limits = SETTINGS) -> Any:
    """Return what a YAML text (so also most JSON) holds: YAML without tags, whose dates are text.

    Args:
        text: The text.
        name: What the message calls it: the flag or the field.
        place: Where it is from, ``FILE``; None: the message shows the text itself.
        limits: ``depth``, ``nodes`` (with aliases written out) and ``digits`` count.

    Raises:
        InputError: it is no YAML, has a tag, repeats a key, refers to itself, or is beyond the limits.

    Example:
        >>> parse_yaml("{steps: 3, day: 2026-01-01}", "set")
        {'steps': 3, 'day': '2026-01-01'}
    """
    import yaml

    try:
        _measure(text, limits)
        found = yaml.load(text, Loader=_loader())
        _check(found, limits, finite=True)
    except _UnreadableError as error:
        _refuse(name, place, text, error.allowed, error.line)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or reason(error)
        _refuse(name, place, text, f"YAML ({problem})", None if mark is None else mark.line + 1)
    except (ValueError, OverflowError, RecursionError) as error:  # a number that no constructor can make
        _refuse(name, place, text, f"YAML ({reason(error)})")
    return found


def check_text(text: str, name: str, place: str) -> str:
    r"""Return a text that can be encoded, tokenised, written and printed.

    Raises:
        InputError: it holds half of a surrogate pair, as JSON's ``"\ud800"`` does.
    """
    found = _SURROGATE.search(text)
    if found is not None:
        raise InputError(name, place, f"whole characters, not half a surrogate pair ({found[0]!r})")
    return text


def _refuse(name: str, place: str | None, text: str, allowed: str, line: int | None = None) -> NoReturn:
    where = f":{line}" if line is not None else ""
    raise InputError(name, text if place is None else place + where, allowed)


def _check(found: Any, limits: Limits, finite: bool) -> None:
    """Refuse what is too deep or too large or cannot be printed; a loop, since Python's stack is the first to end."""
    waiting, count = [([found], 0)], 0
    while waiting:
        values, depth = waiting.pop()
        count += len(values)
        if count > limits.nodes:
            raise _UnreadableError(f"at most {limits.nodes:,} values")
        kinds = set(map(type, values))  # most of what long records hold are numbers of one kind
        if kinds <= {int} or (kinds == {float} and (not finite or all(map(math.isfinite, values)))):
            continue
        for value in values:
            if isinstance(value, str):
                if _SURROGATE.search(value) or "\0" in value:
                    raise _UnreadableError(f"text without NUL and half surrogate pairs, not {shorten(value)}")
            elif isinstance(value, float):
                if finite and not math.isfinite(value):
                    raise _UnreadableError(f"finite numbers, not {value}")
            elif isinstance(value, dict | list):
                if depth >= limits.depth:
                    raise _UnreadableError(f"at most {limits.depth} lists and mappings inside each other")
                inside = [*value, *value.values()] if isinstance(value, dict) else value
                waiting.append((inside, depth + 1))


@dataclass
class _Open:
    """A list or mapping that has begun."""

    line: int
    mapping: bool
    anchor: str | None
    size: int = 1
    children: int = 0
    keys: set[str] = field(default_factory=set)


def _measure(text: str, limits: Limits) -> None:
    """Go through a YAML text's events, which need no memory, and refuse what must not be built."""
    import yaml

    stack: list[_Open] = []
    sizes: dict[str, int | None] = {}  # by anchor; None while it is open

    def add(size: int, anchor: str | None, line: int) -> None:
        if anchor is not None:
            sizes[anchor] = size
        if stack:
            stack[-1].size += size
            stack[-1].children += 1
            size = stack[-1].size
        if size > limits.nodes:
            raise _UnreadableError(f"at most {limits.nodes:,} values, with aliases written out", line)

    for event in yaml.parse(text, Loader=_loader()):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if getattr(event, "tag", None) not in (None, *_PLAIN_TAGS):
            raise _UnreadableError("YAML without tags", line)
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(str(event.anchor), 1)
            if size is None:
                raise _UnreadableError("YAML that does not refer to itself", line)
            add(size, None, line)
        elif isinstance(event, yaml.ScalarEvent):
            parent = stack[-1] if stack else None
            if parent is not None and parent.mapping and parent.children % 2 == 0:
                if event.value in parent.keys:
                    raise _UnreadableError(f"each key once, and {shorten(event.value)} comes again", line)
                parent.keys.add(event.value)
            add(1, event.anchor, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(stack) >= limits.depth:
                raise _UnreadableError(f"at most {limits.depth} lists and mappings inside each other", line)
            if event.anchor is not None:
                sizes[event.anchor] = None
            stack.append(_Open(line, isinstance(event, yaml.MappingStartEvent), event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop()
            add(done.size, done.anchor, done.line)


@lru_cache(maxsize=1)
def _loader() -> Any:
    """Return the safe loader, libyaml's where PyYAML has it, without dates and with a bound on integers."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):
        """PyYAML's safe loader within our limits."""

    def whole(loader: Any, node: Any) -> int:
        if len(node.value) > SETTINGS.digits:
            raise _UnreadableError(f"integers of at most {SETTINGS.digits} digits", node.start_mark.line + 1)
        return loader.construct_yaml_int(node)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in _TEXT]
        for first, known in base.yaml_implicit_resolvers.items()
    }
    Loader.add_constructor("tag:yaml.org,2002:int", whole)
    return Loader
