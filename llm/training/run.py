"""A whole training run: load, train, checkpoint, resume, evaluate."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm.common.interrupt import deferred_interrupt
from sharpen.llm.common.report import Report
from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.distributed import lost
from sharpen.llm.distributed.placement import placement
from sharpen.llm.distributed.world import World, connect, disconnect, launched
from sharpen.llm.evaluation.own_parts import Origin, own_parts
from sharpen.llm.learners.parts.registry import LEARNERS
from sharpen.llm.preflight.checks import EVALUATION as REPORTED
from sharpen.llm.preflight.checks import SELECTION as CHOOSING
from sharpen.llm.preflight.checks import TRAINING, Ready, for_training
from sharpen.llm.rewards.registry import REWARDS
from sharpen.llm.rollout import vllm_available
from sharpen.llm.tasks import labels
from sharpen.llm.tasks.seal import sealed
from sharpen.llm.tasks.sources import task_origins
from sharpen.llm.tasks.templates import template_origin
from sharpen.llm.trackers.registry import TRACKERS
from sharpen.llm.training import checkpoint
from sharpen.llm.training.final_evaluation import EVALUATION, SELECTION, evaluate_run, scheduled
from sharpen.llm.training.setup import Setup, prepare
from sharpen.objective import InputError
from sharpen.objective.storage import files, runfolder

if TYPE_CHECKING:
    from sharpen.llm.training.metrics import MetricsWriter
    from sharpen.llm.training.trainer import Trainer

MADE = (
    *(EVALUATION, SELECTION, "overlap.json", "metrics.jsonl", "samples.jsonl", "tensorboard/events.*"),
    *("wandb-id", "wandb/*", "trackio-id", "checkpoints/last", "checkpoints/best"),
    *(f"checkpoints/step_*/*.{kind}" for kind in ("safetensors", "json", "jinja", "txt", "model")),
)


def train(config: TrainConfig, out: Path, *, force: bool = False, report: Report | None = None) -> dict[str, Any]:
    """Run, or continue, the training run of ``config`` in the folder ``out`` and evaluate it.

    Args:
        config: The resolved configuration.
        out: Run folder: ``config.yaml``, ``provenance.json``, ``overlap.json``, ``metrics.jsonl``, ``samples.jsonl``,
            ``checkpoints/``, what its trackers keep (``tensorboard/``) and, in the end, ``evaluation.json``.
        force: Delete an earlier run in ``out`` first.
        report: Told about progress.

    Returns:
        The content of ``evaluation.json``.

    Raises:
        InputError: settings, model, data or folder cannot be used.
        LostProcessError: another process died, or was not there within ``process_timeout``.
        KeyboardInterrupt: Ctrl-C; the state has been saved and the same call continues.
    """
    world = launched()
    with nullcontext() if world.size == 1 else lost.told(config.process_timeout):
        return _together(config, world, out, force, report)


def _together(config: TrainConfig, world: World, out: Path, force: bool, report: Report | None) -> dict[str, Any]:
    report = report if report is not None and world.first else Report()
    ready = None if _is_finished(out, config, force) else for_training(config, world, out)
    new = force or not (out / runfolder.CONFIG).exists()
    settle = partial(_may_change_to, config, out)
    # The first process writes, so it alone holds the folder's lock.
    with runfolder.opened(out, config, force, MADE, may_change=settle) if world.first else nullcontext():
        if world.size > 1:
            connect(world, placement(config)[0], config.process_timeout)
            world.wait()  # the folder is open now
        finished = world.from_first(_finished(out, report) if world.first else None)
        if finished is not None:
            report.note(f"{out} holds this run, finished; nothing to do (--force starts it again)")
            if world.size > 1:
                disconnect()
            return finished
        config = _as_begun(config, out)
        return _run(config, ready or for_training(config, world, out), world, out, report, new=new)


def _as_begun(config: TrainConfig, out: Path) -> TrainConfig:
    """Return the configuration with the dtype and engine that this run began with, where it leaves the choice open.

    Runs of before the dtype was recorded have it in their checkpoint's weights. An engine that is not here any more
    cannot go on.
    """
    kept = runfolder.read_provenance(out)
    if config.dtype == "auto":
        dtype = kept.get("dtype") or checkpoint.stored_dtype(out / "checkpoints")
        config = config if dtype is None else config.model_copy(update={"dtype": dtype})
    engine = kept.get("engine") if config.engine == "auto" else None
    if engine is None or (engine == "vllm" and not vllm_available()):
        return config
    return config.model_copy(update={"engine": engine})


def _run(config: TrainConfig, ready: Ready, world: World, out: Path, report: Report, *, new: bool) -> dict[str, Any]:
    """Train and evaluate in a folder that is open; a new folder whose run could not start is removed again."""
    setup: Setup | None = None
    trainer: Trainer | None = None
    try:
        for note in ready.notes:
            report.note(note)
        setup = prepare(config, ready.source, world)
        owed = _record(config, ready, setup, out, report)
        trainer = _trainer(config, setup, ready)
        with nullcontext() if labels.used_by(config) else sealed("a training without labels"):
            _train(trainer, setup, out, report)
    except BaseException as error:
        _end(setup)
        # Nothing is lost, and a corrected command finds no folder in its way.
        if world.first and new and (trainer is None or (trainer.step_index == 0 and isinstance(error, Exception))):
            runfolder.abandon(out, MADE)
        raise
    try:
        trainer = None
        del setup.model, setup.reference, setup.master  # evaluation reads checkpoints and wants the memory
        return evaluate_run(config, setup, ready, owed, out, report)
    finally:
        _end(setup)


def _end(setup: Setup | None) -> None:
    """Release the engine and leave the other processes."""
    if setup is not None:
        setup.engine.close()
    disconnect()


def _record(config: TrainConfig, ready: Ready, setup: Setup, out: Path, report: Report) -> dict[str, Any]:
    """Tell, and keep with the run and its model, what shares problems with what, and what labels it may owe to."""
    from sharpen.llm.models.weights import without_adapters

    sets = {TRAINING: ready.prompts, REPORTED: ready.reported}
    sets |= {CHOOSING: ready.selection} if ready.selection is not None else {}
    owed = labels.record(config, ready.source.location, setup.template, sets, report.note)
    setattr(without_adapters(setup.model).config, labels.HISTORY, [*owed["base"], labels.entry(config)])
    if setup.world.first:
        _tell_overlap(config, out, ready, report)
        told = {"template": setup.template, "left_out": ready.left_out}
        parts = own_parts(out, _origins(config, setup.template), report.note)
        told["dtype"] = str(setup.compute).removeprefix("torch.")
        runfolder.annotate(out, labels=owed, engine=setup.engine.name, **told, **parts)
    return owed


def _origins(config: TrainConfig, template: str) -> dict[str, Origin]:
    """Return where the parts of a run come from, by kind and name; None for the package's."""
    named = [
        (LEARNERS, config.learner.kind),
        (REWARDS, config.reward.kind),
        *((TRACKERS, name) for name in config.tracking),
    ]
    found: dict[str, Origin] = {f"{registry.kind} {name}": registry.origin(name) for registry, name in named}
    found[f"template {template}"] = template_origin(template)
    for spec in (config.data, config.evaluation.data):
        found |= {} if spec is None else task_origins(spec)
    return found


def _is_finished(out: Path, config: TrainConfig, force: bool) -> bool:
    """Return whether the folder holds this very run with its evaluation, so that nothing is needed any more."""
    try:
        return not force and runfolder.read_config(out, TrainConfig) == config and _whole(out) is not None
    except InputError:
        return False


def _may_change_to(config: TrainConfig, out: Path, old: TrainConfig) -> bool:
    """Return whether a folder's run may become ``config``'s: trained to the end, it can be asked other problems.

    How long processes wait for one another changes nothing that is computed.

    Raises:
        InputError: it has been evaluated already; the message says how it can be asked.
    """
    if old == config:
        return False
    old = old.model_copy(update={"process_timeout": config.process_timeout})
    if old == config:
        return True
    if old.model_copy(update={"evaluation": config.evaluation}) != config:
        return False
    if _whole(out) is not None:
        allowed = (
            f"`sharpen llm eval --model {out} --data …`, which asks a finished run other problems; or another folder"
        )
        raise InputError("out", str(out), f"{allowed}, the same settings, or --force")
    folder = out / "checkpoints"
    if not all(checkpoint.at(folder, step).is_dir() for step in scheduled(config)):
        return False
    (out / SELECTION).unlink(missing_ok=True)  # measured on other problems, or by other settings
    return True


def _finished(out: Path, report: Report) -> dict[str, Any] | None:
    """Return the evaluation of a finished run; None if there is none, or what is there is not whole."""
    found = _whole(out)
    if found is None and (out / EVALUATION).is_file():
        report.note(f"{out / EVALUATION} is damaged; measuring again, which gives the same numbers")
    return found


def _whole(out: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((out / EVALUATION).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) and {"base", "last", "best", "selection"} <= found.keys() else None
    except (OSError, ValueError, RecursionError):
        return None


def _tell_overlap(config: TrainConfig, out: Path, ready: Ready, report: Report) -> None:
    """Tell and keep which test problems are in the training data; after training it is too late to leave them out."""
    file, sets = out / "overlap.json", [found.to_dict() for found in ready.overlaps]
    if file.is_file() and checkpoint.at(out / "checkpoints", config.steps).is_dir():
        known = json.loads(file.read_text(encoding="utf-8"))
        if known["test_sets"] != sets:
            for found in ready.overlaps:
                if found.same or found.near:
                    report.note(f"{found.line()}; unless left out then, they were trained on")
            files.write(file, json.dumps({**known, "test_sets_after_training": sets}, indent=2) + "\n")
        return
    for found in ready.overlaps:
        if found.same or found.near:
            report.note(found.line())
    kept, every = len(ready.prompts.prompts), ready.overlaps[0].train_problems
    left = len(ready.left_out.get(TRAINING, ()))
    if any(found.removed for found in ready.overlaps):
        report.note(f"training on {kept} of {every} problems")
    elif any(found.shared for found in ready.overlaps):
        report.note(f"all {every} training problems are test problems, so none was left out")
    told = {"problems": every, "problems_trained_on": kept, "problems_removed": every - kept - left, "test_sets": sets}
    files.write(file, json.dumps(told, indent=2) + "\n")


def _trainer(config: TrainConfig, setup: Setup, ready: Ready) -> Trainer:
    from sharpen.llm.rewards.firewall import reward_for
    from sharpen.llm.training.offload import Away, RoomyEngine
    from sharpen.llm.training.trainer import Trainer

    trainer = Trainer(
        config,
        setup.model,
        setup.tokenizer,
        setup.engine,
        ready.prompts,
        reward_for(config.objective, ready.data, seed=config.seed, **config.reward.model_dump()),
        setup.template,
        reference=setup.reference,
        world=setup.world,
        compute=setup.compute,
        master=setup.master,
        prompt_ids=ready.prompt_ids,
    )
    if setup.optimizer_leaves:
        trainer.engine = RoomyEngine(setup.engine, Away(trainer.optimizer))
    return trainer


def _train(trainer: Trainer, setup: Setup, out: Path, report: Report) -> None:
    from sharpen.llm.learners.alarm import EntropyAlarm, told

    config, world, folder = trainer.config, setup.world, out / "checkpoints"
    newest = _checkpoint_to_continue(folder, world, report)
    if newest is not None:
        tensors, numbers = checkpoint.load_state(newest)
        trainer.load_state(tensors, numbers, checkpoint.stored_weights(newest), str(newest))
        report.note(f"continuing from {newest.name}")
    elif (out / "metrics.jsonl").exists():
        report.note(f"{out} has no checkpoint yet: starting at step 1 again")
    metrics = _metrics(config, out, trainer.step_index, report) if world.first else None
    alarm = EntropyAlarm(() if metrics is None else metrics.earlier())
    try:
        with deferred_interrupt() as interrupt, nullcontext() if world.size == 1 else lost.told(config.process_timeout):
            while trainer.step_index < config.steps:
                record, samples = trainer.step()
                if metrics is not None:
                    metrics.write(record, samples)
                    collapsed = alarm(record)
                    if collapsed is not None:
                        report.note(told(collapsed))
                        runfolder.annotate(out, entropy_collapsed=collapsed)
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


def _metrics(config: TrainConfig, out: Path, step: int, report: Report) -> MetricsWriter:
    """Return what keeps the metrics from ``step`` on, its trackers started."""
    from sharpen.llm.trackers import Tracking
    from sharpen.llm.training.metrics import MetricsWriter

    tracking = Tracking(config.tracking, report.note)
    metrics = MetricsWriter(out, step, tracking)
    if metrics.missing:
        report.note(f"{out / 'metrics.jsonl'} has no record of {metrics.missing} of {step} earlier steps")
    tracking.start(config.model_dump(mode="json"), out, step)
    return metrics


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
    from sharpen.llm.models.weights import full_weights, without_adapters

    tensors, numbers = trainer.state()
    weights = {}
    for name, weight in full_weights(setup.model):
        if setup.world.first:
            weights[name] = weight.to("cpu", setup.compute, copy=True)
    if setup.world.first:
        plain = without_adapters(setup.model)
        checkpoint.save(folder, trainer.step_index, plain, setup.tokenizer, weights, tensors, numbers)
    setup.world.wait()
