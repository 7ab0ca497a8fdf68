"""``sharpen llm outcomes``: the known outcomes of a model on a set of problems, in a folder that survives a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm.common import jsonl
from sharpen.llm.common.interrupt import deferred_interrupt
from sharpen.llm.configs.outcomes import OutcomesConfig
from sharpen.llm.outcomes.record import FRONTIER, OUTCOMES, Record, summarise, write_tables
from sharpen.llm.preflight.checks import for_sampling
from sharpen.objective import InputError
from sharpen.objective.storage import files, runfolder

if TYPE_CHECKING:
    from sharpen.llm.outcomes.tree import Tree
    from sharpen.llm.rollout.stops import Stops
    from sharpen.llm.tasks.data import AnswerKey, Prompt, PromptSet
    from sharpen.llm.tasks.verification.verify import Verifier

TREES, SUMMARY = "trees.jsonl", "outcomes.json"
MADE = (TREES, OUTCOMES, FRONTIER, SUMMARY)


@dataclass
class OutcomesReport:
    """Where a run reports its progress; the default reports nowhere.

    Args:
        note: Called with one line of text.
        progress: Called with the records so far, the number of problems, and how many records an earlier call left.
    """

    note: Callable[[str], None] = lambda text: None
    progress: Callable[[list[Record], int, int], None] = lambda records, total, earlier: None


def run_outcomes(
    config: OutcomesConfig, out: Path, *, force: bool = False, report: OutcomesReport | None = None
) -> dict[str, Any]:
    """Find the outcomes of every problem, or go on, and return the summary.

    Args:
        config: The model, what is asked, and when a tree stops.
        out: Folder for ``config.yaml``, ``provenance.json``, ``trees.jsonl`` (one problem per line, as it is done),
            ``outcomes.parquet``, ``frontier.parquet`` and ``outcomes.json``.
        force: Delete earlier outcomes in ``out`` first.
        report: Told about progress.

    Returns:
        ``model``, ``data``, ``split`` and what :func:`sharpen.llm.outcomes.record.summarise` returns.

    Raises:
        InputError: settings, model, data or folder cannot be used.
        KeyboardInterrupt: Ctrl-C; what is done has been saved and the same call continues.
    """
    report = report or OutcomesReport()
    done = not force and (out / SUMMARY).is_file()
    data, fits = for_sampling(config, marked=True, out=out, done=done)
    answers, prompts = data.answers(), fits.prompts
    with runfolder.opened(out, config, force, MADE, first=TREES):
        fits.tell(out, report.note)
        records = jsonl.go_on(out / TREES, Record, 1, len(prompts.prompts))
        if [record.id for record in records] != [prompt.id for prompt in prompts.prompts[: len(records)]]:
            raise InputError("data", config.data, f"the problems that {out} has outcomes of; --force starts again")
        if len(records) < len(prompts.prompts):
            if records:
                report.note(f"continuing after {len(records)} of {len(prompts.prompts)} problems")
            _find_the_rest(config, prompts, answers, records, out, report)
        summary = {name: getattr(config, name) for name in ("model", "data", "split")}
        summary |= summarise(records, config.alphas) | {"left_out": len(fits.left_out)}
        write_tables(out, records)
        files.write(out / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return summary


def _find_the_rest(
    config: OutcomesConfig,
    prompts: PromptSet,
    answers: AnswerKey,
    records: list[Record],
    out: Path,
    report: OutcomesReport,
) -> None:
    """Add the records of the problems that are not done, each saved as it is."""
    from sharpen.llm.tasks.verification.verify import Verifier

    with Verifier() as verifier, deferred_interrupt() as interrupt:
        finder = _Finder(config, answers, verifier)
        earlier, total = len(records), len(prompts.prompts)
        for prompt in prompts.prompts[earlier:]:
            records.append(finder.record(prompt))
            jsonl.append(out / TREES, records[-1:])
            report.progress(records, total, earlier)
            if interrupt.requested:
                raise KeyboardInterrupt


class _Finder:
    """A loaded model, what ends its responses, and what marks them."""

    def __init__(self, config: OutcomesConfig, answers: AnswerKey, verifier: Verifier) -> None:
        from sharpen.llm.models.registry import ModelSource, load_model, load_tokenizer
        from sharpen.llm.rollout.requests import eos_token_ids
        from sharpen.llm.rollout.stops import stops_for
        from sharpen.llm.tasks.templates import stops

        source = ModelSource(config.model, config.model)
        self._config, self._answers, self._verifier = config, answers, verifier
        self._tokenizer = load_tokenizer(source)
        self._model = load_model(source, _device(config), config.dtype).eval()
        self._eos_ids = eos_token_ids(self._model, self._tokenizer)
        self._stops: Stops | None = stops_for(self._tokenizer, stops(config.template))

    def record(self, prompt: Prompt) -> Record:
        """Return the outcomes of one problem, marked as an evaluation marks samples."""
        from sharpen.llm.tasks.marking import marks
        from sharpen.llm.tasks.templates import encode

        ids = encode(self._tokenizer, prompt.text, self._config.template, self._config.chat_options)
        tree = self._grown(ids)
        texts = self._tokenizer.batch_decode([list(one.tokens) for one in tree.outcomes], skip_special_tokens=True)
        finished = [one.finished for one in tree.outcomes]
        scores = marks(self._answers, [prompt.id] * len(texts), texts, finished, self._verifier) if texts else []
        return Record.of(prompt.id, len(ids), tree, texts, scores)

    def _grown(self, ids: list[int]) -> Tree:
        from sharpen.llm.outcomes.tree import Growth, grow

        own = self._config
        room = own.max_length - len(ids)
        longest = room if own.max_response is None else min(room, own.max_response)
        growth = Growth(own.alphas, own.width, own.threshold, own.budget, longest, own.prefixes)
        return grow(self._model, ids, growth, eos_ids=self._eos_ids, stops=self._stops)


def _device(config: OutcomesConfig) -> str:
    import torch

    return config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
