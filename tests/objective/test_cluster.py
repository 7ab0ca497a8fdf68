"""A cluster that is not there is one line, soon."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from sharpen.objective import InputError, cluster

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a machine that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "address", ["nowhere", "", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "http://x:1", "a b:1"]
)
def test_no_address(address: str) -> None:
    with pytest.raises(InputError, match=r"ray: got .*HOST:PORT"):
        cluster.connect(address)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_nobody_takes_the_connection(closed: str, scheme: str) -> None:
    with pytest.raises(InputError, match=r"within 5 s .*refused"):
        cluster.connect(scheme + closed)


def test_a_name_that_no_machine_has() -> None:
    with pytest.raises(InputError, match="takes connections"):
        cluster.connect(f"{'a' * 70}.invalid:6379")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_somebody_who_does_not_answer(silent: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER", 2)
    with pytest.raises(InputError, match="answers within 2 s"):
        cluster.connect(scheme + silent)
