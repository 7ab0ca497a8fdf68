"""Agreement and throughput of the verifier on real gold answers: each gold answer against itself must score 1.

    SHARPEN_DATA_DIR=data python benchmarks/verifier.py

The folder holds aime24/, gsm8k/, math/, math500/ and minerva_math/ with data files; missing ones are left out. Of each:

- ``agreement``: gold answers that score 1 against themselves, boxed; an empty gold answer scores 0 by definition.
- ``math_verify_agreement``: of the different answers, those that math-verify takes for themselves (the verifier takes
  equal strings for equal without asking it).
- ``sentence_agreement``: the same for ``The final answer is $...$.``, without a box.
- ``neighbour_right``: boxed answers to the next problem that score 1 although written otherwise: equal values in
  another notation, or mistakes, with examples.
- ``answers_per_second``: answers through math-verify that no cache has seen, with one process and with one a core, and
  of a whole call of the verifier in which every string is equal to its gold answer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from sharpen.llm.data import load_source
from sharpen.llm.verify import Verifier
from sharpen.objective import files, runfolder

RESULTS = Path(__file__).parent / "results" / "verifier.json"
SETS = {
    "math500": ("math500", "test"),
    "minerva": ("minerva_math", "test"),
    "aime24": ("aime24", "test"),
    "gsm8k-test": ("gsm8k", "test"),
    "math-train": ("math", "train"),
    "math-validation": ("math", "validation"),
}
SHOWN = 20  # failures listed a set


def main() -> None:
    """Measure every set and write the results."""
    folder = Path(os.environ.get("SHARPEN_DATA_DIR", "data"))
    found = {name: (folder / place, split) for name, (place, split) in SETS.items() if (folder / place).is_dir()}
    if not found:
        sys.exit(f"no data in {folder}: set SHARPEN_DATA_DIR to a folder with {', '.join(p for p, _ in SETS.values())}")
    sets = {name: measure(str(place), split) for name, (place, split) in found.items()}
    cores = os.cpu_count() or 1
    RESULTS.parent.mkdir(exist_ok=True)
    files.write(
        RESULTS, json.dumps({"provenance": runfolder.provenance(), "cores": cores, "sets": sets}, indent=2) + "\n"
    )


def measure(place: str, split: str) -> dict[str, Any]:
    """Return the measures of one set."""
    golds = list(load_source(place, split).answers().values())
    distinct = [gold for gold in dict.fromkeys(golds) if gold.strip()]
    boxed = [f"\\boxed{{{gold}}}" for gold in golds]
    neighbours = [(a, b) for a, b in pairwise(golds) if a.split() != b.split()]
    with Verifier() as verifier, Verifier(workers=1) as single:
        itself, direct_rate = timed(verifier, boxed, golds)
        others = verifier([f"\\boxed{{{a}}}" for a, _ in neighbours], [b for _, b in neighbours])
        sentences = verifier([f"The final answer is ${gold}$." for gold in distinct], distinct)
        counts = dict(verifier.counts)
        tasks = [(gold, gold) for gold in distinct]
        alone, pool_rate = timed(verifier._pool.run, tasks)
        single._pool.run(tasks[:1])  # starts its process
        _, single_rate = timed(single._pool.run, tasks)
    refused = [gold for gold, verdict in zip(distinct, alone, strict=True) if verdict != "right"]
    lost = [gold for gold, reward in zip(distinct, sentences, strict=True) if not reward]
    equal = [pair for pair, reward in zip(neighbours, others, strict=True) if reward]
    measures = {
        "golds": len(golds),
        "distinct": len(distinct),
        "agreement": sum(itself) / len(golds),
        "failures": [gold for gold, reward in zip(golds, itself, strict=True) if not reward][:SHOWN],
        "math_verify_agreement": 1 - len(refused) / len(distinct),
        "math_verify_failures": [
            [gold, verdict] for gold, verdict in zip(distinct, alone, strict=True) if gold in refused
        ][:SHOWN],
        "sentence_agreement": 1 - len(lost) / len(distinct),
        "sentence_failures": lost[:SHOWN],
        "neighbour_right": len(equal),
        "neighbours": len(neighbours),
        "neighbour_examples": equal[:SHOWN],
        "counts": counts,
        "answers_per_second": {
            "one_process": round(single_rate, 1),
            "a_process_a_core": round(pool_rate, 1),
            "equal_strings": round(direct_rate, 1),
        },
    }
    print(
        f"{place} {split}: {len(golds)} golds, agreement {measures['agreement']:.4f}, math-verify alone "
        f"{measures['math_verify_agreement']:.4f}, in a sentence {measures['sentence_agreement']:.4f}, "
        f"{single_rate:.0f} answers/s with one process, {pool_rate:.0f} with one a core",
        flush=True,
    )
    return measures


def timed(judge: Any, *arguments: Any) -> tuple[list[Any], float]:
    """Return what ``judge`` says about the answers, and how many a second."""
    start = time.perf_counter()
    verdicts = judge(*arguments)
    return verdicts, len(verdicts) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
