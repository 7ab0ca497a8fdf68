"""``sharpen llm sample``: responses sharpened without training, in a folder that survives a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm.common import jsonl
from sharpen.llm.common.interrupt import deferred_interrupt
from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.evaluation.records import Record, judged
from sharpen.llm.evaluation.summary import summarise
from sharpen.llm.preflight.checks import for_sampling
from sharpen.llm.preflight.prompts import Fitting
from sharpen.llm.sampling import store
from sharpen.llm.sampling.budget import break_even, training_cost
from sharpen.llm.sampling.store import Drawn
from sharpen.llm.tasks.answers.form import AnswerForm
from sharpen.llm.tasks.data import AnswerKey, DataSource, PromptSet
from sharpen.llm.tasks.labels import origin
from sharpen.objective import InputError
from sharpen.objective.storage import files, runfolder

if TYPE_CHECKING:
    from sharpen.llm.sampling import Sample
    from sharpen.llm.sampling.language_model import LanguageModel

SAMPLES, RECORDS, EVALUATION = "samples.jsonl", "records.jsonl", "evaluation.json"
MADE = (SAMPLES, RECORDS, EVALUATION)
AT_ONCE = ("plain", "low-temperature", "best-of-n")  # methods that draw a response in one piece


@dataclass
class SampleReport:
    """Where a sampling run tells what it does; the default tells nobody.

    Args:
        note: Called with one line of text.
        batch: Called with the prompts just done, how many are done in all, and of how many.
        round: Called within a batch with the responses done and the tokens generated so far.
    """

    note: Callable[[str], None] = lambda text: None
    batch: Callable[[list[Drawn], int, int], None] = lambda drawn, done, total: None
    round: Callable[[int, int], None] = lambda done, tokens: None


def run_sampling(
    config: SampleConfig,
    out: Path | None,
    *,
    force: bool = False,
    beside: Path | None = None,
    report: SampleReport | None = None,
) -> dict[str, Any]:
    """Sample, or go on sampling, then verify where the data has answers, and return the measures.

    Answers are opened after the last response has been drawn and kept.

    Args:
        config: What is sampled, and how.
        out: Folder for ``config.yaml``, ``provenance.json``, ``samples.jsonl`` (one line per prompt, as done), and
            after the last one ``records.jsonl`` and ``evaluation.json``, which ``sharpen llm eval --compare`` reads;
            None keeps nothing.
        force: Delete an earlier run in ``out`` first.
        beside: A training run whose cost and accuracy are put beside this.
        report: Told about progress.

    Returns:
        ``method``, ``alpha``, ``model``, ``data``, ``split``; ``cost`` (:func:`sharpen.llm.sampling.store.cost`);
        ``seed``; the fields of :func:`sharpen.llm.evaluation.summary.summarise`, of which those about correctness are
        None without answers; with ``beside`` also ``trained``.

    Raises:
        InputError: settings, model, data or folder cannot be used.
        KeyboardInterrupt: Ctrl-C; what is done has been saved and the same call continues.
    """
    report = report or SampleReport()
    _check_stops(config)
    trained = training_cost(beside) if beside is not None else None  # before hours of work
    done = out is not None and not force and (out / EVALUATION).is_file()
    data, fits = for_sampling(config, out=out, done=done)
    with runfolder.opened(out, config, force, MADE, first=SAMPLES) if out is not None else nullcontext():
        fits.tell(out, report.note)
        return _sampled(config, fits, data, out, trained, report)


def _sampled(
    config: SampleConfig,
    fits: Fitting,
    data: DataSource,
    out: Path | None,
    trained: dict[str, Any] | None,
    report: SampleReport,
) -> dict[str, Any]:
    """Sample in a folder that is open."""
    prompts = fits.prompts
    done: list[Drawn] = []
    if out is not None:
        done = jsonl.go_on(out / SAMPLES, Drawn, config.prompts_per_batch, len(prompts.prompts))
        if [drawn.id for drawn in done] != [prompt.id for prompt in prompts.prompts[: len(done)]]:
            raise InputError("data", config.data, f"the problems that {out} has responses to; --force starts again")
    if len(done) < len(prompts.prompts):
        if done:
            report.note(f"continuing after {len(done)} of {len(prompts.prompts)} prompts")
        done += _draw_the_rest(config, prompts, done, out, report)
    records, answers = _marked(done, data, prompts.form, config)
    named = ("method", "alpha", "model", "data", "split", "seed")
    summary = {name: getattr(config, name) for name in named} | {"cost": store.cost(done)}
    summary |= _measures(records, answers, config.seed)
    summary |= origin(config.model, config.template, prompts, report.note) | {"left_out": len(fits.left_out)}
    if trained is not None:
        responses = break_even(summary["cost"]["tokens_per_response"], trained)
        summary["trained"] = {**trained, "break_even_responses": responses}
    if out is not None:
        if answers is not None:
            files.write(out / RECORDS, "".join(map(jsonl.line, records)))
        else:
            (out / RECORDS).unlink(missing_ok=True)
        files.write(out / EVALUATION, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary


def _check_stops(config: SampleConfig) -> None:
    """Refuse stop strings that may begin in a part of a response that a method keeps, and end in what it draws next."""
    from sharpen.llm.tasks.templates import stops

    for text in stops(config.template):
        if config.method not in AT_ONCE and not (len(text) == 1 and text.isascii()):
            allowed = f"one ASCII character with the method {config.method}; any text with {', '.join(AT_ONCE)}"
            raise InputError("template.stop", text, allowed)


def _draw_the_rest(
    config: SampleConfig, prompts: PromptSet, done: list[Drawn], out: Path | None, report: SampleReport
) -> list[Drawn]:
    """Return what is drawn for the prompts after those that are done, saved batch by batch."""
    from sharpen.llm.rollout.factory import load_to_sample
    from sharpen.llm.sampling.language_model import LanguageModel
    from sharpen.llm.tasks.templates import encode_all, stops

    engine, model, tokenizer = load_to_sample(config)
    report.note(f"sampled by {engine.name}")
    try:
        if out is not None:
            runfolder.annotate(out, engine=engine.name)
        sampled = LanguageModel(engine, model, tokenizer, stops(config.template))
        asked = (config.template, config.chat_options)
        prompt_ids = [*map(tuple, encode_all(tokenizer, [prompt.text for prompt in prompts.prompts], *asked))]
        longest = max(map(len, prompt_ids))
        if longest >= config.max_length:
            raise InputError("max_length", config.max_length, f"more than the longest prompt, {longest} tokens")
        new: list[Drawn] = []
        with deferred_interrupt() as interrupt:
            for start in range(len(done), len(prompt_ids), config.prompts_per_batch):
                places = range(start, min(len(prompt_ids), start + config.prompts_per_batch))
                samples = _draw(config, [prompt_ids[place] for place in places], places, sampled, report)
                names = [prompts.prompts[place].id for place in places]
                batch = _kept(config, names, samples, tokenizer)
                if out is not None:
                    store.append(out / SAMPLES, batch)
                new += batch
                report.batch(batch, places.stop, len(prompt_ids))
                if interrupt.requested:
                    raise KeyboardInterrupt
        return new
    finally:
        engine.close()


def _draw(
    config: SampleConfig,
    prompt_ids: Sequence[tuple[int, ...]],
    places: Sequence[int],
    model: LanguageModel,
    report: SampleReport,
) -> list[Sample]:
    """Return the samples of one batch, prompt-major; all its chains advance together."""
    from sharpen.llm.sampling import Key, method, run

    methods = [
        method(config, tokens, config.max_length - len(tokens), Key(config.seed, place, chain), model)
        for tokens, place in zip(prompt_ids, places, strict=True)
        for chain in range(config.samples)
    ]
    return run(methods, model, report.round)


def _kept(config: SampleConfig, names: Sequence[str], samples: Sequence[Sample], tokenizer: Any) -> list[Drawn]:
    texts = tokenizer.batch_decode([list(sample.path.tokens) for sample in samples], skip_special_tokens=True)
    kept = []
    for place, name in enumerate(names):
        rows = slice(place * config.samples, (place + 1) * config.samples)
        own = samples[rows]
        kept.append(
            Drawn(
                name,
                texts[rows],
                [len(sample.path) for sample in own],
                [sample.path.ended for sample in own],
                [sum(sample.path.base) for sample in own],
                *([getattr(s, field) for s in own] for field in ("generated", "proposals", "accepted", "moved")),
                *(_known([getattr(s, field) for s in own]) for field in ("log_z", "effective")),
            )
        )
    return kept


def _known(values: list[float | None]) -> list[float] | None:
    return [value for value in values if value is not None] if None not in values else None


def _marked(
    drawn: Sequence[Drawn], data: DataSource, form: AnswerForm, config: SampleConfig
) -> tuple[list[Record], AnswerKey | None]:
    """Return a record for each prompt, and the answers that it was marked by, where the data had any."""
    from sharpen.llm.tasks.marking import marks
    from sharpen.llm.tasks.verification.verify import Verifier

    try:
        answers = data.answers()
    except InputError:  # the prompts have been read: what is missing is answers
        answers = None
    categories, is_base, records = data.categories(), config.base in (None, config.model), []
    with Verifier() as verifier:
        for one in drawn:
            marked: dict[str, Any] = {"correct": [False] * len(one.responses)}
            if answers is not None:
                names = [one.id] * len(one.responses)
                marked = judged(marks(answers, names, one.responses, one.finished, verifier), answers.threshold)
            category = categories.get(one.id, {})
            records.append(
                Record(
                    one.id,
                    category.get("subject"),
                    category.get("level"),
                    one.responses,
                    form.united([form.votes(one.responses, one.finished)], verifier)[0],
                    lengths=one.lengths,
                    finished=one.finished,
                    base_logprob=one.logprob if is_base else None,
                    **marked,
                )
            )
    return records, answers


def _measures(records: list[Record], answers: AnswerKey | None, seed: int) -> dict[str, Any]:
    """Return the measures; None for those that need an answer key where there is none."""
    summary = summarise(records, seed, threshold=1.0 if answers is None else answers.threshold)
    if answers is None:
        summary |= {name: None for name in summary if name.startswith(("pass@", "maj@"))}
        summary |= {"by_subject": {}, "by_level": {}}
    return {"verified": answers is not None, **summary}
