"""LightGBM's ndcg and map of given scores, under the preset of its name."""

import numpy as np
import pytest
import torch

from rankwell.lists import offsets_from_sizes
from rankwell.metrics import Measure

pytestmark = pytest.mark.filterwarnings("ignore")

CUTS = [1, 3, 5, 30]


def test_ndcg_and_map() -> None:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed (extra parity)")
    draw = np.random.default_rng(0)
    sizes = draw.integers(2, 25, 40)
    labels, scores = draw.integers(0, 5, sizes.sum()), draw.normal(size=sizes.sum()).round(1)
    labels[: sizes[0]] = 0
    # Scores as a start that training does not move.
    data = lightgbm.Dataset(np.zeros((len(labels), 1)), label=labels, group=sizes, init_score=scores)
    settings = {"objective": "lambdarank", "metric": ["ndcg", "map"], "eval_at": CUTS, "num_threads": 1, "verbose": -1}
    seen: dict[str, dict[str, list[float]]] = {}
    lightgbm.train(
        settings | {"learning_rate": 1e-30},
        data,
        num_boost_round=1,
        valid_sets=[data],
        valid_names=["same"],
        callbacks=[lightgbm.record_evaluation(seen)],
    )
    offsets = offsets_from_sizes(torch.from_numpy(sizes))
    for name in ("ndcg", "map"):
        for k in CUTS:
            measure = Measure.parse(f"{name}@{k}", preset="lightgbm")
            ours = measure(torch.from_numpy(scores), torch.from_numpy(labels), offsets=offsets).item()
            assert ours == pytest.approx(seen["same"][f"{name}@{k}"][0], abs=1e-12), measure
