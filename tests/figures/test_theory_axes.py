"""Figures of the theory: drawn in one's own panels, written only where a path is given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from sharpen import theory
from sharpen.figures.theory.coverage import plot_coverage
from sharpen.figures.theory.fixed_points import plot_fixed_points
from sharpen.figures.theory.optimum import plot_optimum, plot_response
from sharpen.figures.theory.phase import plot_phase
from sharpen.figures.theory.selfsharpening import plot_rounds
from sharpen.figures.theory.sensitivity import plot_sensitivity
from sharpen.figures.theory.sequences import plot_knife_edge
from sharpen.objective import InputError, Objective
from sharpen.theory.core.problem import DEFAULT_PROBLEM as FIVE

TEMPERED = Objective(alpha=2.0)
THREE = theory.Problem([0.5, 0.3, 0.2], [0, 1, 0])


def coverage(path: Any, axes: Any) -> Figure:
    found = theory.coverage(TEMPERED, FIVE, [1, 8])
    return plot_coverage(TEMPERED, found.policies, found.crossover, path, axes)


def response(path: Any, axes: Any) -> Figure:
    curve = theory.response(TEMPERED, FIVE, "alpha", np.linspace(0.0, 4.0, 9))
    return plot_response(TEMPERED, FIVE, curve, path=path, axes=axes)


def fixed_points(path: Any, axes: Any) -> Figure:
    best, found = theory.optimum(TEMPERED, FIVE), theory.fixed_points(TEMPERED, FIVE)
    return plot_fixed_points(TEMPERED, FIVE, best, found, path, axes)


def knife_edge(path: Any, axes: Any) -> Figure:
    curve = theory.sequences.LengthCurve(theory.sequences.IidModel(FIVE.base, 0.05))
    return plot_knife_edge(curve.sample(2.0, 9), curve.point(1.0), curve.critical_alpha, path, axes)


def phase(path: Any, axes: Any) -> Figure:
    return plot_phase(TEMPERED, THREE, theory.portrait(TEMPERED, THREE), path, axes)


def optimum(path: Any, axes: Any) -> Figure:
    return plot_optimum(TEMPERED, FIVE, [0.2], 3, path, axes=axes)


def sensitivity(path: Any, axes: Any) -> Figure:
    return plot_sensitivity(TEMPERED, FIVE, 0.1, path, axes=axes)


def rounds(path: Any, axes: Any) -> Figure:
    return plot_rounds(TEMPERED, FIVE, theory.self_sharpening(TEMPERED, FIVE, 3).log_policies, path, axes)


TWO: list[Callable[[Any, Any], Figure]] = [coverage, response, fixed_points, optimum, sensitivity, rounds]


@pytest.mark.parametrize("plot", TWO)
def test_two_panels_of_ones_own(
    plot: Callable[[Any, Any], Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = Figure(figsize=(3.0, 2.0))
    panels = own.subplots(1, 3)
    style = dict(matplotlib.rcParams)
    assert plot(None, panels[1:]) is own
    assert [bool(panel.has_data()) for panel in panels] == [False, True, True]
    assert dict(matplotlib.rcParams) == style
    assert not own.legends  # the figure holds other things
    assert list(tmp_path.iterdir()) == []
    for wrong in (panels, panels[:1], panels[0]):
        with pytest.raises(InputError, match=r"^axes: got"):
            plot(None, wrong)


@pytest.mark.parametrize("plot", [*TWO, knife_edge, phase])
def test_a_figure_is_written_where_a_path_is_given(
    plot: Callable[[Any, Any], Figure], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fig = plot(None, None)
    assert fig.axes[0].has_data()
    assert list(tmp_path.iterdir()) == []
    plot(tmp_path / "new" / "figure.svg", None)
    assert (tmp_path / "new" / "figure.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(InputError, match=r"^figure file: got"):
        plot("figure.txt", None)


def test_one_panel_of_ones_own(tmp_path: Path) -> None:
    import mpltern  # noqa: F401  (registers the projection "ternary")

    own = Figure()
    left: Any = own.add_subplot(1, 2, 1)
    right: Any = own.add_subplot(1, 2, 2, projection="ternary")
    assert knife_edge(None, left) is own
    assert phase(tmp_path / "both.png", right) is own
    assert left.has_data()
    assert right.has_data()
    assert (tmp_path / "both.png").stat().st_size > 0
    with pytest.raises(InputError, match=r"^ax: got"):
        phase(None, left)


def test_drawing_leaves_a_notebooks_backend_alone() -> None:
    script = """
import matplotlib
matplotlib.use("svg")
import matplotlib.pyplot as plt
from sharpen import theory
from sharpen.objective import Objective
from sharpen.figures.theory.optimum import plot_response
problem = theory.Problem([0.5, 0.3, 0.2], [0, 1, 0])
fig, axes = plt.subplots(1, 2)
plot_response(Objective(alpha=2), problem, theory.response(Objective(alpha=2), problem, "alpha", [0, 1, 2]))
print(matplotlib.get_backend(), plt.get_fignums())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "svg [1]"
