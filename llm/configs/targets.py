"""What a model may be named in an evaluation or a sampling run: models, and the checkpoints of training runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.configs.train import resolve as resolve_config
from sharpen.llm.models import checkpoints
from sharpen.llm.models.registry import BUILT_IN, REGISTRY, ModelSource, resolve
from sharpen.llm.tasks.sources import template_for
from sharpen.objective import InputError
from sharpen.objective.storage import runfolder

CHECKPOINTS = "checkpoints"


class Target(NamedTuple):
    """A policy to evaluate, with what follows from where it came from.

    Args:
        location: Hub id, or folder of the weights.
        base: Location of the base model it was trained from, its own for a model of the registry; None if unknown.
        template: Prompt template of its data.
        data: Data set unless another is named.
        max_length: Prompt and response, in tokens.
        split: Of the data.
        problems: How many of them; None for all.
        chat_options: Arguments of the chat format.
        named: The template that its run's configuration names, whatever is asked; None: it names none.
        otherwise: The template of other data that have none of their own: what a run was trained with, or the model's.
    """

    location: str
    base: str | None
    template: str
    data: str
    max_length: int
    split: str = "test"
    problems: int | None = None
    chat_options: Mapping[str, Any] = MappingProxyType({})
    named: str | None = None
    otherwise: str = "plain"


def find_target(name: str, which: str | None = None) -> Target:
    """Return the policy that ``name`` stands for.

    Args:
        name: ``embedded``, a registered name, a hub id, a folder with a model, a run folder of ``sharpen llm train``,
            or one of its checkpoints.
        which: Checkpoint of a run folder: ``last``, ``best``, ``base``, or the number of updates; None for ``last``.

    Raises:
        InputError: there is no such model or checkpoint, or a checkpoint's weights are not those that were written.
    """
    path = Path(name)
    if (path / CHECKPOINTS).is_dir() and (path / runfolder.CONFIG).is_file():
        config = runfolder.read_config(path, TrainConfig)
        return _of_run(config, weights_of(path, which or "last", config.model))
    if which is not None:
        raise InputError("checkpoint", which, f"none for {name}, which is no run folder")
    run = path.absolute().parent.parent
    if path.is_dir() and path.absolute().parent.name == CHECKPOINTS and (run / runfolder.CONFIG).is_file():
        return _of_run(runfolder.read_config(run, TrainConfig), str(_intact(path.resolve())))
    source = resolve(name)
    config = resolve_config({"model": name})
    base = source.location if name in BUILT_IN or name in REGISTRY else None
    of = (template_of(config, source), source.default_data, config.max_length)
    return Target(source.location, base, *of, otherwise=source.template)


def complete(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an evaluation or a sampling run with what follows from the model that they name.

    That is where its weights and its base are, and what is not given: template, data and length limit, and with the
    model's own data also their split and number. A name that was resolved before stays.

    Args:
        fields: As those of ``EvalConfig`` and ``SampleConfig``, and ``checkpoint``, which of a run folder's.

    Raises:
        InputError: there is no such model or checkpoint.
    """
    given = dict(fields)
    if not all(isinstance(given.get(name, ""), str | None) for name in ("model", "base")):
        return given  # for the fields themselves to refuse
    which, base = given.pop("checkpoint", None), given.get("base")
    target = find_target(str(given.pop("model", "embedded")), None if which is None else str(which))
    own = {**target._asdict(), "chat_options": dict(target.chat_options)}
    own["model"] = own.pop("location")
    named, otherwise = own.pop("named"), own.pop("otherwise")
    if "data" in given:
        del own["split"], own["problems"]
    if isinstance(given.get("data"), str):
        own["template"] = template_for(named, given["data"], otherwise)
    if base is not None:
        given["base"] = find_target(str(base)).location
    return own | given


def weights_of(run: Path, which: str, model: str) -> str:
    """Return the location of the weights of a run's checkpoint.

    Args:
        run: Run folder.
        which: ``last``, ``best``, ``base``, or the number of updates.
        model: The run's base model, as its user named it.

    Raises:
        InputError: there is no such checkpoint, or it is not as it was written.
    """
    if which == "base" or (which == "best" and _base_is_best(run)):
        return resolve(model).location
    return str(_intact(_checkpoint(run, which)))


def _of_run(config: TrainConfig, location: str) -> Target:
    """Return a policy of a run, by default asked what the run's own evaluation asks."""
    source, own = resolve(config.model), config.evaluation
    asked = (own.data or source.default_data, config.max_length, own.split, own.problems, config.chat_options)
    used = template_of(config, source)
    return Target(location, source.location, used, *asked, named=config.template, otherwise=used)


def template_of(config: TrainConfig, source: ModelSource) -> str:
    """Return the name of the template that a run asks with: its configuration's, or its task's, or its model's."""
    return template_for(config.template, config.data or source.default_data, source.template)


def _intact(folder: Path) -> Path:
    checkpoints.check(folder)
    return folder


def _base_is_best(run: Path) -> bool:
    """Return whether no checkpoint of a run was better than the model that it began from."""
    try:
        return json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["best"]["step"] == 0
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _checkpoint(run: Path, which: str) -> Path:
    """Return the folder of a checkpoint by its number: what ``last`` points to may change while a run goes on."""
    folder = run / CHECKPOINTS
    found = {str(checkpoints.step_of(path)): path for path in checkpoints.listed(folder)}
    if which in ("last", "best") and (folder / which).is_dir():
        return (folder / which).resolve()
    if which == "last" and found:
        return list(found.values())[-1].resolve()
    if which in found:
        return found[which].resolve()
    allowed = ["base", *(name for name in ("last", "best") if (folder / name).is_dir()), *found]
    raise InputError("checkpoint", which, f"{', '.join(allowed)}, the checkpoints of {run}")
