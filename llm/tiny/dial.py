"""The models of the dial: made in one go, and measured by enumeration of the answers that their law knows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from sharpen.llm.models.registry import ModelSource, load_model, load_tokenizer
from sharpen.llm.tasks.dial.kinds import KINDS
from sharpen.llm.tasks.dial.law import HANDS, Answer, Member, answer, note
from sharpen.llm.tasks.dial.problems import DialProblem, problems
from sharpen.llm.tasks.templates import encode
from sharpen.llm.tiny.pretrain import Settings, pretrain
from sharpen.objective.storage import files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SETTINGS = Settings(64, 2, steps=3000, batch=128, micro_batch=128)  # of every member
ALPHAS = (1.0, 1.25, 1.5, 2.0, 4.0)
ROWS = 1024  # answers of one forward pass
MEASURES = "measures.json"


class Table(NamedTuple):
    """The answers to one problem that were looked at, N of them.

    Args:
        kind: The problem's.
        logprob_N: Of each answer, nats.
        right_N: Whether it is right.
        short_N: Whether it is short.
        length_N: Tokens, the end included.
    """

    kind: str
    logprob_N: np.ndarray
    right_N: np.ndarray
    short_N: np.ndarray
    length_N: np.ndarray


def make(members: dict[str, Member], out: Path, settings: Settings = SETTINGS) -> dict[str, dict[str, Any]]:
    """Pre-train and measure each member in ``out/NAME``, and write ``out/measures.json``; what is done is kept.

    Returns:
        For each name ``member`` (the row of the law's table), ``sha256`` of the weights, and the measures.

    Raises:
        InputError: a folder holds something else or a run of other settings.
        KeyboardInterrupt: Ctrl-C; the same call continues.
    """
    found = {}
    for name, member in members.items():
        told = pretrain(settings, member, out / name, partial(measure_member, member=member))
        found[name] = {"member": asdict(member), **told["measures"]}
    files.write(out / MEASURES, json.dumps(found, indent=1) + "\n")
    return found


def measure_member(location: str, member: Member, count: int = 32) -> dict[str, Any]:
    """Return ``sha256`` of a model's weights, and :func:`summary` of it on the first test problems."""
    weights = files.sha256(Path(location) / "model.safetensors")
    return {"sha256": weights, **summary(list(tables(location, member, problems("test", count))), member)}


def tables(location: str, member: Member, asked: Sequence[DialProblem]) -> Iterator[Table]:
    """Score every answer to each problem whose note the member's law knows, right and wrong, short and long.

    Args:
        location: Folder of the model.
        member: Whose notes.
        asked: Problems.
    """
    source = ModelSource("dial", location, template="plain")
    model, tokenizer = load_model(source, "cpu", "float32").eval(), load_tokenizer(source)
    for problem in asked:
        listed = list(_known(problem, member))
        logprobs, lengths = score(model, tokenizer, problem, [one.text for one in listed])
        right_N, short_N = np.array([one.right for one in listed]), np.array([one.short for one in listed])
        yield Table(problem.kind_name(), logprobs, right_N, short_N, lengths)


def _known(problem: DialProblem, member: Member) -> Iterator[Answer]:
    """Yield every text of the law's form with a note that right or wrong answers have, also where the law says 0."""
    kind = problem.kind()
    spread = max(member.spread(kind, right=True), kind.wrong_spread)
    law = {one.text: one.probability for one in member.answers(problem)}
    for hand in range(len(HANDS)):
        for number in range(spread):
            for right in (True, False):
                for short in (True, False):
                    text = answer(problem, note(hand, number), right, short)
                    yield Answer(text, right, short, law.get(text, 0.0))


@torch.no_grad()
def score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: DialProblem, texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return log p(text, end | problem) in nats and the number of tokens, end included, of each text."""
    prompt = encode(tokenizer, problem.text, "plain")
    eos = tokenizer.eos_token_id
    rows = [[*prompt, *tokenizer(text)["input_ids"], eos] for text in texts]  # type: ignore[misc]
    logprob_N, length_N = np.zeros(len(rows)), np.array([len(row) - len(prompt) for row in rows])
    for length in np.unique(length_N):  # no padding
        (places,) = np.nonzero(length_N == length)
        for start in range(0, len(places), ROWS):
            some = places[start : start + ROWS]
            tokens_NL = torch.tensor([rows[place] for place in some])
            logits_NLV = model(input_ids=tokens_NL, use_cache=False).logits[:, len(prompt) - 1 : -1]
            targets_NL1 = tokens_NL[:, len(prompt) :, None]
            chosen_NL = logits_NLV.log_softmax(-1).gather(-1, targets_NL1)[..., 0]
            logprob_N[some] = chosen_NL.double().sum(-1).numpy()
    return logprob_N, length_N


def law_tables(member: Member, asked: Sequence[DialProblem], lengths: tuple[int, int] = (10, 22)) -> Iterator[Table]:
    """Yield the law itself in the shape of :func:`tables`; ``lengths`` are the tokens of a short and a long answer."""
    for problem in asked:
        listed = [one for one in member.answers(problem) if one.probability > 0]
        short_N = np.array([one.short for one in listed])
        logprob_N = np.log([one.probability for one in listed])
        length_N = np.where(short_N, *lengths)
        yield Table(problem.kind_name(), logprob_N, np.array([one.right for one in listed]), short_N, length_N)


def summary(found: Sequence[Table], member: Member) -> dict[str, Any]:
    """Return what the tables say, all within problems and then averaged over them.

    Returns:
        ``problems``, ``seen`` (mean mass of the answers looked at; what follows is of these, renormalised except
        ``pass@1``), ``pass@1``, ``covariance`` (of r and log p, nats: the slope of E[r] at alpha = 1),
        ``correlation`` (mean covariance over the root of the mean variances), ``length_correlation`` (of r and length),
        ``mode_accuracy``, ``kinds`` (pass@1 least, mean and largest by kind), ``difficulty`` (problems by pass@1),
        ``short`` (share of short answers among right and wrong ones), ``length`` (mean tokens of each),
        ``expected_reward`` (at p^alpha), ``expected_reward_of_law``.
    """
    mass_P = np.array([np.exp(one.logprob_N).sum() for one in found])
    pass_P = np.array([np.exp(one.logprob_N[one.right_N]).sum() for one in found])
    means = np.mean([_moments(one) for one in found], axis=0)
    covariance, variance, spread, with_length, length_variance = (float(x) for x in means)
    correct = [bool(one.right_N[one.logprob_N.argmax()]) for one in found]
    kinds = {
        name: pass_P[[one.kind == name for one in found]] for name in KINDS if any(one.kind == name for one in found)
    }
    return {
        "problems": len(found),
        "seen": float(mass_P.mean()),
        "pass@1": float(pass_P.mean()),
        "covariance": covariance,
        "correlation": covariance / math.sqrt(variance * spread),
        "length_correlation": with_length / math.sqrt(variance * length_variance),
        "mode_accuracy": float(np.mean(correct)),
        "kinds": {name: [float(f(some)) for f in (np.min, np.mean, np.max)] for name, some in kinds.items()},
        "difficulty": difficulty(pass_P),
        "short": _by_right(found, lambda one: one.short_N.astype(float)),
        "length": _by_right(found, lambda one: one.length_N.astype(float)),
        "expected_reward": {str(alpha): float(np.mean([_tilted(one, alpha) for one in found])) for alpha in ALPHAS},
        "expected_reward_of_law": {str(alpha): member.expected_reward(alpha) for alpha in ALPHAS},
    }


def difficulty(pass_P: np.ndarray) -> dict[str, int]:
    """Return how many problems are likely unsolved in 256 samples, and how many lie in each range of pass@1."""
    never = (1.0 - pass_P) ** 256 > 0.5
    edges = {"below 1 %": (0.0, 0.01), "1 to 10 %": (0.01, 0.1), "10 to 60 %": (0.1, 0.6), "above 60 %": (0.6, 2.0)}
    ranges = {name: int((~never & (low <= pass_P) & (pass_P < high)).sum()) for name, (low, high) in edges.items()}
    return {"0 of 256": int(never.sum()), **ranges}


def _moments(one: Table) -> tuple[float, ...]:
    """Return Cov(r, log p), Var r, Var log p, Cov(r, length), Var length under the answers' probabilities."""
    weight_N = np.exp(one.logprob_N)
    weight_N /= weight_N.sum()
    columns = np.stack([one.right_N.astype(float), one.logprob_N, one.length_N.astype(float)])
    centred = columns - (columns * weight_N).sum(1, keepdims=True)
    table = (centred * weight_N) @ centred.T
    return table[0, 1], table[0, 0], table[1, 1], table[0, 2], table[2, 2]


def _tilted(one: Table, alpha: float) -> float:
    weight_N = np.exp(alpha * (one.logprob_N - one.logprob_N.max()))
    return float(weight_N[one.right_N].sum() / weight_N.sum())


def _by_right(found: Sequence[Table], column: Any) -> dict[str, float]:
    """Return a column's mean over right and over wrong answers, weighted by their probability, all problems pooled."""
    told = {}
    for name, right in (("right", True), ("wrong", False)):
        parts = [(np.exp(one.logprob_N) * (one.right_N == right), column(one)) for one in found]
        told[name] = float(sum((w * x).sum() for w, x in parts) / sum(w.sum() for w, _ in parts))
    return told
