"""A learner on the 2-simplex: its phase portrait beside its vector field, and runs of it as an animation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpen.figures.style import CLASS_COLORS, REGIME_COLORS, check_figure_path, paper_style, save_figure
from sharpen.figures.theory.phase import (
    CORNERS,
    draw_basins,
    draw_borders,
    draw_flow,
    draw_points,
    exact_flow,
    label_corners,
)
from sharpen.objective import InputError, Objective
from sharpen.objective.storage import files
from sharpen.objective.version import install
from sharpen.theory.core.problem import FloatArray, Problem
from sharpen.theory.instability.phase import simplex_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sharpen.toy.studies.phase import LearnerPortrait

ARROWS = 16  # triangles a side, an arrow in each
NULLCLINE_COLORS = ("#0072B2", "#D55E00", "#882255")  # of outcomes 0, 1, 2; the tints' hues, darker
RUN_COLOR = "#332288"
ANIMATION_SUFFIXES = (".gif", ".mp4")
PIXELS = 110  # dots an inch of an animation
TRAIL = 12  # frames that a run's tail stays


def plot_learner(
    objective: Objective,
    problem: Problem,
    found: LearnerPortrait,
    path: str | Path | None = None,
    *,
    axes: Sequence[Any] | None = None,
) -> Figure:
    """Draw the phase portrait, and the vector field with its nullclines, side by side; return the figure.

    Left: streamlines of the learner's mean update, fixed points of the objective by class, basins and borders of the
    exact flow. Right: an arrow for the direction everywhere, its colour the logarithm of the speed, the three
    nullclines, and the learner's own interior rest points.

    Args:
        objective: What is maximised.
        problem: Three outcomes.
        found: The portrait.
        path: Where the figure is written; None writes nothing.
        axes: Two axes with the projection ``ternary`` of mpltern, for the portrait and for the field, which keep their
            figure's style and title; None makes a figure.

    Raises:
        InputError: the path's suffix is not .png, .pdf or .svg, the axes are others, or the file cannot be written.
    """
    if path is not None:
        check_figure_path(path)
    if axes is not None:
        fig = _draw_both(axes, problem, found)
        if path is not None:
            save_figure(fig, path)
        return fig
    with paper_style():
        import mpltern  # noqa: F401  (registers the projection "ternary")
        from matplotlib.figure import Figure

        fig = Figure(figsize=(10.6, 4.6))
        _draw_both([fig.add_subplot(1, 2, place, projection="ternary") for place in (1, 2)], problem, found)
        fig.suptitle(_title(objective, found), color=REGIME_COLORS[objective.regime], x=0.01, ha="left", fontsize=9)
        if path is not None:
            save_figure(fig, path)
        return fig


def _draw_both(axes: Sequence[Any], problem: Problem, found: LearnerPortrait) -> Figure:
    """Draw the portrait and the field into two ternary axes and return their figure."""
    if len(axes) != 2 or not all(getattr(ax, "name", "") == "ternary" for ax in axes):
        raise InputError("axes", [getattr(ax, "name", ax) for ax in axes], "two axes with projection='ternary'")
    left, right = axes
    _draw_portrait(left, problem, found)
    left.set_title("phase portrait", pad=30)
    left.legend(loc="upper left", bbox_to_anchor=(-0.22, 1.08), handletextpad=0.5)
    _draw_field(right.figure, right, found)
    label_corners(right, problem)
    right.set_title("vector field and nullclines", pad=30)
    right.legend(loc="upper left", bbox_to_anchor=(-0.22, 1.08), handletextpad=0.5)
    return left.figure


def _title(objective: Objective, found: LearnerPortrait) -> str:
    w = objective.coefficients
    moving = "" if objective.refresh_every is None else f", reference {objective.reference}"
    name = f"{objective.regime}: $w_r$ = {w.w_r:.3g}, $w_p$ = {w.w_p:.3g}, $w_h$ = {w.w_h:.3g}{moving}"
    return f"{name}, learner {found.learner}"


def _draw_portrait(axes: Any, problem: Problem, found: LearnerPortrait) -> None:
    _, noise = exact_flow(found.theory)
    draw_basins(axes, found.theory)
    draw_flow(axes, found.velocity, noise)
    draw_borders(axes, found.theory)
    draw_points(axes, problem, found.theory)
    label_corners(axes, problem)


def _draw_field(fig: Figure, axes: Any, found: LearnerPortrait) -> None:
    from matplotlib.axes import Axes

    from sharpen.toy.studies.phase import learner_nullclines

    pi = simplex_grid(ARROWS)
    flow = found.velocity(pi) @ CORNERS
    speed = np.linalg.norm(flow, axis=1)
    _, noise = exact_flow(found.theory)
    axes.fill(*np.eye(3), color="white", linewidth=0)  # sets the limits
    if speed.max() > noise:
        moving = speed > noise
        place, direction = (pi @ CORNERS)[moving], (flow / np.maximum(speed, noise)[:, None])[moving]
        arrows = Axes.quiver(  # the plain Axes method: mpltern's data coordinates are those of CORNERS
            axes,
            *place.T,
            *direction.T,
            np.log10(speed[moving]),
            cmap="cividis_r",
            pivot="mid",
            scale=26,
            width=0.004,
            zorder=1,
        )
        fig.colorbar(arrows, ax=axes, shrink=0.7, pad=0.1, label="log$_{10}$ of the speed")
    for outcome, curves in enumerate(learner_nullclines(found)):
        for number, curve in enumerate(curves):
            label = f"outcome {outcome} at rest" if number == 0 else f"_{outcome}"
            axes.plot(*curve.T, color=NULLCLINE_COLORS[outcome], linewidth=1.4, zorder=2, label=label)
    for number, point in enumerate(found.rest):
        axes.scatter(
            *point.policy[:, None],
            s=90,
            marker="o",
            facecolors="none",
            edgecolors=CLASS_COLORS[point.kind],
            linewidths=1.8,
            zorder=4,
            label="rest point of the learner" if number == 0 else f"_rest{number}",
        )


def check_animation_path(path: str | Path) -> Path:
    """Return the path of an animation if its suffix names a format that can be written.

    Raises:
        InputError: the suffix is neither .gif nor .mp4, or .mp4 is asked for without imageio-ffmpeg.
    """
    target = Path(path)
    if target.suffix.lower() not in ANIMATION_SUFFIXES:
        raise InputError("animation file", str(path), f"a name that ends in {' or '.join(ANIMATION_SUFFIXES)}")
    if target.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError as error:
            raise InputError("animation file", str(path), f"a .gif, or for .mp4 {install('video')}") from error
    return target


def animate_runs(
    objective: Objective,
    problem: Problem,
    found: LearnerPortrait,
    updates: Sequence[int],
    policies: FloatArray,
    path: str | Path,
    *,
    frames_per_second: int = 20,
) -> Path:
    """Write runs on the phase portrait as a GIF or an MP4, a frame a record, and return the path.

    The portrait is drawn once and the runs on top of it in each frame, so a hundred frames take seconds.

    Args:
        objective: What the runs maximise.
        problem: Three outcomes.
        found: The portrait.
        updates: Of the records, shape [K].
        policies: Of the runs, shape [K, S, 3].
        path: Ends in .gif (Pillow) or .mp4 (H.264 through imageio-ffmpeg).
        frames_per_second: Of the animation.

    Raises:
        InputError: the suffix is unknown, or the file cannot be written.
    """
    target = check_animation_path(path)
    with files.replacing(target, "animation file") as part:
        pictures = _frames(objective, problem, found, updates, policies)
        if target.suffix.lower() == ".gif":
            _write_gif(pictures, part, frames_per_second)
        else:
            _write_mp4(pictures, part, frames_per_second)
    return target


def _frames(
    objective: Objective, problem: Problem, found: LearnerPortrait, updates: Sequence[int], policies: FloatArray
) -> Iterator[np.ndarray]:
    """Yield the pictures, shape [height, width, 3], bytes; both sides even, as H.264 needs them."""
    with paper_style():
        import mpltern  # noqa: F401
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.collections import LineCollection
        from matplotlib.figure import Figure

        fig = Figure(figsize=(5.6, 4.8), dpi=PIXELS)
        fig.set_layout_engine("none")  # the axes stay where they are put, so the runs' places are the background's
        canvas = FigureCanvasAgg(fig)
        axes: Any = fig.add_axes((0.12, 0.08, 0.72, 0.68), projection="ternary")
        _draw_portrait(axes, problem, found)
        fig.text(0.02, 0.95, _title(objective, found), color=REGIME_COLORS[objective.regime], fontsize=9)
        axes.legend(loc="upper left", bbox_to_anchor=(0.78, 1.1), handletextpad=0.5, fontsize=7)
        canvas.draw()
        background = canvas.copy_from_bbox(fig.bbox)
        places = policies @ CORNERS  # [K, S, 2]
        tails = LineCollection([], colors=RUN_COLOR, linewidths=0.6, alpha=0.35, zorder=6, transform=axes.transData)
        dots = axes.scatter(*policies[0].T, s=14, color=RUN_COLOR, edgecolors="white", linewidths=0.4, zorder=7)
        clock = fig.text(0.02, 0.9, "", fontsize=9, color="#333333")
        axes.add_collection(tails, autolim=False)
        for record, update in enumerate(updates):
            canvas.restore_region(background)
            tails.set_segments(list(places[max(0, record - TRAIL) : record + 1].swapaxes(0, 1)))
            dots.set_offsets(places[record])
            clock.set_text(f"update {update}, {policies.shape[1]} runs")
            for artist in (tails, dots):
                axes.draw_artist(artist)
            fig.draw_artist(clock)
            picture = np.asarray(canvas.buffer_rgba())[..., :3]
            yield np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])


def _write_gif(pictures: Iterator[np.ndarray], target: Path, frames_per_second: int) -> None:
    from PIL import Image

    images = [Image.fromarray(picture) for picture in pictures]
    # One palette for all frames: a palette each would make the background flicker.
    palette = images[0].quantize(colors=255, dither=Image.Dither.NONE)
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    flat[0].save(
        target,
        "GIF",
        save_all=True,
        append_images=flat[1:],
        duration=round(1000 / frames_per_second),
        loop=0,
        optimize=False,
    )


def _write_mp4(pictures: Iterator[np.ndarray], target: Path, frames_per_second: int) -> None:
    import imageio_ffmpeg

    first = next(pictures)
    size = (first.shape[1], first.shape[0])
    # A single thread: the number of threads changes the bits of the file.
    writer = imageio_ffmpeg.write_frames(
        str(target), size, fps=frames_per_second, macro_block_size=2, output_params=["-threads", "1", "-f", "mp4"]
    )
    writer.send(None)
    try:
        writer.send(first)
        for picture in pictures:
            writer.send(picture)
    finally:
        writer.close()
