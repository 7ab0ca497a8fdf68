"""Runs the notebooks: each code cell in order in one fresh process, its outputs written back into the file.

The format is Jupyter's (nbformat 4.5), so the files open in any of its tools. Running them needs none: a cell's printed
text and the value of its last line are kept. A figure is kept as PNG; one of plotly as plotly's own JSON, which
Jupyter, VS Code and our site draw with its sliders, without a running kernel.

    python docs/site/notebooks.py            run all and write their outputs
    python docs/site/notebooks.py FILE ...   these
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "notebooks"
TIME = 800  # seconds for a notebook: a minute of work on a machine that does much else
PLOTLY = "application/vnd.plotly.v1+json"  # the mime type by which Jupyter and VS Code know a figure of plotly


def cells_of(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the code cells."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(file: Path) -> list[list[dict[str, Any]]]:
    """Return the outputs of each code cell of a notebook, run in a fresh process.

    Raises:
        RuntimeError: a cell failed; the message has its traceback.
    """
    sources = ["".join(cell["source"]) for cell in cells_of(json.loads(file.read_text(encoding="utf-8")))]
    done = subprocess.run(
        [sys.executable, __file__, "--cells"], input=json.dumps(sources), capture_output=True, text=True, timeout=TIME
    )
    if done.returncode:
        raise RuntimeError(f"{file.name}: {done.stderr}")
    return json.loads(done.stdout)


def run_cells(sources: list[str]) -> list[list[dict[str, Any]]]:
    """Run cells one after the other in this process and return their outputs."""
    names: dict[str, Any] = {"__name__": "__main__"}
    return [_outputs(source, names, number) for number, source in enumerate(sources, start=1)]


def _outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    tree = ast.parse(source, f"cell {number}")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    found = [] if not printed.getvalue() else [{"output_type": "stream", "name": "stdout", "text": _lines(printed)}]
    if value is not None:
        result = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": _shown(value)}
        found.append(result)
    return found


def _lines(text: io.StringIO) -> list[str]:
    return text.getvalue().splitlines(keepends=True)


def _shown(value: Any) -> dict[str, Any]:
    if hasattr(value, "to_plotly_json"):
        return {PLOTLY: json.loads(value.to_json()), "text/plain": [f"<{type(value).__name__} with a slider>"]}
    if hasattr(value, "savefig"):
        picture = io.BytesIO()
        value.savefig(picture, format="png", dpi=100, metadata={"Software": None})
        return {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": ["<Figure>"]}
    return {"text/plain": repr(value).splitlines(keepends=True)}


def write(file: Path) -> None:
    """Run a notebook and write its outputs into it."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    for number, (cell, outputs) in enumerate(zip(cells_of(notebook), run(file), strict=True), start=1):
        cell["outputs"], cell["execution_count"] = outputs, number
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--cells"]:
        json.dump(run_cells(json.load(sys.stdin)), sys.stdout)
    else:
        for name in [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")):
            write(name)
