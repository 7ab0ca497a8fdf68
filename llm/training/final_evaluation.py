"""The evaluation that ends a training run: base, last and best checkpoint on the reported problems.

Only here, after the last update, are answers opened for a run whose objective has no reward.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sharpen.llm.common import schedule
from sharpen.llm.common.report import Report
from sharpen.llm.common.schedule import derive_seed
from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.evaluation import selection
from sharpen.llm.models.checkpoints import check
from sharpen.llm.models.registry import ModelSource, load_model
from sharpen.llm.preflight.checks import EVALUATION as REPORTED
from sharpen.llm.preflight.checks import SELECTION as CHOOSING
from sharpen.llm.preflight.checks import Ready, parts_of
from sharpen.llm.tasks.data import AnswerKey, DataSource, PromptSet
from sharpen.llm.tasks.labels import saw_labels, shown_answers
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training import checkpoint
from sharpen.llm.training.setup import Setup
from sharpen.objective import InputError
from sharpen.objective.storage import files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sharpen.llm.evaluation.records import Record

EVALUATION = "evaluation.json"  # written last: a folder that holds it is a finished run
SELECTION = "selection.json"  # what chose the best checkpoint; most of the checkpoints themselves are deleted then


def evaluate_run(
    config: TrainConfig, setup: Setup, ready: Ready, labels: dict[str, Any], out: Path, report: Report
) -> dict[str, Any]:
    """Choose the best checkpoint, measure base, last and best on the reported problems, and keep those.

    Args:
        config: The run, all of whose updates are done.
        setup: Its tokenizer and engine.
        ready: Its problems.
        labels: What it may owe to labels, as :func:`sharpen.llm.tasks.labels.record` returned it.
        out: Run folder.
        report: Told about progress.

    Returns:
        The content of ``evaluation.json``; docs/llm.md has its fields.
    """
    folder = out / "checkpoints"
    models = Models(setup, two=config.evaluation.alpha_prompts > 0)
    parts = {part.flag: part for part in parts_of(config, setup.source)}
    sources = {flag: load_source(part.spec, part.split, part.limit) for flag, part in parts.items()}
    asking = Asking(ready.reported, sources[REPORTED].answers(), config.evaluation.samples, schedule.EVALUATION)
    pace = Pace(after=2 * asking.responses)  # base and last are measured in any case
    rows = _selection(config, models, out, ready, sources, report, pace)
    step = selection.best(rows, config.evaluation.choose_by, ready.selection is not None)
    steps = {"base": 0, "last": config.steps, "best": step}
    pace.after = 0
    result: dict[str, Any] = {}
    for name, number in steps.items():
        same = next((other for other in result if steps[other] == number), None)
        path = checkpoint.at(folder, number) if number else None
        if same is None:
            place, total = len({steps[other] for other in result}) + 1, len({*steps.values()})
            with pace.measuring(report, name, place, total, asking):
                result[name] = {**_measure(config, models, path, asking), "step": number}
        else:
            result[name] = {**result[same], "step": number}
        report.evaluation(name, result[name])
    result["selection"] = rows
    if config.evaluation.alpha_prompts:
        asked = min(config.evaluation.alpha_prompts, len(ready.reported.prompts))
        report.note(f"measuring how log pi goes with log p, on {asked} problems")
    result["effective_alpha"] = _effective_alpha(config, models, ready.reported, checkpoint.at(folder, config.steps))
    result["choice"] = _choice(config, ready, rows)
    result["labels"] = _labels(config, setup, ready, labels, sources)
    result["left_out"] = {flag: len(names) for flag, names in ready.left_out.items()}
    result["template"], result["engine"] = setup.template, setup.engine.name
    if setup.world.first:
        checkpoint.keep(folder, checkpoint.at(folder, config.steps), checkpoint.at(folder, step) if step else None)
        files.write(out / EVALUATION, json.dumps(result, indent=2, allow_nan=False) + "\n")
    setup.world.wait()
    return result


def _choice(config: TrainConfig, ready: Ready, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how the best checkpoint was chosen."""
    apart = ready.selection is not None
    return {
        "by": config.evaluation.choose_by if apart else "last",
        "labels": selection.uses_labels(config, apart),
        "data": ready.selection.name if ready.selection is not None else None,
        "problems": len(ready.selection.prompts) if ready.selection is not None else 0,
        "samples": selection.samples(config),
        "candidates": [row["step"] for row in rows],
    }


def _labels(
    config: TrainConfig, setup: Setup, ready: Ready, labels: dict[str, Any], sources: dict[str, DataSource]
) -> dict[str, Any]:
    """Return what the result owes to labels; now the answers beside a template's examples may be looked for too."""
    shown = labels["template_shows"]
    answered = {
        flag: shown_answers(setup.template, names, sources[flag]) for flag, names in shown.items() if flag in sources
    }
    return {
        **labels,
        "template_answers": answered,
        "choice": selection.uses_labels(config, ready.selection is not None),
        "any": labels["training"]
        or saw_labels(labels["base"])
        or bool(labels["template_boxed"] or labels["template_examples"])
        or any(answered.values()),
    }


def _selection(
    config: TrainConfig,
    models: Models,
    out: Path,
    ready: Ready,
    sources: dict[str, DataSource],
    report: Report,
    pace: Pace,
) -> list[dict[str, Any]]:
    """Measure the base model and every checkpoint of the schedule on the problems that choose, each once.

    Kept as it goes: the checkpoints that are not chosen are deleted, and measuring again must give the same file.
    """
    world = models.setup.world
    file, first = out / SELECTION, world.first
    prompts, source = (ready.selection, sources[CHOOSING]) if ready.selection else (ready.reported, sources[REPORTED])
    reward = source if config.evaluation.choose_by == "objective" else None
    # A run that was interrupted off the schedule leaves one checkpoint more; the choice must not depend on it.
    steps = [0, *scheduled(config)]
    rows = world.from_first(_kept_selection(file, steps, config.evaluation.choose_by) if first else [])
    base = models.of(None) if reward is not None and len(rows) < len(steps) else None
    asking = Asking(prompts, source.answers(), selection.samples(config), schedule.SELECTION, reward, base)
    for step in steps[len(rows) :]:
        path = checkpoint.at(out / "checkpoints", step) if step else None
        if path is not None and not path.is_dir():
            wanted = f"a run with its {SELECTION} or all its checkpoints ({path.name} is gone); --force starts it again"
            raise InputError("out", str(out), wanted)
        with pace.measuring(report, path.name if path else "base", len(rows) + 1, len(steps), asking):
            rows.append({"step": step, **_measure(config, models, path, asking)})
        if first:
            files.write(file, json.dumps(rows, indent=2, allow_nan=False) + "\n")
        if path is not None:
            report.evaluation(path.name, rows[-1])
    return rows


def _kept_selection(file: Path, steps: list[int], by: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        wanted = {"pass@1"} | ({by} - {"last"})
        known = [row["step"] for row in rows] == steps[: len(rows)] and all(wanted <= row.keys() for row in rows)
        return rows if known else []
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


class Pace:
    """Tells which checkpoint is measured now, and from those that have been how long the rest takes.

    Args:
        after: Responses that are to be measured after the present series.
    """

    def __init__(self, after: int = 0) -> None:
        self.after, self._responses, self._seconds = after, 0, 0.0

    @contextmanager
    def measuring(self, report: Report, name: str, place: int, total: int, asking: Asking) -> Iterator[None]:
        """Tell before a checkpoint is measured, inside: sampling and marking may take minutes."""
        asked = f"{len(asking.prompts.prompts)} problems of {asking.prompts.name} x {asking.samples} samples"
        report.note(
            f"measuring {name}, {place} of {total}: {asked}{self._left((total - place + 1) * asking.responses)}"
        )
        began = time.monotonic()
        yield
        self._seconds += time.monotonic() - began
        self._responses += asking.responses

    def _left(self, responses: int) -> str:
        if not self._responses:
            return ""
        return f"; about {self._seconds / self._responses * (responses + self.after):.0f} s left"


class Asking(NamedTuple):
    """What a checkpoint is asked.

    Args:
        prompts: Problems.
        answers: Theirs.
        samples: Responses to each.
        purpose: Of the random numbers: every checkpoint is asked with the same ones, so that differences between them
            are not noise, and the choice with others than the report.
        reward: Given to the reward where the objective's value is measured too; None: it is not.
        base: The reference of that value.
    """

    prompts: PromptSet
    answers: AnswerKey
    samples: int
    purpose: int
    reward: DataSource | None = None
    base: PreTrainedModel | None = None

    @property
    def responses(self) -> int:
        """How many are sampled and marked."""
        return len(self.prompts.prompts) * self.samples


class Models:
    """The models of checkpoints and the base, neither divided nor adapted.

    The newest checkpoint is the last one too, and every part of the evaluation asks for the base.

    Args:
        setup: Their engine, device and dtype.
        two: Keep the base and a checkpoint, as measuring how one follows the other does anyway; otherwise one of them.
    """

    def __init__(self, setup: Setup, *, two: bool) -> None:
        self.setup, self._two = setup, two
        self._held: dict[Path | None, PreTrainedModel] = {}

    def of(self, weights: Path | None) -> PreTrainedModel:
        """Return a checkpoint's model (None: the base)."""
        if weights not in self._held:
            if not self._two:
                self._held.clear()
            elif weights is not None:
                self._held = {None: self._held[None]} if None in self._held else {}
            self._held[weights] = self._load(weights)
        return self._held[weights]

    def _load(self, weights: Path | None) -> PreTrainedModel:
        if weights is not None:
            check(weights)
        source = self.setup.source if weights is None else ModelSource(weights.name, str(weights))
        return load_model(source, self.setup.device, str(self.setup.compute).removeprefix("torch.")).eval()


def _measure(config: TrainConfig, models: Models, weights: Path | None, asking: Asking) -> dict[str, Any]:
    """Evaluate one checkpoint (None: the base model)."""
    from sharpen.llm.evaluation.ask import Exam, Examinee, ask
    from sharpen.llm.evaluation.summary import summarise
    from sharpen.llm.rollout import Sampling
    from sharpen.llm.tasks.templates import stops
    from sharpen.llm.tasks.verification.verify import Verifier

    setup, policy = models.setup, models.of(weights)
    setup.engine.push_weights(policy)
    scored: tuple[Any, Any] = (None, None) if asking.base is None else (policy, asking.base)
    exam = Exam.encoded(asking.prompts, asking.answers, setup.tokenizer, setup.template, config.chat_options)
    room = config.max_length - min(len(ids) for ids in exam.prompt_ids)
    sampling = Sampling(room, stop=stops(setup.template))
    seed = derive_seed(config.seed, asking.purpose, 0)
    own = setup.world.part(len(exam.prompt_ids))
    records: list[Record] = []
    with Verifier() as verifier:
        if own:
            examinee = Examinee(setup.engine, setup.tokenizer, verifier, *scored)
            records = ask(examinee, exam, own, asking.samples, sampling, seed)
        else:  # more processes than problems: take part in what they do together
            setup.engine.generate([], asking.samples, sampling, seed)
    records = setup.world.gather(records)
    measures = summarise(records, seed, threshold=asking.answers.threshold)
    if asking.reward is not None:
        measures |= selection.objective_value(config, records, asking.reward, seed)
    return measures


def _effective_alpha(config: TrainConfig, models: Models, prompts: PromptSet, last: Path) -> dict[str, Any] | None:
    """Measure how far the last policy got towards p^alpha, p the base model; None if no prompts are asked for."""
    from sharpen.llm.evaluation.effective import measure
    from sharpen.llm.rollout import Sampling
    from sharpen.llm.tasks.templates import encode, stops

    own, setup = config.evaluation, models.setup
    if own.alpha_prompts == 0:
        return None
    how, chosen = (setup.template, config.chat_options), prompts.prompts[: own.alpha_prompts]
    asked = [encode(setup.tokenizer, prompt.text, *how) for prompt in chosen]
    room = config.max_length - min(len(ids) for ids in asked)
    found = measure(
        setup.engine,
        models.of(last),
        models.of(None),
        asked,
        Sampling(room, ignore_eos=config.ignore_eos, stop=stops(setup.template)),
        derive_seed(config.seed, schedule.ALPHA, 0),
        micro_batch_tokens=config.tokens_per_microbatch,
        world=setup.world,
    )
    # What the objective names as its optimum's slope; a reward or a length normalization bends the line.
    plain = (
        config.objective.regime == "tempered" and config.objective.length_exponent == 0 and config.objective.is_plain
    )
    return {"target": config.objective.alpha if plain else None, "prompts": len(asked), **found}


def scheduled(config: TrainConfig) -> list[int]:
    """Return the numbers of updates after which a checkpoint stands for the choice of the best."""
    return [step for step in range(1, config.steps + 1) if step % config.checkpoint_every == 0 or step == config.steps]
