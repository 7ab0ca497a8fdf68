"""Rows sampled by vLLM until they end: by a token that vLLM knows, or by a stop string that it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

from sharpen.llm.common.interrupt import stop_if_abandoned
from sharpen.llm.rollout.stops import Stops


class Answer(NamedTuple):
    """One row's response.

    Args:
        token_ids: Its tokens, with the one that ended it.
        logprobs: Their log-probabilities, nats.
        finished: Whether a token or a stop string ended it, and no limit.
    """

    token_ids: list[int]
    logprobs: list[float]
    finished: bool


def sample_rows(
    llm: Any, prompts: Sequence[Sequence[int]], parameters: Sequence[Any], stops: Stops | None
) -> list[Answer]:
    """Return the answer to each row.

    Args:
        llm: A ``vllm.LLM``.
        prompts: Token ids of each row's prompt.
        parameters: vLLM's ``SamplingParams`` of each row, with the tokens that end a response, and those only.
        stops: What else ends a response. vLLM finds stop strings by a tokenizer of its own and by a rule of its own, so
            rows are looked at after each step and taken out when they end; where single tokens are all, it need not be.
    """
    requests = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
    with patch.object(llm.llm_engine, "step", partial(_step, llm.llm_engine.step)):
        if stops is None or not stops.last_pieces:
            outputs = [answer.outputs[0] for answer in llm.generate(requests, parameters, use_tqdm=False)]
            return [_answer(output, output.finish_reason == "stop") for output in outputs]
        return _step_by_step(llm.llm_engine, requests, parameters, stops)


def _step(step: Callable[[], Any]) -> Any:
    stop_if_abandoned()
    return step()


def _step_by_step(engine: Any, requests: Sequence[Any], parameters: Sequence[Any], stops: Stops) -> list[Answer]:
    from vllm.sampling_params import RequestOutputKind

    for row, (request, given) in enumerate(zip(requests, parameters, strict=True)):
        given.output_kind = RequestOutputKind.CUMULATIVE
        engine.add_request(str(row), request, given)
    answers: list[Any] = [None] * len(requests)
    while engine.has_unfinished_requests():
        for answer in engine.step():
            row, output = int(answer.request_id), answer.outputs[0]
            stopped = output.finish_reason == "stop" or stops.completed_by(output.token_ids)
            if stopped and not answer.finished:
                engine.abort_request([answer.request_id])
            if stopped or answer.finished:
                answers[row] = _answer(output, stopped)
    return answers


def _answer(output: Any, finished: bool) -> Answer:
    logprobs = [given[token].logprob for token, given in zip(output.token_ids, output.logprobs, strict=True)]
    return Answer(list(output.token_ids), logprobs, finished)
