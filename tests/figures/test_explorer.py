"""The explorer's page: what it computes in a browser is what the theory computes; its command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpen.figures.theory.explorer import MOST_OUTCOMES, Shown, explorer_page
from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.theory.instability.stationary import fixed_points
from sharpen.theory.optima.optimum import optimum

CASES = [
    {"alpha": 2.0, "beta_inv": 0.0, "mode": "sampling", "normalization": "sum"},
    {"alpha": 0.5, "beta_inv": 3.0, "mode": "sampling", "normalization": "mean"},
    {"alpha": 3.0, "beta_inv": 0.7, "mode": "sampling", "normalization": "weighted_mean", "weight": 0.4},
    {"alpha": 5.0, "beta_inv": 2.0, "mode": "sampling", "normalization": "none"},
    {"alpha": 1.0, "beta_inv": 0.0, "mode": "optimization", "normalization": "sum"},
    {"alpha": 1.5, "beta_inv": 0.0, "mode": "optimization", "normalization": "mean"},
    {"alpha": 0.0, "beta_inv": 1.0, "mode": "optimization", "normalization": "sum"},
    {"alpha": 0.2, "beta_inv": 4.0, "mode": "optimization", "normalization": "weighted_mean", "weight": 1.3},
]


def made(n: int, seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    return Problem(rng.dirichlet(np.ones(n)), rng.integers(0, 2, n).astype(float), rng.integers(1, 9, n))


def shown(problem: Problem, name: str) -> Shown:
    return Shown(name, problem.log_base, problem.reward, problem.length.astype(float))


def test_the_browser_computes_what_the_theory_computes(tmp_path: Path, browser: Any) -> None:
    problems = [made(n, n) for n in (3, 4, 6)]
    file = tmp_path / "page.html"
    page = explorer_page([shown(one, f"</script><b>{i}") for i, one in enumerate(problems)], "made <b>up</b>")
    file.write_text(page, encoding="utf-8")
    browser.get(file.as_uri())
    for case in CASES:
        objective = Objective(**case)
        for i, problem in enumerate(problems):
            asked = f"const o = {json.dumps({'weight': 0, **case})}, p = sharpen.problems[{i}]; "
            found = browser.execute_script(f"{asked}return sharpen.measures(o, p)")
            best = optimum(objective, problem)
            assert found["policy"] == pytest.approx(best.probabilities.tolist(), abs=1e-9), (case, i)
            assert found["reward"] == pytest.approx(best.expected_reward, abs=1e-9)
            assert found["kl"] == pytest.approx(best.kl_to_base, abs=1e-9)
            points = browser.execute_script(f"{asked}return sharpen.stationary(o, p)")
            if objective.mode == "sampling":
                exact = fixed_points(objective, problem).points
                assert len(points) == len(exact)
                for kind in ("stable", "saddle", "unstable"):
                    mine = sorted(one["value"] for one in points if one["kind"] == kind)
                    theirs = sorted(float(one.value) for one in exact if one.kind == kind)
                    assert mine == pytest.approx(theirs, abs=1e-9), (case, kind)
            ended = browser.execute_script(f"{asked}return sharpen.path(o, p, [0, 1, 2], [.3, .3, .4]).at(-1)")
            assert sum(ended) == pytest.approx(1.0)
    assert browser.execute_script("return document.querySelectorAll('.js-plotly-plot .main-svg').length") >= 4
    assert "goes from" in browser.execute_script("return document.getElementById('verdict').textContent")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_slider_moves_every_panel_and_nothing_is_fetched(tmp_path: Path, browser: Any) -> None:
    file = tmp_path / "page.html"
    file.write_text(explorer_page([shown(made(5, 1), "one")], "one"), encoding="utf-8")
    browser.get(file.as_uri())
    read = "return ['verdict', 'numbers', 'points'].map(name => document.getElementById(name).textContent)"
    before = browser.execute_script(read)
    move = (
        "const s = document.getElementById('alpha'); s.value = 4; s.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    browser.execute_script(move)
    assert all(one != other for one, other in zip(before, browser.execute_script(read), strict=True))
    zero = "for (const [n, v] of [['alpha', 0], ['mode', 'optimization']]) document.getElementById(n).value = v;"
    browser.execute_script(f"{zero} document.querySelector('form').dispatchEvent(new Event('input'))")
    assert "0 everywhere" in browser.execute_script("return document.getElementById('verdict').textContent")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_of_many_outcomes_the_likeliest_are_shown_and_the_rest_is_told() -> None:
    problem = made(MOST_OUTCOMES + 50, 3)
    page = explorer_page([shown(problem, "many")], "many")
    start = page.index("const problems = ") + len("const problems = ")
    data = json.loads(page[start : page.index(";\n", start)])[0]
    kept = np.sort(problem.base)[::-1][:MOST_OUTCOMES]
    assert np.exp(data["logp"]) == pytest.approx(kept)
    assert data["unseen"] == pytest.approx(1 - kept.sum())
    with pytest.raises(ValueError, match="at least one"):
        explorer_page([], "none")


def test_the_command_writes_a_page_or_serves_it_on_this_machine(tmp_path: Path, spawn: Callable[..., Any]) -> None:
    command = [sys.executable, "-m", "sharpen.cli.main", "explore"]
    flags = ["--base", "zipf:6", "--reward", "0", "--length", "1,2,3,4,5,6"]
    written = spawn([*command, "--out", str(tmp_path / "a" / "page.html"), *flags])
    assert written.wait(60) == 0
    assert '"length": [1.0, 2.0, 3.0' in (tmp_path / "a" / "page.html").read_text(encoding="utf-8")
    assert "Where does this objective lead?" in (tmp_path / "a" / "page.html").read_text(encoding="utf-8")
    serving = spawn(command, stdout=subprocess.PIPE, text=True)
    line = serving.stdout.readline()
    address = line.split()[0]
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert b"Where does this objective lead?" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}other", timeout=30)
    serving.send_signal(signal.SIGINT)
    assert serving.wait(60) == 130


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--out", "page.txt"], "out: got 'page.txt'"),
        (["--port", "70000"], "port: got 70000"),
        (["--problems", "no.parquet"], "no.parquet"),
        (["--out", "/proc/nowhere/page.html"], "out: got '/proc/nowhere"),
        (["--problems", "no.parquet", "--base", "zipf:3"], "base"),
    ],
)
def test_what_the_command_refuses(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sharpen.cli.main import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["explore", *flags])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
