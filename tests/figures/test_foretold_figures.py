"""The figures of what was forecast beside what training reached: the given points, and a title that is theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from sharpen.figures.paper.foretold import Foretold, plot_along_delta, plot_foretold


def test_gains_stand_at_their_deltas_and_the_title_says_both_ends(tmp_path: Path) -> None:
    gains = {"sharpening": {-1.0: (-0.3, -0.35, -0.25), 1.0: (0.25, 0.2, 0.31)}}
    law = {-1.0: -0.19, 0.0: 0.0, 1.0: 0.18}
    panel = Figure().subplots()
    plot_along_delta(gains, {at: (x, x - 0.01, x + 0.01) for at, x in law.items()}, law, "2 seeds", axes=panel)
    assert "-0.30 at δ = -1 and by +0.25 at +1" in panel.get_title("left") + panel.get_title()
    drawn = [one for one in panel.containers if isinstance(one, ErrorbarContainer)]
    (bars,) = (one for one in drawn if one.get_label() == "sharpening")
    x, y = (np.asarray(side, dtype=float) for side in bars.lines[0].get_data())
    np.testing.assert_allclose(x, [-1, 1])
    np.testing.assert_allclose(y, [-0.3, 0.25])
    plot_along_delta(gains, {}, law, "2 seeds", tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000


def test_the_title_says_how_far_off_the_forecasts_were() -> None:
    points = [
        Foretold("dial+1", "dial", (0.2, 0.1, 0.3), (0.25, 0.2, 0.3)),
        Foretold("larger", "SmolLM2", (0.1, 0.0, 0.2), (-0.05, -0.2, 0.1)),
    ]
    panel = Figure().subplots()
    plot_foretold(points, axes=panel)
    assert "0.100 apart on average, 0.15 at most" in panel.get_title("left") + panel.get_title()
    assert {one.get_label() for one in panel.containers} == {"1 models of the dial", "1 tasks of SmolLM2"}
    assert [text.get_text() for text in panel.texts] == ["larger"]
    low, high = panel.get_xlim()
    assert low <= -0.2
    assert high >= 0.3
    assert panel.get_ylim() == pytest.approx((low, high))
