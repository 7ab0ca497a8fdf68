"""Imported once by the server that forks a process for every run; nothing here starts a thread."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # theory and toy run without the extra llm
    import torch
    import torch.utils.tensorboard
    import transformers.models.auto.modeling_auto
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401

    torch.set_num_threads(1)
