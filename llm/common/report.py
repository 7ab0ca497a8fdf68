"""Where a training run tells what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Report:
    """Where a run reports its progress; the default reports nowhere.

    Args:
        note: Called with one line of text.
        step: Called with the metrics of each step.
        evaluation: Called with a checkpoint's name and its measures.
    """

    note: Callable[[str], None] = lambda text: None
    step: Callable[[dict[str, Any]], None] = lambda record: None
    evaluation: Callable[[str, dict[str, Any]], None] = lambda name, measures: None
