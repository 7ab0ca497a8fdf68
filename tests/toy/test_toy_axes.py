"""Figures of the toy: into axes of one's own, and into a file only where one is named."""

from __future__ import annotations

from pathlib import Path

import mpltern  # noqa: F401  (registers the projection "ternary")
import numpy as np
import pytest
from matplotlib.figure import Figure

from sharpen.figures.toy.dynamics import plot_simulation, plot_track
from sharpen.figures.toy.phase import plot_learner
from sharpen.objective import PRESETS, InputError
from sharpen.theory.core.problem import Problem
from sharpen.toy import Simulation, learner_portrait, load, simulate


@pytest.fixture(scope="module")
def run() -> Simulation:
    return simulate(["tempered", "tilted"], learners="natural", steps=30)


def test_a_simulation_draws_into_given_axes_what_it_ran(
    run: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fig = Figure()
    axes = fig.subplots(1, 2, squeeze=False)
    assert plot_simulation(run, axes=axes) is fig
    drawn = {line.get_label(): line.get_ydata() for line in axes[0, 1].lines}
    np.testing.assert_array_equal(drawn["1 (correct)"], run.policy["tilted/natural"][:, 0, 1])
    assert [ax.get_title(loc="left") or ax.get_title() for ax in axes[0]] == ["tempered", "tilted"]
    assert plot_track(run, "tilted", "natural", ax=axes[0, 0]) is axes[0, 0]
    assert len(plot_simulation(run).axes) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_where_one_is_named_and_is_the_folder_s(run: Simulation, tmp_path: Path) -> None:
    simulate(["tempered", "tilted"], learners="natural", steps=30, out=tmp_path / "run")
    plot_simulation(run, tmp_path / "memory.png")
    plot_simulation(tmp_path / "run", tmp_path / "folder.png")
    assert (tmp_path / "memory.png").read_bytes() == (tmp_path / "folder.png").read_bytes()
    assert not (tmp_path / "run" / "figure.png").exists()


def test_axes_that_do_not_fit_are_refused(run: Simulation) -> None:
    fig = Figure()
    with pytest.raises(InputError, match="axes"):
        plot_simulation(run, axes=fig.subplots(2, 1, squeeze=False))
    with pytest.raises(InputError, match="tempered/natural, tilted/natural"):
        plot_track(run, "tilted", "rloo")
    portrait = learner_portrait(PRESETS["tempered"], Problem([0.5, 0.3, 0.2], [0, 1, 0]), "natural")
    with pytest.raises(InputError, match="ternary"):
        plot_learner(PRESETS["tempered"], Problem([0.5, 0.3, 0.2], [0, 1, 0]), portrait, axes=fig.subplots(1, 2))


def test_a_portrait_draws_into_given_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    problem = Problem([0.5, 0.3, 0.2], [0, 1, 0])
    portrait = learner_portrait(PRESETS["tempered"], problem, "natural")
    fig = Figure()
    axes = [fig.add_subplot(1, 2, place, projection="ternary") for place in (1, 2)]
    assert plot_learner(PRESETS["tempered"], problem, portrait, axes=axes) is fig
    assert [ax.get_title() for ax in axes] == ["phase portrait", "vector field and nullclines"]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_finished_has_no_figure(run: Simulation, tmp_path: Path) -> None:
    def stop(key: str, done: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate("tempered", learners="natural", steps=30, out=tmp_path / "run", progress=stop)
    with pytest.raises(InputError, match="not finished"):
        plot_simulation(load(tmp_path / "run"))
