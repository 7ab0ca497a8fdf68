"""Change the mathematics of a copy in one place at a time, and see whether the tests notice.

The lists are ``changes/*.toml`` beside this file: the text ``old``, which occurs once in ``file`` and becomes ``new``,
and ``tests``, of which one has to fail then. Nothing in the checkout is changed but ``docs/mutants.md``, the report,
and the results in ``build/mutants.jsonl``. A run that was stopped goes on where it was: a result counts as long as the
mutant, the files of its tests and its module are what they were.

    python tests/mutation/run_mutants.py [--list] [--only WORD] [--fresh]
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHANGES = HERE / "changes"
RESULTS = ROOT / "build" / "mutants.jsonl"
REPORT = ROOT / "docs" / "mutants.md"
SECONDS = 120  # of one run; the slowest takes about ten
NOT_COPIED = (".venv", ".git", ".gpu", ".whl", "runs", "build", "dist", "__pycache__", "*.egg-info", ".hypothesis")
LIBRARIES = (  # imported once for all runs
    *("numpy", "scipy.integrate", "scipy.optimize", "scipy.sparse.linalg", "scipy.special", "scipy.stats", "sympy"),
    *("mpmath", "networkx", "pydantic", "yaml", "typer", "rich.console", "hypothesis.strategies", "psutil"),
    *("jax.numpy", "torch"),
)
VERDICTS = {0: "survived", 1: "killed"}  # pytest's exit status; any other one is no verdict on the mutant


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        name: What is wrong then, in a few words.
        file: Which file, from the root of the checkout.
        old: The text to replace, which occurs once in it.
        new: What comes there.
        tests: pytest's names of the tests that should fail, from the folder ``tests``.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        """The name that the file is imported by."""
        return "sharpen." + self.file.removesuffix(".py").replace("/", ".")

    def applied(self, root: Path) -> str:
        """Return the changed text of the file.

        Raises:
            ValueError: the old text does not occur exactly once.
        """
        text = (root / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {text.count(self.old)} times in {self.file}: {self.old!r}")
        return text.replace(self.old, self.new)

    def key(self, root: Path) -> str:
        """Return a digest of the mutant, its file and the files of its tests."""
        files = [self.file, *sorted({f"tests/{test.partition('::')[0]}" for test in self.tests})]
        parts = [self.old, self.new, *self.tests, *((root / file).read_text(encoding="utf-8") for file in files)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Verdict:
    """What a run of tests came to: ``killed``, ``survived``, ``timeout`` or ``broken``, and the first that failed."""

    status: str
    by: str


def read_mutants(folder: Path = CHANGES) -> list[Mutant]:
    """Return the mutants of all lists."""
    texts = [file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.toml"))]
    rows = [row for text in texts for row in tomllib.loads(text)["mutant"]]
    return [Mutant(row["name"], row["file"], row["old"], row["new"], tuple(row["tests"])) for row in rows]


@contextmanager
def copied_tree(root: Path = ROOT) -> Iterator[Path]:
    """Make a copy of the checkout in a temporary folder, which is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
        yield copy


class Worker:
    """Runs tests of a copy of the checkout on that copy, as it is at that moment; see ``mutation_worker.py``.

    Args:
        copy: The copy's folder.
        libraries: What is imported once.
    """

    def __init__(self, copy: Path, libraries: Iterable[str] = LIBRARIES) -> None:
        self.copy = copy
        # `.pyright/sharpen` is the checkout as the package `sharpen`. Without caches of bytecode: two changes of one
        # size within a second would be one to Python.
        surroundings = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(copy / ".pyright"), str(HERE)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "OMP_NUM_THREADS": "1",
            "MUTATED_ROOT": str(copy),
        }
        command = [sys.executable, str(HERE / "mutation_worker.py"), *libraries]
        self._process = subprocess.Popen(
            command, cwd=copy, env=surroundings, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Worker:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process and the tests that it runs."""
        self._process.terminate()
        self._process.communicate()

    def run(self, tests: Iterable[str], modules: Iterable[str], seconds: float = SECONDS) -> Verdict:
        """Run tests of the copy.

        Args:
            tests: Their names, from the folder ``tests``.
            modules: Which modules have to come from the copy.
            seconds: After which a run counts as a timeout.
        """
        options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "pytest_timeout", "-p", "mutation_guard"]
        request = {
            "arguments": [*options, *(f"tests/{test}" for test in tests)],
            "environment": {"MUTATED": " ".join(modules)},
            "seconds": seconds,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        if answer["status"] is None:
            return Verdict("timeout", f"no end after {seconds:g} s")
        failed = re.search(r"^FAILED (?:tests/)?(.+?)(?: - .*)?$", answer["said"], re.MULTILINE)
        status = VERDICTS.get(answer["status"], "broken")
        if status == "broken" or (status == "killed") != (failed is not None):
            return Verdict("broken", " ".join(answer["said"].split())[-300:])
        return Verdict(status, failed[1] if failed else "")


def try_mutant(worker: Worker, mutant: Mutant) -> Verdict:
    """Change the copy, run the mutant's tests, and change it back."""
    file = worker.copy / mutant.file
    before = file.read_text(encoding="utf-8")
    file.write_text(mutant.applied(worker.copy), encoding="utf-8")
    try:
        return worker.run(mutant.tests, [mutant.module])
    finally:
        file.write_text(before, encoding="utf-8")


def known(file: Path) -> dict[str, Verdict]:
    """Return the results of earlier runs by the mutants' keys; the last line may be half written."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row["key"]] = Verdict(row["status"], row["by"])
    return found


def write_report(mutants: list[Mutant], found: list[Verdict], file: Path = REPORT) -> None:
    """Write the table of all mutants."""
    left = [(mutant, verdict) for mutant, verdict in zip(mutants, found, strict=True) if verdict.status != "killed"]
    lines = [
        "# Mutants: is the mathematics tested?",
        "",
        f"`make mutants` changes a copy of the checkout in {len(mutants)} places, one at a time, and runs the tests",
        "that should notice (`tests/mutation/changes/` says which). A change that no test notices survives: then a",
        "test is missing. This page is written by that command.",
        "",
        f"Killed: {len(mutants) - len(left)} of {len(mutants)}. Survivors: "
        + (", ".join(f"{mutant.name} ({verdict.status})" for mutant, verdict in left) or "none")
        + ".",
        "",
        "| mutant | file | change | killed by |",
        "| --- | --- | --- | --- |",
    ]
    for mutant, verdict in zip(mutants, found, strict=True):
        change = f"{_code(mutant.old)} → {_code(mutant.new)}"
        by = _code(verdict.by) if verdict.status == "killed" else f"**{verdict.status}**"
        lines.append(f"| {mutant.name} | {mutant.file} | {change} | {by} |")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _code(text: str) -> str:
    shown = html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;")
    return f"<code>{shown}</code>" if shown else "(nothing)"


def chosen(mutants: list[Mutant], words: list[str]) -> list[Mutant]:
    """Return the mutants whose name or file has one of the words in it; all for none."""
    return [each for each in mutants if not words or any(word in f"{each.name} {each.file}" for word in words)]


def main() -> int:
    """Run what is asked; the exit status is 1 unless every mutant is killed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # after the copy and its process are gone
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the mutants and end")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="those with WORD in name or file")
    parser.add_argument("--fresh", action="store_true", help="forget the results of earlier runs")
    given = parser.parse_args()
    everything = read_mutants()
    mutants = chosen(everything, given.only)
    if given.list:
        print(*(f"{mutant.file:<34} {mutant.name}" for mutant in mutants), sep="\n")
        return 0
    if not mutants:
        parser.error(f"--only: no mutant has {' or '.join(given.only)} in its name or file")
    if given.fresh:
        RESULTS.unlink(missing_ok=True)
    RESULTS.parent.mkdir(exist_ok=True)
    earlier, keys = known(RESULTS), {mutant.name: mutant.key(ROOT) for mutant in mutants}
    results = {name: earlier[key] for name, key in keys.items() if key in earlier}
    waiting = [mutant for mutant in mutants if mutant.name not in results]
    if waiting and not _try_all(waiting, results):
        return 1
    found = [results[mutant.name] for mutant in mutants]
    if len(mutants) == len(everything):
        write_report(mutants, found)
    left = [mutant.name for mutant in mutants if results[mutant.name].status != "killed"]
    print(f"{len(mutants) - len(left)} of {len(mutants)} killed", *(f"not killed: {name}" for name in left), sep="\n")
    return 1 if left else 0


def _try_all(waiting: list[Mutant], results: dict[str, Verdict]) -> bool:
    """Add the results of the waiting mutants by their names; return whether the tests pass on the unchanged copy."""
    with copied_tree() as copy, Worker(copy) as worker:
        tests = list(dict.fromkeys(test for mutant in waiting for test in mutant.tests))
        print(f"{len(tests)} tests without a change ...", flush=True)
        plain = worker.run(tests, sorted({mutant.module for mutant in waiting}), 15 * 60)
        if plain.status != "survived":
            print(f"they have to pass first: {plain.status} {plain.by}")
            return False
        for count, mutant in enumerate(waiting, 1):
            verdict = results[mutant.name] = try_mutant(worker, mutant)
            with RESULTS.open("a", encoding="utf-8") as file:
                row = {"key": mutant.key(copy), "name": mutant.name, "status": verdict.status, "by": verdict.by}
                print(json.dumps(row), file=file)
            print(f"{count}/{len(waiting)} {verdict.status}: {mutant.name} {verdict.by}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
