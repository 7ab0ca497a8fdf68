"""NaN and infinity: said as such, where they arise, before they spread into samples, weights or a checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sharpen.objective import InputError

if TYPE_CHECKING:
    import torch

    from sharpen.llm.configs.optimizer import OptimizerSettings

ADVICE = "lower the learning rate if the model was trained, or compute in float32 (--dtype float32)"
NAMED = 3  # tensors that a message names
CHUNK = 2**24  # numbers looked at together


class NonFiniteError(InputError):
    """A number that sampling or training needs is NaN or infinite.

    Args:
        field: What is not finite: ``logits``, ``log-probabilities``, ``gradient``, ``weights``.
        where: Where it was seen.
        advice: What to lower.
    """

    def __init__(self, field: str, where: str, advice: str = ADVICE) -> None:
        self.where = where
        super().__init__(field, f"NaN or infinity {where}", f"finite numbers; {advice}")


@contextmanager
def in_step(step: int, optimizer: OptimizerSettings, compute: torch.dtype) -> Iterator[None]:
    """Add to a :class:`NonFiniteError` the training step (from 1) that it was seen in, and what to lower in the run."""
    try:
        yield
    except NonFiniteError as error:
        precision = "" if str(compute) == "torch.float32" else ", or compute in float32 (--dtype float32)"
        advice = (
            f"lower optimizer.learning_rate ({optimizer.learning_rate:g}) or optimizer.gradient_clip "
            f"({optimizer.gradient_clip:g}){precision}; earlier checkpoints are as they were"
        )
        raise NonFiniteError(error.field, f"{error.where}, step {step}", advice) from error


def require_finite(field: str, rows: torch.Tensor, where: str) -> None:
    """Refuse a tensor, along whose first axis are rows, with a number in it that is NaN or infinite.

    Raises:
        NonFiniteError: with the number of such rows.
    """
    good_R = rows.isfinite()
    good_R = good_R.flatten(1).all(dim=1) if good_R.dim() > 1 else good_R
    bad = int((~good_R).sum())
    if bad:
        raise NonFiniteError(field, f"in {bad} of {len(good_R)} {where}")


def non_finite(tensors: Iterable[tuple[str, Any]]) -> list[str]:
    """Return the names of the tensors that hold a NaN or an infinity; of divided ones, in this process's part."""
    from sharpen.llm.models.weights import own_part

    return [name for name, tensor in tensors if not _is_finite(own_part(tensor))]


def listed(names: Collection[str]) -> str:
    """Return the number of names and the first few of them.

    Example:
        >>> listed(["c", "a", "d", "b"])
        '4 tensors (a, b, c, …)'
    """
    first = ", ".join(sorted(names)[:NAMED])
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({first}{', …' * (len(names) > NAMED)})"


def _is_finite(tensor: torch.Tensor) -> bool:
    """Return whether all numbers are, by their sum: a finite one has finite terms alone, whose sum may overflow."""
    if not tensor.is_floating_point() or bool(tensor.detach().sum().isfinite()):
        return True
    return all(bool(part.isfinite().all()) for part in tensor.reshape(-1).split(CHUNK))
