"""Few numbers of many, against torch's own operators on all."""

import pytest
import torch

from rankwell.kernels.few import few_nonzero, few_products, true_places


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("size", [(0,), (37,), (16, 64)])
def test_places_are_those_of_nonzero(share, size):
    mask = torch.rand(size, generator=torch.Generator().manual_seed(0)) < share
    wanted = mask.view(-1).nonzero().squeeze(1)
    assert true_places(mask).equal(wanted) and few_nonzero(mask).equal(wanted)
    assert few_nonzero(mask.to(torch.int16)).equal(wanted)


@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("n", [9, (1 << 16) + 3])
def test_products_are_those_of_the_matrix(count, n):
    """Columns of a number that sixteen bits hold, and not."""
    draw = torch.Generator().manual_seed(count)
    places = torch.randperm(5 * n, generator=draw)[:count].sort().values
    values, left, right = (torch.randn(size, generator=draw).double() for size in ((len(places),), (5, 3), (n, 3)))
    matrix = torch.zeros(5 * n).double().index_copy(0, places, values).view(5, n)
    for got, wanted in zip(few_products(places, values, left, right), (matrix @ right, matrix.T @ left), strict=True):
        torch.testing.assert_close(got, wanted)
