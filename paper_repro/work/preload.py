"""Imported once by the server that forks a process for every run; nothing here starts a thread."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # theory and toy run without the extra llm
    import torch
    import torch.utils.tensorboard
    from transformers.models.auto import modeling_auto  # noqa: F401
    from transformers.models.qwen2 import modeling_qwen2  # noqa: F401

    torch.set_num_threads(1)
