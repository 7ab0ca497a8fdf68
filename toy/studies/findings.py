"""What the toy shows, each statement with the sweeps that test it and the rule that decides it.

A rule reads the runs' ends and answers from intervals over seeds: it can say no.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sharpen.objective import InputError
from sharpen.toy.studies import findings_null, findings_rates, findings_support
from sharpen.toy.studies.findings_core import Verdict
from sharpen.toy.sweeps.summary import read
from sharpen.toy.sweeps.sweep import sweep

ORDER = ("mode", "support", "self-sharpening", "length", "face", "rank", "placements", "null")
_ALL = {
    finding.name: finding for finding in (*findings_support.FINDINGS, *findings_rates.FINDINGS, *findings_null.FINDINGS)
}
FINDINGS = {name: _ALL[name] for name in ORDER}


def find(
    name: str, out: Path, *, seeds: int = 64, progress: Callable[[int, int], None] = lambda done, total: None
) -> Verdict:
    """Run, or continue, a finding's sweeps under ``out/name`` and return its verdict.

    Args:
        name: One of ``FINDINGS``.
        out: Folder of the sweeps.
        seeds: Runs of each sampled setting.
        progress: Called with the work of the present sweep done and in all.

    Raises:
        InputError: no finding has that name, fewer than two seeds, or a folder cannot be used.
    """
    if name not in FINDINGS:
        raise InputError("finding", name, ", ".join(FINDINGS))
    if seeds < 2:
        raise InputError("seeds", seeds, "at least 2, for an interval")
    finding = FINDINGS[name]
    tables = {
        title: read(sweep(config, out / name / title.replace(" ", "-"), progress=progress))
        for title, config in finding.sweeps(seeds).items()
    }
    return finding.decide(tables)
