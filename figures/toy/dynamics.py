"""Figures of ``sharpen toy``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.figures.style import paper_style, save_figure
from sharpen.objective import InputError
from sharpen.objective.storage.parsing import ROWS, TABLE
from sharpen.objective.storage.reading import check_archive, read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sharpen.toy.simulation.result import Simulation

CORRECT, WRONG = "#009E73", "#D55E00"
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (3, 1, 1, 1)), (0, (6, 2, 1, 2)))
MOST_LINES = 12  # outcomes drawn; of more, those with the largest probability somewhere
SPREAD = (2.5, 97.5)  # percentiles over seeds


class Trajectories(NamedTuple):
    """A simulation read from its folder.

    Args:
        summary: ``summary.json``.
        updates: Shape [K].
        reward: Shape [n].
        policy: Probabilities by track, ``objective/learner``, shape [K, S, n].
    """

    summary: dict[str, Any]
    updates: NDArray[np.int64]
    reward: NDArray[np.float64]
    policy: dict[str, NDArray[np.float64]]


def read_trajectories(folder: Path) -> Trajectories:
    """Return a finished simulation.

    Raises:
        InputError: the folder does not hold one.
    """
    try:
        summary = read_json(folder / "summary.json", "toy folder", TABLE)
        check_archive(folder / "trajectory.npz", "toy folder", ROWS)
        with np.load(folder / "trajectory.npz", allow_pickle=False) as stored:
            keys = [f"{row['objective']}/{row['learner']}" for row in summary["tracks"]]
            policy = {key: np.exp(stored[f"log_policy/{key}"]) for key in keys}
            return Trajectories(summary, stored["updates"], stored["reward"], policy)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError("toy folder", str(folder), "a finished run of `sharpen toy simulate`") from error


def as_trajectories(run: Path | str | Simulation) -> Trajectories:
    """Return a finished simulation, from its folder or as it is in memory.

    Raises:
        InputError: it is not finished, or the folder does not hold one.
    """
    if isinstance(run, Path | str):
        return read_trajectories(Path(run))
    if run.summary is None:
        raise InputError("run", "a simulation that is not finished", "a finished one")
    return Trajectories(run.summary, run.updates, run.problem.reward, run.policy)


def plot_simulation(
    run: Path | str | Simulation, path: Path | str | None = None, *, axes: NDArray[Any] | None = None
) -> Figure:
    """Draw every track of a simulation and return the figure.

    One column per objective, one row per learner; a line per outcome, its median over seeds, a band of 95% of them; a
    mark at the right end where the theory says that the flow ends.

    Args:
        run: A simulation, or its run folder.
        path: Where the figure is written; None writes nothing.
        axes: Axes to draw into, shape [learners, objectives], in their own style; None makes a figure.

    Raises:
        InputError: there is no finished simulation, the axes are too few, or the file cannot be written.
    """
    data = as_trajectories(run)
    if axes is not None:
        fig = _draw_tracks(data, np.asarray(axes))
        if path is not None:
            save_figure(fig, path)
        return fig
    with paper_style():
        from matplotlib.figure import Figure

        rows, columns = _shape(data)
        fig = Figure(figsize=(2.3 * columns + 1.2, 1.7 * rows + 0.6))
        made = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        _draw_tracks(data, made)
        handles, labels = made[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside right upper")
        if path is not None:
            save_figure(fig, path)
    return fig


def _names(data: Trajectories, field: str) -> list[str]:
    return list(dict.fromkeys(row[field] for row in data.summary["tracks"]))


def _shape(data: Trajectories) -> tuple[int, int]:
    return len(_names(data, "learner")), len(_names(data, "objective"))


def _draw_tracks(data: Trajectories, axes: NDArray[Any]) -> Figure:
    """Draw each track into its axes and return the figure they are in."""
    learners, objectives = _names(data, "learner"), _names(data, "objective")
    if np.shape(axes) != _shape(data):
        raise InputError("axes", f"shape {np.shape(axes)}", f"an array of axes of shape {_shape(data)}")
    for row in data.summary["tracks"]:
        ax = axes[learners.index(row["learner"]), objectives.index(row["objective"])]
        draw_track(ax, data, row)
        if row["learner"] == learners[0]:
            ax.set_title(row["objective"])
        if row["objective"] == objectives[0]:
            ax.set_ylabel(f"{row['learner']}\nprobability")
        if row["learner"] == learners[-1]:
            ax.set_xlabel("update")
    return axes[0, 0].figure


def plot_track(run: Path | str | Simulation, objective: str, learner: str, *, ax: Axes | None = None) -> Axes:
    """Draw one track of a simulation and return its axes; nothing is written.

    Args:
        run: A simulation, or its run folder.
        objective: Its name in the simulation.
        learner: Likewise.
        ax: Axes to draw into, in their own style; None makes a figure.

    Raises:
        InputError: there is no finished simulation, or no such track in it.
    """
    data = as_trajectories(run)
    rows = {(row["objective"], row["learner"]): row for row in data.summary["tracks"]}
    if (objective, learner) not in rows:
        raise InputError("track", f"{objective}/{learner}", ", ".join("/".join(key) for key in rows))
    if ax is None:
        with paper_style():
            from matplotlib.figure import Figure

            ax = Figure(figsize=(3.5, 2.3)).subplots()
            return _labelled(ax, data, rows[objective, learner])
    return _labelled(ax, data, rows[objective, learner])


def _labelled(ax: Axes, data: Trajectories, row: dict[str, Any]) -> Axes:
    draw_track(ax, data, row)
    ax.set(title=f"{row['objective']}, {row['learner']}", xlabel="update", ylabel="probability")
    ax.legend(fontsize=7)
    return ax


def draw_track(ax: Axes, data: Trajectories, row: dict[str, Any]) -> None:
    """Draw one track: a line per outcome, its band over seeds, and the theory's limit at the right edge."""
    policy_KSn = data.policy[f"{row['objective']}/{row['learner']}"]
    median_Kn = np.median(policy_KSn, axis=1)
    shown = np.sort(np.argsort(-median_Kn.max(axis=0), kind="stable")[:MOST_LINES])
    # Log time shows the start of the exact flows and the long tail of the sampled ones in one panel.
    time = np.maximum(data.updates, data.updates[1] / 2 if len(data.updates) > 1 else 1)
    for place, outcome in enumerate(shown.tolist()):
        correct = data.reward[outcome] > 0
        color = CORRECT if correct else WRONG
        label = f"{outcome} ({'correct' if correct else 'wrong'})"
        ax.plot(time, median_Kn[:, outcome], color=color, linestyle=DASHES[place % len(DASHES)], label=label, lw=1.4)
        if policy_KSn.shape[1] > 1:
            low, high = np.percentile(policy_KSn[:, :, outcome], SPREAD, axis=1)
            ax.fill_between(time, low, high, color=color, alpha=0.15, linewidth=0)
        if row["compared_with"] == "limit":
            label = "theory's limit" if outcome == shown[-1] else None
            ax.plot(
                time[-1],
                row["limit"][outcome],
                marker="o",
                mfc="none",
                mec="black",
                ms=5,
                ls="",
                label=label,
                clip_on=False,
            )
    ax.set_xscale("log")
    ax.set_ylim(-0.02, 1.02)
    if row["compared_with"] == "face":
        ax.annotate(
            "any point of the\noptimal face", (0.45, 0.4), xycoords="axes fraction", fontsize=7, color="#555555"
        )
