import pytest
import torch

from rankwell.errors import InputError
from rankwell.generators import clusters as clusters_file
from rankwell.generators.clusters import assign, k_means, residual_clusters

DRAWN = torch.Generator().manual_seed(0)


def test_three_heaps_are_found():
    heaps = torch.arange(60) % 3
    vectors = torch.eye(3)[heaps] * 10 + 0.1 * torch.randn(60, 3, generator=DRAWN)
    # Among five starts one has a vector of each heap.
    found = [assign(vectors, k_means(vectors, 3, seed=seed, iterations=20)) for seed in range(5)]
    assert any(len({(int(a), int(b)) for a, b in zip(heaps, one, strict=True)}) == 3 for one in found)


def test_every_iteration_lowers_the_squared_distance():
    vectors = torch.randn(200, 4, generator=DRAWN)
    sums = []
    for iterations in (1, 2, 4, 16):
        centres = k_means(vectors, 7, seed=2, iterations=iterations)
        sums.append((vectors - centres[assign(vectors, centres)]).square().sum().item())
    assert sums == sorted(sums, reverse=True) and sums[-1] < sums[0]


def test_the_second_level_is_of_what_the_first_leaves():
    """Two far heaps, each of two points that differ in the same way: the same second cluster on either side."""
    view = torch.tensor([[10.0, 0.0, 0.5], [10.0, 0.0, -0.5], [0.0, 10.0, 0.5], [0.0, 10.0, -0.5]])
    for seed in range(20):
        first, second, distances = residual_clusters([view], (2, 2), seed=seed)
        if first[0] == first[1] != first[2] == first[3] and len(second.unique()) == 2:
            break
    assert second[0] == second[2] != second[1] == second[3]
    assert distances[0, 1] == distances[1, 0] > 1 and distances.diagonal().abs().max() < 1e-3


def test_chunks_change_nothing(monkeypatch):
    vectors, centres = torch.randn(50, 3, generator=DRAWN), torch.randn(6, 3, generator=DRAWN)
    whole = assign(vectors, centres)
    assert whole.equal(torch.cdist(vectors, centres).argmin(1))
    monkeypatch.setattr(clusters_file, "CHUNK", 20)
    assert assign(vectors, centres).equal(whole)


def test_equal_items_and_too_many_clusters():
    first, second, distances = residual_clusters([torch.ones(3, 2)], (5, 5), seed=0)
    assert len(first.unique()) == len(second.unique()) == 1 and distances.shape == (3, 3)


def test_arguments():
    with pytest.raises(InputError, match="one row an item"):
        residual_clusters([torch.ones(3, 2), torch.ones(4, 2)], (2, 2), seed=0)
    with pytest.raises(InputError, match="clusters must be a whole number of at least 1: got 0"):
        residual_clusters([torch.ones(3, 2)], (2, 0), seed=0)
