"""Coverage of the study's intervals, at its own sizes: `python benchmarks/paper_statistics.py [--times 2000]`.

Writes ``benchmarks/results/paper_statistics.json``: for designs with few and many seeds, seeds that hardly differ and
seeds that dominate, and arms with and without an effect, how often the nominal 95 % interval of a mean and of a
difference of two arms holds the truth. docs/paper.md quotes it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from sharpen.paper_repro.analysis.simulated import Design, coverage, registered
from sharpen.paper_repro.grids.grid import load_grid

RESULT = Path(__file__).parent / "results" / "paper_statistics.json"
DESIGNS = {
    "the study": Design(),
    "five seeds": Design(seeds=5),
    "three seeds": Design(seeds=3, samples=16),
    "seeds hardly differ": Design(seed_sd=0.002, pair_sd=0.05),
    "seeds dominate": Design(seed_sd=0.1),
}
SHIFTS = {"no effect": 0.0, "small gain": 0.3, "large gain": 2.0, "near zero": -3.0}


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--rules", action="store_true", help="Print the block `simulated` of a study's rules instead.")
    parser.add_argument("--scale", default="dial", help="Whose rules: dial or delta.")
    arguments = parser.parse_args()
    times = arguments.times
    if arguments.rules:
        rules = load_grid(None, arguments.scale).rules
        assert rules is not None
        print(json.dumps(registered(rules, times)))
        return
    rows = [
        {"design": name, **asdict(design), "arm": arm, "times": times}
        | {key: round(float(value), 4) for key, value in coverage(design, times, 16, shift).items()}
        for name, design in DESIGNS.items()
        for arm, shift in SHIFTS.items()
    ]
    RESULT.write_text(json.dumps({"nominal": 0.95, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['design']:20} {row['arm']:11} {row['mean']:.3f} {row['difference']:.3f} {row['outside']:.3f}")


if __name__ == "__main__":
    main()
