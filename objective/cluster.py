"""A Ray cluster to compute on, for the sweeps of the toy and the runs of the paper."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from typing import Any

from sharpen.objective.errors import InputError
from sharpen.objective.storage.parsing import reason
from sharpen.objective.version import install

CONNECT, ANSWER = 5, 30  # seconds until a machine takes a connection, until a cluster answers
FORMS = "local, auto, HOST:PORT or ray://HOST:PORT"
_PROBE = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, configure_logging=False); ray.shutdown()"


def connect(address: str) -> Any:
    """Connect this process to a Ray cluster and return the module ``ray``.

    Args:
        address: Of the cluster; ``local`` starts one on this machine, ``auto`` takes the one that runs here.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address in time.
    """
    try:
        import ray  # type: ignore[import-not-found]  # an extra
    except ImportError as error:
        raise InputError("ray", address, f"with ray installed: {install('ray')}") from error
    if address != "local":
        _require_an_answer(address)
    # Only a cluster of one's own can be told so.
    own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
    except Exception as error:  # Ray raises the bare class when a node does not come up in time
        raise InputError("ray", address, f"{FORMS}, of a cluster that answers ({reason(error)})") from error
    return ray


def _require_an_answer(address: str) -> None:
    """Refuse an address where nobody answers: ``ray.init`` would wait there for minutes, and cannot be told not to."""
    if address != "auto":
        found = re.fullmatch(r"(?:ray://)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", address)
        if found is None or not 0 < int(found[2]) < 2**16:
            raise InputError("ray", address, FORMS)
        try:
            socket.create_connection((found[1].strip("[]"), int(found[2])), timeout=CONNECT).close()
        except (OSError, UnicodeError) as error:
            allowed = f"the address of a machine that takes connections within {CONNECT} s ({reason(error)})"
            raise InputError("ray", address, allowed) from error
    try:
        command = [sys.executable, "-c", _PROBE, address]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=ANSWER)
    except subprocess.TimeoutExpired as error:
        raise InputError("ray", address, f"the address of a Ray cluster that answers within {ANSWER} s") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError("ray", address, f"{FORMS}, of a cluster that answers ({said[:200]})")
