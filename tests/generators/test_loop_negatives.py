import itertools

import pytest
import torch
from scenes import KNOWN, build, scene
from torch import Tensor

from rankwell.generators import LoopNegatives
from rankwell.generators import loop_negatives as loop_file
from rankwell.generators.loop_negatives import _Curves
from rankwell.kernels.arcs import Ends
from rankwell.types import Ragged


def along(one: Tensor, other: Tensor, unit: bool) -> Tensor:
    """Two hundred points of the curve between them."""
    shares = torch.linspace(0, 1, 200, dtype=torch.float64)[:, None]
    points = (1 - shares) * one.double() + shares * other.double()
    return points / points.norm(dim=1, keepdim=True) if unit else points


@pytest.mark.parametrize("unit", [False, True], ids=["segments", "arcs"])
def test_against_a_search_on_a_grid(unit):
    seen = scene(unit=unit)
    made = build("loop_negatives", k=5)(seen)
    assert made.beside and made.where.all()
    curves = [along(q, p, unit) for q, p in zip(seen.queries.detach(), seen.positives.detach(), strict=True)]
    for r in range(6):
        gaps = {s: torch.cdist(curves[r], curves[s]) for s in range(6) if s != r}
        order = sorted(gaps, key=lambda s: gaps[s].min().item())
        for k, s in enumerate(order):
            best = gaps[s].min().item()
            point = made.vectors[r, k].detach().double()
            # It lies on the other's curve, and as near to the row's own as the grid's nearest.
            assert torch.cdist(point[None], curves[s]).min() < 0.02
            assert torch.cdist(point[None], curves[r]).min() < best + 0.02


def test_rows_of_the_same_query_and_known_positives_are_left_out():
    seen = scene(4, query_ids=torch.tensor([0, 0, 2, 3]), positive_ids=torch.tensor([5, 7, 9, 11]))
    known = Ragged(torch.tensor([0, 2, 2, 2, 4]), torch.tensor([5, 7, 7, 9]))  # user 3 knows those of rows 1 and 2
    made = LoopNegatives(known, 30, 4, seed=0, k=4)(seen)
    assert made.where.sum(1).tolist() == [2, 2, 3, 1]  # rows 2, 3; likewise; all others; row 0
    ends = torch.stack([seen.queries[0], seen.positives[0]])
    weights = torch.linalg.lstsq(ends.T, made.vectors[3, 0][:, None]).solution
    assert torch.allclose(ends.T @ weights, made.vectors[3, 0][:, None], atol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    seen = scene()
    whole = build("loop_negatives")(seen)
    monkeypatch.setattr(loop_file, "CHUNK_CURVES", 12)  # two rows at a time
    parts = build("loop_negatives")(seen)
    assert parts.vectors.equal(whole.vectors) and parts.where.equal(whole.where)


def test_the_order_of_rows_is_irrelevant():
    seen = scene()
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    turned = seen._replace(
        queries=seen.queries[order], positives=seen.positives[order], query_ids=order, positive_ids=order
    )
    made, other = build("loop_negatives")(seen), build("loop_negatives")(turned)
    assert torch.allclose(made.vectors[order], other.vectors, atol=1e-6)


def test_no_more_rows_than_there_are():
    assert build("loop_negatives", k=50)(scene(3)).where.sum(1).tolist() == [2, 2, 2]
    assert len(KNOWN.values) == 9


def test_inner_products_of_ends_are_those_of_the_vectors():
    """The kernel is given what it asks for: every pair of ends once."""
    seen = scene(3)
    queries, positives = seen.queries.detach(), seen.positives.detach()
    ends = _Curves(queries, positives, linear=True)._ends(torch.tensor([0, 1]), torch.tensor([2, 0]))
    for place, (r, s) in enumerate(((0, 2), (1, 0))):
        points = {"x1": queries[r], "x2": positives[r], "y1": queries[s], "y2": positives[s]}
        for one, other in itertools.product("xy", repeat=2):
            if (one, other) == ("y", "x"):
                continue
            for i, j in ((1, 2),) if one == other else itertools.product((1, 2), repeat=2):
                name = one + other if one == other else f"{one}{i}{other}{j}"
                got = getattr(ends, name)[place]
                assert torch.allclose(got, points[f"{one}{i}"] @ points[f"{other}{j}"])
    assert isinstance(ends, Ends) and ends.squares is not None
