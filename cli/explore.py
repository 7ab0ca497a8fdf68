"""``sharpen explore``: one page with sliders over an objective and a problem."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpen.cli.shared import options
from sharpen.cli.shared.terminal import say
from sharpen.cli.theory import known

if TYPE_CHECKING:
    from sharpen.figures.theory.explorer import Shown

HERE = "127.0.0.1"  # the page is for this machine only


@options.flat
def explore(
    outcomes: options.ProblemFlags,
    problems: known.Problems = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the page to this .html file instead of serving it.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 0,
) -> None:
    """Serve a page on this machine with sliders for alpha, beta_inv, mode and normalization, until Ctrl-C.

    Optimum, response, pass@k, flow and stationary points move along. The page needs no network, and asks for none.
    """
    from sharpen.figures.theory.explorer import explorer_page
    from sharpen.objective import InputError
    from sharpen.objective.storage import files

    if out is not None and out.suffix != ".html":
        raise InputError("out", str(out), "a file that ends in .html")
    if not 0 <= port <= 65535:
        raise InputError("port", port, "a number from 0 to 65535")
    known.instead_of(problems, None, outcomes)
    shown = [_one(outcomes)] if problems is None else _known(problems)
    page = explorer_page(shown, "One problem" if problems is None else f"Outcomes of {problems}")
    if out is None:
        _serve(page, port)
    else:
        with files.naming(out, "out"):
            out.parent.mkdir(parents=True, exist_ok=True)
            files.write(out, page)
        say(f"{out}: open it in a browser")


def _one(outcomes: options.ProblemFlags) -> Shown:
    from sharpen.figures.theory.explorer import Shown

    problem = outcomes.build()
    return Shown("the problem", problem.log_base, problem.reward, problem.length.astype(float))


def _known(file: Path) -> list[Shown]:
    from sharpen.figures.theory.explorer import Shown
    from sharpen.objective import InputError

    found = [one for one in known.chosen_of(file, None) if one.logprob.size]
    if not found:
        raise InputError("problems", str(file), "at least one prompt with an outcome")
    return [Shown(one.name, one.logprob, one.reward, one.length, unseen=one.unseen_mass) for one in found]


def _serve(page: str, port: int) -> None:
    """Serve one page on this machine until Ctrl-C."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from sharpen.objective import InputError

    body = page.encode("utf-8")

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body) if found else 0))
            self.end_headers()
            self.wfile.write(body if found else b"")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of each request."""

    try:
        server = ThreadingHTTPServer((HERE, port), Page)
    except OSError as error:
        raise InputError("port", port, f"a port that is free ({error.strerror})") from error
    with server:
        say(f"http://{HERE}:{server.server_address[1]}/  (Ctrl-C ends)")
        server.serve_forever()
