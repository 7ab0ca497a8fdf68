"""Imported by the server that forks a process for every run, after the modules of the kinds of runs that it will fork.

Nothing here starts a thread. The code is hashed here, just after its import: files that change later are not what runs.
"""

from __future__ import annotations

import contextlib
import sys

from sharpen.paper_repro.grids.codeversion import ENTRY, code_version

if {"sharpen.paper_repro.work.train", "sharpen.paper_repro.work.sample"} & sys.modules.keys():
    with contextlib.suppress(ImportError):  # without the extra llm each run says what it lacks
        import torch
        import torch.utils.tensorboard
        from transformers.models.auto import modeling_auto  # noqa: F401
        from transformers.models.qwen2 import modeling_qwen2  # noqa: F401

        torch.set_num_threads(1)

for kind in ENTRY:
    if f"sharpen.paper_repro.work.{kind}" in sys.modules:
        code_version(kind)
