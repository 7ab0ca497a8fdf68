"""What an older commit of this checkout computes on this machine.

A result that was computed on another processor differs in its last digits from every result computed here. Whether a
change of code changed numbers can still be seen bit by bit: by computing with both codes on one machine.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from sharpen.paper_repro.grids.plan import Run

ROOT = Path(__file__).resolve().parents[2]


def computed_by(commit: str, run: Run, folder: Path) -> dict[str, Any] | None:
    """Return a run's result by the code of a commit, or None if this checkout does not have it or it has no such run.

    Args:
        commit: As results record it; one with ``+`` had changes that no commit holds.
        run: What to compute; its settings must be the same there.
        folder: For the commit's files, the work and the result.
    """
    files = _files_of(commit)
    if files is None:
        return None
    tree, results = folder / "tree", folder / "results"
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(tree, filter="data")
    (tree / ".pyright" / "sharpen" / "__init__.py").touch()  # else an installed sharpen would hide an older layout
    path = os.pathsep.join([str(tree / ".pyright"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "sharpen.cli.main", *("paper", "run", "--scale", run.scale, "--run", run.id)]
    command += ["--results", str(results), "--work", str(folder / "work")]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    file = results / f"{run.id}.json"
    if done.returncode or not file.is_file():
        return None
    result = json.loads(file.read_text(encoding="utf-8"))
    return result if result["settings_hash"] == run.settings_hash else None


def _files_of(commit: str) -> bytes | None:
    """Return a commit's files as a tar archive."""
    try:
        done = subprocess.run(["git", "archive", "--end-of-options", commit], cwd=ROOT, capture_output=True)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
