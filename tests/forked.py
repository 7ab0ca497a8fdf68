"""Programs of the toy in processes of their own, forked from one that has imported what they need and computed nothing.

Importing JAX, pandas and the command line takes as long as what most of these programs do. XLA reads its surroundings
(``XLA_FLAGS``, ``NPROC``) when it begins, which is after the fork; the number of devices JAX reads when it is imported,
so a forked process says it again. What is about the start of a process itself needs a real one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

READ_AT_IMPORT = "JAX_NUM_CPU_DEVICES"


class Forks:
    """The process that forks, as seen by tests."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != READ_AT_IMPORT}
        command = [sys.executable, __file__]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, code: str, *arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run ``python -c code arguments`` in a fork; the same as ``subprocess.run`` of it returns."""
        asked, told = cast("IO[str]", self._server.stdin), cast("IO[str]", self._server.stdout)
        with tempfile.TemporaryDirectory() as folder:
            job = {"code": code, "argv": ["-c", *arguments], "environment": dict(environment), "folder": folder}
            print(json.dumps(job), file=asked, flush=True)
            status = told.readline()
            assert status, "the process that forks has ended"
            words = [(Path(folder) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(job["argv"], int(status), *words)

    def close(self) -> None:
        """End the process that forks."""
        self._server.communicate()


def _serve() -> None:
    """Fork a process for each line of the input, and tell its status when it has ended."""
    import matplotlib.backends.backend_agg  # noqa: F401

    import sharpen.cli.main
    import sharpen.cli.toy.sweep
    import sharpen.figures.toy.dynamics
    import sharpen.toy.simulation.simulate
    import sharpen.toy.sweeps.sweep  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _live(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _live(code: str, argv: list[str], environment: dict[str, str], folder: str) -> None:
    """Be the program, to the end."""
    import jax

    for number, name in ((0, os.devnull), (1, f"{folder}/stdout"), (2, f"{folder}/stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = argv
    if READ_AT_IMPORT in environment:
        jax.config.update(READ_AT_IMPORT.lower(), int(environment[READ_AT_IMPORT]))
    status = 0
    try:
        exec(code, {"__name__": "__main__"})
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve()
