"""LightGBM's built-in ``lambdarank``, which has a gradient and no value."""

import functools

import numpy as np
import torch
from comparisons import Comparison, Data, Loss
from torch import Tensor

from rankwell.lists import offsets_from_sizes
from rankwell.losses import lambda_rank_loss

SIZES = (6, 8)
SIGMA = 1.5


def scored() -> Data:
    """Two lists of graded items; no two scores tie."""
    draw = np.random.default_rng(0)
    n = sum(SIZES)
    return {
        "scores": torch.tensor(draw.permutation(n) * 0.21 - 2),
        "labels": torch.tensor(draw.integers(0, 4, n)),
        "offsets": offsets_from_sizes(torch.tensor(SIZES)),
    }


def ours(k: int, norm: bool) -> Loss:
    """The sum over lists."""
    return functools.partial(lambda_rank_loss, k=k, norm=norm, temperature=1 / SIGMA, reduction="sum")


def settings(k: int, norm: bool) -> Loss:
    """Theirs."""
    return lambda: {"lambdarank_truncation_level": k, "lambdarank_norm": norm, "sigmoid": SIGMA}


def by_leaves(loss: Loss, data: Data, _: tuple[str, ...]) -> tuple[None, list[Tensor]]:
    """The gradient of each item, read from the leaf that it falls into.

    A leaf is the sum of gradients over the sum of hessians and a constant of ours, so that two constants, 0 and 1, give the
    gradient. An item alone may have too little hessian for a leaf: it shares its leaf with the whole of the other list,
    whose gradients sum to zero.
    """
    queries = np.repeat(np.arange(2), SIZES)
    gradients = []
    for item in range(len(queries)):
        feature = ((np.arange(len(queries)) == item) | (queries != queries[item]))[:, None].astype(float)
        without, within = (_leaf(feature, data, loss() | {"lambda_l2": constant}) for constant in (0.0, 1.0))
        gradients.append(1 / (1 / without - 1 / within))
    return None, [torch.tensor(gradients, dtype=torch.double)]


def _leaf(feature: np.ndarray, data: Data, own: dict[str, object]) -> float:
    import lightgbm

    sets = {"min_data_in_bin": 1, "feature_pre_filter": False, "verbose": -1}
    given = lightgbm.Dataset(
        feature, label=data["labels"].numpy(), group=list(SIZES), init_score=data["scores"].numpy(), params=sets
    )
    free = {"min_data_in_leaf": 0, "min_sum_hessian_in_leaf": 0, "num_leaves": 2, "learning_rate": 1.0}
    trained = lightgbm.train({"objective": "lambdarank", "num_threads": 1, "verbose": -1, **free, **own}, given, 1)
    return float(trained.predict(np.ones((1, 1)))[0])


COMPARISONS = [
    Comparison(
        f"lambda_rank(k={k}{', norm' if norm else ''})", f"lambdarank(truncation {k}{', norm' if norm else ''})",
        scored, ours(k, norm), settings(k, norm),
        "sum over lists; temperature is one over sigmoid; a gradient only, its sigmoid read from a table", 1e-5,
        run=by_leaves,
    )
    for k, norm in ((3, False), (30, True))
]  # fmt: skip
