import pytest
import torch
from scenes import DIM, build, scene
from torch import Tensor

from rankwell.errors import InputError
from rankwell.types import Hops


def shares_of(made: Tensor, positives: Tensor, picked: Tensor) -> Tensor:
    """α of made = α positive + (1 - α) picked, by least squares."""
    along = positives - picked
    return ((made - picked) * along).sum(-1) / along.square().sum(-1)


@pytest.mark.parametrize("pool", [False, True])
def test_one_hop_mixes_the_positive_with_the_hardest(pool):
    seen = scene(pool=pool)
    made = build("mixgcf")(seen)
    scores = torch.stack(
        [seen.queries[b] @ (seen.negatives if pool else seen.negatives[b]).T for b in range(6)]  # [b, n]
    )
    best = scores.argmax(1)
    picked = seen.negatives[best] if pool else seen.negatives[torch.arange(6), best]
    alpha = shares_of(made.vectors[:, 0], seen.positives, picked)
    assert ((alpha >= 0) & (alpha < 1)).all() and len(alpha.unique()) == 6
    expected = alpha[:, None] * seen.positives + (1 - alpha[:, None]) * picked
    assert torch.allclose(made.vectors[:, 0], expected, atol=1e-6)
    assert not made.beside and made.log_q is None


def test_alpha_is_uniform():
    seen = scene(4000, 1)
    made = build("mixgcf")(seen._replace(query_ids=torch.zeros(4000, dtype=torch.int64)))
    alpha = shares_of(made.vectors[:, 0], seen.positives, seen.negatives[:, 0]).detach()
    counts = torch.histc(alpha, 10, 0, 1)
    assert (counts - 400).square().sum() / 400 < 27.9  # chi-square, 9 degrees of freedom, 1 in 1,000


def test_several_have_candidates_of_their_own():
    """Column j belongs to negative j mod k."""
    seen = scene(n=7)
    made = build("mixgcf", k=3)(seen)
    assert made.vectors.shape == (6, 3, DIM)
    for b in range(6):
        for k in range(3):
            mine = seen.negatives[b, k::3]
            picked = mine[(mine @ seen.queries[b]).argmax()]
            alpha = shares_of(made.vectors[b, k], seen.positives[b], picked)
            assert torch.allclose(made.vectors[b, k], torch.lerp(picked, seen.positives[b], alpha), atol=1e-5)
            assert 0 <= alpha < 1


def test_a_group_without_candidates_is_masked():
    seen = scene(n=4)
    where = torch.ones(6, 4, dtype=torch.bool)
    where[1, [0, 2]] = False  # both candidates of the first of two negatives
    made = build("mixgcf", k=2)(seen._replace(where=where))
    assert made.where.tolist() == [[True, True], [False, True], *[[True, True]] * 4]
    assert made.vectors.isfinite().all()


@pytest.mark.parametrize("pool", [False, True])
def test_hops_are_picked_one_by_one_and_pooled(pool):
    """Two hops, pooled by their mean: each has its own hardest candidate and its own α."""
    seen = scene(pool=pool)
    drawn = torch.Generator().manual_seed(8)
    positives = torch.randn(6, 2, DIM, generator=drawn)
    negatives = torch.randn(*seen.negatives.shape[:-1], 2, DIM, generator=drawn)
    hops = Hops(positives, negatives, lambda layers: layers.mean(-2))
    made = build("mixgcf")(seen._replace(hops=hops)).vectors[:, 0]
    for b in range(6):
        of_row = negatives if pool else negatives[b]
        picked = torch.stack([of_row[(of_row[:, hop] @ seen.queries[b]).argmax(), hop] for hop in range(2)])
        # made = mean over hops of picked + α (positive - picked): two unknowns, four equations.
        along = (positives[b] - picked).T / 2
        alpha = torch.linalg.lstsq(along, (made[b] - picked.mean(0))[:, None]).solution
        assert torch.allclose((along @ alpha)[:, 0], made[b] - picked.mean(0), atol=1e-5)
        assert ((alpha >= 0) & (alpha < 1)).all() and alpha[0] != alpha[1]


def test_arguments():
    with pytest.raises(InputError, match="k must be a whole number of at least 1: got 0"):
        build("mixgcf", k=0)
    with pytest.raises(InputError, match=r"of at least as many candidates: got 2\. Sample more"):
        build("mixgcf", k=3)(scene(n=2))
