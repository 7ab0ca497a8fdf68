"""`sharpen theory fixed-points`: its JSON, table, plots, errors, documentation and imports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sharpen.cli.main import main
from sharpen.objective import Objective, preset
from sharpen.theory.core.problem import DEFAULT_PROBLEM
from sharpen.theory.optima.optimum import optimum

DOCS = Path(__file__).parents[3] / "docs" / "theory.md"
COMMAND = ["theory", "fixed-points"]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main([*COMMAND, *arguments])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


def run_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    code, out, err = run([*arguments, "--json"], capsys)
    assert (code, err) == (0, "")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(out, parse_constant=refuse)


@pytest.mark.parametrize("name", ["task-reward", "sharpening", "tempered", "tilted"])
def test_json_of_every_preset(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(["--preset", name], capsys)
    assert Objective(**report["objective"]) == preset(name)
    assert report["base"] == DEFAULT_PROBLEM.base.tolist()
    assert report["reward"] == DEFAULT_PROBLEM.reward.tolist()
    best = optimum(preset(name), DEFAULT_PROBLEM)
    assert report["optimum"]["support"] == list(best.support)
    assert report["optimum"]["probabilities"] == best.probabilities.tolist()
    assert report["optimum"]["value"] == best.value
    assert report["optimum"]["expected_reward"] == best.expected_reward
    assert report["total"] == len(report["fixed_points"])
    assert report["complete"] is True
    for point in report["fixed_points"]:
        assert set(point) == {
            "support", "probabilities", "value", "expected_reward", "eigenvalues", "class", "continuum",
        }  # fmt: skip
        eigenvalues = [float(x) for x in point["eigenvalues"]]
        assert len(eigenvalues) == 4
        assert np.flatnonzero(point["probabilities"]).tolist() == point["support"]
        assert point["class"] in ("stable", "saddle", "unstable", "neutral")


def test_the_default_is_the_tempered_objective(capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json([], capsys)
    assert Objective(**report["objective"]) == preset("tempered")
    assert report["total"] == 31
    assert [point["class"] for point in report["fixed_points"]].count("stable") == 1


def test_flags_reach_the_problem(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--base", "0.5,0.3,0.2", "--reward", "2", "--length", "1,2,4", "--normalization", "mean", "--alpha", "3"]
    report = run_json(flags, capsys)
    assert (report["reward"], report["length"]) == ([0, 0, 1], [1, 2, 4])
    p, length = np.array([0.5, 0.3, 0.2]), np.array([1, 2, 4])
    expected = p * p ** (2 / length)
    np.testing.assert_allclose(report["optimum"]["probabilities"], expected / expected.sum(), rtol=1e-12)


def test_a_huge_problem_answers_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.process_time()
    report = run_json(["--base", "zipf:100000"], capsys)
    assert time.process_time() - begin < 20  # about 2 s; 2^100000 points would never end
    assert report["total"] == "2^100000 - 1"
    assert report["complete"] is False
    assert report["fixed_points"][0]["class"] == "stable"


@pytest.mark.parametrize("arguments", [[], ["--preset", "tilted"], ["--base", "zipf:300"], ["--preset", "task-reward"]])
def test_the_table_fits_eighty_columns(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(arguments, capsys)
    assert code == 0
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "…" not in out
    assert "w_r = " in out
    assert "optimum" in out


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")], ids=["png", "pdf", "svg"]
)
def test_plots(suffix: str, magic: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / f"figure{suffix}"
    assert run(["--plot", str(path)], capsys)[0] == 0
    first = path.read_bytes()
    assert first.startswith(magic)
    assert run(["--plot", str(path)], capsys)[0] == 0
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reference", "policy"],
        ["--base", "zipf:5000", "--preset", "sharpening"],
        ["--base", "1.0"],
        ["--base", "uniform:3", "--reward", "1,1,1", "--preset", "task-reward"],
    ],
)
def test_plots_of_unusual_problems(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figure.png"
    assert run([*arguments, "--plot", str(path)], capsys)[0] == 0
    assert path.stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--alpha", "nan"], "alpha"),
        (["--alpha", "inf"], "alpha"),
        (["--alpha", "-1"], "alpha"),
        (["--alpha", "1e308"], "alpha"),
        (["--mode", "foo"], "mode"),
        (["--preset", "foo"], "preset"),
        (["--reference", "refresh:0"], "reference"),
        (["--objective", "missing.yaml"], "objective"),
        (["--base", "0.5,0.4"], "base"),
        (["--base", "-0.1,1.1"], "base"),
        (["--base=-0.1,1.1"], "base"),
        (["--base", "nan,1"], "base"),
        (["--base", ""], "base"),
        (["--base", "missing.npy"], "base"),
        (["--base", "zipf:100000000000"], "base"),
        (["--reward", "1,2,3,4,5,6,7"], "reward"),
        (["--reward", "inf,0,0,0,0"], "reward"),
        (["--reward", "missing.csv"], "reward"),
        (["--length", "1,1,1,1,0"], "length"),
        (["--length", "1,1"], "length"),
        (["--limit", "0"], "limit"),
        (["--plot", "figure.gif"], "figure"),
        (["--plot", "/dev/null/figure.png"], "figure"),
    ],
)
@pytest.mark.parametrize("json_output", [False, True])
def test_bad_input_is_one_line_and_status_two(
    arguments: list[str], word: str, json_output: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run([*arguments, *(["--json"] if json_output else [])], capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert word in err


def test_the_documented_examples_are_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```console\n\$ sharpen theory fixed-points(.*?)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for flags, shown in blocks:
        code, out, _ = run(flags.split(), capsys)
        assert code == 0
        assert [line.rstrip() for line in out.strip().splitlines()] == shown.strip().splitlines()


def test_theory_and_its_help_import_no_heavy_package() -> None:
    script = """
import contextlib, io, sys
import sharpen.theory.core.problem, sharpen.theory.core.flow, sharpen.theory.optima.optimum
import sharpen.theory.instability.stationary
import sharpen.figures.style
from sharpen.cli.main import main
for arguments in (["theory", "--help"], ["theory", "fixed-points", "--help"], ["theory", "fixed-points", "--json"]):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(arguments)
print([name for name in ("torch", "jax", "matplotlib", "scipy", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
