"""`sharpen theory length` and `sharpen theory sequences`: JSON, tables, figures, errors, documentation."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from scipy import sparse

from sharpen.cli.theory import sequences as theory_sequences
from sharpen.objective import InputError
from sharpen.theory.sequences import IidModel, from_files, gap

DOCS = Path(__file__).parents[3] / "docs" / "theory-sequences.md"
FIVE = "0.4,0.3,0.15,0.1,0.05"


@pytest.fixture
def app() -> typer.Typer:
    group = typer.Typer()
    theory_sequences.register(group)
    return group


def run(app: typer.Typer, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    app(arguments, standalone_mode=False)
    out, err = capsys.readouterr()
    assert err == ""
    return out


def run_json(app: typer.Typer, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(run(app, [*arguments, "--json"], capsys), parse_constant=refuse)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    a = np.array([[0.0, 0.6, 0.3], [0.2, 0.0, 0.5], [0.0, 0.4, 0.4]])
    sparse.save_npz(tmp_path / "a.npz", sparse.csr_array(a))
    np.savetxt(tmp_path / "e.csv", 1.0 - a.sum(axis=1))
    return ["--transition", str(tmp_path / "a.npz"), "--stop", str(tmp_path / "e.csv")]


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text("the cat sat\nthe cat\na cat sat on the cat\n")
    return str(tmp_path / "text.txt")


def test_length_of_independent_tokens(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["length", "--hazard", "0.05", "--tokens", FIVE, "--alphas", "0.95,1"]
    report = run_json(app, flags, capsys)
    model = IidModel([0.4, 0.3, 0.15, 0.1, 0.05], 0.05)
    assert report["alpha"] == 1.25
    assert report["continuation_ratio"] == pytest.approx(model.continuation_ratio(1.25))
    assert report["normalisable"] is True
    assert report["mean_length"] == pytest.approx(model.mean_length(1.25))
    assert report["critical_alpha"] == model.critical_alpha
    assert report["slope"] == model.slope
    assert report["base_mean_length"] == pytest.approx(19.0)
    below, base = report["curve"]
    assert (below["normalisable"], below["mean_length"], below["std_length"]) == (False, None, None)
    assert below["continuation_ratio"] > 1.0
    assert base["mean_length"] == pytest.approx(19.0)


def test_length_of_a_matrix(app: typer.Typer, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(app, ["length", *files, "--alpha", "2"], capsys)
    a = sparse.load_npz(files[1]).toarray()
    radius = np.max(np.abs(np.linalg.eigvals(a**2)))
    assert report["continuation_ratio"] == pytest.approx(radius, rel=1e-9)
    assert report["model"] == {"kind": "markov", "states": 3, "transitions": 6, "live_states": 3}
    assert report["slope"] is None
    other = run_json(app, ["length", *files[:2], "--alpha", "2", "--start", "1"], capsys)
    assert other["continuation_ratio"] == pytest.approx(radius, rel=1e-9)
    assert other["mean_length"] != report["mean_length"]


def test_length_of_a_text(app: typer.Typer, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(app, ["length", "--ngram", text, "--unit", "word", "--order", "2"], capsys)
    assert report["model"]["kind"] == "ngram"
    assert report["base_mean_length"] == pytest.approx(11 / 3)


def test_sequences(app: typer.Typer, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(app, ["sequences", *files, "--alpha", "3", "--reward-states", "2", "--count", "4"], capsys)
    assert [each["length"] for each in report["likeliest"]] == [len(each["states"]) + 1 for each in report["likeliest"]]
    assert report["likeliest"][0]["log_prob"] == pytest.approx(np.log(0.6 * 0.3))
    assert report["likeliest"][0]["tokens"] == ["1"]
    cycle = 0.5 * np.log(0.5 * 0.4)  # 1 -> 2 -> 1, against 0.4 (2), sqrt(0.12) (0 and 1) and cycles of three
    assert report["mean"]["cycle_mean"] == pytest.approx(max(cycle, np.log(0.4)))
    model = from_files(files[1], files[3])
    from sharpen.theory.sequences import Reward

    expected = gap(model, 3.0, Reward.ending_in([2], 3))
    policies = report["policies"]
    assert policies["kl_power_temperature"] == pytest.approx(expected.kl_power_temperature)
    assert policies["reward_gap"] == pytest.approx(expected.reward_gap)
    assert policies["temperature"]["mean_length"] > 0
    assert report["weighted"]["optimal"] is True


def test_the_policy_in_files_is_the_power_of_every_sequence(
    app: typer.Typer, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = tmp_path / "new" / "power"
    run(app, ["sequences", *files, "--alpha", "2", "--policy", str(prefix)], capsys)
    a, e = sparse.load_npz(files[1]).toarray(), np.loadtxt(files[3])
    doob, stop = sparse.load_npz(f"{prefix}.npz").toarray(), np.load(f"{prefix}-stop.npy")
    total = 0.0  # sum of p^2 over all sequences from state 0, by their lengths
    row = np.eye(3)[0]
    for _ in range(400):
        total += row @ e**2
        row = row @ a**2
    for path in itertools.product(range(3), repeat=3):
        states = (0, *path)
        steps = list(itertools.pairwise(states))
        p = np.prod([a[s, t] for s, t in steps]) * e[states[-1]]
        power = np.prod([doob[s, t] for s, t in steps]) * stop[states[-1]]
        assert power == pytest.approx(p**2 / total, rel=1e-9, abs=1e-300)
    before = run_json(app, ["length", *files, "--alpha", "2"], capsys)
    reread = ["--transition", f"{prefix}.npz", "--stop", f"{prefix}-stop.npy"]
    after = run_json(app, ["length", *reread, "--alpha", "1"], capsys)
    assert after["mean_length"] == pytest.approx(before["mean_length"], rel=1e-9)
    with pytest.raises(InputError, match="policy"):
        app(["sequences", *files, "--policy", "/dev/null/power"], standalone_mode=False)


def test_a_matrix_that_is_not_finite_is_named(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("0.5,0.3\nnan,0.6\n")
    with pytest.raises(InputError, match="transition row 1"):
        app(["length", "--transition", str(tmp_path / "bad.csv")], standalone_mode=False)


def test_tokens_of_texts_are_shown(app: typer.Typer, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = run_json(app, ["sequences", "--ngram", text, "--unit", "word", "--order", "3"], capsys)
    assert words["likeliest"][0]["tokens"] == ["the", "cat"]
    letters = run_json(app, ["sequences", "--ngram", text, "--order", "4"], capsys)
    assert "".join(letters["likeliest"][0]["tokens"]) == "the cat"


@pytest.mark.parametrize("command", ["length", "sequences"])
def test_tables_fit_eighty_columns(
    command: str, app: typer.Typer, files: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for flags in ([], files, ["--ngram", text, "--order", "3", "--add-k", "0.1"]):
        out = run(app, [command, *flags, "--alpha", "1.5"], capsys)
        assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
        assert "…" not in out


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_figures(
    suffix: str, magic: bytes, app: typer.Typer, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, flags in enumerate((["--alphas", "3"], files, ["--tokens", "1.0", "--hazard", "1"])):
        path = tmp_path / "new" / f"edge{number}{suffix}"
        run(app, ["length", *flags, "--plot", str(path)], capsys)
        first = path.read_bytes()
        assert first.startswith(magic)
        run(app, ["length", *flags, "--plot", str(path)], capsys)
        assert path.read_bytes() == first


def test_the_figure_marks_edge_and_base(app: typer.Typer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edge.svg"
    run(app, ["length", "--tokens", FIVE, "--plot", str(path)], capsys)
    drawn = path.read_text()
    assert "= 0.965" in drawn
    assert "base, mean 19" in drawn


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["length", "--tokens", "0.5,0.4"], "tokens"),
        (["length", "--hazard", "0"], "hazard"),
        (["length", "--hazard", "nan"], "hazard"),
        (["length", "--alpha", "-1"], "alpha"),
        (["length", "--alpha", "inf"], "alpha"),
        (["length", "--alphas", "1,x"], "alphas"),
        (["length", "--alphas", "1,-2"], "alpha"),
        (["length", "--plot", "edge.gif"], "figure"),
        (["length", "--ngram", "missing.txt"], "ngram"),
        (["length", "--order", "2"], "order"),
        (["length", "--stop", "e.csv"], "stop"),
        (["length", "--hazard", "0.1", "--ngram", "text"], "ngram"),
        (["length", "--transition", "missing.npy"], "transition"),
        (["sequences", "--alpha", "0.95"], "alpha"),
        (["sequences", "--count", "0"], "count"),
        (["sequences", "--reward-states", "x"], "reward"),
        (["sequences", "--reward-states", "9"], "reward"),
        (["sequences", "--weight", "nan"], "weight"),
        (["sequences", "--longest", "0"], "longest"),
    ],
)
def test_bad_input_is_named(arguments: list[str], word: str, app: typer.Typer) -> None:
    with pytest.raises(InputError, match=word):
        app(arguments, standalone_mode=False)


def test_the_documented_examples_are_what_the_commands_print(
    app: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```console\n\$ sharpen theory (.*?)\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for flags, shown in blocks:
        out = run(app, flags.split(), capsys)
        assert [line.rstrip() for line in out.strip().splitlines()] == shown.strip().splitlines()


def test_registering_imports_no_heavy_package() -> None:
    script = """
import contextlib, io, sys, typer
from sharpen.cli.theory import sequences as theory_sequences
app = typer.Typer()
theory_sequences.register(app)
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    app(["length", "--help"])
print([name for name in ("numpy", "scipy", "jax", "torch", "matplotlib", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
