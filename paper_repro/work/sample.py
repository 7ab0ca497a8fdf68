"""Sampling from the base model, by itself and sharpened without training, on the problems of the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharpen.paper_repro.work.measures import asked, by_problem, folder_of, greedy

POLICY = (
    *("model", "base", "template", "chat_options", "long_prompts", "max_length", "engine", "engine_memory"),
    *("device", "dtype", "seed"),
)


def sample(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Draw responses with one method, or go on drawing, mark them, and return what the report needs.

    Args:
        settings: ``config``, a resolved SampleConfig; ``evaluate``, what is asked.
        folder: For one run folder of ``sharpen llm sample`` a data set.

    Returns:
        ``checkpoints``: ``base``, with ``step`` 0 and the tables of
        :func:`sharpen.paper_repro.work.measures.by_problem` by data set; ``cost``: by data set, see
        :func:`sharpen.llm.sampling.store.cost`; ``tokens``: generated.
    """
    from sharpen.llm.configs.sampling import SampleConfig
    from sharpen.llm.evaluation import records as store
    from sharpen.llm.models.registry import resolve
    from sharpen.llm.sampling.sampling_run import RECORDS, run_sampling

    tables, costs = {}, {}
    for one in settings["evaluate"]:
        location = resolve(settings["config"]["model"]).location
        config = SampleConfig.as_written({**settings["config"], **asked(one), "model": location})
        out = folder / folder_of(one)
        costs[one["data"]] = run_sampling(config, out)["cost"]
        tables[one["data"]] = by_problem(
            store.read(out / RECORDS), one["samples"], calibrate="calibrate" in one, keep=one.get("keep", 0)
        )
        if "greedy" in one:
            policy = {name: getattr(config, name) for name in POLICY}
            tables[one["data"]]["greedy"] = greedy(policy, one, folder / f"{folder_of(one)}-greedy")
    return {
        "checkpoints": {"base": {"step": 0, "problems": tables}},
        "cost": costs,
        "tokens": {"trained": 0, "evaluated": sum(cost["generated_tokens"] for cost in costs.values())},
    }
