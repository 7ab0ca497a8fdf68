"""The door of trackers: what one is, and where those that are built in are found."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from sharpen.objective import InputError, MissingError
from sharpen.objective.registry import Registry


class Tracker(Protocol):
    """Shows a training run somewhere else than in ``metrics.jsonl``, which is written whatever it does.

    What is registered is called with the run's ``tracker_options`` for it, by keyword, and returns the tracker: a class
    does. That must not start anything yet. It may have an attribute ``packages``, the names of modules that it needs
    beyond those of training: a run in which one is missing is refused before it starts. Only the first process tracks.

    Whatever a tracker raises in ``log`` or ``finish`` is told in one line, and the run goes on without it; what it
    raises in ``start`` ends the run before its first step. What it prints goes to stderr.
    """

    def start(self, config: dict[str, Any], folder: Path, resumed_from_step: int) -> None:
        """Open what numbers go to.

        Args:
            config: The resolved configuration of the run, as JSON has it.
            folder: The run's folder, which is there. A tracker may keep files in it, by names of its own.
            resumed_from_step: The step that comes first: 0 for a new run. A run that was killed has told of later ones
                already and tells of them again, with the same numbers: send none twice.
        """
        ...

    def log(self, step: int, numbers: dict[str, float], samples: list[dict[str, Any]]) -> None:
        """Take one step's metrics.

        Args:
            step: Its number, from ``resumed_from_step`` on, one by one.
            numbers: Those of docs/llm.md that are numbers in this run, by name; those in groups as ``seconds/total``.
            samples: A few of its samples: the objects of ``samples.jsonl``.
        """
        ...

    def finish(self) -> None:
        """Send what is left and close; called once, also where training was interrupted."""
        ...


class Factory(Protocol):
    """What is registered: a class of trackers, or a function that returns one."""

    def __call__(self, *args: Any, **options: Any) -> Tracker: ...  # noqa: D102


def _check(part: object) -> None:
    if not callable(part):
        raise TypeError("a class with start, log and finish, or a function that returns a tracker")
    missing = [name for name in ("start", "log", "finish") if not callable(getattr(part, name, None))]
    if isinstance(part, type) and missing:
        raise TypeError(f"a class with start, log and finish ({', '.join(missing)} missing)")


TRACKERS: Registry[Factory] = Registry("tracker", _check)
# By their places: each imports a package that only its own users need.
TRACKERS.register("tensorboard", "sharpen.llm.trackers.tensorboard_tracker:TensorBoardTracker")
TRACKERS.register("wandb", "sharpen.llm.trackers.wandb_tracker:WandbTracker")
TRACKERS.register("trackio", "sharpen.llm.trackers.trackio_tracker:TrackioTracker")


def chosen(
    trackers: Iterable[str], options: Mapping[str, Mapping[str, Any]], wandb: str | None
) -> dict[str, dict[str, Any]]:
    """Return the trackers of a run and the options of each.

    Args:
        trackers: Their names.
        options: Options by name.
        wandb: Project there, which adds that tracker to the others; None: no project is named.

    Raises:
        InputError: a name comes twice, options are of no such tracker or not what it takes, or there are two projects.

    Example:
        >>> chosen(["tensorboard"], {}, "sharpening")
        {'tensorboard': {}, 'wandb': {'project': 'sharpening'}}
    """
    names = list(trackers)
    if len(set(names)) < len(names):
        raise InputError("trackers", names, "each tracker once")
    names += ["wandb"] if wandb is not None and "wandb" not in names else []
    for name in options:
        if name not in names:
            raise InputError("tracker_options", name, f"options of this run's trackers: {', '.join(names) or 'none'}")
    found = {name: dict(options.get(name, {})) for name in names}
    if wandb is not None and found["wandb"].setdefault("project", wandb) != wandb:
        raise InputError("wandb", wandb, f"the project of tracker_options, {found['wandb']['project']}, or one of both")
    for name, given in found.items():
        try:
            inspect.signature(TRACKERS.get(name, "trackers")).bind(**given)
        except TypeError as error:
            raise InputError(f"tracker_options.{name}", given, f"options that it takes ({error})") from error
    return found


def missing_packages(trackers: Iterable[str]) -> list[InputError]:
    """Return an error for each package that a tracker needs and that is not installed here."""
    found: list[InputError] = []
    for name in trackers:
        for package in getattr(TRACKERS.get(name, "trackers"), "packages", ()):
            if find_spec(package) is None:
                why = f"the package {package} is not installed"
                found.append(MissingError("tracker", name, why, [f"pip install {package}"]))
    return found
