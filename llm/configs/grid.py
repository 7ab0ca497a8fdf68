"""What ``grid.yaml`` beside this file says: the settings of each of the paper's models, and its grid of objectives."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any


@lru_cache(maxsize=1)
def grid() -> dict[str, Any]:
    """Return the content of ``grid.yaml``."""
    import yaml

    return yaml.safe_load((resources("sharpen.llm.configs") / "grid.yaml").read_text(encoding="utf-8"))


def model_settings(model: str) -> dict[str, Any]:
    """Return the settings in which runs of ``model`` depart from ``TrainConfig``'s defaults; any other model: none.

    A folder that is called as a registered model's repository is, where ``hf download`` puts it, is that model.
    """
    from sharpen.llm.models.registry import REGISTRY

    folders = {source.location.rpartition("/")[2]: name for name, source in REGISTRY.items()}
    return dict(grid()["models"].get(folders.get(Path(model).name, model), {}))
