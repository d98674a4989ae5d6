"""The closest points of two curves, against a search of the dense grid of their points."""

from math import cos, pi, radians

import pytest
import torch
from torch import tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from rankwell.kernels.arcs import Ends, nearest_points, shortest, squared_distances

SHARES = torch.linspace(0, 1, 201, dtype=torch.double)
FORMS = pytest.mark.parametrize("linear", [True, False], ids=["segments", "arcs"])


def ends(x1, x2, y1, y2, linear):
    def dot(a, b):
        return (a * b).sum(-1)

    squares = tuple(dot(v, v) for v in (x1, x2, y1, y2)) if linear else None
    return Ends(dot(x1, x2), dot(y1, y2), dot(x1, y1), dot(x1, y2), dot(x2, y1), dot(x2, y2), squares)


def points(start, end, linear):
    """Of each curve, evenly spaced: straight, or along the arc."""
    t = SHARES[:, None]
    if linear:
        return (1 - t) * start[:, None] + t * end[:, None]
    across = normalize(end - (start * end).sum(-1, keepdim=True) * start, dim=-1)
    angle = (start * end).sum(-1).clamp(-1, 1).acos()[:, None, None] * t
    return angle.cos() * start[:, None] + angle.sin() * across[:, None]


def curves(linear, dimensions, spread=1.0):
    draw = torch.Generator().manual_seed(dimensions)
    x = torch.randn(4, 150, dimensions, generator=draw, dtype=torch.double)
    x[1:] = x[:1] + spread * x[1:]
    return x if linear else normalize(x, dim=-1)


@FORMS
@pytest.mark.parametrize("dimensions", [2, 3, 6])
@pytest.mark.parametrize("spread", [0.3, 1.0, 5.0])
def test_closed_form_is_the_least_of_the_grid(linear, dimensions, spread):
    """Not above any point of the grid, and below the least by what a step of the grid is good for."""
    x1, x2, y1, y2 = curves(linear, dimensions, spread)
    grid = torch.cdist(points(x1, x2, linear), points(y1, y2, linear)).square().flatten(1).amin(-1)
    found = shortest(ends(x1, x2, y1, y2, linear))
    step = ((x1 - x2).square().sum(-1) + (y1 - y2).square().sum(-1) if linear else 2 * pi**2) / 200**2
    assert (found <= grid + 1e-12).all()
    assert (found >= grid - step).all()


@FORMS
def test_weights_give_the_points(linear):
    all_ends = ends(*curves(linear, 3), linear)
    weights = nearest_points(all_ends)
    x1, x2, y1, y2 = weights.unbind(-1)
    assert (weights >= -1e-12).all()
    # Ties are taken up to 2e-6 of squared distances of unit vectors.
    assert_close(squared_distances(all_ends, (x1, x2), (y1, y2)), shortest(all_ends), rtol=0.0, atol=1e-4)


def on_globe(*degrees):
    """Unit vectors at (longitude, latitude)."""
    turned = [tensor([radians(x), radians(y)], dtype=torch.double) for x, y in degrees]
    return [torch.stack([x.cos() * y.cos(), x.sin() * y.cos(), y.sin()])[None] for x, y in turned]


def chord(degrees):
    return tensor([2 - 2 * cos(radians(degrees))], dtype=torch.double)


def test_arcs_that_cross_meet():
    assert_close(shortest(ends(*on_globe((-20, 0), (20, 0), (0, -20), (0, 20)), False)), chord(0), rtol=0.0, atol=1e-12)


def test_end_above_the_middle_of_an_arc():
    """A meridian that starts 10 degrees above the equator."""
    assert_close(shortest(ends(*on_globe((-20, 0), (20, 0), (0, 10), (0, 40)), False)), chord(10))


def test_arcs_of_one_great_circle_are_as_near_as_their_ends():
    assert_close(shortest(ends(*on_globe((0, 0), (20, 0), (50, 0), (70, 0)), False)), chord(30))


def test_inner_points_between_skew_segments():
    """One along x at height 0, one along y at height 2."""
    x1, x2, y1, y2 = tensor([[-1.0, 0, 0], [1.0, 0, 0], [0, -1.0, 2], [0, 3.0, 2]]).double()[:, None]
    assert_close(shortest(ends(x1, x2, y1, y2, True)), tensor([4.0]).double())
    assert_close(nearest_points(ends(x1, x2, y1, y2, True)), tensor([[0.5, 0.5, 0.75, 0.25]]).double())


def test_parallel_segments():
    x1, x2, y1, y2 = tensor([[0.0, 0], [4, 0], [6, 1], [2, 1]])[:, None]
    assert_close(shortest(ends(x1, x2, y1, y2, True)), tensor([1.0]))
    assert_close(shortest(ends(x1, x2, y1 + 10, y2 + 10, True)), tensor([8.0**2 + 11**2]))


@FORMS
def test_curves_that_are_points(linear):
    x, y = tensor([[0.6, 0.8]]), tensor([[1.0, 0.0]])
    both = ends(x, x, y, y, linear)
    assert_close(shortest(both), tensor([0.16 + 0.64]))
    assert_close(nearest_points(both), tensor([[1.0, 0.0, 1.0, 0.0]]))


def test_opposite_ends_have_no_arc_between_them():
    x1, y1, y2 = tensor([[1.0, 0.0]]), tensor([[0.6, 0.8]]), tensor([[0.0, 1.0]])
    assert_close(shortest(ends(x1, -x1, y1, y2, False)), tensor([2 - 2 * 0.6]))


@FORMS
def test_single_precision_is_near_double(linear):
    x = curves(linear, 4)
    single = shortest(ends(*x.float(), linear))
    assert_close(single.double(), shortest(ends(*x, linear)), rtol=1e-5, atol=1e-5)
