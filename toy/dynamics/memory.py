"""What a run of a sweep takes in memory, from its shapes, so that a batch's width is known before anything is computed.

Axis letters: P prompts, n outcomes of a prompt, d parameters, G samples of a prompt, K records.
"""

from __future__ import annotations

from collections.abc import Iterable

from sharpen.toy.dynamics.engine import BLOCK_NUMBERS, Machine, log_policy_only, numbers
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.prompts import Task

NUMBER = 8  # bytes
SETTINGS = 3  # copies of a run's setting: NumPy's, the device's, and one on its way
STATES = 4  # of its state: before and after an update, here and on the device
RECORDS = 6  # of its records: two while new ones are joined, one from the device, and the table's columns
LABELS = 40  # numbers' worth of a row's settings in the table, texts and pointers included
WORKING = 16  # arrays of the largest size that live at once in an update


def run_bytes(task: Task, records: int, measures: int) -> int:
    """Return the bytes that each run of a batch takes: its setting, its state and its records.

    Args:
        task: P prompts of n outcomes, policies with d parameters.
        records: K.
        measures: Numbers in a record.
    """
    P, logits = len(task.prompts), len(task.prompts) * task.prompts[0].n
    state = (
        3 * (max(task.family.parameters, logits) + P) + 3 * logits
    )  # theta, two moments; reference, error, behaviour
    return NUMBER * (SETTINGS * (6 * logits + P) + STATES * state + records * (RECORDS * measures + LABELS))


def fixed_bytes(task: Task, learners: Iterable[tuple[str, Options]]) -> int:
    """Return the bytes that a batch takes whatever its width: an update of one block of runs, and what runs share."""
    P, n = len(task.prompts), task.prompts[0].n
    machines = [Machine(kind, task.family, options, log_policy_only) for kind, options in learners]
    largest = max(BLOCK_NUMBERS, *(numbers(machine, P, n) for machine in machines))
    return NUMBER * (WORKING * largest + 2 * P * n * task.family.parameters)
