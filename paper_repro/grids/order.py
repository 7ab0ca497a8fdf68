"""Whether a study's rules are older than its runs, from the history of the repository.

A study with rules keeps them in its grid file. Their hash is of the file without the settings line of the anchor
``study``, which a search fills in, and without comments. Every result carries the hash. The rules are older than a
result if the file has had the present hash since a commit that the result's commit descends from (or is). A result
whose commit this repository does not have, since another checkout computed it, has only its clock to show: it began
after that commit.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sharpen.paper_repro.grids.grid import OWN_GRIDS, Grid
from sharpen.paper_repro.grids.rules import PICKED, rules_hash

UNKNOWN = "the commit that it was computed at is not in this repository"


@dataclass(frozen=True)
class Order:
    """How rules and runs follow each other.

    Args:
        rules: Hash of the rules; None: the study has none that were fixed first.
        since: The commit that fixed them.
        younger: Why each result is refused whose rules are not known to be older, by run.
        by_clock: Runs whose commit is not in this repository, and which began after the rules by their clock.
        picked: The line that the search fills in, in each wording that it has had, oldest first.
    """

    rules: str | None
    since: str | None = None
    younger: dict[str, str] = field(default_factory=dict)
    by_clock: tuple[str, ...] = ()
    picked: tuple[str, ...] = ()

    @property
    def registered(self) -> bool:
        """Whether every result is younger than the rules."""
        return self.rules is not None and self.since is not None and not self.younger


def rules_file(scale: str, path: Path | None = None) -> Path:
    """Return the file that holds a scale's rules."""
    return path if path is not None else Path(str(files("sharpen.paper_repro"))) / OWN_GRIDS.get(scale, "grid.yaml")


def order(grid: Grid, scale: str, results: Mapping[str, Mapping[str, Any]], path: Path | None = None) -> Order:
    """Return whether the rules of a study are older than its results.

    Args:
        grid: Of the scale.
        scale: Its name.
        results: As stored, by run.
        path: The grid's file, where it is another than the scale's.
    """
    present = grid.rules_hash
    if present is None:
        return Order(None)
    file = rules_file(scale, path).resolve()
    versions = _versions(file)
    held: list[str] = []
    for commit, text in versions:  # the newest first
        if rules_hash(text) != present:
            break
        held.append(commit)
    if not held or rules_hash(file.read_text(encoding="utf-8")) != present:
        why = "no commit has these rules" if versions else "there is no history of the rules here"
        return Order(present, None, dict.fromkeys(results, why))
    since = held[-1]
    found = {run: _why_younger(file, since, present, result["provenance"]) for run, result in results.items()}
    later = tuple(run for run, why in found.items() if why == UNKNOWN and _began_after(file, since, results[run]))
    found |= dict.fromkeys(later)
    lines = [match["line"].strip() for _, text in reversed(versions[: len(held)]) for match in PICKED.finditer(text)]
    return Order(present, since, {run: why for run, why in found.items() if why}, later, tuple(dict.fromkeys(lines)))


def _why_younger(file: Path, since: str, present: str, provenance: Mapping[str, Any]) -> str | None:
    """Return why a result cannot be judged by the rules, None if it can."""
    if provenance.get("rules", present) != present:
        return f"it was computed under the rules {provenance['rules']}"
    commit = (provenance.get("commit") or "").removesuffix("+")
    if not commit or _git(file.parent, "cat-file", "-e", commit) is None:
        return UNKNOWN
    if not _descends(file.parent, since, commit):
        return f"its commit {commit[:12]} does not descend from that of the rules, {since[:12]}"
    return None


def _began_after(file: Path, since: str, result: Mapping[str, Any]) -> bool:
    fixed = _git(file.parent, "show", "-s", "--format=%cI", since)
    origin = result["provenance"]
    if not fixed or "finished" not in origin:
        return False
    began = datetime.fromisoformat(origin["finished"]) - timedelta(seconds=origin["seconds"])
    return began > datetime.fromisoformat(fixed)


@lru_cache(maxsize=256)
def _descends(folder: Path, since: str, commit: str) -> bool:
    return _git(folder, "merge-base", "--is-ancestor", since, commit) is not None


def _versions(file: Path) -> list[tuple[str, str]]:
    """Return the commits that changed a file with its text there, the newest first; none outside a repository."""
    top = _git(file.parent, "rev-parse", "--show-toplevel")
    listed = _git(file.parent, "log", "--format=%H", "--", file.name)
    if not top or not listed:
        return []
    place = file.relative_to(Path(top).resolve()).as_posix()
    texts = [(commit, _git(file.parent, "show", f"{commit}:{place}", strip=False)) for commit in listed.split()]
    return [(commit, text) for commit, text in texts if text is not None]


def _git(folder: Path, *arguments: str, strip: bool = True) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip() if strip else done.stdout
