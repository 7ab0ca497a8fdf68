"""The measures of an evaluation against brute force, SciPy, closed forms and simulated truth."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from sharpen.llm.common import jsonl
from sharpen.llm.evaluation import records as store
from sharpen.llm.evaluation.ask import Exam, Examinee, ask, evaluate
from sharpen.llm.evaluation.intervals import bootstrap_interval, paired
from sharpen.llm.evaluation.records import Record
from sharpen.llm.evaluation.summary import compare, summarise
from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
from sharpen.llm.rollout import Sampling, make_engine
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.objective import InputError


def record(name: str, votes: str, lengths: list[int] | None = None, **fields: object) -> Record:
    """Return a record with one vote a letter: r is right, - is no answer, others are wrong answers."""
    return Record(
        id=name,
        subject=fields.pop("subject", None),  # type: ignore[arg-type]
        level=fields.pop("level", None),  # type: ignore[arg-type]
        responses=list(votes),
        votes=[None if letter == "-" else letter for letter in votes],
        correct=[letter == "r" for letter in votes],
        lengths=lengths or [1] * len(votes),
        finished=[True] * len(votes),
        **fields,  # type: ignore[arg-type]
    )


RECORDS = [
    record("a", "rr-w", [1, 2, 3, 4], subject="Algebra", level="Level 1"),
    record("b", "wwwr", [5, 5, 5, 5], subject="Geometry", level="Level 1"),
    record("c", "--vw", [2, 2, 2, 10], subject="Algebra", level="Level 2"),
]


def test_pass_and_maj_are_averages_over_every_ordered_draw() -> None:
    summary = summarise(RECORDS, seed=0)
    for k in (1, 2, 4):
        passed, won = [], []
        for one in RECORDS:
            orders = list(itertools.permutations(one.responses, k))
            passed.append(np.mean(["r" in order for order in orders]))
            won.append(np.mean([max(order, key=order.count) == "r" for order in orders]))  # max: the first of equals
        assert summary[f"pass@{k}"] == pytest.approx(np.mean(passed))
        assert summary[f"maj@{k}"] == pytest.approx(np.mean(won))
    assert "pass@8" not in summary


def test_shares_lengths_and_groups() -> None:
    cut = replace(RECORDS[1], finished=[True, True, True, False])
    summary = summarise([RECORDS[0], cut, RECORDS[2]], seed=0)
    assert summary["answered"] == pytest.approx(9 / 12)
    assert summary["cut"] == pytest.approx(1 / 12)
    assert summary["response_length"] == pytest.approx(46 / 12)
    lengths = sorted([1, 2, 3, 4, 5, 5, 5, 5, 2, 2, 2, 10])
    assert summary["response_length_quantiles"]["0.5"] == np.median(lengths)
    assert summary["response_length_quantiles"]["1.0"] == 10
    assert {name: row["problems"] for name, row in summary["by_subject"].items()} == {"Algebra": 2, "Geometry": 1}
    assert {name: row["pass@1"] for name, row in summary["by_subject"].items()} == {"Algebra": 0.25, "Geometry": 0.25}
    assert {name: row["pass@1"] for name, row in summary["by_level"].items()} == {"Level 1": 0.375, "Level 2": 0.0}
    assert summary["entropy"] is None
    assert summary["kl_base"] is None
    assert summarise([record("a", "r")], 0)["by_level"] == {}
    json.dumps(summary, allow_nan=False)


def test_likelihoods_weigh_tokens_and_sequences() -> None:
    scored = [
        record("a", "rw", [1, 3], logprob=[-1.0, -3.0], entropy=[0.5, 1.5], base_logprob=[-2.0, -3.0]),
        record("b", "rw", [8, 4], logprob=[-2.0, -2.0], entropy=[4.0, 0.0], base_logprob=[-2.0, -5.0]),
    ]
    summary = summarise(scored, seed=0)
    assert summary["entropy"] == pytest.approx(6.0 / 16)  # every token counts once
    assert summary["logprob"] == pytest.approx(-2.0)
    assert summary["base_logprob"] == pytest.approx(-3.0)
    assert summary["kl_base"] == pytest.approx(1.0)
    low, high = summary["entropy_interval"]
    assert low == pytest.approx(4.0 / 12)  # both resampled problems are b, or both are a: 2 / 4
    assert high == pytest.approx(0.5)


def test_the_bootstrap_interval_is_scipys() -> None:
    scores = np.random.default_rng(1).beta(0.5, 0.7, size=60)
    ours = bootstrap_interval(scores, seed=2)
    theirs = stats.bootstrap(
        (scores,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(3)
    ).confidence_interval
    spread = float(scores.std() / math.sqrt(60))
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.15 * spread)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Binomial scores of 80 problems, 400 times: coverage of a 95 % interval within four standard errors of 0.94.

    The percentile bootstrap undercovers a little at this size, by about 1/80.
    """
    rng = np.random.default_rng(4)
    covered = 0
    for trial in range(400):
        low, high = bootstrap_interval(rng.binomial(8, rng.beta(2, 3, size=80)) / 8, seed=trial)
        covered += low <= 0.4 <= high
    assert abs(covered / 400 - 0.94) < 4 * math.sqrt(0.94 * 0.06 / 400)


@pytest.mark.parametrize("size", [2, 5, 10])
def test_the_permutation_test_is_enumeration(size: int) -> None:
    rng = np.random.default_rng(size)
    a, b = rng.integers(0, 9, size).astype(float), rng.integers(0, 9, size).astype(float)
    b[0] = a[0]  # a tie, which says nothing
    difference = a - b
    signs = np.array(list(itertools.product((1, -1), repeat=size)))
    means = signs @ difference / size
    observed = difference.mean()
    one_sided = [np.mean(means >= observed - 1e-12), np.mean(means <= observed + 1e-12)]
    found = paired(a, b, seed=0)
    assert found.permutation_p == pytest.approx(min(1.0, 2 * min(one_sided)))
    assert (found.wins, found.losses) == (int((a > b).sum()), int((a < b).sum()))
    tail = sum(math.comb(found.wins + found.losses, i) for i in range(max(found.wins, found.losses), size + 1))
    assert found.sign_p == pytest.approx(min(1.0, 2 * tail / 2 ** (found.wins + found.losses)))
    assert found.difference == pytest.approx(observed)


def test_many_problems_are_permuted_by_draws_and_agree_with_the_normal_limit() -> None:
    rng = np.random.default_rng(8)
    a = rng.normal(0.15, 1.0, 200)
    found = paired(a, np.zeros(200), seed=0)
    limit = 2 * stats.norm.sf(abs(a.sum()) / math.sqrt((a**2).sum()))
    assert found.permutation_p == pytest.approx(limit, abs=0.02)


@pytest.mark.parametrize("scores", [[1.0], [0.5, 0.5], [1.0, 0.0]])
def test_no_difference_and_one_difference_prove_nothing(scores: list[float]) -> None:
    found = paired(np.array(scores), np.array([*scores[:-1], scores[-1] - 1]), seed=0)
    assert (found.permutation_p, found.sign_p) == (1.0, 1.0)
    same = paired(np.array(scores), np.array(scores), seed=0)
    assert same == (0.0, [0.0, 0.0], 1.0, 0, 0, 1.0)


def test_a_comparison_pairs_problems_by_id() -> None:
    other = [record("c", "rr--"), record("a", "wwww"), record("z", "rrrr")]
    found = compare(RECORDS, other, seed=0)
    assert (found["problems"], found["left_out"]) == (2, 2)
    row = found["measures"]["pass@1"]
    assert (row["ours"], row["theirs"], row["difference"]) == (0.25, 0.25, 0.0)
    assert (row["wins"], row["losses"]) == (1, 1)
    assert "logprob" not in found["measures"]
    with pytest.raises(InputError, match="compare"):
        compare(RECORDS, [record("z", "r")], seed=0)


def test_a_comparison_takes_the_smaller_number_of_samples() -> None:
    found = compare(RECORDS, [record("a", "rw")], seed=0)
    assert found["measures"].keys() >= {"pass@1", "pass@2", "maj@2"}
    assert "pass@4" not in found["measures"]
    assert found["measures"]["pass@2"]["ours"] == pytest.approx(5 / 6)  # of four samples, two right


def test_records_survive_a_torn_line_and_refuse_foreign_ones(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    store.append(file, RECORDS[:2])
    store.append(file, [replace(RECORDS[2], responses=["\ud800", "\u2028", "\x00", "\n"])])
    whole = file.read_bytes()
    for size in range(whole.rfind(b"\n", 0, -1) + 1, len(whole)):
        file.write_bytes(whole[:size])
        assert store.read(file) == RECORDS[:2]
    assert jsonl.go_on(file, Record, batch=1, total=3) == RECORDS[:2]
    store.append(file, RECORDS[2:])
    assert store.read(file) == RECORDS
    for line in ('{"id": "a"}', "[]", json.dumps({**json.loads(whole.split(b"\n")[0]), "votes": []})):
        file.write_text(line + "\n")
        with pytest.raises(InputError, match=r"records\.jsonl:1"):
            store.read(file)
    with pytest.raises(InputError, match="records"):
        store.read(tmp_path / "none.jsonl")


def test_sources_name_subjects_and_levels(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    rows = [
        {"problem": "p", "answer": "1", "subject": "Algebra", "level": 3},
        {"problem": "q", "answer": "1", "type": "Geometry"},
        {"problem": "r", "answer": "1", "level": " "},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = load_source(str(file), "test")
    names = [prompt.id for prompt in source.prompts().prompts]
    assert [source.categories()[name] for name in names] == [
        {"subject": "Algebra", "level": "3"},
        {"subject": "Geometry"},
        {},
    ]
    assert load_source("embedded", "test", 3).categories() == {}


@pytest.fixture(scope="module")
def setting() -> tuple[Examinee, Exam, Sampling]:
    source = resolve("embedded")
    model, tokenizer = load_model(source, "cpu", "float32").eval(), load_tokenizer(source)
    engine = make_engine(
        "transformers", model=model, location=source.location, max_length=80, seed=0, tokenizer=tokenizer
    )
    data = load_source("embedded", "test", 12)
    exam = Exam.encoded(data.prompts(), data.answers(), tokenizer, "plain", categories={"x": {"level": "1"}})
    room = 80 - min(len(ids) for ids in exam.prompt_ids)
    return Examinee(engine, tokenizer, Verifier(workers=1), model, model), exam, Sampling(room)


def test_the_answers_do_not_depend_on_the_batches(setting: tuple[Examinee, Exam, Sampling]) -> None:
    examinee, exam, sampling = setting
    whole = ask(examinee, exam, range(12), 4, sampling, seed=3)
    parts = [r for start in (0, 5, 10) for r in ask(examinee, exam, range(start, min(12, start + 5)), 4, sampling, 3)]
    assert [r.responses for r in whole] == [r.responses for r in parts]
    assert [r.correct for r in whole] == [r.correct for r in parts]
    summary = evaluate(examinee.engine, examinee.tokenizer, exam, 4, sampling, 3)
    assert summary["pass@1"] == pytest.approx(np.mean([r.correct for r in whole]))


def test_likelihoods_are_those_of_the_sampled_tokens(setting: tuple[Examinee, Exam, Sampling]) -> None:
    examinee, exam, sampling = setting
    (one,) = ask(examinee, exam, [2], 3, sampling, seed=1)
    assert one.base_logprob == one.logprob  # the base is the policy
    assert one.logprob is not None
    assert one.entropy is not None
    model, prompt = examinee.model, exam.prompt_ids[2]
    eos = examinee.tokenizer.eos_token_id
    assert isinstance(eos, int)
    for row, text in enumerate(one.responses):
        tokens = examinee.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = [*tokens, eos]  # type: ignore[misc]
        assert len(ids) == one.lengths[row]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].double()
        distribution = torch.distributions.Categorical(logits=logits)
        assert one.logprob[row] == pytest.approx(float(distribution.log_prob(torch.tensor(ids)).sum()), abs=1e-4)
        assert one.entropy[row] == pytest.approx(float(distribution.entropy().sum()), abs=1e-4)


def test_the_kl_estimate_covers_the_exact_kl(setting: tuple[Examinee, Exam, Sampling]) -> None:
    """Responses of at most two tokens: the KL is a finite sum over all of them."""
    import copy

    examinee, exam, _ = setting
    base = copy.deepcopy(examinee.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        head = base.get_output_embeddings().weight
        head += 0.1 * torch.randn(head.shape, generator=generator)
    asked = replace(examinee, base=base)
    (one,) = ask(asked, exam, [4], 1024, Sampling(2), seed=0)
    exact = exact_kl(examinee.model, base, exam.prompt_ids[4], examinee.tokenizer.eos_token_id)
    error = kl_standard_error(one)
    assert exact > 10 * error  # else the comparison says little
    estimate = np.mean(np.subtract(one.logprob, one.base_logprob))  # type: ignore[arg-type]
    assert abs(estimate - exact) < 4 * error


def exact_kl(policy: torch.nn.Module, base: torch.nn.Module, prompt: list[int], eos: object) -> float:
    def next_logprobs(model: torch.nn.Module, rows: list[list[int]]) -> torch.Tensor:
        with torch.no_grad():
            return torch.log_softmax(model(torch.tensor(rows)).logits[:, -1].double(), dim=-1)

    def divergence(rows: list[list[int]]) -> torch.Tensor:
        log_pi, log_p = next_logprobs(policy, rows), next_logprobs(base, rows)
        return (log_pi.exp() * (log_pi - log_p)).sum(-1)

    first = next_logprobs(policy, [prompt])[0].exp()
    rows = [[*prompt, token] for token in range(len(first)) if token != eos]
    weights = torch.tensor([float(first[row[-1]]) for row in rows], dtype=torch.float64)
    return float(divergence([prompt])[0] + (weights * divergence(rows)).sum())


def kl_standard_error(one: Record) -> float:
    assert one.logprob is not None
    assert one.base_logprob is not None
    return float(np.std(np.subtract(one.logprob, one.base_logprob)) / math.sqrt(len(one.logprob)))
