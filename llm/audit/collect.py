"""Samples of two models to the same problems, scored by both: what an audit of training rests on.

Two evaluations, each with the other model as its base: DIR/policy has samples of the policy with log p beside log pi,
DIR/base samples of the base with log pi beside log p. Both are folders of ``sharpen llm eval`` that survive a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sharpen.llm.audit.logs import is_log, read_logs
from sharpen.llm.audit.marked import Marked
from sharpen.llm.configs.evaluation import EvalConfig
from sharpen.llm.configs.targets import complete, find_target
from sharpen.llm.evaluation import records as store
from sharpen.llm.evaluation.run import EVALUATION, RECORDS, EvalReport, run_evaluation
from sharpen.objective import InputError
from sharpen.objective.settings import SEEDS
from sharpen.objective.storage import runfolder

if TYPE_CHECKING:
    from sharpen.llm.evaluation.records import Record

BASE, POLICY = "base", "policy"  # the folders of --out
PROBE = "What is 12 + 30?"  # any text: encoded by both models it shows whether they are asked the same
ASKED = ("data", "split", "template", "chat_options", "max_length")


@dataclass(frozen=True)
class Side:
    """What one model did.

    Args:
        name: Where it is, or the file of its log.
        problems: Its marked samples by problem, in the same order on both sides.
        records: The same as an evaluation keeps them; None of a log.
    """

    name: str
    problems: list[Marked]
    records: list[Record] | None = None


@dataclass(frozen=True)
class Collected:
    """Two models' samples to the same problems.

    Args:
        base: The base's.
        policy: The policy's.
        unscored: Why the samples are not scored by both models; None: they are.
        data: Data set and split, or what is known of them.
    """

    base: Side
    policy: Side
    unscored: str | None
    data: str


def configs(base: str | None, policy: str, asked: Mapping[str, Any]) -> tuple[EvalConfig, EvalConfig]:
    """Return the evaluations of base and policy that score each other's samples.

    Args:
        base: The model before, as ``sharpen llm eval`` takes one; None: the one that the policy's run began from.
        policy: The model after.
        asked: Further fields of :class:`EvalConfig`, and ``checkpoint`` of the policy's run; what is not given is what
            the policy's run was asked, or the base of a model that is no run.

    Raises:
        InputError: there is no such model, or no base is known.
    """
    which = asked.get("checkpoint")
    target = find_target(policy, None if which is None else str(which))
    given = {"problems": 64, "samples": 32, **{name: value for name, value in asked.items() if name != "checkpoint"}}
    if base is None and target.base is None:
        raise InputError("base", None, f"the model that {policy} was trained from; only of runs it is known")
    before = find_target(base).location if base is not None else target.base
    asks = policy if target.base is not None or base is None else base
    fields = complete({**given, "model": asks} | ({"checkpoint": which} if which and asks == policy else {}))
    fields |= {"model": target.location, "base": before}
    after = EvalConfig.as_written(fields)
    # Another seed, so that two samples that begin alike are chance.
    swapped = {"model": before, "base": after.model, "seed": (after.seed + 1) % SEEDS}
    return EvalConfig.as_written({**after.model_dump(), **swapped}), after


def sample(
    before: EvalConfig, after: EvalConfig, out: Path | None, *, force: bool, report: Callable[[], EvalReport]
) -> Collected:
    """Sample and score both models, or go on with what a folder holds.

    Args:
        before: Of the base, see :func:`configs`.
        after: Of the policy.
        out: Folder for both evaluations; None keeps nothing.
        force: Delete earlier evaluations there first.
        report: Makes what is told about the progress of each evaluation.

    Raises:
        InputError: the models differ in their tokens or are asked differently and each is to score the other's samples;
            or settings, model, data or folder cannot be used.
    """
    folders = {name: out / name if out is not None else None for name in (BASE, POLICY)}
    finished = not force and all(one is not None and (one / EVALUATION).is_file() for one in folders.values())
    if after.likelihoods and after.model != before.model and not finished:
        _check_tokens(before, after)
    sides: dict[str, Side] = {}
    for name, config in ((POLICY, after), (BASE, before)):
        telling = report()
        telling.note(f"{config.samples} samples a problem of the {name}, {config.model}")
        _, found = run_evaluation(config, folders[name], force=force, report=telling)
        sides[name] = Side(config.model, [Marked.of(one) for one in found], found)
    unscored = None if after.likelihoods else "the samples were not scored (--no-likelihoods)"
    return _matched(sides[BASE], sides[POLICY], unscored, f"{after.data} {after.split}")


def read(base: Path, policy: Path, metric: str | None = None, chosen: str | None = None) -> Collected:
    """Return what two finished evaluations, or two logs of lm-eval, hold of the same problems.

    Args:
        base: Folder of ``sharpen llm eval --out``, or a ``samples_*.jsonl`` of lm-eval or a folder of them.
        policy: The same of the policy.
        metric: Which number of a log says that an answer is right.
        chosen: Which of a log's filters.

    Raises:
        InputError: one is neither, they are of two kinds, or have no problem in common.
    """
    if is_log(base) and is_log(policy):
        before, after = (Side(str(one), read_logs(one, metric, chosen)) for one in (base, policy))
        return _matched(before, after, "logs of lm-eval have no log-probabilities of samples", "logs of lm-eval")
    (before, first), (after, second) = (_evaluation(name, one) for name, one in ((BASE, base), (POLICY, policy)))
    for name in ASKED:
        ours, theirs = getattr(after, name), getattr(before, name)
        if ours != theirs:
            raise InputError(POLICY, f"{policy} ({name} {ours})", f"an evaluation that asks as {base} does ({theirs})")
    return _matched(
        Side(before.model, [Marked.of(one) for one in first], first),
        Side(after.model, [Marked.of(one) for one in second], second),
        _why_unscored(before, after),
        f"{after.data} {after.split}",
    )


def is_evaluation(path: Path) -> bool:
    """Return whether a folder is one of ``sharpen llm eval --out``."""
    return (path / RECORDS).is_file()


def _evaluation(name: str, folder: Path) -> tuple[EvalConfig, list[Record]]:
    if not (folder / EVALUATION).is_file() or not (folder / RECORDS).is_file():
        raise InputError(name, str(folder), "what the other is too: a finished evaluation's folder, or logs of lm-eval")
    return runfolder.read_config(folder, EvalConfig), store.read(folder / RECORDS)


def _why_unscored(before: EvalConfig, after: EvalConfig) -> str | None:
    if not (before.likelihoods and after.likelihoods) or (before.base, after.base) != (after.model, before.model):
        return "each evaluation needs log-probabilities and the other's model as its --base"
    if any((one.temperature, one.top_p) != (1.0, 1.0) for one in (before, after)):
        return "the samples are not of temperature 1 and top-p 1, so not of the models themselves"
    return None


def _matched(base: Side, policy: Side, unscored: str | None, data: str) -> Collected:
    """Return both sides with the problems that both have, in the policy's order."""
    common = {one.id for one in base.problems} & {one.id for one in policy.problems}
    if len(common) < 2:
        raise InputError(POLICY, f"{len(common)} problems in common", "at least 2 that the base was asked too")
    order = [one.id for one in policy.problems if one.id in common]
    return Collected(_ordered(base, order), _ordered(policy, order), unscored, data)


def _ordered(side: Side, order: Sequence[str]) -> Side:
    of = {one.id: one for one in side.problems}
    records = None if side.records is None else {one.id: one for one in side.records}
    return replace(
        side,
        problems=[of[name] for name in order],
        records=None if records is None else [records[name] for name in order],
    )


def _check_tokens(before: EvalConfig, after: EvalConfig) -> None:
    """Refuse models that write the same text in other tokens, end a response by others, or are asked differently."""
    from sharpen.llm.models.registry import ModelSource, load_tokenizer
    from sharpen.llm.tasks.templates import encode

    sources = [ModelSource(one.model, one.model) for one in (before, after)]
    ours, theirs = (load_tokenizer(source) for source in sources)
    other = "--no-likelihoods compares what needs no log-probabilities"
    if ours.get_vocab() != theirs.get_vocab():
        raise InputError(POLICY, after.model, f"a model with the tokens of {before.model}; {other}")
    ends = [_ends(source, tokenizer) for source, tokenizer in zip(sources, (ours, theirs), strict=True)]
    if ends[0] != ends[1]:
        raise InputError(POLICY, f"responses end with tokens {ends[1]}", f"those of the base, {ends[0]}; {other}")
    asked = (PROBE, after.template, after.chat_options)
    if encode(ours, *asked) != encode(theirs, *asked):
        raise InputError("template", after.template, f"one that reads the same in both models' chat formats; {other}")


def _ends(source: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens that end a model's responses, without its weights."""
    from transformers import GenerationConfig

    from sharpen.llm.models.registry import load_architecture
    from sharpen.llm.models.store import folder_of
    from sharpen.llm.rollout.requests import eos_token_ids

    try:
        named = GenerationConfig.from_pretrained(folder_of(source.location))
    except OSError:  # it has none
        named = None
    return eos_token_ids(SimpleNamespace(generation_config=named, config=load_architecture(source)), tokenizer)
