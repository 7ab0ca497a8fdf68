"""Install packages into this Python's environment by uv, and by pip where uv is not to be had or fails.

    .venv/bin/python .ci/install.py --constraint constraints.txt torch==2.13.0

uv takes pip's arguments and a quarter of its time, but does not read its settings: it is told the indexes that pip
knows, and takes the best version of all of them, as pip does.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise

PIP = [sys.executable, "-m", "pip"]
UV = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--quiet"]
# What pip calls its setting, uv's variable, and what separates several values there.
KNOWN = (
    ("index-url", "UV_DEFAULT_INDEX", " "),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("cert", "SSL_CERT_FILE", " "),
)


def pip_settings() -> dict[str, str]:
    """Return pip's settings: those of the environment count before those of its files."""
    told = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=True).stdout
    lines = [line.partition("=") for line in sorted(told.splitlines(), key=lambda line: line.startswith(":env:"))]
    return {name.rpartition(".")[2]: str(ast.literal_eval(value)) for name, _, value in lines}


def uv_environment(settings: dict[str, str]) -> dict[str, str]:
    """Return the environment in which uv finds what pip would; what is said to uv itself stays."""
    said = {variable: between.join(settings.get(name, "").split()) for name, variable, between in KNOWN}
    indexes = {variable: value for variable, value in said.items() if value}
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", **indexes, **os.environ}


def main(wanted: list[str]) -> int:
    """Install what pip's arguments ask for, and return the exit status."""
    pins = [argument for name, argument in pairwise(wanted) if name == "--constraint"]
    quiet = [*PIP, "install", "--quiet", "--no-compile"]
    named = [part for file in pins for part in ("--constraint", file)]
    have_uv = find_spec("uv") is not None or subprocess.run([*quiet, *named, "uv"], check=False).returncode == 0
    if have_uv and subprocess.run([*UV, *wanted], env=uv_environment(pip_settings()), check=False).returncode == 0:
        return 0
    print("uv did not do it: pip installs, which takes longer", file=sys.stderr)
    return subprocess.run([*quiet, *wanted], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
