"""From results to the paper: figures, tables, verdicts and the HTML page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sharpen.objective import InputError
from sharpen.objective.storage import files
from sharpen.paper_repro.analysis.evidence import by_model, by_task
from sharpen.paper_repro.analysis.members import by_member
from sharpen.paper_repro.analysis.tasks import study
from sharpen.paper_repro.analysis.verdict import Verdict, judge, standing_of
from sharpen.paper_repro.grids.grid import Grid
from sharpen.paper_repro.grids.order import order
from sharpen.paper_repro.grids.plan import Run
from sharpen.paper_repro.grids.store import Store, rounded
from sharpen.paper_repro.report.gallery import draw_all, draw_members
from sharpen.paper_repro.report.members import write_members
from sharpen.paper_repro.report.page import render
from sharpen.paper_repro.report.tables import task_row, write_study, write_tables


@dataclass(frozen=True)
class Written:
    """What a report consists of.

    Args:
        folder: Figures, tables, ``verdicts.json``.
        page: The HTML page.
        verdicts: On each claim.
        figures: Names of the figures drawn.
        missing: Figures that are not drawn, with what is missing.
        results: Number of results that went in.
    """

    folder: Path
    page: Path
    verdicts: list[Verdict]
    figures: list[str]
    missing: dict[str, str]
    results: int


def write_report(
    grid: Grid,
    runs: list[Run],
    store: Store,
    *,
    page: Path,
    folder: Path | None = None,
    gallery: Path | None = None,
    declared: Path | None = None,
) -> Written:
    """Write the report of the results that there are.

    Args:
        grid: The claims.
        runs: Of the scale.
        store: Where their results are.
        page: The HTML file.
        folder: For figures, tables and verdicts; None for ``report`` beside the results.
        gallery: A folder that gets a copy of every PNG.
        declared: The grid's file, where it is not the scale's own.

    Raises:
        InputError: there is no result, or a file cannot be written.
    """
    results = store.current(runs)
    if not results:
        raise InputError("results", str(store.results), "a folder with at least one result of `sharpen paper run`")
    folder = folder if folder is not None else store.results / "report"
    found = study(results, grid.registration) if grid.registration is not None else None
    members = by_member(results, grid.rules) if grid.rules is not None else None
    if members is not None:
        evidences = list(members.evidence.values())
    elif grid.registration is not None:
        evidences = list(by_task(results, grid.registration).values())
    else:
        evidences = by_model(results)
    known = order(grid, runs[0].scale, results, declared)
    verdicts = judge(grid, evidences, found, members, known)
    drawn, missing = draw_members(members) if members is not None else draw_all(evidences)
    stale = [run.id for run in runs if run.id in results and store.state(run) == "stale-code"]
    context = {
        "scale": runs[0].scale,
        "done": len(results),
        "total": len(runs),
        "missing": missing,
        "stale": stale,
        "standing": standing_of(known),
        "picked": known.picked if len(known.picked) > 1 else (),
        "tasks": [task_row(found, name) for name in found.areas] if found is not None else [],
    }
    try:
        write_tables(evidences, folder)
        if found is not None:
            write_study(found, folder)
        if members is not None:
            write_members(members, folder)
        judged = [verdict.to_dict() for verdict in verdicts]
        files.write(folder / "verdicts.json", json.dumps(rounded(judged), indent=1, ensure_ascii=False) + "\n")
        for figure in drawn:
            figure.save(folder / "figures")
        if gallery is not None:
            for figure in drawn:
                files.write(gallery / f"{figure.name}.png", figure.png, "gallery")
        files.write(page, render(evidences, verdicts, drawn, context))
    except OSError as error:
        raise InputError("report", str(folder), f"a folder that can be written ({error.strerror})") from error
    return Written(folder, page, verdicts, [figure.name for figure in drawn], missing, len(results))
