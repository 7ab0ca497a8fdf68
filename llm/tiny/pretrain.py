"""Pre-train the embedded model: ``python -m sharpen.llm.tiny.pretrain --out DIR``.

Next-token prediction on responses of ``corpus``, prompts masked. A killed run continues from its last checkpoint to the
same weights: every batch is a function of (seed, step).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from sharpen.llm.common.interrupt import deferred_interrupt
from sharpen.llm.tasks.dial.law import Member
from sharpen.llm.tasks.embedded import EOS, PAD, Mixture
from sharpen.llm.tasks.templates import encode
from sharpen.llm.tiny.tokenizer import build_tokenizer
from sharpen.llm.training.state import load_optimizer_state, load_parameters, optimizer_state, parameters
from sharpen.objective import InputError
from sharpen.objective.storage import files, lock, runfolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PROGRESS_EVERY, CHECKPOINT_EVERY = 50, 250
IGNORED = -100  # cross_entropy's mark for positions without a target
PROVENANCE = "provenance.json"
Measured = Callable[[str], dict[str, Any]]
STATE, ADAM = "pretrain_state.safetensors", "optimizer "  # ADAM: prefix of the optimizer's tensors


@dataclass(frozen=True)
class Settings:
    """How the model is shaped and trained.

    Args:
        hidden: Width.
        layers: Depth.
        steps: Updates.
        batch: Problems an update.
        micro_batch: Rows of one forward pass; rows are sorted by length first, so short ones carry little padding.
        learning_rate: Peak of the cosine schedule.
        warmup: Updates of linear warm-up.
        seed: Of weights and data.
    """

    hidden: int = 128
    layers: int = 3
    steps: int = 1500
    batch: int = 192
    micro_batch: int = 48
    learning_rate: float = 3e-3
    warmup: int = 100
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of an update: linear warm-up, then half a cosine down to 2 %."""
        cosine = 0.5 * (1.0 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * max(0.02, cosine)


def build_model(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Return the untrained model: transformers' Qwen2 with heads of width 32 and tied embeddings."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(settings.seed)
    pad_id, eos_id = (tokenizer.convert_tokens_to_ids(token) for token in (PAD, EOS))
    assert isinstance(pad_id, int)
    assert isinstance(eos_id, int)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=3 * settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.hidden // 32,
        num_key_value_heads=settings.hidden // 32,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=eos_id,
    )
    return Qwen2ForCausalLM(config)


def draw_batch(
    settings: Settings, corpus: Mixture | Member, tokenizer: PreTrainedTokenizerFast, step: int
) -> list[tuple[list[int], int]]:
    """Return the token rows of one update, each with its prompt length, shortest first."""
    rng = random.Random(f"pretrain/{settings.seed}/{step}")
    assert tokenizer.eos_token_id is not None
    drawn = [corpus.draw(rng) for _ in range(settings.batch)]
    responses: Any = tokenizer([answer for _, answer in drawn])["input_ids"]
    rows = []
    for (problem, _), response in zip(drawn, responses, strict=True):
        prompt = encode(tokenizer, problem, "plain")
        rows.append(([*prompt, *response, tokenizer.eos_token_id], len(prompt)))
    return sorted(rows, key=lambda row: len(row[0]))


def loss_of(model: PreTrainedModel, rows: list[tuple[list[int], int]], pad_id: int) -> torch.Tensor:
    """Return the summed cross-entropy (nats) of the rows' responses."""
    width = max(len(ids) for ids, _ in rows)
    tokens_BL = torch.full((len(rows), width), pad_id)
    targets_BL = torch.full((len(rows), width), IGNORED)
    for place, (ids, prompt_length) in enumerate(rows):
        tokens_BL[place, : len(ids)] = torch.tensor(ids)
        targets_BL[place, prompt_length : len(ids)] = torch.tensor(ids[prompt_length:])
    logits_BLV = model(input_ids=tokens_BL, use_cache=False).logits[:, :-1]
    return cross_entropy(logits_BLV.flatten(0, 1), targets_BL[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def train(settings: Settings, corpus: Mixture | Member, out: Path, stop_after: int | None = None) -> list[float]:
    """Train, or continue, in ``out`` and return the loss (nats per token) of each update done in this call.

    The first Ctrl-C ends it after the current update, with its state saved.

    Args:
        settings: Shape and schedule.
        corpus: Of answers.
        out: Folder of the model; the training state stays in it until the last update.
        stop_after: End after this many updates in all, leaving the state to continue from.

    Raises:
        InputError: ``out`` has a run of other settings, or its state cannot be read.
        KeyboardInterrupt: Ctrl-C; the same call continues.
    """
    tokenizer = build_tokenizer()
    model = build_model(settings, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    with files.naming(out, "out"):
        out.mkdir(parents=True, exist_ok=True)
    identity = {**asdict(settings), "corpus": asdict(corpus)}
    first = _restore(out / STATE, identity, model, optimizer)
    losses, start, last = [], time.monotonic(), min(settings.steps, stop_after or settings.steps)
    with deferred_interrupt() as interrupt:
        for step in range(first, last):
            losses.append(_update(model, optimizer, settings, draw_batch(settings, corpus, tokenizer, step), step))
            if (step + 1) % PROGRESS_EVERY == 0:
                left = (time.monotonic() - start) / (step + 1 - first) * (last - step - 1)
                told = f"step {step + 1}/{settings.steps}  loss {losses[-1]:.4f}  about {left:.0f} s left"
                print(told, file=sys.stderr)
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == last or interrupt.requested:
                _save(out / STATE, identity, step + 1, model, optimizer)
            if interrupt.requested:
                raise KeyboardInterrupt
    if last == settings.steps:
        with files.naming(out, "out"):
            model.to(getattr(torch, corpus.stored)).save_pretrained(out)  # pyright: ignore[reportCallIssue]
            tokenizer.save_pretrained(out)
    return losses


def _update(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    rows: list[tuple[list[int], int]],
    step: int,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate_at(step)
    tokens = sum(len(ids) - prompt_length for ids, prompt_length in rows)
    total = 0.0
    for start in range(0, len(rows), settings.micro_batch):
        loss = loss_of(model, rows[start : start + settings.micro_batch], model.config.pad_token_id) / tokens
        loss.backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _save(
    file: Path, identity: dict[str, Any], step: int, model: PreTrainedModel, optimizer: torch.optim.Optimizer
) -> None:
    """Write weights and optimizer to one file that is there whole or not at all."""
    adam = optimizer_state(optimizer, model, keep=True)
    tensors = {**parameters(model, keep=True), **{ADAM + name: tensor for name, tensor in adam.items()}}
    with files.replacing(file) as part:
        save_file(tensors, part, {"step": str(step), "settings": json.dumps(identity, sort_keys=True)})


def _restore(file: Path, identity: dict[str, Any], model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> int:
    """Load a state that the same settings left, and return the number of its updates; 0 if there is none."""
    if not file.exists():
        return 0
    allowed = "a folder without a run of other settings"
    try:
        with safe_open(file, framework="pt") as stored:
            numbers = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # it is no dictionary
    except (OSError, SafetensorError) as error:
        raise InputError("out", str(file.parent), f"{allowed}; its {STATE} cannot be read ({error})") from error
    if numbers.get("settings") != json.dumps(identity, sort_keys=True):
        raise InputError("out", str(file.parent), allowed)
    adam = {name.removeprefix(ADAM): tensor for name, tensor in tensors.items() if name.startswith(ADAM)}
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(ADAM)}
    load_parameters(model, weights, str(file))
    load_optimizer_state(optimizer, model, adam, str(file))
    return int(numbers["step"])


def provenance(settings: Settings, corpus: Mixture | Member, measures: dict[str, Any]) -> dict[str, Any]:
    """Return where the artefact comes from, for ``provenance.json``."""
    found = runfolder.provenance()
    return {
        "command": _command(found["command"]),
        "settings": asdict(settings),
        "corpus": asdict(corpus),
        "commit": found["commit"],
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers")},
        "date": datetime.now(UTC).date().isoformat(),
        "measures": measures,
    }


def _command(words: list[str]) -> str:
    """Return the command as it is typed: a module's first word is its file's name."""
    return " ".join(["python -m sharpen.llm.tiny.pretrain" if words[0] == "pretrain.py" else words[0], *words[1:]])


def pretrain(
    settings: Settings, corpus: Mixture | Member, out: Path, measured: Measured | None = None
) -> dict[str, Any]:
    """Train, or continue, measure, write the artefact, and return its ``provenance.json``.

    A folder that holds the artefact of the same settings is left as it is. ``measured`` returns the measures of the
    model in a folder; None: :func:`sharpen.llm.tiny.measure.measure`.

    Raises:
        InputError: ``out`` holds something else, a run of other settings, or another process is working in it.
        KeyboardInterrupt: Ctrl-C, with a note that says so where something is kept; the same call continues.
    """
    done = _done(out, settings, corpus)
    if done is not None:
        return done
    with ExitStack() as locked:
        with files.naming(out, "out"):
            out.mkdir(parents=True, exist_ok=True)
            locked.enter_context(lock.held(out / runfolder.LOCK, out))
            files.remove_leftovers(out)
        try:
            return _done(out, settings, corpus) or _pretrained(out, settings, corpus, measured)
        except KeyboardInterrupt as error:
            if (out / STATE).exists():
                runfolder.say_kept(error, out)
            raise


def _done(out: Path, settings: Settings, corpus: Mixture | Member) -> dict[str, Any] | None:
    """Return the provenance of the same settings' artefact in a folder; None if the folder is to be worked in."""
    with files.naming(out, "out"):
        occupied = os.path.lexists(out) and not (out.is_dir() and runfolder.is_empty(out))
    if occupied and not (out / STATE).exists():
        try:
            done = json.loads((out / PROVENANCE).read_text(encoding="utf-8"))
            if (done["settings"], done["corpus"]) == (asdict(settings), asdict(corpus)):
                return done
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        raise InputError("out", str(out), "a new or empty folder, or one of the same settings")
    return None


def _pretrained(out: Path, settings: Settings, corpus: Mixture | Member, measured: Measured | None) -> dict[str, Any]:
    from sharpen.llm.tiny.measure import measure

    train(settings, corpus, out)
    print("measuring the model on its test problems", file=sys.stderr)
    found = provenance(settings, corpus, (measured or measure)(str(out)))
    files.write(out / PROVENANCE, json.dumps(found, indent=2) + "\n")
    (out / STATE).unlink()  # last: a folder without it is finished
    return found


def main() -> None:
    """Train, measure and write the artefact; ``sharpen llm pretrain`` does the same."""
    parser = argparse.ArgumentParser(description="Pre-train the embedded model on its corpus.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the artefact; the same command continues")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    arguments = parser.parse_args()
    try:
        found = pretrain(Settings(steps=arguments.steps, seed=arguments.seed), Mixture(), arguments.out)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    print(json.dumps(found["measures"], indent=2))


if __name__ == "__main__":
    main()
