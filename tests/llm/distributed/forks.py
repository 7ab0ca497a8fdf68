"""Processes that train together, forked from one that has imported what they need: imports are paid for once.

The process that forks computes nothing itself: torch's threads do not survive a fork. A small process keeps the store,
as torchrun's agent does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

Life = Callable[[int], "int | None"]


def import_everything() -> None:
    """Import what a run imports, which is half as much again as torch and transformers, in this process's one thread.

    They import much where a model is loaded or a function called for the first time, and every fork would do so anew;
    and it would make the tree of commands anew, and draw the problems that a run is measured on.
    """
    import rich.console
    import rich.table  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import torch._dynamo
    import torch.distributed.fsdp
    import torch.utils.serialization.config
    import torch.utils.tensorboard

    import sharpen.llm.configs.idle
    import sharpen.llm.configs.recipes
    import sharpen.llm.learners.alarm
    import sharpen.llm.preflight.checks
    import sharpen.llm.rollout.shared
    import sharpen.llm.rollout.transformers_engine
    import sharpen.llm.trackers.tensorboard_tracker
    import sharpen.llm.training.final_evaluation
    import sharpen.llm.training.trainer  # noqa: F401
    from sharpen.cli.main import tree
    from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
    from sharpen.llm.tasks.sources import load_source

    torch.set_num_threads(1)
    tree()
    for split in ("validation", "test"):
        load_source("embedded", split).prompts()
    source = resolve("embedded")
    load_tokenizer(source)
    load_model(source, "cpu", "float32")


def keep_store() -> tuple[int, str]:
    """Start the process that keeps the store; return its number and port."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    here, there = os.pipe()
    number = os.fork()
    if number == 0:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(there, str(store.port).encode())
        while True:
            signal.pause()
    os.close(there)
    port = os.read(here, 16).decode()
    os.close(here)
    return number, port


def _live(rank: int, size: int, port: str, life: Life, words: Path) -> None:
    """Be one process of several, to the end."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1")
    os.environ.update(MASTER_PORT=port, TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0")
    _end(lambda: life(rank), words, words)


def _end(life: Callable[[], int | None], said: Path, errors: Path | None) -> NoReturn:
    """Live to the end of this process, with its output and its errors in files, which may be the same one.

    Without a file the errors go where those of the process go that was forked.
    """
    streams = {file: os.open(file, os.O_WRONLY | os.O_CREAT) for file in (said, errors) if file is not None}
    os.dup2(streams[said], 1)
    if errors is not None:
        os.dup2(streams[errors], 2)
    try:
        status = life() or 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        print(f"Traceback: {error!r}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def apart(life: Callable[[], int | None], said: Path, errors: Path | None = None) -> int:
    """Fork a process that is no rank of several, and return its status when it has ended; see :func:`_end`."""
    number = os.fork()
    if number == 0:
        _end(life, said, errors)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def together(size: int, life: Life, words: Path, within: float = 600.0) -> list[tuple[int, float, str]]:
    """Fork ``size`` processes that live ``life(rank)``; what takes longer than ``within`` seconds is killed.

    Args:
        size: How many.
        life: What each does, given its rank.
        words: Beginning of the names of the files that each writes its output to.
        within: Seconds.

    Returns:
        Status, seconds and output of each, by rank.
    """
    store, port = keep_store()
    started = time.monotonic()
    ranks: dict[int, int] = {}
    found: dict[int, tuple[int, float]] = {}
    files = [words.with_name(f"{words.name}.{rank}.txt") for rank in range(size)]
    for rank in range(size):
        number = os.fork()
        if number == 0:
            _live(rank, size, port, life, files[rank])
        ranks[number] = rank
    while len(found) < size:
        number, status = os.waitpid(-1, os.WNOHANG)
        if number in ranks:
            found[ranks[number]] = (os.waitstatus_to_exitcode(status), time.monotonic() - started)
            continue
        if time.monotonic() - started > within:
            for child, rank in ranks.items():
                if rank not in found:
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    os.kill(store, signal.SIGKILL)
    os.waitpid(store, 0)
    return [(*found[rank], files[rank].read_text(encoding="utf-8")) for rank in range(size)]
