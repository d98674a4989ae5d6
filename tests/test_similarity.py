import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from rankwell.similarity import SIMILARITIES, dot, normalise


@pytest.fixture
def vectors():
    return torch.randn(2, 2, 5, 3, dtype=torch.double, generator=torch.Generator().manual_seed(0)).unbind()


REFERENCES = {
    "dot": lambda q, i: (q * i).sum(-1),
    "cosine": lambda q, i: functional.cosine_similarity(q, i, dim=-1),
    "euclidean": lambda q, i: -(q - i).norm(dim=-1),
    "squared_euclidean": lambda q, i: -(q - i).square().sum(-1),
}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_pair_by_pair(name, vectors):
    queries, items = vectors
    expected = REFERENCES[name](queries[..., :, None, :], items[..., None, :, :])
    assert_close(SIMILARITIES[name](queries, items), expected)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_gradient(name, vectors):
    leaves = [x[0].clone().requires_grad_() for x in vectors]
    assert torch.autograd.gradcheck(SIMILARITIES[name], leaves, fast_mode=True)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_equal_and_zero_vectors_have_finite_gradients(name):
    queries = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    SIMILARITIES[name](queries, queries.detach().clone()).sum().backward()
    assert queries.grad.isfinite().all()


def test_normalise_has_length_one_at_any_size():
    vectors = torch.tensor([[3.0, 4.0], [3e-6, 4e-6], [3e15, 4e15]])
    assert_close(normalise(vectors), torch.tensor([[0.6, 0.8]]).expand(3, 2))
    assert torch.equal(normalise(torch.zeros(2)), torch.zeros(2))


@pytest.mark.parametrize("name", SIMILARITIES)
def test_autocast_multiplies_in_full_precision(name):
    queries, items = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).unbind()
    with torch.autocast("cpu", torch.bfloat16):
        scores = SIMILARITIES[name](queries, items)
    assert torch.equal(scores, SIMILARITIES[name](queries, items))


@pytest.mark.parametrize("name", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("offset", [3.0, -1e4])
def test_distances_far_from_the_origin(name, offset):
    """|q|^2 + |i|^2 - 2 q.i about the origin: off by 1e-7 of the squared lengths."""
    queries, items = (offset + 0.5 * torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))).unbind()
    exact = REFERENCES[name](queries.double()[:, None], items.double()[None])
    assert_close(SIMILARITIES[name](queries, items).double(), exact, rtol=2e-6, atol=0.0)


def test_masked_and_infinite_items_do_not_move_the_centre():
    """Masked items are zeros; one that has diverged must not take the others with it."""
    items = 1e3 + torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    items[1], items[2] = 0, torch.inf
    found = SIMILARITIES["squared_euclidean"](items[:1], items)[0, [0, 3]].double()
    assert_close(found, -(items[0] - items[[0, 3]]).double().square().sum(-1), rtol=1e-5, atol=1e-5)


def test_no_items():
    assert SIMILARITIES["squared_euclidean"](torch.ones(2, 3), torch.ones(0, 3)).shape == (2, 0)


def test_products_of_shapes_alone():
    """On ``meta``, where torch has no autocast to switch off."""
    assert dot(torch.zeros(2, 3, device="meta"), torch.zeros(4, 3, device="meta")).shape == (2, 4)
