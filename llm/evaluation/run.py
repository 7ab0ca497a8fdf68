"""``sharpen llm eval``: one checkpoint on one set of problems, in a folder that survives a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm.common import jsonl
from sharpen.llm.common.interrupt import deferred_interrupt
from sharpen.llm.configs.evaluation import EvalConfig
from sharpen.llm.evaluation import records as store
from sharpen.llm.evaluation.records import Record
from sharpen.llm.evaluation.summary import compare, summarise
from sharpen.llm.preflight.checks import for_sampling
from sharpen.llm.preflight.prompts import Fitting
from sharpen.llm.tasks.labels import origin
from sharpen.objective import InputError
from sharpen.objective.storage import files, runfolder

if TYPE_CHECKING:
    from sharpen.llm.evaluation.ask import Exam, Examinee
    from sharpen.llm.tasks.data import AnswerKey, DataSource, PromptSet

RECORDS, EVALUATION = "records.jsonl", "evaluation.json"
MADE = (RECORDS, EVALUATION)


@dataclass
class EvalReport:
    """Where an evaluation tells what it does; the default tells nobody.

    Args:
        note: Called with one line of text.
        progress: Called with the records so far, the number of problems, and how many records an earlier call left.
    """

    note: Callable[[str], None] = lambda text: None
    progress: Callable[[list[Record], int, int], None] = lambda records, total, earlier: None


def run_evaluation(
    config: EvalConfig, out: Path | None, *, force: bool = False, report: EvalReport | None = None
) -> tuple[dict[str, Any], list[Record]]:
    """Evaluate, or go on evaluating, and return the measures and the records.

    Args:
        config: What is asked, and how.
        out: Folder for ``config.yaml``, ``provenance.json``, ``records.jsonl`` (one line per problem, as done) and
            ``evaluation.json``; None keeps nothing.
        force: Delete an earlier evaluation in ``out`` first.
        report: Told about progress.

    Raises:
        InputError: settings, model, data or folder cannot be used.
        KeyboardInterrupt: Ctrl-C; what is done has been saved and the same call continues.
    """
    report = report or EvalReport()
    done = out is not None and not force and (out / EVALUATION).is_file()
    base = config.base if config.likelihoods else None
    data, fits = for_sampling(config, base=base, marked=True, out=out, done=done)
    answers = data.answers()
    with runfolder.opened(out, config, force, MADE, first=RECORDS) if out is not None else nullcontext():
        fits.tell(out, report.note)
        return _evaluated(config, fits, answers, data, out, report)


def _evaluated(
    config: EvalConfig, fits: Fitting, answers: AnswerKey, data: DataSource, out: Path | None, report: EvalReport
) -> tuple[dict[str, Any], list[Record]]:
    """Evaluate in a folder that is open."""
    prompts = fits.prompts
    done: list[Record] = []
    if out is not None:
        done = jsonl.go_on(out / RECORDS, Record, config.batch, len(prompts.prompts))
        if [record.id for record in done] != [prompt.id for prompt in prompts.prompts[: len(done)]]:
            raise InputError("data", config.data, f"the problems that {out} has answers to; --force starts again")
    if len(done) < len(prompts.prompts):
        if done:
            report.note(f"continuing after {len(done)} of {len(prompts.prompts)} problems")
        done += _ask_the_rest(config, prompts, answers, data, done, out, report)
    summary = {name: getattr(config, name) for name in ("model", "data", "split")}
    summary |= summarise(done, config.seed, threshold=answers.threshold)
    summary |= origin(config.model, config.template, prompts, report.note) | {"left_out": len(fits.left_out)}
    if (config.temperature, config.top_p) != (1.0, 1.0):
        # These are of pi itself, of which such samples are no sample.
        summary |= dict.fromkeys(("entropy", "entropy_interval", "kl_base", "kl_base_interval"))
    if out is not None:
        files.write(out / EVALUATION, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary, done


def check_comparison(other: Path) -> None:
    """Refuse a folder that holds no evaluation.

    Raises:
        InputError: it holds none.
    """
    if not (other / RECORDS).is_file():
        raise InputError("compare", str(other), f"a folder that sharpen llm eval --out has written, with {RECORDS}")


def compare_with(records: list[Record], other: Path, seed: int) -> dict[str, Any]:
    """Return how an evaluation differs from the one in the folder ``other``; see ``llm/evaluation/summary.py``.

    Raises:
        InputError: the folder holds no evaluation, or none of the same problems.
    """
    check_comparison(other)
    return {"with": str(other), **compare(records, store.read(other / RECORDS), seed)}


def _ask_the_rest(
    config: EvalConfig,
    prompts: PromptSet,
    answers: AnswerKey,
    data: DataSource,
    done: list[Record],
    out: Path | None,
    report: EvalReport,
) -> list[Record]:
    """Return the records of the problems after those that are done, saved batch by batch."""
    from sharpen.llm.common.schedule import EVALUATION as PURPOSE
    from sharpen.llm.common.schedule import derive_seed
    from sharpen.llm.evaluation.ask import Exam, ask
    from sharpen.llm.evaluation.own_parts import own_parts
    from sharpen.llm.rollout import Sampling
    from sharpen.llm.tasks.sources import task_origins
    from sharpen.llm.tasks.templates import stops, template_origin
    from sharpen.llm.tasks.verification.verify import Verifier

    with Verifier() as verifier:
        examinee = _examinee(config, verifier)
        report.note(f"sampled by {examinee.engine.name}")
        try:
            if out is not None:
                origins = {f"template {config.template}": template_origin(config.template), **task_origins(config.data)}
                runfolder.annotate(out, engine=examinee.engine.name, **own_parts(out, origins, report.note))
            asked = (config.template, config.chat_options)
            exam = Exam.encoded(prompts, answers, examinee.tokenizer, *asked, categories=data.categories())
            ends = stops(config.template)
            sampling = Sampling(_room(config, exam), config.temperature, config.top_p, stop=ends)
            seed, total, new = derive_seed(config.seed, PURPOSE, 0), len(prompts.prompts), []
            with deferred_interrupt() as interrupt:
                for start in range(len(done), total, config.batch):
                    places = range(start, min(total, start + config.batch))
                    batch = ask(examinee, exam, places, config.samples, sampling, seed)
                    if out is not None:
                        store.append(out / RECORDS, batch)
                    new += batch
                    report.progress([*done, *new], total, len(done))
                    if interrupt.requested:
                        raise KeyboardInterrupt
            return new
        finally:
            examinee.engine.close()


def _room(config: EvalConfig, exam: Exam) -> int:
    """Return the most tokens of a response; the engine cuts each where prompt and response fill ``max_length``."""
    longest = max(len(ids) for ids in exam.prompt_ids)
    if longest >= config.max_length:
        raise InputError("max_length", config.max_length, f"more than the longest prompt, {longest} tokens")
    return config.max_length - min(len(ids) for ids in exam.prompt_ids)


def _examinee(config: EvalConfig, verifier: Any) -> Examinee:
    """Load the policy, start its engine, and load the base model if it is another."""
    from sharpen.llm.distributed.placement import placement
    from sharpen.llm.evaluation.ask import Examinee
    from sharpen.llm.models.registry import ModelSource, load_model
    from sharpen.llm.rollout.factory import load_to_sample

    engine, model, tokenizer = load_to_sample(config)
    base = None
    if config.likelihoods and config.base is not None:
        base = model
        if config.base != config.model:
            base = load_model(ModelSource(config.base, config.base), *placement(config)).eval()
    return Examinee(engine, tokenizer, verifier, model if config.likelihoods else None, base)
