"""Evaluating and sampling from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from sharpen.llm.api.given import Problems, asked
from sharpen.llm.configs.evaluation import EvalConfig
from sharpen.llm.configs.idle import EVAL, refuse_idle
from sharpen.llm.configs.sampling import SampleConfig, effects
from sharpen.llm.samplers.registry import SAMPLERS
from sharpen.llm.tasks.sources import load_source
from sharpen.objective.checked import checked

if TYPE_CHECKING:
    from sharpen.llm.evaluation.records import Record


@dataclass(frozen=True)
class Evaluation:
    """What a policy answered, and the measures of it.

    Args:
        measures: As ``evaluation.json`` has them (docs/evaluation.md).
        records: One per problem.
    """

    measures: dict[str, Any]
    records: list[Record]

    def frame(self) -> pd.DataFrame:
        """Return one row per response.

        Columns: ``id`` and ``sample``; ``response``, ``vote`` (its final answer), ``correct``, ``length`` (tokens),
        ``finished``; ``logprob``, ``entropy``, ``base_logprob`` in nats, None where they were not measured.
        """
        return _by_response([asdict(record) for record in self.records]).drop(columns=["subject", "level"])

    def at_k(self) -> pd.DataFrame:
        """Return pass@k and maj@k with 95 % intervals over problems: ``k``, ``pass``, ``pass_low``, …, one row a k."""
        rows = []
        for name in self.measures:
            if name.startswith("pass@") and not name.endswith("_interval"):
                k = name.removeprefix("pass@")
                row: dict[str, Any] = {"k": int(k)}
                for kind in ("pass", "maj"):
                    low, high = self.measures[f"{kind}@{k}_interval"]
                    row |= {kind: self.measures[f"{kind}@{k}"], f"{kind}_low": low, f"{kind}_high": high}
                rows.append(row)
        return pd.DataFrame(rows)


def evaluate(
    model: str | Path = "embedded",
    problems: Problems | int | None = None,
    *,
    checkpoint: str | int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    **settings: Any,
) -> Evaluation:
    """Ask a policy problems and mark its answers; what is not given is what ``sharpen llm eval`` takes.

    Args:
        model: ``embedded``, a registered name, a hub id, a folder, a run folder or one of its checkpoints.
        problems: A data set's name or file, or pairs (problem, answer); or a number, the first so many of the model's.
        checkpoint: Of a run folder: ``last`` (if not given), ``best``, ``base``, or a number of updates.
        out: Folder that keeps the records, so that the same call goes on after a kill; None keeps nothing.
        force: Delete an earlier evaluation in ``out`` first.
        settings: Other fields of :class:`sharpen.llm.EvalConfig`: ``samples``, ``temperature``, ``base``, ``template``
            (a name, or a :class:`sharpen.llm.Template`), ….

    Raises:
        InputError: an argument cannot be used or would have no effect; or a model or data.
    """
    given = asked(problems, settings)
    config = checked(EvalConfig, _with_model(given, model, checkpoint))
    refuse_idle(config, [name for name in given if given[name] is not None], EVAL)
    from sharpen.llm.evaluation.run import run_evaluation

    return Evaluation(*run_evaluation(config, None if out is None else Path(out), force=force))


def sample(
    model: str | Path = "embedded",
    problems: Problems | int | None = None,
    *,
    method: str | Callable[..., Any] = "power",
    checkpoint: str | int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    **settings: Any,
) -> pd.DataFrame:
    """Return responses sharpened without training, one per row; what is not given is what ``sharpen llm sample`` takes.

    Args:
        model: As for :func:`evaluate`.
        problems: Texts or pairs (problem, answer), a data set's name or file; or a number, the first so many of the
            model's own.
        method: ``power`` (p^alpha by Metropolis-Hastings), ``low-temperature``, ``best-of-n``, ``scalable-power``,
            ``plain``, or a sampler of one's own.
        checkpoint: As for :func:`evaluate`.
        out: Folder that keeps the responses, so that the same call goes on after a kill; None keeps nothing.
        force: Delete an earlier run in ``out`` first.
        settings: Other fields of :class:`sharpen.llm.SampleConfig`: ``alpha``, ``samples`` a problem, ``budget``, ….

    Returns:
        Columns ``id``, ``sample``, ``problem`` and ``response`` (texts), ``logprob`` (log p of the model that is
        sharpened, at temperature 1, nats), ``length`` (tokens), ``finished`` (False where it was cut), ``generated``
        (tokens drawn for it), ``proposals``, ``accepted``, ``moved``, and ``correct``, None where the problems have no
        answers. ``attrs["measures"]`` has the measures of docs/sampling.md.

    Raises:
        InputError: an argument cannot be used or would have no effect; or a model or data.
    """
    given = asked(problems, settings) | {"method": SAMPLERS.name_of(method, "method")}
    config = checked(SampleConfig, _with_model(given, model, checkpoint))
    refuse_idle(config, [name for name in given if given[name] is not None], effects())
    from sharpen.llm.evaluation import records
    from sharpen.llm.sampling import sampling_run, store

    with TemporaryDirectory(prefix="sharpen-") as scratch:
        folder = Path(scratch) / "run" if out is None else Path(out)
        measures = sampling_run.run_sampling(config, folder, force=force)
        table = _by_response([asdict(drawn) for drawn in store.read(folder / sampling_run.SAMPLES)])
        marked = records.read(folder / sampling_run.RECORDS) if measures["verified"] else []
    texts = {p.id: p.text for p in load_source(config.data, config.split, config.problems).prompts().prompts}
    table.insert(2, "problem", [texts[name] for name in table["id"]])
    table["correct"] = [good for one in marked for good in one.correct] or None
    table.attrs["measures"] = measures
    return table


def _with_model(given: dict[str, Any], model: str | Path, checkpoint: str | int | None) -> dict[str, Any]:
    which = {} if checkpoint is None else {"checkpoint": str(checkpoint)}
    return {**{name: one for name, one in given.items() if one is not None}, "model": str(model), **which}


_ONE = {
    "responses": "response",
    "votes": "vote",
    "lengths": "length",
}


def _by_response(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per response of rows whose lists have one entry per response; what is None stays None."""
    table = []
    for row in rows:
        for number in range(len(row["responses"])):
            own = {name: each[number] if isinstance(each, list) else each for name, each in row.items()}
            table.append({"id": own.pop("id"), "sample": number, **own})
    return pd.DataFrame(table).rename(columns=_ONE)
