"""Phase portraits of three outcomes against SciPy's integration, finite differences and the flow's own limits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from sharpen.cli.main import main
from sharpen.objective import InputError, Objective, preset
from sharpen.theory.core.flow import limit, softmax_field, vector_field
from sharpen.theory.core.problem import Problem
from sharpen.theory.instability.phase import basin_of, grid_shares, null_curves, portrait, simplex_grid, streamlines
from sharpen.theory.instability.phase_curves import trajectory
from sharpen.theory.optima.optimum import optimum

DOCS = Path(__file__).parents[3] / "docs" / "theory-phase.md"
PROBLEM = Problem([0.5, 0.3, 0.2], [0, 1, 0])
UNEQUAL = Problem([0.5, 0.3, 0.2], [0, 1, 0], [1, 2, 4])
SELF = Objective(alpha=2.0, reference="policy")
SELF_REWARD = Objective(alpha=2.0, beta_inv=1.0, reference="policy")
SELF_MEAN = Objective(alpha=2.0, beta_inv=1.0, normalization="mean", reference="policy")
BISTABLE = [
    pytest.param(SELF, PROBLEM, id="plain"),
    pytest.param(SELF_REWARD, PROBLEM, id="reward"),
    pytest.param(SELF_MEAN, UNEQUAL, id="lengths"),
]


def integrated_end(objective: Objective, problem: Problem, field: str, start: np.ndarray, time: float) -> int:
    """Return the winner of the flow, integrated in probabilities with A written out for these objectives."""
    weight = 1.0 / problem.length if objective.normalization == "mean" else np.ones(3)
    reward = problem.reward * (objective.beta_inv > 0)  # w_p - w_h = 1 in all of them

    def velocity(_: float, pi: np.ndarray) -> np.ndarray:
        pi = np.maximum(pi, 1e-250)
        advantage = reward + weight * np.log(pi)
        g = pi * (advantage - pi @ advantage)
        return g if field == "natural" else pi * (g - pi @ g)

    done = solve_ivp(velocity, (0, time), start, method="LSODA", rtol=1e-9, atol=1e-14)
    return int(np.argmax(done.y[:, -1]))


@pytest.mark.parametrize(("objective", "problem"), BISTABLE)
@pytest.mark.parametrize("field", ["natural", "softmax"])
def test_basins_are_where_scipy_ends(objective: Objective, problem: Problem, field: str) -> None:
    found = portrait(objective, problem, field)
    near_vertices = 0.03 + 0.91 * np.eye(3)  # the smallest basin is a twentieth of the simplex
    starts = np.concatenate([near_vertices, np.random.default_rng(0).dirichlet(np.ones(3), 60)])
    index = basin_of(found, starts)
    time = 60.0 if field == "natural" else 4000.0
    ends = [integrated_end(objective, problem, field, start, time) for start in starts]
    assert index.tolist() == ends
    assert len(set(ends)) == 3


@pytest.mark.parametrize(("objective", "problem"), BISTABLE)
@pytest.mark.parametrize("field", ["natural", "softmax"])
def test_either_side_of_a_border_ends_apart(objective: Objective, problem: Problem, field: str) -> None:
    found = portrait(objective, problem, field)
    for border in found.separatrices:
        i, j = border.saddle
        points = border.points
        middle = 0.5 * (points[0] + points[-1]) if len(points) == 2 else points[len(points) // 3]
        for winner, loser in ((i, j), (j, i)):
            start = middle.copy()
            start[winner] += 1e-3
            start[loser] -= 1e-3
            assert integrated_end(objective, problem, field, start, 5000.0) == winner


@settings(deadline=None, max_examples=30)
@given(st.data(), st.floats(0.3, 4.0), st.sampled_from([0.0, 0.5, 2.0]))
def test_exact_basins_are_the_flows_limits(
    kit: SimpleNamespace, data: st.DataObject, excess: float, beta_inv: float
) -> None:
    objective = Objective(alpha=1.0 + excess, beta_inv=beta_inv, reference="policy")
    problem = Problem([0.5, 0.3, 0.2], data.draw(st.lists(st.floats(-1, 1), min_size=3, max_size=3)))
    found = portrait(objective, problem)
    assert found.exact
    start = data.draw(kit.policies(3))
    end = limit(objective, problem, start)
    index = int(basin_of(found, [start])[0])
    if index < 0:
        assert np.sum(end > 0) > 1
    else:
        np.testing.assert_allclose(found.basins[index].end, end)


def test_integrated_basins_are_the_flows_limits() -> None:
    found = portrait(SELF_MEAN, UNEQUAL)
    starts = np.random.default_rng(3).dirichlet(np.ones(3), 40)
    for start, index in zip(starts, basin_of(found, starts), strict=True):
        np.testing.assert_allclose(found.basins[index].end, limit(SELF_MEAN, UNEQUAL, start))


@pytest.mark.parametrize(("objective", "problem"), BISTABLE)
@pytest.mark.parametrize("field", ["natural", "softmax"])
def test_shares_add_up_and_agree_with_the_grid(objective: Objective, problem: Problem, field: str) -> None:
    found = portrait(objective, problem, field)
    shares = [basin.share for basin in found.basins]
    np.testing.assert_allclose(sum(shares), 1.0, rtol=1e-9)
    np.testing.assert_allclose(grid_shares(found, 300), shares, atol=5e-3)  # ties on the borders are in no basin
    assert found.exact == ((field == "natural" and problem is PROBLEM) or objective == SELF)


def test_shares_in_closed_form() -> None:
    np.testing.assert_allclose([basin.share for basin in portrait(SELF, PROBLEM, "softmax").basins], 1 / 3)
    # Borders w_i pi_i = w_j pi_j; with w = (1, e, 1) the basin of outcome 1 has this area.
    e = np.e
    centre, side = 1 / (2 + 1 / e), e / (1 + e)
    corner = np.array([[1, 0], [1 - side, side], [centre / e, centre], [1 - side, 0]])  # (pi_1, pi_0)
    x, y = corner.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    np.testing.assert_allclose(portrait(SELF_REWARD, PROBLEM).basins[1].share, area, rtol=1e-12)


def test_integrated_borders_reproduce_the_straight_ones() -> None:
    """Lengths that differ by one part in 10^7 take the integrated path and must give the exact shares."""
    nearly = Problem(PROBLEM.base, PROBLEM.reward, [1, 1, 1 + 1e-7])
    found = portrait(SELF_MEAN, nearly)
    assert not found.exact
    exact = [basin.share for basin in portrait(SELF_REWARD, PROBLEM).basins]
    np.testing.assert_allclose([basin.share for basin in found.basins], exact, atol=1e-6)


@pytest.mark.parametrize("field", ["natural", "softmax"])
@pytest.mark.parametrize(("objective", "problem"), BISTABLE)
def test_borders_are_invariant(objective: Objective, problem: Problem, field: str) -> None:
    """Along a border the flow is tangent to it."""
    found = portrait(objective, problem, field)
    velocity = vector_field if field == "natural" else softmax_field
    for border in found.separatrices:
        points = border.points
        if len(points) == 2:
            points = np.linspace(points[0], points[1], 50)
        for before, here, after in zip(points[10:-12], points[11:-11], points[12:-10], strict=True):
            tangent = after - before
            v = velocity(objective, problem, here)
            cosine = abs(tangent @ v) / (np.linalg.norm(tangent) * np.linalg.norm(v))
            assert cosine > 1 - 1e-3


@pytest.mark.parametrize("field", ["natural", "softmax"])
@pytest.mark.parametrize(
    ("objective", "problem"), [(preset("tempered"), PROBLEM), (SELF, PROBLEM), (SELF_MEAN, UNEQUAL)]
)
def test_a_trajectory_goes_with_the_flow_in_even_steps_until_little_moves(
    objective: Objective, problem: Problem, field: str
) -> None:
    velocity = vector_field if field == "natural" else softmax_field
    found = portrait(objective, problem, field)
    for start in np.array([[0.35, 0.33, 0.32], [0.01, 0.09, 0.9]]):  # slow at first near the repeller, or fast
        curve = trajectory(found.line, start, found.field)
        steps = np.linalg.norm(np.diff(curve, axis=0), axis=1)
        assert steps.max() < 1.2 * steps.min()  # chords, shorter where the path bends
        flow = np.array([velocity(objective, problem, pi) for pi in curve])
        speeds = np.linalg.norm(flow, axis=1)
        assert speeds[-1] == pytest.approx(1e-4 * speeds.max(), rel=0.1)
        tangents = (curve[2:] - curve[:-2]) / np.linalg.norm(curve[2:] - curve[:-2], axis=1)[:, None]
        cosines = np.sum(tangents * flow[1:-1], axis=1) / speeds[1:-1]
        assert cosines.min() > 0.98


def test_one_basin_with_entropy() -> None:
    for field in ("natural", "softmax"):
        found = portrait(preset("tilted", beta_inv=2.0), PROBLEM, field)
        best = optimum(preset("tilted", beta_inv=2.0), PROBLEM)
        assert [basin.share for basin in found.basins] == [1.0]
        np.testing.assert_allclose(found.basins[0].end, best.probabilities)
        assert found.separatrices == ()
        for curve in streamlines(found, 3):
            assert np.linalg.norm(curve[-1] - best.probabilities) < 0.03
            np.testing.assert_allclose(curve.sum(axis=1), 1.0, rtol=1e-12)


def test_one_basin_without_entropy() -> None:
    vertex = portrait(preset("sharpening"), PROBLEM).basins[0]
    assert (vertex.support, vertex.continuum, vertex.share) == ((0,), False, 1.0)
    face = portrait(preset("task-reward"), Problem([0.5, 0.3, 0.2], [0, 1, 1])).basins[0]
    assert (face.support, face.continuum) == ((1, 2), True)
    np.testing.assert_allclose(face.end, [0.0, 0.6, 0.4])
    rest = portrait(Objective(alpha=1.0, reference="policy"), PROBLEM)
    assert rest.basins[0].support == (0, 1, 2)
    assert null_curves(rest) == ((), (), ())
    assert all(len(curve) == 1 for curve in streamlines(rest, 2))


@pytest.mark.parametrize("field", ["natural", "softmax"])
@pytest.mark.parametrize(
    ("objective", "problem"), [(preset("tempered"), PROBLEM), (preset("sharpening"), PROBLEM), (SELF_MEAN, UNEQUAL)]
)
def test_nullclines_are_where_a_probability_rests(objective: Objective, problem: Problem, field: str) -> None:
    velocity = vector_field if field == "natural" else softmax_field
    curves = null_curves(portrait(objective, problem, field))
    assert sum(len(of_one) for of_one in curves) >= 1
    for i, of_one in enumerate(curves):
        for curve in of_one:
            for pi in curve[::20]:
                v = velocity(objective, problem, pi)
                assert abs(v[i]) < 1e-3 * np.abs(v).max() + 1e-4


@pytest.mark.parametrize(
    ("objective", "problem"), [(preset("tempered"), PROBLEM), (SELF_REWARD, PROBLEM), (SELF_MEAN, UNEQUAL)]
)
def test_softmax_eigenvalues_by_finite_differences(objective: Objective, problem: Problem) -> None:
    found = portrait(objective, problem, "softmax")
    inner = next(i for i, point in enumerate(found.points) if len(point.support) == 3)
    pi, h = found.points[inner].probabilities, 1e-6
    basis = np.linalg.qr(np.ones((3, 1)), mode="complete")[0][:, 1:]
    columns = [
        (softmax_field(objective, problem, pi + h * b) - softmax_field(objective, problem, pi - h * b)) / (2 * h)
        for b in basis.T
    ]
    numeric = np.sort(np.linalg.eigvals(basis.T @ np.array(columns).T).real)[::-1]
    np.testing.assert_allclose(found.eigenvalues[inner], numeric, rtol=1e-6, atol=1e-9)
    natural = portrait(objective, problem)
    assert [point.kind for point in natural.points] == [point.kind for point in found.points]


@pytest.mark.parametrize("resolution", [1, 2, 7])
def test_the_grid_tiles_the_simplex(resolution: int) -> None:
    grid = simplex_grid(resolution)
    assert grid.shape == (resolution**2, 3)
    assert np.all(grid > 0)
    np.testing.assert_allclose(grid.sum(axis=1), 1.0)
    np.testing.assert_allclose(grid.mean(axis=0), 1 / 3)
    assert len(np.unique(grid.round(9), axis=0)) == resolution**2


@pytest.mark.parametrize(
    "bad",
    [
        lambda: portrait(SELF, Problem([0.5, 0.5], [0, 1])),
        lambda: portrait(SELF, Problem([0.5, 0.5, 0.0], [0, 1, 0])),
        lambda: portrait(SELF, PROBLEM, "euclidean"),
        lambda: portrait(Objective(alpha=2.0, beta_inv=100.0, reference="policy"), PROBLEM, "softmax"),
        lambda: basin_of(portrait(SELF, PROBLEM), [[0.5, 0.5, 0.0]]),
        lambda: basin_of(portrait(SELF, PROBLEM), [0.5, 0.3, 0.2]),
        lambda: simplex_grid(0),
        lambda: simplex_grid(2001),
    ],
)
def test_bad_input(bad: object) -> None:
    assert callable(bad)
    with pytest.raises(InputError):
        bad()


# The command.


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["theory", "phase", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


@pytest.mark.parametrize(
    ("flags", "classes", "basins"),
    [
        (["--preset", "task-reward"], {"stable": 1, "unstable": 1}, 1),
        (["--preset", "sharpening"], {"stable": 1, "saddle": 1, "unstable": 1}, 1),
        ([], {"stable": 1, "saddle": 3, "unstable": 3}, 1),
        (["--preset", "tilted"], {"stable": 1, "saddle": 3, "unstable": 3}, 1),
        (["--reference", "policy", "--alpha", "2"], {"stable": 3, "saddle": 3, "unstable": 1}, 3),
    ],
)
@pytest.mark.parametrize("field", ["natural", "softmax"])
def test_json(
    flags: list[str], classes: dict[str, int], basins: int, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run([*flags, "--field", field, "--json", "--resolution", "30"], capsys)
    assert (code, err) == (0, "")
    report = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    kinds = [point["class"] for point in report["fixed_points"]]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == classes
    assert report["field"] == field
    assert len(report["basins"]) == basins
    assert len(report["separatrices"]) == (3 if basins == 3 else 0)
    for point in report["fixed_points"]:
        assert len([float(x) for x in point["eigenvalues"]]) == 2
    for border in report["separatrices"]:
        ends = np.array(border["points"])[[0, -1]]
        np.testing.assert_allclose(ends, [[0.5 * (i in border["saddle"]) for i in range(3)], [1 / 3] * 3])
    assert len(report["streamlines"]) == 25
    assert len(report["nullclines"]) == 3


@pytest.mark.parametrize(
    "flags",
    [[], ["--preset", "task-reward", "--reward", "1,2"], ["--reference", "policy", "--alpha", "2", "--beta-inv", "1"]],
)
def test_the_table_fits_eighty_columns(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(flags, capsys)
    assert code == 0
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "…" not in out
    assert "% of the simplex" in out


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize(
    "flags",
    [
        ["--reference", "policy", "--alpha", "2", "--beta-inv", "1", "--field", "softmax"],
        ["--preset", "task-reward", "--reward", "1,2"],
        ["--reference", "policy", "--alpha", "1"],
    ],
    ids=["three-basins", "face", "at-rest"],
)
def test_plots_are_deterministic(
    suffix: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / f"figure{suffix}"
    assert run([*flags, "--plot", str(path)], capsys)[0] == 0
    first = path.read_bytes()
    assert len(first) > 5000
    assert run([*flags, "--plot", str(path)], capsys)[0] == 0
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--base", "uniform:4"], "base"),
        (["--base", "0.5,0.5,0"], "base"),
        (["--field", "euclidean"], "field"),
        (["--resolution", "0"], "resolution"),
        (["--plot", "figure.gif"], "figure"),
        (["--reward", "1,2,3,4"], "reward"),
        (["--reference", "policy", "--alpha", "2", "--beta-inv", "1000", "--field", "softmax"], "field"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"error: {word}")


def test_the_documented_examples_are_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```console\n\$ sharpen theory phase(.*?)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) == 1
    for flags, shown in blocks:
        code, out, _ = run(flags.split(), capsys)
        assert code == 0
        assert [line.rstrip() for line in out.strip().splitlines()] == shown.strip().splitlines()
