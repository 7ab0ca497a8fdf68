"""Every benchmark finds what it imports; what they measure takes minutes, and `make bench` runs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.forked import Forks

ROOT = Path(__file__).parents[1]
# As `python FILE` does: the file's own folder first on the path. Imports in functions are for the type checker to see.
LOAD = """
import runpy, sys
for file in sys.argv[1:]:
    before = list(sys.path)
    sys.path.insert(0, file.rpartition("/")[0])
    runpy.run_path(file, run_name="loaded")
    for name in ("llm_gpu", "llm_power", "llm_runs", "sidebyside", "rollout"):
        sys.modules.pop(name, None)
    sys.path[:] = before
"""


RUN = """
import runpy, sys
del sys.argv[0]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_every_benchmark_can_be_loaded(tmp_path: Path, model_forks: Forks) -> None:
    pytest.importorskip("torch")
    files = [str(file) for file in sorted((ROOT / "benchmarks").rglob("*.py"))]
    assert len(files) > 10
    done = model_forks.run(LOAD, *files, environment=os.environ, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_makefile_names_benchmarks_that_are_there() -> None:
    words = (ROOT / "Makefile").read_text(encoding="utf-8").split()
    named = {word for word in words if word.startswith("benchmarks/") and word.endswith(".py")}
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


@pytest.mark.slow
def test_the_benchmark_of_a_real_model_runs_on_the_embedded_one(model_forks: Forks) -> None:
    """Its first arm runs in its own process, as all do when measured; it asserts that both sides do the same work."""
    pytest.importorskip("torch")
    done = model_forks.run(RUN, str(ROOT / "benchmarks" / "real.py"), "--quick", environment=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| this commit (float32) |" in done.stdout
    assert "tokens_per_cpu_second" in done.stdout


def test_the_figure_of_forecasts_states_its_finding(tmp_path: Path) -> None:
    """Two tasks, one arm off by .12: its title and its note are computed from the arms that are drawn."""
    pytest.importorskip("matplotlib")
    import runpy

    import numpy as np

    names = runpy.run_path(str(ROOT / "benchmarks" / "forecast.py"))
    rows: list[dict[str, Any]] = []
    for place, (data, forecast, reached) in enumerate(
        [("a", 0.2, 0.2), ("a", 0.5, 0.62), ("b", 0.7, 0.7), ("b", 0.9, 0.9)]
    ):
        common: dict[str, Any] = {
            "arm": str(place),
            "group": "tempered",
            "told": True,
            "seeds": 3,
            "problems": 48 if data == "a" else 64,
        }
        values = {"forecast": np.full(48, forecast), "reached": np.full(48, reached), "base": np.full(48, 0.1)}
        rows.append(common | {"data": data} | values)
    found = names["summary"](rows)
    assert names["headline"](rows, found).endswith("4 arms, 2 tasks: mean error 0.03, 100 % of pairs in order")
    assert names["sizes"](rows, found).splitlines() == [
        "a point: 48 to 64 problems, 3 seeds",
        "bars: 95 % over problems",
        "mean error, 95 %: 0.030 to 0.030",
    ]
    names["plot"]([names["shown"](row) for row in rows], found, tmp_path / "reached.svg")
    assert "4 arms, 2 tasks" in (tmp_path / "reached.svg").read_text()
