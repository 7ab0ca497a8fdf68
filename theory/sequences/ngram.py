"""n-gram models of a text, as sequence models whose stop is the end of a line."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sharpen.objective import InputError
from sharpen.objective.storage.parsing import NUMBERS
from sharpen.objective.storage.reading import read_text
from sharpen.theory.sequences.graph import log_or_nothing
from sharpen.theory.sequences.model import MAX_EDGES, MarkovModel

UNITS = ("char", "word")
MAX_ORDER = 20
BEGIN = "^"  # shown in labels for the begin of a line

Context = tuple[str | None, ...]  # None is the begin of a line, so that no token of a text is mistaken for it


def from_text(path: str | Path, order: int, unit: str = "char", add_k: float = 0.0) -> MarkovModel:
    """Return the n-gram model of a text file; see :func:`from_lines`. Blank lines are skipped.

    Raises:
        InputError: the file cannot be read, or :func:`from_lines` refuses.
    """
    lines = read_text(path, "ngram", NUMBERS).splitlines()
    if unit not in UNITS:
        raise InputError("unit", unit, " or ".join(UNITS))
    kept = [line for line in lines if line.strip()]
    return from_lines((line.split() if unit == "word" else list(line) for line in kept), order, add_k, unit)


def from_lines(lines: Iterable[list[str]], order: int, add_k: float = 0.0, unit: str = "word") -> MarkovModel:
    """Return the n-gram model of lists of tokens: each token, or the stop, given the order - 1 tokens before it.

    The start state is the begin of a line. A state is the context, the last max(order - 1, 1) tokens; p(t | c) is
    (count(c, t) + k) / (count(c) + k (V + 1)) over the V tokens and the stop. With k > 0 contexts arise that the text
    does not have: the state is then the longest end of the context that it has.

    Args:
        lines: Sequences of tokens.
        order: n, 1 to 20.
        add_k: k, finite and >= 0; every state then has V transitions.
        unit: ``char`` joins a label's tokens without spaces.

    Raises:
        InputError: no line has a token, an argument is out of range, or the model would be too large.

    Example:
        >>> model = from_lines([["a", "b"], ["a"]], order=2)
        >>> model.labels, model.transition.toarray().tolist(), model.stop.tolist()
        (('^', 'a', 'b'), [[0.0, 1.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]], [0.0, 0.5, 1.0])
    """
    if not 1 <= order <= MAX_ORDER:
        raise InputError("order", order, f"a whole number from 1 to {MAX_ORDER}")
    if not 0.0 <= add_k < float("inf"):
        raise InputError("add-k", add_k, "a finite number >= 0")
    counts = _count([tuple(line) for line in lines], order, smoothed=add_k > 0)
    vocabulary = sorted({token for row in counts.values() for token in row if token is not None})
    if not vocabulary:
        raise InputError("ngram", "a text without a token", "a text with at least one line that is not blank")
    return _build(counts, vocabulary, order, add_k, "" if unit == "char" else " ")


def _count(lines: list[tuple[str, ...]], order: int, smoothed: bool) -> dict[Context, Counter[str | None]]:
    """Return how often each token, or None for the stop, follows each context, and with smoothing each end of one."""
    counts: dict[Context, Counter[str | None]] = defaultdict(Counter)
    for line in lines:
        context: Context = (None,) * (order - 1)
        for token in (*line, None):
            counts[context][token] += 1
            for shorter in range(1, len(context) if smoothed else 0):
                counts[context[shorter:]][token] += 1
            context = (*context, token)[len(context) + 1 - (order - 1) :] if order > 1 else ()
    return counts


def _build(
    counts: dict[Context, Counter[str | None]], vocabulary: list[str], order: int, add_k: float, joint: str
) -> MarkovModel:
    width = max(order - 1, 1)
    first: Context = (None,) * width
    number: dict[Context, int] = {first: 0}
    pending: list[Context] = [first]
    source, target, weight, stop = [], [], [], []
    for context in pending:  # grows while it is read
        row = counts[context if order > 1 else ()]
        total = sum(row.values()) + add_k * (len(vocabulary) + 1)
        stop.append((row[None] + add_k) / total)
        tokens = vocabulary if add_k > 0 else sorted(token for token in row if token is not None)
        if len(source) + len(tokens) > MAX_EDGES:
            raise InputError("order", order, f"an n-gram model of at most {MAX_EDGES} transitions")
        for token in tokens:
            after = (*context, token)[-width:]
            while order > 1 and after not in counts:
                after = after[1:]
            if after not in number:
                number[after] = len(pending)
                pending.append(after)
            source.append(number[context])
            target.append(number[after])
            weight.append((row[token] + add_k) / total)
    labels = [joint.join(BEGIN if token is None else token for token in context) for context in pending]
    return MarkovModel.from_log(
        np.array(source, dtype=np.int64),
        np.array(target, dtype=np.int64),
        np.log(weight),
        log_or_nothing(np.array(stop)),
        0,
        labels,
    )
