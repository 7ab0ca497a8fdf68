"""A training run as an object: its settings, its numbers as tables, its checkpoints and its policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sharpen.llm.configs.targets import CHECKPOINTS, weights_of
from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.models import checkpoints
from sharpen.llm.training.final_evaluation import EVALUATION
from sharpen.objective import InputError
from sharpen.objective.storage import runfolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Run:
    """A training run in its folder, finished or not. Everything is read when it is first asked for.

    Args:
        folder: The run's.
        settings: What ``config.yaml`` there holds.
    """

    folder: Path
    settings: Mapping[str, Any]

    @cached_property
    def config(self) -> TrainConfig:
        """The configuration.

        Raises:
            InputError: it names a part that is not here, as a reward that was given as an object elsewhere.
        """
        return runfolder.read_config(self.folder, TrainConfig)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row per step, the columns those of docs/llm.md (groups as ``seconds.total``); empty before the first."""
        return _lines(self.folder / "metrics.jsonl")

    @cached_property
    def samples(self) -> pd.DataFrame:
        """A few samples of each step, one per row; empty before the first step."""
        return _lines(self.folder / "samples.jsonl")

    @cached_property
    def result(self) -> dict[str, Any]:
        """What ``evaluation.json`` holds (docs/llm.md); empty before the run is finished.

        Raises:
            InputError: the file is damaged; training again with the same settings measures again.
        """
        file = self.folder / EVALUATION
        if not file.is_file():
            return {}
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError("run", str(file), "a whole file; the same training measures again") from error
        return found if isinstance(found, dict) else {}

    @property
    def finished(self) -> bool:
        """Whether the run has been trained and evaluated."""
        return bool(self.result)

    @cached_property
    def evaluation(self) -> pd.DataFrame:
        """Measures of the policies ``base``, ``last`` and ``best``, one per row; empty before the run is finished.

        Columns: the single numbers of ``evaluation.json`` (``pass@1``, ``entropy`` in nats per token, …); an interval
        ``x_interval`` becomes ``x_low`` and ``x_high``. What nobody measured has no column.
        """
        rows = {name: _flat(self.result[name]) for name in ("base", "last", "best") if name in self.result}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("policy").dropna(axis=1, how="all")

    @cached_property
    def effective_alpha(self) -> pd.DataFrame:
        """Slope of log pi on log p over samples of the ``policy`` and of the ``base`` model, with 95 % intervals.

        Columns ``slope``, ``low``, ``high``, ``reliability``, NaN where it cannot be told; empty before the run is
        finished and in runs from before it was measured.
        """
        columns = ["slope", "low", "high", "reliability"]
        found = self.result.get("effective_alpha") or {}
        rows = {name: {c: found[name].get(c) for c in columns} for name in ("policy", "base") if found.get(name)}
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("samples").astype(float)

    @property
    def checkpoints(self) -> dict[int, Path]:
        """The folder of each checkpoint that is here, by its number of updates; a finished run keeps last and best."""
        return {checkpoints.step_of(path): path for path in checkpoints.listed(self.folder / CHECKPOINTS)}

    def policy(
        self, checkpoint: str | int = "last", device: str = "cpu", dtype: str = "float32"
    ) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return the model of a checkpoint, in eval mode, and its tokenizer.

        Args:
            checkpoint: ``last``, ``best``, ``base``, or a number of updates.
            device: ``cpu`` or ``cuda``.
            dtype: ``float32`` or ``bfloat16``.

        Raises:
            InputError: there is no such checkpoint, it is damaged, or an argument is none of these.
        """
        from sharpen.llm.models.registry import ModelSource, load_model, load_tokenizer

        for field, given, known in (("device", device, ("cpu", "cuda")), ("dtype", dtype, ("float32", "bfloat16"))):
            if given not in known:
                raise InputError(field, given, " or ".join(known))
        place = weights_of(self.folder, str(checkpoint), str(self.settings.get("model", "embedded")))
        source = ModelSource(place, place)
        return load_model(source, device, dtype).eval(), load_tokenizer(source)


def load_run(folder: str | Path) -> Run:
    """Return the training run in a folder: finished, interrupted, going on, or of an older version.

    Args:
        folder: One that :func:`sharpen.llm.train` or ``sharpen llm train`` made.

    Raises:
        InputError: it is none.
    """
    import yaml

    place = Path(folder)
    try:
        settings = yaml.safe_load((place / runfolder.CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("run", str(place), f"a run folder of sharpen llm train, with {runfolder.CONFIG}") from error
    if not isinstance(settings, dict) or not {"objective", "steps"} <= settings.keys():
        raise InputError(
            "run", str(place), "a run folder of sharpen llm train, whose settings have objective and steps"
        )
    return Run(place, settings)


def _lines(file: Path) -> pd.DataFrame:
    from sharpen.llm.training.metrics import read

    return pd.json_normalize(read(file)) if file.is_file() else pd.DataFrame()


def _flat(measures: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, measure in measures.items():
        if name.endswith("_interval"):
            stem = name.removesuffix("_interval")
            found[f"{stem}_low"], found[f"{stem}_high"] = measure or (None, None)
        elif measure is None or isinstance(measure, int | float | str):
            found[name] = measure
    return found
