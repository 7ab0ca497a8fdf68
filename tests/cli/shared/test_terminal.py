"""What others wrote cannot command the terminal: one way to print, and every command uses it."""

from __future__ import annotations

import ast
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.cli.shared import terminal

CLI = Path(terminal.__file__).parents[1]
# A colour, a title by C0 and by C1 controls, a cursor, a bell, a reversed direction, a hidden tag, separators.
HOSTILE = "a\x1b[31mred\x1b]0;title\x07\x9b2J\x9d0;t\x9c\r\x08\u202egnp.exe\u2066x\u200b\U000e0041\u2028b\x7f"
anything = st.text(st.characters(exclude_categories=()), max_size=60)


def commands(text: str) -> list[str]:
    """Return what of a text is no plain character; the joiners of scripts and what ends a line are."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [char for char in text if unicodedata.category(char) in kinds and char not in "\n\t\u200c\u200d"]


@given(anything)
def test_printable_leaves_nothing_that_commands_and_all_else(text: str) -> None:
    shown = terminal.printable(text)
    assert commands(shown) == []
    if not commands(text):
        assert shown == text
    assert "\n" not in terminal.printable(text, keep="")


@given(anything)
def test_escapes_say_which_character_it_was(text: str) -> None:
    shown = terminal.printable(text)
    if "\\" not in text:
        assert shown.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass") == shown
        decoded = "".join(
            part if place % 2 == 0 else chr(int(part[1:], 16)) for place, part in enumerate(_split_escapes(shown))
        )
        assert decoded == text


def _split_escapes(text: str) -> list[str]:
    import re

    return re.split(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})", text)


def test_console_and_tables_print_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    table = terminal.plain_table()
    table.title = HOSTILE
    table.add_column(HOSTILE, overflow="fold")
    table.add_row(HOSTILE)
    console = terminal.plain_console(width=300)
    console.print(table)
    console.print(HOSTILE, soft_wrap=True)
    terminal.say(HOSTILE, Path(HOSTILE))
    out = capsys.readouterr().out
    assert commands(out) == []
    assert out.count("\\x1b[31mred") >= 5


def test_a_data_set_cannot_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"problem": f"{HOSTILE} what is {n}?", "answer": HOSTILE, "id": f"{n}{HOSTILE}"} for n in range(2)]
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SystemExit) as stop:
        main(["llm", "data", "--train", str(tmp_path), "--test", str(tmp_path), "--show", "2"])
    assert stop.value.code == 0
    out, err = capsys.readouterr()
    assert commands(out + err) == []
    assert "\\x1b[31mred" in out
    assert "\\u202egnp.exe" in out


def test_a_name_in_an_error_cannot_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "x\x1b[31m\x9b2J\u202e"
    folder.mkdir()
    (folder / "train.jsonl").write_text("no json\n")
    for arguments in (["--train", str(folder)], ["--train", f"no such \x1b[31m{HOSTILE}"]):
        with pytest.raises(SystemExit) as stop:
            main(["llm", "data", *arguments])
        assert stop.value.code == 2
        err = capsys.readouterr().err
        assert commands(err) == []
        assert "\\x1b[31m" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("file", sorted(CLI.rglob("*.py")), ids=lambda file: file.relative_to(CLI).as_posix())
def test_commands_print_in_no_other_way(file: Path) -> None:
    """No print, no console of rich's own, no stream written to, but in the module that makes text printable."""
    if file.stem in ("terminal", "errors"):
        return
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("print", "Console", "typer.echo", "typer.secho", "input") or name.endswith(
                ("stdout.write", "stderr.write")
            ):
                found.append(f"{name} in line {node.lineno}")
    assert found == []
