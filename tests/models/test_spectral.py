import numpy as np
import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import take_lists
from rankwell.models.registry import check_known
from rankwell.models.spectral import normalised_interactions, spectral_start, truncated_svd
from rankwell.types import Ragged


def interactions(users: int, items: int, share: float, seed: int = 0) -> tuple[Ragged, Tensor]:
    """Random interactions, as lists and as a dense matrix; the last user and the last item have none."""
    matrix = torch.rand(users, items, generator=torch.Generator().manual_seed(seed)) < share
    matrix[-1], matrix[:, -1] = False, False
    return Ragged(torch.cat([torch.zeros(1), matrix.sum(1).cumsum(0)]).long(), matrix.nonzero()[:, 1]), matrix.double()


def normalised(matrix: Tensor) -> Tensor:
    roots = [degrees.clamp(min=1).rsqrt() for degrees in (matrix.sum(1), matrix.sum(0))]
    return roots[0][:, None] * matrix * roots[1]


@pytest.mark.parametrize(("users", "items"), [(64, 32), (61, 37), (5, 9)])
def test_normalised_by_degrees(users: int, items: int) -> None:
    known, matrix = interactions(users, items, 0.3)
    got = normalised_interactions(known, items)
    torch.testing.assert_close(got.rows.to_dense().double(), normalised(matrix), rtol=1e-6, atol=1e-6)
    assert torch.equal(got.columns.to_dense(), got.rows.to_dense().T)


@pytest.mark.parametrize(
    ("users", "items", "rank"), [(64, 32, 16), (61, 37, 7), (33, 90, 32), (9, 5, 4), (300, 200, 20)]
)
def test_svd_equals_the_dense_one(users: int, items: int, rank: int) -> None:
    known, matrix = interactions(users, items, 0.2)
    left, values, right = truncated_svd(known, items, rank, seed=0, iterations=30)
    u, s, vt = np.linalg.svd(normalised(matrix).numpy())
    np.testing.assert_allclose(values, s[:rank], atol=2e-4)
    best = (u[:, :rank] * s[:rank]) @ vt[:rank]
    np.testing.assert_allclose((left * values) @ right.T, best, atol=3e-3)
    present = values > 0
    for vectors in (left, right):
        torch.testing.assert_close(vectors.T @ vectors, torch.diag(present.float()), rtol=0, atol=2e-3)


def test_largest_singular_value_is_one() -> None:
    known, _ = interactions(200, 150, 0.1)
    assert truncated_svd(known, 150, 1, seed=0)[1].item() == pytest.approx(1, abs=1e-5)


def test_signs_are_fixed_and_a_seed_gives_the_same_bits() -> None:
    known, _ = interactions(80, 60, 0.2)
    first, again, other = (truncated_svd(known, 60, 8, seed=seed, iterations=20) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[2], other[2])
    torch.testing.assert_close(first[2], other[2], rtol=0, atol=1e-2)
    right = first[2]
    assert (right.gather(0, right.abs().argmax(0, keepdim=True)) > 0).all()


def test_a_lower_rank_leaves_zeros() -> None:
    # Two blocks of equal rows: rank 2.
    known = Ragged(torch.arange(0, 41, 4), torch.tensor([0, 2, 4, 6, 1, 3, 5, 7] * 5))
    left, values, right = truncated_svd(known, 9, 5, seed=0)
    torch.testing.assert_close(values, torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0]))
    assert not left[:, 2:].any()
    assert not right[:, 2:].any()


def test_nothing_known_has_no_directions() -> None:
    nothing = Ragged(torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert not any(part.any() for part in truncated_svd(nothing, 5, 2, seed=0))
    assert all(part.isfinite().all() and part.any(1).all() for part in spectral_start(nothing, 5, 2, 0))


def test_dot_start_approximates_the_interactions() -> None:
    known, matrix = interactions(40, 30, 0.3)
    users, items = spectral_start(known, 30, 30, 0, similarity="dot")
    torch.testing.assert_close((users @ items.T)[:-1, :-1].double(), matrix[:-1, :-1], rtol=0, atol=0.05)


@pytest.mark.parametrize("dim", [4, 64])
def test_cosine_start_has_rows_of_length_one(dim: int) -> None:
    known, _ = interactions(40, 30, 0.3)
    for vectors, count in zip(spectral_start(known, 30, dim, 0), (40, 30), strict=True):
        assert vectors.shape == (count, dim)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(count))
        assert vectors.any(0).all()  # beyond the rank there is noise


def test_inputs_are_checked() -> None:
    known, _ = interactions(6, 5, 0.5)
    with pytest.raises(InputError, match="rank must be from 1 to the smaller of users and items, 5: got 6"):
        truncated_svd(known, 5, 6, seed=0)
    with pytest.raises(InputError, match="similarity must be 'cosine' or 'dot': got 'euclidean'"):
        spectral_start(known, 5, 2, 0, similarity="euclidean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be codes from 0 to 1"):
        truncated_svd(known, 2, 1, seed=0)
    with pytest.raises(InputError, match=r"num_users \+ 1 = 8 integer offsets"):
        check_known(known, 7, 5)
    with pytest.raises(InputError, match="items of known must be integers"):
        check_known(Ragged(known.offsets, known.values.float()), 6, 5)
    with pytest.raises(InputError, match="must start at 0, not fall"):
        check_known(Ragged(known.offsets.flip(0), known.values), 6, 5)


def test_take_lists_of_any_queries() -> None:
    known, _ = interactions(20, 15, 0.4)
    queries = torch.tensor([19, 3, 3, 0, 7])
    taken = take_lists(known, queries)
    parts = [known.values[known.offsets[q] : known.offsets[q + 1]] for q in queries]
    assert torch.equal(taken.values, torch.cat(parts))
    assert taken.offsets.diff().tolist() == [len(part) for part in parts]
    assert take_lists(known, queries[:0]).offsets.tolist() == [0]


@pytest.mark.parametrize("queries", [[5, 0, 1, 0, 4, 3, 5], [0, 0], [4, 5], [5, 4], [1, 2, 3, 4]])
def test_take_lists_of_which_some_are_empty(queries: list[int]) -> None:
    lists = [[], [7, 8], [], [], [9, 7, 5], []]
    known = Ragged(torch.tensor([0, 0, 2, 2, 2, 5, 5]), torch.tensor([7, 8, 9, 7, 5]))
    taken = take_lists(known, torch.tensor(queries))
    assert taken.values.tolist() == [item for q in queries for item in lists[q]]
    assert taken.offsets.diff().tolist() == [len(lists[q]) for q in queries]
