"""A whole training run: load, train, checkpoint, resume, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm import checkpoint
from sharpen.llm.config import TrainConfig
from sharpen.llm.data import DataSource, load_source
from sharpen.llm.interrupt import deferred_interrupt
from sharpen.llm.models import ModelSource, load_model, resolve
from sharpen.llm.overlap import Overlap, set_apart
from sharpen.llm.setup import Setup, placement, prepare
from sharpen.llm.world import World, connect, disconnect, launched
from sharpen.objective import InputError, files, runfolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sharpen.llm.data import PromptSet
    from sharpen.llm.trainer import Trainer

EVALUATION = "evaluation.json"  # written last: a folder that holds it is a finished run
SELECTION = "selection.json"  # what chose the best checkpoint; most of the checkpoints themselves are deleted then
MADE = (
    *(EVALUATION, SELECTION, "overlap.json", "metrics.jsonl", "samples.jsonl", "tensorboard/events.*"),
    *("wandb-id", "wandb/*", "checkpoints/last", "checkpoints/best"),
    *(f"checkpoints/step_*/*.{kind}" for kind in ("safetensors", "json", "jinja", "txt", "model")),
)
SELECTION_SAMPLES = 4  # samples a problem when the best checkpoint is chosen; the final evaluation takes more


@dataclass
class Report:
    """Where a run tells what it does; the default tells nobody.

    Args:
        note: Called with one line of text.
        step: Called with the metrics of each step.
        evaluation: Called with a checkpoint's name and its measures.
    """

    note: Callable[[str], None] = lambda text: None
    step: Callable[[dict[str, Any]], None] = lambda record: None
    evaluation: Callable[[str, dict[str, Any]], None] = lambda name, measures: None


def train(config: TrainConfig, out: Path, *, force: bool = False, report: Report | None = None) -> dict[str, Any]:
    """Run, or continue, the training run of ``config`` in the folder ``out`` and evaluate it.

    Args:
        config: The resolved configuration.
        out: Run folder: ``config.yaml``, ``provenance.json``, ``overlap.json``, ``metrics.jsonl``, ``samples.jsonl``,
            ``tensorboard/``, ``checkpoints/`` and, in the end, ``evaluation.json``.
        force: Delete an earlier run in ``out`` first.
        report: Told about progress.

    Returns:
        The content of ``evaluation.json``.

    Raises:
        InputError: settings, model, data or folder cannot be used.
        KeyboardInterrupt: Ctrl-C; the state has been saved and the same call continues.
    """
    world = launched()
    if config.wandb is not None and find_spec("wandb") is None:
        raise InputError("wandb", config.wandb, "a project where the package is installed: pip install wandb")
    report = report if report is not None and world.first else Report()
    source = resolve(config.model)
    training_data = load_source(config.data or source.default_data, config.split, config.problems)
    prompts, overlaps = set_apart(training_data.prompts(), _held_out(config, source))
    # The first process writes, so it alone holds the folder's lock.
    with runfolder.opened(out, config, force, MADE) if world.first else nullcontext():
        if world.first:
            _tell_overlap(out, prompts, overlaps, report)
        if world.size > 1:
            connect(world, placement(config)[0])
            world.wait()  # the folder is open now
        finished = world.from_first(_finished(out, report) if world.first else None)
        if finished is not None:
            report.note(f"{out} holds this run, finished; nothing to do (--force starts it again)")
            if world.size > 1:
                disconnect()
            return finished
        setup = prepare(config, source, world)
        try:
            _train(_trainer(config, setup, training_data, prompts), setup, out, report)
            del setup.model, setup.reference  # evaluation reads checkpoints and wants the memory
            # Only here, after the last update, are answers opened for a run whose objective has no reward.
            return _evaluate(config, setup, out, report)
        finally:
            setup.engine.close()
            disconnect()


def _finished(out: Path, report: Report) -> dict[str, Any] | None:
    """Return the evaluation of a finished run; None if there is none, or what is there is not whole."""
    file = out / EVALUATION
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and {"base", "last", "best", "selection"} <= found.keys():
            return found
    except (OSError, ValueError, RecursionError):
        pass
    report.note(f"{file} is damaged; measuring again, which gives the same numbers")
    return None


def _held_out(config: TrainConfig, source: ModelSource) -> list[PromptSet]:
    """Return the problems that choose and measure checkpoints; their answers stay closed."""
    settings = config.evaluation
    data = settings.data or source.default_data
    parts = ((settings.selection_data or data, settings.selection_split), (data, settings.split))
    return [load_source(*part).prompts() for part in dict.fromkeys(parts)]


def _tell_overlap(out: Path, prompts: PromptSet, overlaps: list[Overlap], report: Report) -> None:
    for found in overlaps:
        if found.same or found.near:
            report.note(found.line())
    if any(found.removed for found in overlaps):
        report.note(f"training on {len(prompts.prompts)} of {overlaps[0].train_problems} problems")
    told = {
        "problems": overlaps[0].train_problems,
        "problems_trained_on": len(prompts.prompts),
        "test_sets": [found.to_dict() for found in overlaps],
    }
    files.write(out / "overlap.json", json.dumps(told, indent=2) + "\n")


def _trainer(config: TrainConfig, setup: Setup, data: DataSource, prompts: PromptSet) -> Trainer:
    from sharpen.llm.rewards import reward_for
    from sharpen.llm.trainer import Trainer

    return Trainer(
        config,
        setup.model,
        setup.tokenizer,
        setup.engine,
        prompts,
        reward_for(config.objective, data, seed=config.seed, **config.reward.model_dump()),
        setup.template,
        reference=setup.reference,
        world=setup.world,
        compute=setup.compute,
    )


def _train(trainer: Trainer, setup: Setup, out: Path, report: Report) -> None:
    from sharpen.llm.metrics import MetricsWriter, Mirror

    config, world, folder = trainer.config, setup.world, out / "checkpoints"
    mirror = Mirror(config.wandb, out, config.model_dump(mode="json")) if config.wandb and world.first else None
    newest = _checkpoint_to_continue(folder, world, report)
    if newest is not None:
        tensors, numbers = checkpoint.load_state(newest)
        trainer.load_state(tensors, numbers, checkpoint.stored_weights(newest), str(newest))
        report.note(f"continuing from {newest.name}")
    elif (out / "metrics.jsonl").exists():
        report.note(f"{out} has no checkpoint yet: starting at step 1 again")
    metrics = MetricsWriter(out, trainer.step_index, mirror) if world.first else None
    if metrics is not None and metrics.missing:
        report.note(f"{out / 'metrics.jsonl'} has no record of {metrics.missing} of {trainer.step_index} earlier steps")
    try:
        with deferred_interrupt() as interrupt:
            while trainer.step_index < config.steps:
                record, samples = trainer.step()
                if metrics is not None:
                    metrics.write(record, samples)
                report.step(record)
                done = trainer.step_index
                stop = any(world.gather([interrupt.requested]))
                if stop or done % config.checkpoint_every == 0 or done == config.steps:
                    _save(folder, trainer, setup)
                if stop:
                    raise KeyboardInterrupt
    finally:
        if metrics is not None:
            metrics.close()


def _checkpoint_to_continue(folder: Path, world: World, report: Report) -> Path | None:
    """Return the newest intact checkpoint; the first process looks, for reading it all takes a while."""
    refused: InputError | None = None
    found = None
    if world.first:
        try:
            found = checkpoint.to_continue(folder)
        except InputError as error:
            refused = error
    found, refused = world.from_first((found, refused))
    if refused is not None:
        raise refused
    if found is None:
        return None
    for damaged in found.damaged:
        report.note(f"{damaged}; going on from {found.path.name}, the newest that is intact")
    return found.path


def _save(folder: Path, trainer: Trainer, setup: Setup) -> None:
    """Write a checkpoint; every process takes part in gathering, the first one writes."""
    from sharpen.llm.weights import full_weights

    tensors, numbers = trainer.state()
    weights = {}
    for name, weight in full_weights(setup.model):
        if setup.world.first:
            weights[name] = weight.to("cpu", setup.compute, copy=True)
    if setup.world.first:
        plain = setup.model.get_base_model() if hasattr(setup.model, "peft_config") else setup.model
        checkpoint.save(folder, trainer.step_index, plain, setup.tokenizer, weights, tensors, numbers)
    setup.world.wait()


def _evaluate(config: TrainConfig, setup: Setup, out: Path, report: Report) -> dict[str, Any]:
    """Choose the best checkpoint on one split, measure base, last and best on another, and keep those two."""
    settings = config.evaluation
    data = settings.data or setup.source.default_data
    folder = out / "checkpoints"
    choose = load_source(settings.selection_data or data, settings.selection_split, settings.problems)
    selection = _selection(config, setup, out, choose, report)
    chosen = max(selection[1:], key=lambda row: (row["pass@1"], -row["step"]))
    last, best = (checkpoint.at(folder, row["step"]) for row in (selection[-1], chosen))
    test = load_source(data, settings.split, settings.problems)
    result: dict[str, Any] = {}
    for name, path in (("base", None), ("last", last), ("best", best)):
        same_as_last = name == "best" and path == last
        measures = result["last"] if same_as_last else _measure(config, setup, path, test, settings.samples)
        result[name] = {**measures, "step": 0 if path is None else checkpoint.step_of(path)}
        report.evaluation(name, result[name])
    result["selection"] = selection
    result["effective_alpha"] = _effective_alpha(config, setup, last)
    if setup.world.first:
        checkpoint.keep(folder, last, best)
        files.write(out / EVALUATION, json.dumps(result, indent=2, allow_nan=False) + "\n")
    setup.world.wait()
    return result


def _selection(
    config: TrainConfig, setup: Setup, out: Path, choose: DataSource, report: Report
) -> list[dict[str, Any]]:
    """Measure the base model and every checkpoint of the schedule on the selection split, each once.

    Kept as it goes: the checkpoints that are not chosen are deleted, and measuring again must give the same file.
    """
    file, first = out / SELECTION, setup.world.first
    # A run that was interrupted off the schedule leaves one checkpoint more; the choice must not depend on it.
    steps = [0, *(step for step in range(1, config.steps + 1) if _scheduled(step, config))]
    rows = setup.world.from_first(_kept_selection(file, steps) if first else [])
    for step in steps[len(rows) :]:
        path = checkpoint.at(out / "checkpoints", step) if step else None
        if path is not None and not path.is_dir():
            wanted = f"a run with its {SELECTION} or all its checkpoints ({path.name} is gone); --force starts it again"
            raise InputError("out", str(out), wanted)
        rows.append({"step": step, **_measure(config, setup, path, choose, SELECTION_SAMPLES)})
        if first:
            files.write(file, json.dumps(rows, indent=2, allow_nan=False) + "\n")
        if path is not None:
            report.evaluation(path.name, rows[-1])
    return rows


def _kept_selection(file: Path, steps: list[int]) -> list[dict[str, Any]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        known = [row["step"] for row in rows] == steps[: len(rows)] and all("pass@1" in row for row in rows)
        return rows if known else []
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return []


def _effective_alpha(config: TrainConfig, setup: Setup, last: Path) -> dict[str, Any] | None:
    """Measure how far the last policy got towards p^alpha, p the base model; None if no prompts are asked for."""
    from sharpen.llm.effective import measure
    from sharpen.llm.rollout import Sampling
    from sharpen.llm.schedule import ALPHA, derive_seed
    from sharpen.llm.templates import encode

    own = config.evaluation
    if own.alpha_prompts == 0:
        return None
    most = min(own.alpha_prompts, own.problems)
    data = load_source(own.data or setup.source.default_data, own.split, most).prompts()
    prompts = [encode(setup.tokenizer, prompt.text, setup.template) for prompt in data.prompts]
    room = config.max_length - min(len(ids) for ids in prompts)
    found = measure(
        setup.engine,
        _plain_model(setup, last).eval(),
        _plain_model(setup, None).eval(),
        prompts,
        Sampling(room, ignore_eos=config.ignore_eos),
        derive_seed(config.seed, ALPHA, 0),
        micro_batch_tokens=config.tokens_per_microbatch,
        world=setup.world,
    )
    # What the objective names as its optimum's slope; a reward or a length normalization bends the line.
    plain = config.objective.regime == "tempered" and config.objective.length_exponent == 0
    return {"target": config.objective.alpha if plain else None, "prompts": len(prompts), **found}


def _plain_model(setup: Setup, weights: Path | None) -> PreTrainedModel:
    """Return a checkpoint's model (None: the base), neither divided nor adapted."""
    if weights is not None:
        checkpoint.check(weights)
    source = setup.source if weights is None else ModelSource(weights.name, str(weights))
    return load_model(source, setup.device, str(setup.compute).removeprefix("torch."))


def _scheduled(step: int, config: TrainConfig) -> bool:
    return step % config.checkpoint_every == 0 or step == config.steps


def _measure(config: TrainConfig, setup: Setup, weights: Path | None, data: DataSource, samples: int) -> dict[str, Any]:
    """Evaluate one checkpoint (None: the base model) on ``data``."""
    from sharpen.llm.evaluate import Exam, Examinee, ask
    from sharpen.llm.rollout import Sampling
    from sharpen.llm.schedule import EVALUATION, derive_seed
    from sharpen.llm.summary import summarise
    from sharpen.llm.verify import Verifier

    setup.engine.push_weights(_plain_model(setup, weights))
    exam = Exam.encoded(data.prompts(), data.answers(), setup.tokenizer, setup.template)
    room = config.max_length - min(len(ids) for ids in exam.prompt_ids)
    # Every checkpoint is asked with the same random numbers, so that differences between them are not noise.
    seed = derive_seed(config.seed, EVALUATION, 0)
    world, problems = setup.world, len(exam.prompt_ids)
    own = range(problems * world.rank // world.size, problems * (world.rank + 1) // world.size)
    with Verifier() as verifier:
        examinee = Examinee(setup.engine, setup.tokenizer, verifier)
        if own:
            records = ask(examinee, exam, own, samples, Sampling(max_new_tokens=room), seed)
        else:  # more processes than problems: take part in what they do together
            setup.engine.generate([], samples, Sampling(max_new_tokens=room), seed)
            records = []
    return summarise(world.gather(records), seed)
