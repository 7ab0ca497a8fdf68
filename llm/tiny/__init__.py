"""The embedded model: a small decoder on arithmetic, with several ways to answer.

``corpus`` generates problems and answers, ``tokenizer`` builds the tokenizer, ``pretrain`` makes the artefact.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

__all__ = ["artifact_path"]


def artifact_path() -> Path:
    """Return the folder of the embedded model, which ``from_pretrained`` and vLLM load."""
    with as_file(files("sharpen.llm.tiny") / "artifact") as folder:
        return Path(folder)
