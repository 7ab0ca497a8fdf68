"""The first screen of a command says what it shows, and nothing is lost in a narrow terminal or in ASCII."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.cli.shared import terminal

# What each says first; a few words that no table has.
FIRST = {
    ("theory", "fixed-points"): "The policy that the objective prefers",
    ("theory", "fixed-points", "--base", "zipf:300"): "The policy that the objective prefers",
    ("theory", "fixed-points", "--all", "--preset", "sharpening"): "The policy that the objective prefers",
    ("theory", "optimum", "--kl", "0.1,0.2"): "The policy that the objective prefers",
    ("theory", "optimum", "--base", "zipf:300"): "The policy that the objective prefers",
    ("theory", "response"): "How the expected reward E[r] of the optimum changes",
    ("theory", "coverage", "--best-of", "4"): "How often k samples hold a right answer",
    ("theory", "estimators"): "How far what a trainer computes",
    ("theory", "phase"): "Where training on three outcomes can come to rest",
    ("theory", "sensitivity"): "How far the optimum moves",
    ("theory", "fold"): "Where GRPO with a KL penalty ends",
    ("theory", "self-sharpening"): "What becomes of the policy",
    ("theory", "length"): "How long the sequences of p^alpha are",
    ("theory", "sequences"): "The sequences that likelihood alone prefers",
}
WIDTHS = (40, 80, 120)


def printed(command: tuple[str, ...], width: int, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        with pytest.raises(SystemExit) as stop:
            main(list(command))
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", FIRST, ids=" ".join)
def test_nothing_is_lost_at_any_width(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in printed(command, 400, capsys).split() if set(word) != {"─"}]
    for width in WIDTHS:
        out = printed(command, width, capsys)
        assert " ".join(out.split()).startswith(FIRST[command])
        assert max(len(line.rstrip()) for line in out.splitlines()) <= width
        assert "…" not in out
        whole = "".join(out.split())
        assert [word for word in words if word not in whole] == []


def test_fixed_points_lists_what_attracts_and_counts_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(("theory", "fixed-points", "--preset", "tempered"), 80, capsys)
    assert "optimum, stable" in out
    assert "\n saddle" not in out
    assert "31 fixed points, 1 of them above (--all lists them): 1 stable, 25 saddle, 5 unstable" in " ".join(
        out.split()
    )
    everything = printed(("theory", "fixed-points", "--preset", "tempered", "--all"), 80, capsys)
    assert (everything.count("\n saddle"), everything.count("\n unstable")) == (25, 5)
    assert "inf: an outcome of probability 0" in " ".join(everything.split())


# With a utility two ends are stable: the optimum, and certainty.
def test_every_stable_point_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(("theory", "fixed-points", "--utility", "arcsin", "--beta-inv", "0.5"), 80, capsys)
    assert "optimum, stable" in out
    assert "\n stable" in out
    assert "2 of them above" in out


cells = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=4), st.integers(12, 90), st.booleans())
def test_a_table_of_any_cells_keeps_them(rows: list[tuple[str, str, str]], width: int, no_wrap: bool) -> None:
    table = terminal.plain_table()
    for heading in ("first", "second", "third"):
        table.add_column(heading, no_wrap=no_wrap)
    for row in rows:
        table.add_row(*row)
    console = terminal.plain_console(width=width)
    with console.capture() as capture:
        console.print(table)
    shown = "".join(capture.get().split())
    if "─" not in shown:  # paragraphs
        assert shown == "".join(f"first{a};second{b};third{c}" for a, b, c in rows)
    elif no_wrap:
        assert shown.replace("─", "") == "".join(("first", "second", "third", *(cell for row in rows for cell in row)))
    else:  # lines of several cells, each folded in its column
        assert not Counter("".join(cell for row in rows for cell in row)) - Counter(shown)


def test_a_table_that_is_too_wide_becomes_paragraphs_with_every_cell() -> None:
    table = terminal.number_table(["name", "a number"])
    table.add_row("x" * 20, "y" * 30)
    console = terminal.plain_console(width=40)
    with console.capture() as capture:
        console.print(table)
    assert " ".join(capture.get().split()) == f"name {'x' * 20}; a number {'y' * 30}"


def test_each_first_screen_fits_an_ascii_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    for command, first in FIRST.items():
        buffer = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii", write_through=True))
        with pytest.raises(SystemExit):
            main(list(command))
        assert buffer.getvalue().decode("ascii").replace("\n", " ").startswith(first[:30])


def test_no_command_sets_a_width_of_its_own() -> None:
    folder = Path(terminal.__file__).parents[1]
    assert [file.name for file in folder.rglob("*.py") if "plain_console(width=" in file.read_text("utf-8")] == []
