"""A hook of the site's build: each notebook becomes a page with its kept outputs, and links to notebooks lead there.

A figure of plotly keeps its sliders: plotly's code is copied into the site once and runs in the reader's browser, so a
page needs neither a kernel nor a network. Nothing is run here; a test runs the notebooks and compares.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

PLOTLY, PICTURE = "application/vnd.plotly.v1+json", "image/png"
SCRIPT = "plotly.min.js"  # beside the pages
LINK = re.compile(r"\(((?:notebooks/)?[\w-]+)\.ipynb\)")


def on_files(files: Any, config: Any) -> Any:
    """Add a page and its pictures for each notebook, and plotly's code where one needs it."""
    sliders = False
    for file in [one for one in files if one.src_uri.endswith(".ipynb")]:
        notebook = json.loads(Path(file.abs_src_path).read_text(encoding="utf-8"))
        text, pictures = page_of(notebook, Path(file.src_uri).name)
        folder = Path(file.src_uri).parent
        files.append(File.generated(config, str(Path(file.src_uri).with_suffix(".md")), content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, str(folder / name), content=content))
        sliders |= SCRIPT in text
    if sliders:
        from plotly.offline import get_plotlyjs

        files.append(File.generated(config, f"notebooks/{SCRIPT}", content=get_plotlyjs()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to a notebook to its page; the page itself links to the file."""
    return markdown if page.file.src_uri.startswith("notebooks/") else as_pages(markdown)


def as_pages(markdown: str) -> str:
    """Return Markdown whose links to notebooks lead to their pages.

    Example:
        >>> as_pages("[a](notebooks/one.ipynb), [b](two.ipynb), [c](three.md)")
        '[a](notebooks/one.md), [b](two.md), [c](three.md)'
    """
    return LINK.sub(r"(\1.md)", markdown)


def page_of(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by file name.

    Args:
        notebook: As its file holds it.
        name: Of the file.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(as_pages(source))
            continue
        parts.append(_fenced(source, "python"))
        for output in cell["outputs"]:
            data = output.get("data", {})
            if PLOTLY in data:
                parts.append(_with_sliders(data[PLOTLY], f"{Path(name).stem}-{cell['id']}"))
            elif PICTURE in data:
                picture = f"{Path(name).stem}-{cell['id']}.png"
                pictures[picture] = base64.b64decode("".join(data[PICTURE]))
                parts.append(f"![What the cell above draws]({picture})")
            else:
                parts.append(_fenced("".join(output.get("text") or data["text/plain"]), "text"))
    if any(PLOTLY in output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", ())):
        parts.insert(1, f'<script src="{SCRIPT}"></script>')
    parts.insert(1, f"[This page as a notebook]({name})")
    return "\n\n".join(parts) + "\n", pictures


def _fenced(text: str, language: str) -> str:
    """Return text as a block of code, fenced by more backticks than it holds."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _with_sliders(figure: Any, name: str) -> str:
    """Return a figure of plotly as HTML that draws itself; its text is escaped by plotly."""
    import plotly.io

    read = plotly.io.from_json(json.dumps(figure))
    html = plotly.io.to_html(read, full_html=False, include_plotlyjs=False, div_id=name, default_height="380px")
    return " ".join(html.split("\n"))  # a blank line would end the block
