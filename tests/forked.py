"""Programs in processes of their own, forked from one that has imported what they need and computed nothing.

Importing JAX, pandas and the command line takes as long as what most programs of the toy do, and what a training run
imports takes ten CPU-seconds. XLA reads its surroundings (``XLA_FLAGS``, ``NPROC``) when it begins, which is after the
fork; the number of devices JAX reads when it is imported, so a forked process says it again. What is about the start of
a process itself needs a real one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

ROOT = Path(__file__).parents[1]
READ_AT_IMPORT = "JAX_NUM_CPU_DEVICES"


class _Running(NamedTuple):
    argv: list[str]
    words: Path
    number: int


class Forks:
    """The process that forks, as seen by tests.

    Args:
        what: What it imports: ``toy``, or ``models`` for training and sampling.
    """

    def __init__(self, what: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != READ_AT_IMPORT}
        # Threads do not survive a fork; bars would stand among what the programs say, and are told of at the import.
        environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-m", "tests.forked", what]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._server = subprocess.Popen(command, text=True, env=environment, cwd=ROOT, **pipes)
        self._running: _Running | None = None

    def run(
        self, code: str, *arguments: str, environment: Mapping[str, str], folder: Path = ROOT
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -c code arguments`` in a fork; the same as ``subprocess.run`` of it returns."""
        self.begin(code, *arguments, environment=environment, folder=folder)
        return self.end()

    def begin(self, code: str, *arguments: str, environment: Mapping[str, str], folder: Path = ROOT) -> int:
        """Begin to run it, and return the number of its process; there is one at a time."""
        if self._running is not None:  # of a test that has failed
            os.kill(self._running.number, signal.SIGKILL)
            self.end()
        argv, words = ["-c", *arguments], Path(tempfile.mkdtemp())
        job = {"code": code, "argv": argv, "environment": dict(environment), "folder": str(folder), "words": str(words)}
        print(json.dumps(job), file=self._server.stdin, flush=True)
        self._running = _Running(argv, words, self._told())
        return self._running.number

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait until the program has ended, and return how."""
        assert self._running is not None
        status = self._told()
        (argv, words, _), self._running = self._running, None
        said = [(words / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        shutil.rmtree(words)
        return subprocess.CompletedProcess(argv, status, *said)

    def _told(self) -> int:
        line = cast("IO[str]", self._server.stdout).readline()
        assert line, "the process that forks has ended"
        return int(line)

    def close(self) -> None:
        """End the process that forks."""
        self._server.kill()  # it may wait for a program that hangs
        self._server.communicate()


def _serve(what: str) -> None:
    """Fork a process for each line of the input; tell its number, and its status when it has ended."""
    {"toy": _import_toy, "models": _import_models}[what]()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _live(**json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _import_toy() -> None:
    import jax  # noqa: F401
    import matplotlib.backends.backend_agg  # noqa: F401

    import sharpen.cli.main
    import sharpen.cli.toy.sweep
    import sharpen.figures.toy.dynamics
    import sharpen.toy.simulation.simulate
    import sharpen.toy.sweeps.sweep  # noqa: F401


def _import_models() -> None:
    from tests.llm.distributed.forks import import_everything

    with redirect_stdout(sys.stderr):
        import_everything()


def _live(code: str, argv: list[str], environment: dict[str, str], folder: str, words: str) -> None:
    """Be the program, to the end."""
    for number, name in ((0, os.devnull), (1, f"{words}/stdout"), (2, f"{words}/stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv, sys.path[0] = argv, ""
    jax = sys.modules.get("jax")
    if jax is not None and READ_AT_IMPORT in environment:
        jax.config.update(READ_AT_IMPORT.lower(), int(environment[READ_AT_IMPORT]))
    status = 0
    try:
        exec(code, {"__name__": "__main__"})
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1])
