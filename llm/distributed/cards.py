"""Data sheets of GPUs: the one place of constants for plans of memory and of time.

Rates are the makers' for the densest form that training uses: bfloat16 products with float32 sums and without sparsity.
What a card reaches is less; docs/scale.md has what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from sharpen.objective import InputError

GIB = 2**30


@dataclass(frozen=True)
class Card:
    """One GPU.

    Args:
        name: As in ``--gpu``.
        memory: Bytes that a program finds (CUDA's total), a little less than the data sheet's.
        bandwidth: Of its memory, bytes per second.
        flops: Dense bfloat16 floating-point operations a second.
        link: To another card of the same machine, bytes per second in one direction.
        host: To the machine's memory, bytes per second in one direction.
    """

    name: str
    memory: int
    bandwidth: float
    flops: float
    link: float
    host: float


def _card(name: str, gib: float, bandwidth: float, tflops: float, link: float, host: float) -> Card:
    return Card(name, int(gib * GIB), bandwidth * 1e9, tflops * 1e12, link * 1e9, host * 1e9)


# GiB that CUDA reports, GB/s of memory, TFLOP/s, GB/s to a neighbour, GB/s to the machine (PCIe: 32 in version 4, 64
# in version 5, 16 lanes).
CARDS = {
    card.name: card
    for card in (
        _card("b200", 178.0, 8000, 2250, 900, 64),  # NVIDIA HGX B200 data sheet; NVLink 5: 1.8 TB/s both ways
        _card("h200", 139.8, 4800, 989.4, 450, 64),  # NVIDIA H200 data sheet, SXM; NVLink 4: 900 GB/s both ways
        _card("h100", 79.1, 3350, 989.4, 450, 64),  # NVIDIA H100 data sheet, SXM
        _card("a100", 79.1, 2039, 312, 300, 32),  # NVIDIA A100 data sheet, SXM 80 GB; NVLink 3: 600 GB/s both ways
        _card("a100-40", 39.4, 1555, 312, 300, 32),  # the same, SXM 40 GB
        _card("l40s", 44.4, 864, 362, 32, 32),  # NVIDIA L40S data sheet; no NVLink
        _card("4090", 23.6, 1008, 165.2, 32, 32),  # NVIDIA Ada whitepaper, table 2: float32 sums; no NVLink
        _card("3090", 23.6, 936, 71, 32, 32),  # NVIDIA GA102 whitepaper, table 9: float32 sums; the bridge not counted
    )
}
DEFAULT = "h100"  # assumed where a plan is made without a GPU and none is named


def card(name: str) -> Card:
    """Return a GPU by name; case does not matter.

    Raises:
        InputError: it is none of :data:`CARDS`.

    Example:
        >>> round(card("H100").memory / 2**30, 1)
        79.1
    """
    found = CARDS.get(name.strip().lower())
    if found is None:
        raise InputError("gpu", name, ", ".join(CARDS))
    return found


def card_like(described: str) -> Card | None:
    """Return the card that a driver's name means, or None.

    Example:
        >>> card_like("NVIDIA A100-SXM4-40GB").name, card_like("NVIDIA H100 80GB HBM3").name
        ('a100-40', 'h100')
    """
    text = described.lower().partition(" (")[0]
    if text in CARDS:
        return CARDS[text]
    if "a100" in text and "40gb" in text:
        return CARDS["a100-40"]
    return next((found for name, found in CARDS.items() if name in text), None)


def there(name: str | None = None) -> tuple[str, int]:
    """Return name and bytes of the GPU that a plan is for: the one named, else this machine's, else :data:`DEFAULT`.

    Raises:
        InputError: there is no card of this name.
    """
    import torch

    if name is None and torch.cuda.is_available():
        found = torch.cuda.get_device_properties(torch.cuda.current_device())
        return found.name, found.total_memory
    chosen = card(name or DEFAULT)
    return chosen.name if name else f"{chosen.name} (assumed; --gpu names another)", chosen.memory
