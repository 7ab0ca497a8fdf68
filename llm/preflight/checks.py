"""What a command needs and does not find here: all of it at once, before anything is written, loaded or sampled.

Looked for are packages, the model's weights and tokenizer, every data set, the answers of those that are marked, room
for prompts and responses, a device for a model of this size, and memory and disk for what is sure to be held. Each
finding is an :class:`~sharpen.objective.InputError` that names the command or option that mends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sharpen.llm.configs.targets import template_of
from sharpen.llm.distributed.placement import Sampled
from sharpen.llm.models import hub, store
from sharpen.llm.models.registry import ModelSource, load_tokenizer, resolve
from sharpen.llm.preflight.findings import Findings
from sharpen.llm.preflight.inventory import (
    GIB,
    check_device,
    check_engine,
    check_memory,
    check_weights,
    hub_set,
    known_as,
    parameters_of,
)
from sharpen.llm.preflight.machine import room_on_disk
from sharpen.llm.preflight.prompts import Fitting, Room, fitting, without
from sharpen.llm.tasks import answer_check
from sharpen.llm.tasks.data import DataSource, PromptSet
from sharpen.llm.tasks.overlap import Overlap, chosen_problems, set_apart
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.trackers import missing_packages
from sharpen.objective import InputError, MissingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sharpen.llm.configs.train import TrainConfig
    from sharpen.llm.distributed.world import World

TRAINING, EVALUATION, SELECTION = "--data", "--eval-data", "--eval-selection-data"


class Part(NamedTuple):
    """A part of a data set that a run reads.

    Args:
        flag: Option that names it.
        spec: Data set.
        split: Its part.
        limit: Only its first so many problems; None for all.
    """

    flag: str
    spec: str
    split: str
    limit: int | None = None


class Ready(NamedTuple):
    """What a training run was found to have.

    Args:
        source: Its model.
        data: Its training data.
        prompts: The problems that it trains on.
        overlaps: What its test sets share with the training data.
        reported: The problems that it is measured on in the end.
        selection: The problems that its best checkpoint is chosen on; None if there are no others.
        notes: What is told and no error.
        left_out: Ids of the problems whose prompts leave no room for a response, by what they are for.
        prompt_ids: Token ids of the prompts that it trains on.
    """

    source: ModelSource
    data: DataSource
    prompts: PromptSet
    overlaps: list[Overlap]
    reported: PromptSet
    selection: PromptSet | None
    notes: list[str]
    left_out: dict[str, list[str]]
    prompt_ids: Sequence[list[int]] | None


def for_training(config: TrainConfig, world: World, out: Path) -> Ready:
    """Return what the run trains on, once everything that it needs has been found.

    Args:
        config: The run.
        world: The processes; the first one alone looks for answers.
        out: Its folder, which need not exist.

    Raises:
        InputError: something is missing or wrong; several things are told together.
    """
    found = Findings()
    source = found.attempt(lambda: resolve(config.model))
    _look_at_settings(found, config, world)
    tokenizer = None if source is None else _look_at_model(found, source)
    if source is not None:
        _look_at_machine(found, config, source, world, out)
    parts = parts_of(config, source)
    opened = [_open(found, part) for part in parts]
    found.say_once()
    if source is not None and tokenizer is None:
        tokenizer = _convert(found, source)
    if source is None or any(one is None for one in opened):
        found.settle()
    assert source is not None
    (data, every), *held_out = (one for one in opened if one is not None)
    prompts, overlaps = set_apart(every, [asked for _, asked in {id(one): one for one in held_out}.values()])
    own = config.evaluation
    reported = held_out[0][1].only(held_out[0][1].prompts[: own.problems])
    selection = chosen_problems(held_out[1][1], reported, own.problems)
    sets = {TRAINING: prompts, EVALUATION: reported} | ({} if selection is None else {SELECTION: selection})
    left_out: dict[str, list[str]] = {}
    ids: dict[str, Sequence[list[int]] | None] = {}
    if tokenizer is not None:
        room = _room(config, template_of(config, source))
        for flag, asked in sets.items():
            fits = found.attempt(lambda flag=flag, asked=asked: fitting(asked, flag, tokenizer, room))
            if fits is not None:
                ids[flag] = fits.ids
            if fits is not None and fits.note is not None:
                sets[flag], left_out[flag] = fits.prompts, fits.left_out
                found.notes.append(fits.note)
            if fits is None and found.errors[-1].field != "max_length":
                break  # the template or the chat format cannot be used, whatever is asked
    if world.first:
        _look_at_answers(found, config, parts, sets)
    found.settle()
    of = (sets[TRAINING], overlaps, sets[EVALUATION], sets.get(SELECTION))
    return Ready(source, data, *of, found.notes, left_out, ids.get(TRAINING))


def for_plan(config: TrainConfig, world: World) -> list[InputError]:
    """Return what a training run would miss on this machine; nothing is downloaded."""
    found = Findings()
    source = found.attempt(lambda: resolve(config.model))
    _look_at_settings(found, config, world)
    if source is not None:
        _look_at_model(found, source)
        found.attempt(lambda: check_device(config.device, source))
    for part in parts_of(config, source):
        if hub_set(part.spec) is None or hub.prefer_cache():
            _open(found, part)
    found.say_once()
    return found.errors


class Asked(Sampled, Protocol):
    """Settings of an evaluation or a sampling run: as the fields of ``EvalConfig`` and ``SampleConfig``."""

    @property
    def data(self) -> str: ...  # noqa: D102
    @property
    def split(self) -> str: ...  # noqa: D102
    @property
    def problems(self) -> int | None: ...  # noqa: D102
    @property
    def template(self) -> str: ...  # noqa: D102
    @property
    def chat_options(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def long_prompts(self) -> str: ...  # noqa: D102


def for_sampling(
    config: Asked, *, base: str | None = None, marked: bool = False, out: Path | None = None, done: bool = False
) -> tuple[DataSource, Fitting]:
    """Return the data set of an evaluation or a sampling run, and its problems, once all that it needs has been found.

    Args:
        config: Its settings.
        base: Where the base model is, if one is to be loaded.
        marked: Whether the answers have to be there.
        out: Its folder, which need not exist; None: it keeps nothing.
        done: Nothing is left to sample, so the data alone are needed.

    Raises:
        InputError: something is missing or wrong; several things are told together.
    """
    found = Findings()
    tokenizer = None
    if not done:
        found.attempt(lambda: check_engine(config.engine))
        source = known_as(config.model)
        tokenizer = _look_at_model(found, source)
        found.attempt(lambda: check_device(config.device, source))
        if base is not None and base != config.model:
            found.attempt(lambda: check_weights(known_as(base)))
        _look_at_sampler(found, config, source, base)
    opened = _open(found, Part(TRAINING, config.data, config.split, config.problems))
    if not done and tokenizer is None:
        tokenizer = _convert(found, known_as(config.model))
    fits = None
    if opened is not None:
        data, prompts = opened
        if marked:
            found.attempt(data.answers)
        if done:
            fits = without(prompts, out)
        elif tokenizer is not None:
            room = _room(config, config.template)
            fits = found.attempt(lambda: fitting(prompts, "", tokenizer, room))
    found.settle()
    assert opened is not None
    assert fits is not None
    return opened[0], fits


def _room(config: TrainConfig | Asked, template: str) -> Room:
    return Room(template, config.chat_options, config.max_length, config.long_prompts == "refuse")


def parts_of(config: TrainConfig, source: ModelSource | None) -> list[Part]:
    """Return the data that a run trains on, is measured on, and chooses its best checkpoint on, as far as known."""
    own, default = config.evaluation, None if source is None else source.default_data
    parts = [
        (TRAINING, config.data or default, config.split, config.problems),
        (EVALUATION, own.data or default, own.split, None),
        (SELECTION, own.selection_data or own.data or default, own.selection_split, None),
    ]
    return [
        Part(flag, spec, split, limit if flag == TRAINING else _most(spec, split, own.problems))
        for flag, spec, split, limit in parts
        if spec is not None
    ]


def _most(spec: str, split: str, wanted: int) -> int | None:
    """Return how many problems to open so that ``wanted`` are among them: all, but the embedded ones have no end."""
    if spec != "embedded":
        return None
    from sharpen.llm.tasks.embedded import SPLITS

    return max(wanted, SPLITS[split].default_count) if split in SPLITS else None


def _look_at_settings(found: Findings, config: TrainConfig, world: World) -> None:
    from sharpen.llm.distributed.placement import check_processes

    found.attempt(lambda: check_processes(config, world))
    found.attempt(lambda: check_engine(config.engine))
    found.errors += missing_packages(config.tracking)
    if config.lora is not None and find_spec("peft") is None:
        why = "the package peft is not installed"
        found.errors.append(MissingError("lora", str(config.lora), why, ["pip install peft"]))


def _look_at_model(found: Findings, source: ModelSource) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer; None if it is not here. Weights are looked for and not loaded.

    A model that has to be fetched or converted first is only looked for: :func:`_convert` does it when all is there.
    """
    before = len(found.errors)
    if not _is_usable(source):
        missing = found.attempt(lambda: store.lacking(source.location))
        found.errors += [] if missing is None else [missing]
        return None
    found.attempt(lambda: check_weights(source))
    if len(found.errors) > before and not Path(source.location).is_dir() and hub.prefer_cache():
        return None  # one command gets both, so one line names both
    return found.attempt(lambda: load_tokenizer(source))


def _is_usable(source: ModelSource) -> bool:
    return not store.is_converted(source.location) or store.is_ready(source.location)


def _convert(found: Findings, source: ModelSource) -> PreTrainedTokenizerBase | None:
    """Fetch and convert a model if that is all that is missing, and return its tokenizer."""
    if _is_usable(source) or any(not store.is_owed(error, source.location) for error in found.errors):
        return None
    found.errors.clear()
    found.attempt(lambda: store.provide(source.location))
    return None if found.errors else _look_at_model(found, source)


def _open(found: Findings, part: Part) -> tuple[DataSource, PromptSet] | None:
    """Return a data set and its problems; None if it cannot be read, and the error names its option."""
    try:
        source = load_source(part.spec, part.split, part.limit)
        return source, source.prompts()
    except InputError as error:
        if isinstance(error, MissingError):  # a task of a package that is not installed; it says what gets it
            found.errors.append(error)
            return None
        known = hub_set(part.spec)
        if known is None or error.__cause__ is None:  # another reason than that it is not to be had
            field = part.flag.removeprefix("--").replace("-", "_")
            found.errors.append(error if part.flag == TRAINING else InputError(field, error.value, error.allowed))
            return None
        command, folder = hub.data_command(*known)
        if hub.prefer_cache():
            why = f"the data set {known[0]} (not on this machine; {hub.out_of_reach()})"
        else:
            why = f"the data set {known[0]} (the hub does not give it: {str(error.__cause__).partition(chr(10))[0]})"
        found.errors.append(MissingError(part.flag, part.spec, why, [command, f"{part.flag} {folder}"]))
        return None


def _look_at_machine(found: Findings, config: TrainConfig, source: ModelSource, world: World, out: Path) -> None:
    """Look for a device, and for memory and disk that the run is sure to need."""
    before = len(found.errors)
    found.attempt(lambda: check_device(config.device, source))
    if source.name == "embedded" or len(found.errors) > before:
        return
    from sharpen.llm.distributed.fit import too_large
    from sharpen.llm.distributed.placement import placement
    from sharpen.llm.distributed.plan import plan

    device, _ = placement(config)
    try:
        planned = plan(config.model_copy(update={"device": device}), world.size)
    except InputError:  # told already: no such model, or not for so many processes
        return
    held = planned.memory
    sure = {
        "parameters": held.parameters,
        "gradients": held.gradients,
        "optimizer": held.optimizer,
        "reference": held.reference,
    }
    here = world.size if device == "cpu" else 1
    large = too_large(planned)
    if large is not None:
        found.errors.append(large)
    else:
        mend = "--lora-rank 16, or more processes"
        found.attempt(lambda: check_memory("model", config.model, sure, here, device, mend))
    there = sum(file.stat().st_size for file in (out / "checkpoints").rglob("*") if file.is_file())
    stored = int(planned.budget()["disk_bytes"]) - there
    free = room_on_disk(out)
    if stored > free:
        allowed = (
            f"a folder with room for the checkpoints, {stored / GIB:,.1f} GiB until the evaluation has chosen "
            f"({free / GIB:,.1f} GiB are free); --checkpoint-every {4 * config.checkpoint_every} makes fewer"
        )
        found.errors.append(InputError("out", str(out), allowed))


def _look_at_sampler(found: Findings, config: Asked, source: ModelSource, base: str | None) -> None:
    from sharpen.llm.distributed.memory import BYTES
    from sharpen.llm.distributed.placement import placement

    device, dtype = placement(config)
    parameters = parameters_of(source) if not found.errors else None
    if parameters is not None:
        sure = {"model": BYTES[dtype] * parameters}
        if base is not None and base != config.model:
            sure["base"] = sure["model"]
        found.attempt(lambda: check_memory("model", config.model, sure, 1, device, "--dtype bfloat16"))


def _look_at_answers(found: Findings, config: TrainConfig, parts: Sequence[Part], sets: dict[str, PromptSet]) -> None:
    """Look for answers where they will be needed; another process opens them, see ``answer_check.py``."""
    needed = [EVALUATION, *([SELECTION] if SELECTION in sets else [])]
    if config.objective.needs_reward and config.reward.needs_answers:
        needed.insert(0, TRAINING)
    wanted = {part.flag: part for part in parts if part.flag in needed}
    asked = [
        answer_check.Asked(part.spec, part.split, part.limit, tuple(prompt.id for prompt in sets[flag].prompts))
        for flag, part in wanted.items()
    ]
    for flag, missing in zip(wanted, answer_check.unanswered(asked), strict=True):
        part, total = wanted[flag], len(sets[flag].prompts)
        name = flag.removeprefix("--").replace("-", "_")
        if isinstance(missing, InputError):
            found.errors.append(InputError(name, part.spec, missing.allowed))
        elif len(missing) == total:
            allowed = f"a data set with answers; none of the {total} problems of {sets[flag].name} has one"
            found.errors.append(InputError(name, part.spec, allowed))
        elif missing:
            found.notes.append(
                f"{sets[flag].name} ({flag}): {len(missing)} of {total} problems have no answer, so no response to "
                f"them is right; the first is {missing[0]!r:.60}"
            )
