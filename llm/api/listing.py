"""Which models and data sets have a name."""

from __future__ import annotations

import inspect

import pandas as pd

from sharpen.objective import InputError


def list_models() -> pd.DataFrame:
    """Return the models with a name, one per row: ``location`` (hub id, folder or package), ``template``, ``data``.

    Any hub id ``org/name``, any folder with a model and any GGUF file does as well.

    Example:
        >>> [name for name in list_models().index if not name.startswith("dial")]
        ['embedded', 'smollm2', 'qwen2.5-3b', 'llama-3.2-3b', 'qwen3-4b']
    """
    from sharpen.llm.models.registry import BUILT_IN, REGISTRY, resolve

    found = [resolve(name) for name in (*BUILT_IN, *REGISTRY)]
    rows = [{"model": s.name, "location": s.location, "template": s.template, "data": s.default_data} for s in found]
    return pd.DataFrame(rows).set_index("model")


def list_data_sets() -> pd.DataFrame:
    """Return the tasks that have a name, one per row: ``location``, a hub id, ``splits``, and ``about``, one line.

    Location and splits are None for a task that is no set of the hub; :data:`sharpen.llm.TASKS` has them all. A file, a
    folder, a hub id and a list of problems do as well.

    Example:
        >>> list_data_sets().location["math500"]
        'HuggingFaceH4/MATH-500'
    """
    from sharpen.llm.tasks.registry import TASKS
    from sharpen.llm.tasks.sources import HUB

    rows = []
    for name in TASKS:
        known = HUB.get(name)
        own = (None, None) if known is None else (known.location, ", ".join(known.splits))
        rows.append(dict(zip(("data", "location", "splits", "about"), (name, *own, _about(name)), strict=True)))
    return pd.DataFrame(rows).set_index("data")


def _about(name: str) -> str:
    """Return one line on a task: its own, or the first of its docstring, or why it cannot be had."""
    from sharpen.llm.tasks.registry import TASKS

    try:
        task = TASKS.get(name)
    except InputError as error:  # of an installed package that is broken, or one that is not installed
        return f"not to be had: {error.allowed}"
    text = getattr(task, "about", None) or inspect.getdoc(task) or ""
    return str(text).strip().partition("\n")[0]
