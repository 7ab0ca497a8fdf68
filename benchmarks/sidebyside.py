"""Works timed side by side in one process, and how their cost grows.

Each work has opponents, called by the call that they make. The one that counts is the fastest of them: a benchmark
cannot flatter by its choice. Times are processor time, the least of a few rounds in which all take turns, because what
else the machine does only adds.
"""

from __future__ import annotations

import gc
import json
import math
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROUNDS = 2
LONG_ENOUGH = 0.02  # seconds of one measurement: small works are repeated until the clock resolves them
Work = Callable[[], Any]


def seconds(works: dict[str, Work], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the least processor time of each work, in turn within every round; each is run once before."""
    repeats = {}
    for name, work in works.items():
        begin = time.process_time()
        work()
        once = time.process_time() - begin
        if once < LONG_ENOUGH:  # the first call imports, compiles and fills caches
            begin = time.process_time()
            work()
            once = time.process_time() - begin
        repeats[name] = max(1, math.ceil(LONG_ENOUGH / max(once, 1e-6)))
    found = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        for name, work in works.items():
            gc.collect()
            begin = time.process_time()
            for _ in range(repeats[name]):
                work()
            found[name] = min(found[name], (time.process_time() - begin) / repeats[name])
    return found


def asked(works: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the works to measure: those whose name has the text after ``--only`` in it, or all."""
    text = arguments[arguments.index("--only") + 1] if "--only" in arguments else ""
    found = {name: work for name, work in works.items() if text in name}
    if not found:
        sys.exit(f"--only {text}: in none of {', '.join(works)}")
    return found


def renew(file: Path, works: dict[str, dict[str, Any]], **told: Any) -> None:
    """Put works that were measured alone into a file of results, each with what is told of its measurement."""
    record = json.loads(file.read_text(encoding="utf-8"))
    record["works"] |= {name: work | told for name, work in works.items()}
    file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def peak_bytes(work: Work) -> int:
    """Return the most memory that NumPy and Python held at once beyond what they held before."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = work()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    del result
    return peak


def resident_peak() -> int:
    """Return the largest resident set since it was last cleared, bytes; ru_maxrss alone begins with the parent's."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def row(
    size: int,
    ours: Work,
    opponents: dict[str, Work],
    *,
    parts: int = 1,
    memory: bool = True,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Return what one work costs at one size, and its opponents.

    Args:
        size: What the cost is fitted against.
        ours: The work.
        opponents: The same result by other means, by the call that each makes.
        parts: Points that one call computes; times are of one.
        memory: Whether to measure the peak, which is of what goes through NumPy.
        rounds: In which all take turns.
    """
    found = seconds({"ours": ours, **opponents}, rounds)
    named = {name: found[name] / parts for name in opponents}
    own = found["ours"] / parts
    known: dict[str, Any] = {"size": size, "seconds": own, "opponents": named}
    if named:
        fastest = min(named, key=named.__getitem__)
        known |= {"opponent": fastest, "ratio": own / named[fastest]}
    if memory:
        known["peak_bytes"] = peak_bytes(ours)
    return known


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of log cost on log size by least squares: cost grows as size to this power."""
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    middle = sum(x) / len(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)


def grown(unit: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows of one work at several sizes with the exponents of its time and memory.

    The exponents are fitted to the last three sizes, where what every call costs whatever its size has ended.
    """
    last = rows[-3:]
    sizes = [each["size"] for each in last]
    known = {"unit": unit, "rows": rows, "time_exponent": exponent(sizes, [each["seconds"] for each in last])}
    if "peak_bytes" in rows[0]:
        known["memory_exponent"] = exponent(sizes, [each["peak_bytes"] for each in last])
    return known


def told(what: str, found: dict[str, Any]) -> None:
    """Print one work's rows."""
    print(f"{what}: time grows as size to the power {found['time_exponent']:.2f}")
    for each in found["rows"]:
        against = f"  x{each['ratio']:7.3f} of {each['opponent']}" if "ratio" in each else ""
        print(f"  {each['size']:>9,} {found['unit']:14} {1e3 * each['seconds']:10.4g} ms{against}", flush=True)
