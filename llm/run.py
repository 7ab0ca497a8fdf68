"""A whole training run: load, train, checkpoint, resume, evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm import checkpoint
from sharpen.llm.config import TrainConfig
from sharpen.llm.data import DataSource, load_source
from sharpen.llm.interrupt import deferred_interrupt
from sharpen.llm.models import ModelSource, load_model, load_tokenizer, resolve
from sharpen.objective import runfolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sharpen.llm.rollout import Engine
    from sharpen.llm.trainer import Trainer

EVALUATION = "evaluation.json"  # written last: a folder that holds it is a finished run
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


@dataclass
class Setup:
    """What training and evaluation share: the model, its tokenizer and the engine that samples from it."""

    source: ModelSource
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    engine: Engine
    template: str


def train(config: TrainConfig, out: Path, *, force: bool = False, report: Report | None = None) -> dict[str, Any]:
    """Run, or continue, the training run of ``config`` in the folder ``out`` and evaluate it.

    Args:
        config: The resolved configuration.
        out: Run folder: ``config.yaml``, ``provenance.json``, ``metrics.jsonl``, ``samples.jsonl``, ``tensorboard/``,
            ``checkpoints/`` and, in the end, ``evaluation.json``.
        force: Delete an earlier run in ``out`` first.
        report: Told about progress.

    Returns:
        The content of ``evaluation.json``.

    Raises:
        InputError: settings, model, data or folder cannot be used.
        KeyboardInterrupt: Ctrl-C; the state has been saved and the same call continues.
    """
    report = report or Report()
    source = resolve(config.model)
    training_data = load_source(config.data or source.default_data, config.split, config.problems)
    prompts = training_data.prompts()
    runfolder.open_folder(out, config, force)
    if (out / EVALUATION).is_file():
        report.note(f"{out} holds this run, finished; nothing to do (--force starts it again)")
        return json.loads((out / EVALUATION).read_text(encoding="utf-8"))
    setup = load(config, source)
    try:
        from sharpen.llm.rewards import reward_for
        from sharpen.llm.trainer import Trainer

        reward = reward_for(config.objective, training_data)
        trainer = Trainer(config, setup.model, setup.tokenizer, setup.engine, prompts, reward, setup.template)
        _train(trainer, out, report)
        # Only here, after the last update, are answers opened for a run whose objective has no reward.
        return _evaluate(config, setup, out, report)
    finally:
        setup.engine.close()


def load(config: TrainConfig, source: ModelSource) -> Setup:
    """Load the model and start the engine that ``config`` asks for."""
    import torch

    from sharpen.llm.rollout import make_engine

    device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = config.dtype if config.dtype != "auto" else ("bfloat16" if device == "cuda" else "float32")
    torch.manual_seed(config.seed)
    tokenizer = load_tokenizer(source)
    model = load_model(source, device, dtype)
    engine = make_engine(
        config.engine,
        model=model,
        location=source.location,
        max_length=config.max_length,
        seed=config.seed,
        tokenizer=tokenizer,
        dtype=dtype,
        memory_share=config.engine_memory,
    )
    return Setup(source, model, tokenizer, engine, config.template or source.template)


def _train(trainer: Trainer, out: Path, report: Report) -> None:
    from sharpen.llm.metrics import MetricsWriter

    config, folder = trainer.config, out / "checkpoints"
    newest = checkpoint.newest_resumable(folder)
    if newest is not None:
        checkpoint.load_weights(newest, trainer.model)
        trainer.load_state(checkpoint.load_state(newest, str(trainer.model.device)))
        report.note(f"continuing from {newest.name}")
    metrics = MetricsWriter(out, trainer.step_index)
    try:
        with deferred_interrupt() as interrupt:
            while trainer.step_index < config.steps:
                record, samples = trainer.step()
                metrics.write(record, samples)
                report.step(record)
                done = trainer.step_index
                if interrupt.requested or done % config.checkpoint_every == 0 or done == config.steps:
                    checkpoint.save(folder, done, trainer.model, trainer.tokenizer, trainer.state())
                if interrupt.requested:
                    raise KeyboardInterrupt
    finally:
        metrics.close()


def _evaluate(config: TrainConfig, setup: Setup, out: Path, report: Report) -> dict[str, Any]:
    """Choose the best checkpoint on one split, measure base, last and best on another, and keep those two."""
    settings = config.evaluation
    data = settings.data or setup.source.default_data
    folder = out / "checkpoints"
    # A run that was interrupted off the schedule leaves one checkpoint more; the choice must not depend on it.
    candidates = [path for path in checkpoint.listed(folder) if _scheduled(checkpoint.step_of(path), config)]
    choose = load_source(data, settings.selection_split, settings.problems)
    selection = [{"step": 0, **_measure(config, setup, None, choose, SELECTION_SAMPLES)}]
    for path in candidates:
        selection.append({"step": checkpoint.step_of(path), **_measure(config, setup, path, choose, SELECTION_SAMPLES)})
        report.evaluation(path.name, selection[-1])
    best = candidates[max(range(len(candidates)), key=lambda i: (selection[i + 1]["pass@1"], -i))]
    test = load_source(data, settings.split, settings.problems)
    result: dict[str, Any] = {}
    for name, path in (("base", None), ("last", candidates[-1]), ("best", best)):
        same_as_last = name == "best" and path == candidates[-1]
        measures = result["last"] if same_as_last else _measure(config, setup, path, test, settings.samples)
        result[name] = {**measures, "step": 0 if path is None else checkpoint.step_of(path)}
        report.evaluation(name, result[name])
    result["selection"] = selection
    runfolder.write(out / EVALUATION, json.dumps(result, indent=2, allow_nan=False) + "\n")
    checkpoint.keep(folder, candidates[-1], best)
    return result


def _scheduled(step: int, config: TrainConfig) -> bool:
    return step % config.checkpoint_every == 0 or step == config.steps


def _measure(
    config: TrainConfig, setup: Setup, weights: Path | None, source: DataSource, samples: int
) -> dict[str, Any]:
    """Evaluate one checkpoint (None: the base model) on ``source``."""
    from sharpen.llm.evaluate import Exam, evaluate
    from sharpen.llm.rollout import Sampling
    from sharpen.llm.schedule import EVALUATION, derive_seed

    checkpoint.load_weights(weights or setup.source.location, setup.model)
    setup.engine.push_weights(setup.model)
    exam = Exam.encoded(source.prompts(), source.answers(), setup.tokenizer, setup.template)
    room = config.max_length - min(len(ids) for ids in exam.prompt_ids)
    # Every checkpoint is asked with the same random numbers, so that differences between them are not noise.
    seed = derive_seed(config.seed, EVALUATION, 0)
    return evaluate(setup.engine, setup.tokenizer, exam, samples, Sampling(max_new_tokens=room), seed)
