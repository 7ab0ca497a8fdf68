"""The reader of what a user gives: everything within limits, everything else one line, soon and in little memory."""

from __future__ import annotations

import io
import itertools
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sharpen.objective import InputError, load
from sharpen.objective.storage.parsing import MIB, ROWS, SETTINGS, Limits, check_text, parse_json, parse_yaml
from sharpen.objective.storage.reading import (
    check_archive,
    read_json,
    read_lines,
    read_mapping,
    read_npy,
    read_text,
    read_yaml,
)

LETTERS = "abcdefghij"
DEEP = SETTINGS.depth + 1
# 341 bytes that stand for 9^9 ones.
BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise(LETTERS)
)
MERGE_BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 9)}]}}\n" for before, name in itertools.pairwise(LETTERS)
)
BAD_YAML = {
    "alias bomb": (BOMB, "aliases written out"),
    "merge bomb": (MERGE_BOMB, "aliases written out"),
    "refers to itself": ("&a [*a]", "refer to itself"),
    "mapping that refers to itself": ("&a {b: *a}", "refer to itself"),
    "deep lists": ("[" * 100_000, "inside each other"),
    "deep closed lists": ("[" * DEEP + "]" * DEEP, "inside each other"),
    "deep mappings": ("{a: " * 100_000, "inside each other"),
    "deep sequences": ("- " * 100_000, "inside each other"),
    "deep keys": ("? " * 100_000, "inside each other"),
    "many values": ("[" + "1," * 200_000 + "]", "values"),
    "digits": ("a: " + "9" * 5000, "digits"),
    "hexadecimal digits": ("a: 0x" + "f" * 5000, "digits"),
    "key twice": ("{a: 1, b: 2, a: 3}", "'a' comes again"),
    "python object": ("!!python/object/apply:os.system [echo]", "without tags"),
    "own tag": ("!x a", "without tags"),
    "date tag": ("!!timestamp x", "without tags"),
    "bool tag": ("!!bool x", "without tags"),
    "nan": ("a: .nan", "finite"),
    "infinite": ("a: [-.inf]", "finite"),
    "overflow": ("a: 1.0e+999", "finite"),
    "sexagesimal overflow": (":".join(["59"] * 400) + ".5", "YAML"),
    "half a surrogate pair": ('"\\ud800"', "YAML"),
    "NUL": ('a: "\\0"', "NUL"),
    "list as a key": ("[1]: 2", "unhashable"),
    "mapping as a key": ("{? {a: b} : c}", "unhashable"),
    "two documents": ("a: b\n---\nc: d", "another document"),
    "unknown alias": ("a: *b", "undefined alias"),
    "tab": ("a:\n\t- b", "YAML"),
    "control character": ("a: \x01", "YAML"),
    "merge of a number": ("<<: 1", "merging"),
    "unclosed": ("a: [", "YAML"),
    "version": ("%YAML 9.9\n---\na", "YAML"),
}
BAD_JSON = {
    "deep lists": ("[" * 100_000, "inside each other"),
    "deep closed lists": ("[" * DEEP + "]" * DEEP, "inside each other"),
    "deep objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, "inside each other"),
    "many values": ("[" + "1," * 200_000 + "1]", "values"),
    "digits": ("9" * 5000, "digits"),
    "key twice": ('{"a": 1, "a": 2}', "'a' comes again"),
    "key twice inside": ('[{"b": {"a": 1, "a": 2}}]', "'a' comes again"),
    "nan": ("[NaN]", "finite"),
    "infinity": ("-Infinity", "finite"),
    "overflow": ("1e999", "finite"),
    "half a surrogate pair": ('"\\ud800"', "surrogate"),
    "half a surrogate pair as a key": ('{"\\udfff": 1}', "surrogate"),
    "NUL": ('"a\\u0000"', "NUL"),
    "empty": ("", "JSON"),
    "unclosed": ('{"a": ', "JSON"),
    "more after it": ("1 2", "Extra data"),
    "single quotes": ("{'a': 1}", "JSON"),
}


def one_line(refused: pytest.ExceptionInfo[InputError]) -> str:
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


@pytest.mark.parametrize("name", BAD_YAML)
def test_bad_yaml_is_one_line_that_names_the_file(name: str, tmp_path: Path) -> None:
    text, message = BAD_YAML[name]
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as refused:
        read_yaml(file, "config")
    assert one_line(refused).startswith("config: got ")
    assert "x.yaml" in str(refused.value)


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_one_line_that_names_the_file(name: str, tmp_path: Path) -> None:
    text, message = BAD_JSON[name]
    file = tmp_path / "x.json"
    file.write_text(text, encoding="utf-8")
    for read in (read_json, read_yaml):
        with pytest.raises(InputError, match=message) as refused:
            read(file, "data")
        assert one_line(refused).startswith("data: got ")
        assert "x.json" in str(refused.value)


def test_the_line_of_an_error_is_named() -> None:
    for parse, text, line in (
        (parse_yaml, "a: 1\nb: [\nc: }", 3),
        (parse_yaml, "a: 1\nb: 2\na: 3", 3),
        (parse_yaml, "a: 1\nb: !x 2", 2),
        (parse_json, '{"a": 1,\n"b": }', 2),
    ):
        with pytest.raises(InputError, match=rf"'file:{line}'"):
            parse(text, "config", "file")


def test_a_bomb_takes_no_memory() -> None:
    for text in (BOMB, MERGE_BOMB, "[" * 10**6, "9" * 10**6):
        tracemalloc.start()
        with pytest.raises(InputError):
            parse_yaml(text, "config", "x")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * MIB


def test_a_line_without_an_end_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    with file.open("wb") as stream:
        stream.write(b'{"a": "')
        stream.truncate(100 * MIB)  # a hole: no disk is used
    for read in (lambda: list(read_lines(file, "data")), lambda: read_yaml(file, "data")):
        tracemalloc.start()
        with pytest.raises(InputError, match="MiB"):
            read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40 * MIB


def test_lines_end_with_newlines_only_and_have_their_numbers(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes("\ufeff1\n\n\u2028 2\r\n3".encode())
    assert list(read_lines(file, "data")) == [(1, "1\n"), (3, "\u2028 2\r\n"), (4, "3")]
    assert [number for number, _ in read_lines(file, "data", blank=True)] == [1, 2, 3, 4]
    with pytest.raises(InputError, match=r"x\.jsonl:3.*lines of at most 5 bytes"):
        list(read_lines(file, "data", Limits(line=5)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: \xff", r"x:2.*UTF-8 text .*0xff"),
        ("a: 1".encode("utf-16"), "UTF-8 text"),
        (b"a: 1\n\nb: \0", r"x:3.*without NUL"),
        (b"\xed\xa0\x80", "UTF-8 text"),
        (b"\xf8\x88\x80\x80\x80", "UTF-8 text"),
    ],
)
def test_what_is_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_text(file, "config")
    with pytest.raises(InputError, match=message):
        list(read_lines(file, "config"))


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfalpha: 2")
    assert read_yaml(file, "config") == {"alpha": 2}
    assert load(file).alpha == 2.0


def test_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, message in (
        (tmp_path, "not a folder"),
        (pipe, "a regular file"),
        (Path("/dev/zero"), "a regular file"),
        (tmp_path / "none", "No such file"),
        (Path("a" * 5000), "File name too long"),
        (Path("a\0b"), "null"),
        (tmp_path / "none" / "x", "No such file"),
    ):
        with pytest.raises(InputError, match=message) as refused:
            read_text(path, "config")
        assert one_line(refused)


def test_a_mapping_and_only_a_mapping(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("{1: a, b: {c: 2026-01-01}}")
    assert read_mapping(file, "config", "settings") == {"1": "a", "b": {"c": "2026-01-01"}}
    for text in ("", "[1]", "5", "null", "text"):
        file.write_text(text)
        with pytest.raises(InputError, match="a mapping of settings"):
            read_mapping(file, "config", "settings")


def test_aliases_within_the_limits_are_what_they_stand_for() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}", "config") == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"b": 1, "e": 2},
    }


def test_our_own_records_may_hold_what_json_does_not() -> None:
    assert parse_json("[Infinity]", "records", finite=False) == [float("inf")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(), inside, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    text = json.dumps(value)
    if "\\u0000" not in text:  # in a text of settings a NUL would end a path
        assert parse_json(text, "x") == json.loads(text)


SYNTAX = (*"[]{}:,-?&*a1!|>'\"%@`#\n ", ": ", "- ", "&a ", "*a", "<<: ", "---\n", "...")


def parsed(parse: Callable[..., Any], text: str) -> Any:
    """Return what a text holds, or the one line that says why it holds nothing."""
    try:
        return parse(text, "x", "place")
    except InputError as error:
        return error


@given(st.text() | st.binary().map(lambda content: content.decode("latin-1")))
def test_no_text_raises_anything_else(text: str) -> None:
    for parse in (parse_yaml, parse_json):
        found = parsed(parse, text)
        assert not isinstance(found, InputError) or "\n" not in str(found)


@given(st.lists(st.sampled_from(SYNTAX), max_size=40).map("".join))
def test_no_yaml_syntax_raises_anything_else(text: str) -> None:
    found = parsed(parse_yaml, text)
    assert "\n" not in str(found) if isinstance(found, InputError) else found == yaml.safe_load(text)


def test_arrays(tmp_path: Path) -> None:
    good = tmp_path / "good.npy"
    np.save(good, np.arange(3.0))
    assert read_npy(good, "base").tolist() == [0.0, 1.0, 2.0]
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], dtype=object))
    texts = io.BytesIO()
    np.save(texts, np.array(["a"]))
    for number, content in enumerate(
        (b"", b"\x93NUMPY", b"garbage", header.ljust(128, b" ")[:-1] + b"\n", pickled.getvalue(), texts.getvalue())
    ):
        bad = tmp_path / f"{number}.npy"
        bad.write_bytes(content)
        with pytest.raises(InputError, match=r"base: got .*\.npy") as refused:
            read_npy(bad, "base")
        assert one_line(refused)


def test_an_archive_is_as_large_as_what_it_unpacks_to(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", bytes(3 * MIB))
    assert file.stat().st_size < MIB
    check_archive(file, "transition", Limits(bytes=4 * MIB))
    with pytest.raises(InputError, match="2 MiB once unpacked"):
        check_archive(file, "transition", Limits(bytes=2 * MIB))
    file.write_bytes(b"PK garbage")
    with pytest.raises(InputError, match=r"readable \.npz"):
        check_archive(file, "transition")


def test_half_a_surrogate_pair_has_a_place() -> None:
    assert check_text("😀", "data", "x:1") == "😀"
    with pytest.raises(InputError, match=r"data: got 'x:1'.*surrogate"):
        check_text("a\ud83d", "data", "x:1")


def test_limits_leave_room_for_real_data_sets() -> None:
    """MATH with its solutions has 12,000 rows of at most some 10 kB; DeepScaleR 40,000 of at most 100 kB."""
    assert ROWS.bytes >= 2**31
    assert ROWS.line >= 4 * MIB
