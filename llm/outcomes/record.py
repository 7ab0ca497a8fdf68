"""What a run of outcomes keeps of each problem: one JSON object per line, and the tables made of all lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sharpen.llm.outcomes.tree import Tree
from sharpen.objective.storage import files

OUTCOMES, FRONTIER = "outcomes.parquet", "frontier.parquet"


@dataclass(frozen=True)
class Record:
    """One problem's tree as rows: outcomes, then prefixes that were not followed, then sums of children.

    Args:
        id: The problem's.
        prompt_tokens: Length of its prompt.
        forward_tokens: Tokens passed through the model beyond the prompt.
        stopped: See :class:`sharpen.llm.outcomes.tree.Tree`.
        logprob: log p of an outcome, log u of a prefix, (1/alpha) log sum u^alpha of a sum, nats.
        length: Tokens, with the one that ended an outcome.
        response: Text of an outcome; None for the other rows.
        reward: Score of an outcome, in [0, 1]; None for the other rows.
        alpha: Exponent of a sum; None for the other rows.
    """

    id: str
    prompt_tokens: int
    forward_tokens: int
    stopped: str
    logprob: list[float]
    length: list[int]
    response: list[str | None]
    reward: list[float | None]
    alpha: list[float | None]

    @classmethod
    def of(cls, name: str, prompt_tokens: int, tree: Tree, texts: Sequence[str], rewards: Sequence[float]) -> Record:
        """Return the record of a tree whose outcomes have these texts and rewards."""
        rows: list[tuple[float, int, str | None, float | None, float | None]] = [
            (one.logprob, len(one.tokens), text, float(reward), None)
            for one, text, reward in zip(tree.outcomes, texts, rewards, strict=True)
        ]
        rows += [(logprob, depth, None, None, None) for depth, logprob in tree.frontier]
        rows += [(one.logprob, one.depth, None, None, one.alpha) for one in tree.remainders]
        logprob, length, response, reward, alpha = (list(column) for column in zip(*rows, strict=True))
        return cls(name, prompt_tokens, tree.forward_tokens, tree.stopped, logprob, length, response, reward, alpha)

    def sums(self, alpha: float) -> tuple[float, float, float]:
        """Return Z = sum p^alpha and R = sum p^alpha r over outcomes and U = sum u^alpha over the frontier.

        They are divided by the largest term of the three.

        Args:
            alpha: One of the exponents that the tree was grown for.
        """
        logs = alpha * np.array(self.logprob)
        w = np.exp(logs - logs.max())
        r = np.array([math.nan if one is None else one for one in self.reward])
        seen = ~np.isnan(r)
        unseen = ~seen & np.array([one is None or one == alpha for one in self.alpha])
        return float(w[seen].sum()), float((w[seen] * r[seen]).sum()), float(w[unseen].sum())

    @property
    def mode_is_certain(self) -> bool:
        """Whether the likeliest outcome is likelier than anything unseen can be."""
        largest = max((one for one in self.alpha if one is not None), default=None)  # its sums are nearest a maximum
        rows = zip(self.logprob, self.reward, self.alpha, strict=True)
        plain = [(logprob, reward) for logprob, reward, alpha in rows if alpha in (None, largest)]
        seen = [logprob for logprob, reward in plain if reward is not None]
        return bool(seen) and max(seen) > max((p for p, reward in plain if reward is None), default=-math.inf)


def summarise(records: Sequence[Record], alphas: Sequence[float]) -> dict[str, Any]:
    """Return the means over problems, by exponent the interval of E[r] (T15): R/(Z + U) to (R + U)/(Z + U).

    Args:
        records: At least one.
        alphas: Exponents that they were made for.
    """
    by_alpha = []
    for alpha in alphas:
        sums = np.array([record.sums(alpha) for record in records])
        low, width = sums[:, 1] / (sums[:, 0] + sums[:, 2]), sums[:, 2] / (sums[:, 0] + sums[:, 2])
        high = low + width
        means = {"low": low.mean(), "high": high.mean(), "width": width.mean(), "widest": width.max()}
        by_alpha.append({"alpha": alpha, **{name: float(each) for name, each in means.items()}})
    forward = [record.forward_tokens for record in records]
    stopped = [record.stopped for record in records]
    return {
        "problems": len(records),
        "curve": by_alpha,
        "forward_tokens": {"mean": float(np.mean(forward)), "most": max(forward)},
        "outcomes": float(np.mean([sum(one is not None for one in record.reward) for record in records])),
        "mode_certain": float(np.mean([record.mode_is_certain for record in records])),
        "stopped": {why: stopped.count(why) for why in sorted(set(stopped))},
    }


def write_tables(folder: Path, records: Sequence[Record]) -> None:
    """Write ``outcomes.parquet`` and ``frontier.parquet``.

    The first has ``prompt_id``, ``response``, ``logprob``, ``reward``, ``length``. The second has ``prompt_id``,
    ``depth``, ``logprob`` and ``alpha``, which is null for a prefix. A row with an exponent is a sum of children, and
    stands beside the prefixes at that exponent only. Those of exponent 1 are probabilities: with the prefixes and the
    outcomes they sum to 1, and they bound what they stand for at every exponent above 1 too.

    Raises:
        InputError: a file cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = [
        (record.id, *row)
        for record in records
        for row in zip(record.response, record.logprob, record.reward, record.length, record.alpha, strict=True)
    ]
    seen, unseen = ([row for row in rows if (row[3] is not None) == good] for good in (True, False))
    text, number, whole = pa.string(), pa.float64(), pa.int32()
    tables = {
        OUTCOMES: pa.table(
            {
                "prompt_id": pa.array([row[0] for row in seen], text),
                "response": pa.array([_valid(row[1] or "") for row in seen], text),
                "logprob": pa.array([row[2] for row in seen], number),
                "reward": pa.array([row[3] for row in seen], number),
                "length": pa.array([row[4] for row in seen], whole),
            }
        ),
        FRONTIER: pa.table(
            {
                "prompt_id": pa.array([row[0] for row in unseen], text),
                "depth": pa.array([row[4] for row in unseen], whole),
                "logprob": pa.array([row[2] for row in unseen], number),
                "alpha": pa.array([row[5] for row in unseen], number),
            }
        ),
    }
    for name, table in tables.items():
        with files.replacing(folder / name) as part:
            parquet.write_table(table, part)


def _valid(text: str) -> str:
    """Return a text without lone surrogates, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "replace").decode("utf-8")
