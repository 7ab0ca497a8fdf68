"""Agreement and throughput of the verifier on real gold answers: each gold answer against itself must score 1.

    SHARPEN_DATA_DIR=data python benchmarks/llm/verifier.py

The folder holds aime24/, gsm8k/, math/, math500/ and minerva_math/ with data files; missing ones are left out. Of each:

- ``agreement``: gold answers that score 1 against themselves, boxed; an empty gold answer scores 0 by definition.
- ``math_verify_agreement``: of the different answers, those that math-verify takes for themselves (the verifier takes
  equal strings for equal without asking it).
- ``sentence_agreement``: the same for ``The final answer is $...$.``, without a box.
- ``neighbour_right``: boxed answers to the next problem that score 1 although written otherwise: equal values in
  another notation, or mistakes, with examples.
- ``answers_per_second``: answers through math-verify that no cache has seen, with one process and with one a core, and
  of a whole call of the verifier in which every string is equal to its gold answer.

Without any folder: false positives and false negatives on tests/llm/verification/verifier_pairs.jsonl, of the verifier
and of math-verify alone, which reads the whole response (``pairs``, by kind). MATH_VERIFY_TESTS may name the tests/
folder of math-verify's source distribution (``pip download --no-deps --no-binary :all: math-verify``): then also on the
pairs of gold answer, response and verdict in its tests (``math_verify_tests``). Those tests hold settings that the
verifier does not have (variables that do not matter, precisions), and take any last number for an answer.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.objective.storage import files, runfolder

RESULTS = Path(__file__).parents[1] / "results" / "verifier.json"
SETS = {
    "math500": ("math500", "test"),
    "minerva": ("minerva_math", "test"),
    "aime24": ("aime24", "test"),
    "gsm8k-test": ("gsm8k", "test"),
    "math-train": ("math", "train"),
    "math-validation": ("math", "validation"),
}
PAIRS = Path(__file__).parents[2] / "tests" / "llm" / "verification" / "verifier_pairs.jsonl"
SHOWN = 20  # failures listed a set


def main() -> None:
    """Measure every set and write the results."""
    folder = Path(os.environ.get("SHARPEN_DATA_DIR", "data"))
    found = {name: (folder / place, split) for name, (place, split) in SETS.items() if (folder / place).is_dir()}
    if not found:
        print(f"no data in {folder}: set SHARPEN_DATA_DIR to a folder with {', '.join(p for p, _ in SETS.values())}")
    listed = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    rates = {"pairs": {kind: false_rates(rows) for kind, rows in by_kind(listed).items()}}
    if tests := os.environ.get("MATH_VERIFY_TESTS"):
        rates["math_verify_tests"] = {"all": false_rates(list(math_verify_pairs(Path(tests))))}
    for name, kinds in rates.items():
        for kind, rate in kinds.items():
            print(f"{name}, {kind}: {rate}", flush=True)
    sets = {name: measure(str(place), split) for name, (place, split) in found.items()}
    cores = os.cpu_count() or 1
    RESULTS.parent.mkdir(exist_ok=True)
    files.write(
        RESULTS,
        json.dumps({"provenance": runfolder.provenance(), "cores": cores, **rates, "sets": sets}, indent=2) + "\n",
    )


def by_kind(pairs: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the pairs of each kind, and all of them."""
    kinds: dict[str, list[dict[str, Any]]] = {"all": list(pairs)}
    for pair in pairs:
        kinds.setdefault(pair["kind"], []).append(pair)
    return kinds


def false_rates(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how many wrong answers pass and right ones do not, for the verifier and for math-verify alone."""
    responses, golds = [pair["response"] for pair in pairs], [pair["gold"] for pair in pairs]
    with Verifier() as verifier:
        ours = [bool(mark) for mark in verifier(responses, golds, [pair.get("finished", True) for pair in pairs])]
    theirs = [plain(response, gold) for response, gold in zip(responses, golds, strict=True)]
    rates: dict[str, Any] = {"right": sum(pair["right"] for pair in pairs), "pairs": len(pairs)}
    for name, marks in (("verifier", ours), ("math_verify", theirs)):
        passed = sum(mark and not pair["right"] for mark, pair in zip(marks, pairs, strict=True))
        refused = sum(pair["right"] and not mark for mark, pair in zip(marks, pairs, strict=True))
        rates[name] = {"false_positives": passed, "false_negatives": refused}
    return rates


def plain(response: str, gold: str) -> bool:
    """Return what math-verify alone says, with its defaults; the gold answer is boxed, as its readme has it."""
    from math_verify import parse
    from math_verify import verify as equal

    logging.disable(logging.CRITICAL)
    boxed = gold if "$" in gold or "\\boxed" in gold else f"\\boxed{{{gold}}}"
    return bool(equal(parse(boxed), parse(response)))


def math_verify_pairs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the pairs in the parametrized tests of math-verify."""
    sys.path.insert(0, str(folder.parent))
    for file in sorted(folder.glob("test_*.py")):
        spec = importlib.util.spec_from_file_location(f"tests.{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for function in vars(module).values():
            for mark in getattr(function, "pytestmark", ()):
                names = mark.args[0] if mark.name == "parametrize" else ""
                names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
                if names[:3] in (["gold", "pred", "expected"], ["gold", "pred", "result"]):
                    for gold, response, right, *_ in mark.args[1]:
                        yield {"gold": gold, "response": response, "right": bool(right)}


def measure(place: str, split: str) -> dict[str, Any]:
    """Return the measures of one set."""
    key = load_source(place, split).answers()
    golds = [gold for name in key for gold in key.every(name)]
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
