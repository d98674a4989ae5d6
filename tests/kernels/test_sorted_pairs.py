"""Sums over pairs, by sorting and by chunks, against all pairs in float64."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from rankwell.kernels import chunked_pairs, sorted_pairs
from rankwell.kernels.chunked_pairs import PHI, chunked_sums
from rankwell.kernels.sorted_pairs import SORTED, sorted_sums
from rankwell.lists import offsets_from_sizes
from rankwell.losses.laws import peak_bytes

LABELS = {
    "binary": lambda n, draw: torch.rand(n, generator=draw) < 0.2,
    "grades": lambda n, draw: torch.randint(0, 5, (n,), generator=draw),
    "fractions": lambda n, draw: (torch.rand(n, generator=draw) * 8).floor() / 3 - 1,
    "distinct": lambda n, draw: torch.randperm(n, generator=draw) - 3,
}
SIZES = {"one list": [200], "ragged": [0, 3, 1, 80, 0, 0, 60], "many": [5] * 12}


def terms(phi, gap):
    """The formulas, for all pairs."""
    if phi == "exponential":  # beyond a gap of -64, the tangent there
        beyond = (-gap - 64).clamp(min=0)
        return (-gap - beyond).exp() * (1 + beyond)
    return {
        "logistic": lambda: torch.log1p((-gap.abs()).exp()) + (-gap).clamp(min=0),
        "soft_zero_one": lambda: 1 / (1 + gap.exp()),
        "hinge": lambda: (1 - gap).relu(),
        "squared_hinge": lambda: (1 - gap).relu() ** 2,
        "square": lambda: gap**2,
        "any_square": lambda: gap**2,
    }[phi]()


def brute(scores, labels, weights, where, offsets, phi):
    scores, weights = (x.double().clone().requires_grad_() for x in (scores, weights))
    sums, counts = [], []
    for some in map(slice, offsets[:-1], offsets[1:]):
        s, y, w = (x[some][where[some]] for x in (scores, labels, weights))
        pairs = y[:, None] > y
        w = w[:, None].expand(len(w), len(w))
        if phi == "any_square":
            pairs, w = torch.ones_like(pairs).triu(1), (w + w.T) / 2
        sums.append((w * torch.where(pairs, terms(phi, s[:, None] - s), 0)).sum())
        counts.append(pairs.sum().double())
    sums = torch.stack(sums)
    return sums.detach(), torch.stack(counts), *torch.autograd.grad(sums.sum(), [scores, weights])


def arguments(kind, sizes, *, dtype=torch.float32, shift=0.0, grid=None, masked=True, spread=2.0):
    draw = torch.Generator().manual_seed(len(sizes))
    offsets = offsets_from_sizes(torch.tensor(sizes))
    n = int(offsets[-1])
    scores = spread * torch.randn(n, generator=draw, dtype=torch.double)
    scores = (scores if grid is None else (scores / grid).round() * grid) + shift
    where = torch.rand(n, generator=draw) < (0.7 if masked else 2)
    weights = torch.rand(n, generator=draw) if masked else torch.ones(()).expand(n)
    labels = LABELS[kind](n, draw)
    scores, labels = (torch.where(where, x.to(dtype), 0) for x in (scores, labels))
    return scores, labels, weights.to(dtype).mul(where) if masked else weights.to(dtype), where, offsets


def agree(got, expected, tolerance):
    for ours, theirs in zip(got, expected, strict=True):
        assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


@pytest.fixture
def always_sorted(monkeypatch):
    """No list is short."""
    monkeypatch.setattr(sorted_pairs, "SHORT", 0)
    monkeypatch.setattr(sorted_pairs, "SHORT_OF_MANY_LEVELS", 0)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("phi", SORTED)
@pytest.mark.usefixtures("always_sorted")
def test_sorted_is_all_pairs(phi, kind, sizes):
    for own in ({"shift": 1000.0}, {"grid": 0.25}, {"masked": False}, {"shift": 1000.0, "grid": 0.25}):
        args = arguments(kind, sizes, **own)
        agree(sorted_sums(*args, phi, 1.0), brute(*args, phi), 1e-6)
        args = arguments(kind, sizes, dtype=torch.double, **own)
        agree(sorted_sums(*args, phi, 1.0), brute(*args, phi), 1e-12)


@pytest.mark.parametrize("phi", ["hinge", "squared_hinge"])
def test_last_bits_go_by_pairs(phi, monkeypatch):
    called = []
    monkeypatch.setattr(sorted_pairs, "chunked_sums", lambda *args: (called.append(1), chunked_sums(*args))[1])
    for sizes in ([600], [0, 400, 1, 300]):
        args = arguments("distinct", sizes)
        agree(sorted_sums(*args, phi, 1.0), brute(*args, phi), 1e-6)
    assert len(called) == 2


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.usefixtures("always_sorted")
def test_runs_are_independent(kind, monkeypatch):
    args = arguments(kind, [40, 0, 0, 0, 3, 70, 1, 90, 0])
    whole = sorted_sums(*args, "hinge", 1.0)
    monkeypatch.setattr(sorted_pairs, "RUN_ITEMS", 64)
    monkeypatch.setattr(sorted_pairs, "RUN_LISTS", 2)
    for ours, expected in zip(sorted_sums(*args, "hinge", 1.0), whole, strict=True):
        assert_close(ours, expected)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.usefixtures("always_sorted")
def test_keys_that_leave_no_room_for_positions_are_sorted_by_torch(kind, monkeypatch):
    args = arguments(kind, [50, 30])
    expected = sorted_sums(*args, "hinge", 1.0)
    packed = sorted_pairs._packed
    places = []
    monkeypatch.setattr(sorted_pairs, "_packed", lambda *args: (places.append(args[-1]), packed(*args))[1])
    monkeypatch.setattr(sorted_pairs, "_order", partial(_with_bits, sorted_pairs._order))
    for ours, theirs in zip(sorted_sums(*args, "hinge", 1.0), expected, strict=True):
        assert_close(ours, theirs)
    assert set(places) == {0}


def _with_bits(order, group, _, *rest):
    return order(group, 30, *rest)


@pytest.mark.usefixtures("always_sorted")
def test_scores_that_are_not_finite_stay_in_their_list():
    scores = torch.tensor([1.0, 0.5, torch.inf, 0.0, 2.0, 1.0])
    labels, offsets = torch.tensor([0.0, 1.0] * 3), torch.tensor([0, 2, 4, 6])
    for bad in (torch.inf, -torch.inf, torch.nan):
        scores[2] = bad
        sums, _, slopes, _ = sorted_sums(
            scores, labels, torch.ones(6), torch.ones(6, dtype=torch.bool), offsets, "squared_hinge", 1.0
        )
        assert sums[1].isnan()
        assert_close(sums[[0, 2]], torch.tensor([1.5**2, 2.0**2]))
        assert_close(slopes[[0, 1, 4, 5]], torch.tensor([3.0, -3.0, 4.0, -4.0]))


def test_pair_at_the_margin_has_no_slope_however_the_margin_rounds():
    """In float32, .8 + .1 rounds to the float32 next to .9: above or below it decides whether the pair counts."""
    for better, worse, margin in ((0.9, 0.8, 0.1), (0.3, 0.1, 0.2), (1.25, 0.25, 1.0), (0.7, 0.4, 0.3)):
        scores = torch.tensor([better, worse]).repeat_interleave(100)
        labels = torch.tensor([1.0, 0.0]).repeat_interleave(100)
        gap = scores[0].double() - scores[-1].double()
        args = scores, labels, torch.ones(200), torch.ones(200, dtype=torch.bool), torch.tensor([0, 200])
        _, _, slopes, _ = sorted_sums(*args, "hinge", margin)
        assert_close(slopes[0], torch.tensor(-100.0 if gap < margin else 0.0))


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("phi", PHI)
def test_chunks_are_all_pairs(phi, kind, sizes, monkeypatch):
    for spread in (2.0, 30.0):  # beyond the range of the exponentials of rows and columns
        args = arguments(kind, sizes, spread=spread)
        expected = brute(*args, phi)
        for size in (1 << 16, 1 << 9):
            monkeypatch.setattr(chunked_pairs, "CHUNK_PAIRS", size)
            agree(chunked_sums(*args, phi, 1.0), expected, 2e-6)


@pytest.mark.parametrize("sizes", [[200], [1], [3, 203]], ids=["groups", "one item", "odd"])
@pytest.mark.parametrize("kind", LABELS)
def test_rectangles_are_all_pairs(kind, sizes, monkeypatch):
    """Eight pairs at a time; beside them what is left of tiles whose rows have different labels."""
    monkeypatch.setattr(chunked_pairs, "MANY_PAIRS", 0)
    monkeypatch.setattr(chunked_pairs, "GROUPED_TILE_ROWS", 16)
    monkeypatch.setattr(chunked_pairs, "BLOCK_ITEMS", 1)
    for own in ({"shift": 1000.0, "spread": 10.0}, {"masked": False}):
        args = arguments(kind, sizes, dtype=torch.double, **own)
        expected = brute(*args, "logistic")
        for size in (1 << 16, 1 << 6):
            monkeypatch.setattr(chunked_pairs, "CHUNK_PAIRS", size)
            agree(chunked_sums(*args, "logistic", 1.0), expected, 1e-12)


@pytest.mark.parametrize("kind", ["binary", "grades", "distinct"])
def test_memory_of_a_long_list(kind):
    n = 100_000
    args = arguments(kind, [n], masked=False)
    for phi in ("hinge", "squared_hinge"):
        sorted_sums(*args, phi, 1.0)
        assert peak_bytes(lambda phi=phi: sorted_sums(*args, phi, 1.0)) <= 100 * n
