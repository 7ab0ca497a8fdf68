"""Trackers: where a run's metrics go beside ``metrics.jsonl``, and the door that finds them."""

from sharpen.llm.trackers.registry import TRACKERS, Tracker, chosen, missing_packages
from sharpen.llm.trackers.tracking import Tracking, numbers_of

__all__ = ["TRACKERS", "Tracker", "Tracking", "chosen", "missing_packages", "numbers_of"]
