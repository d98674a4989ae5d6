r"""The closest points of two arcs on the unit sphere, or of two segments, in closed form from the inner products of their ends.

**Arcs** shorter than half a circle. With :math:`x(\alpha) = x_1 \cos\alpha + \hat x_2 \sin\alpha` for
:math:`0 \le \alpha \le A` (:math:`\hat x_2` is what of :math:`x_2` is perpendicular to :math:`x_1`, at length one) and
:math:`y(\beta)` likewise, the cosine of two points is, with the 2 x 2 inner products M of both bases,

.. math:: 2\, x \cdot y = (M_{11} + M_{22}) \cos(\alpha - \beta) + (M_{21} - M_{12}) \sin(\alpha - \beta)
    + (M_{11} - M_{22}) \cos(\alpha + \beta) + (M_{21} + M_{12}) \sin(\alpha + \beta)

Both halves are sinusoids of an angle of their own, so that the one inner maximum, up to half a turn of both, is where both
peak. By the conditions of Karush, Kuhn and Tucker the nearest points are there, if that is within both arcs; or an end of
one arc and the peak of the other; or two ends: nine candidates.

**Segments.** The squared distance is convex in both positions: the inner solution, the four ends with the nearest point
of the other segment, and, of the same nine, the four pairs of ends.
"""

# mypy: allow-untyped-calls

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Ends", "nearest_points", "shortest", "squared_distances", "tolerance"]

TOLERANCE = 2e-6
"""Of squared distances of unit vectors: candidates that are so near each other count as ties, and the first is taken, so
that rounding does not choose."""

SHORTEST = 1e-6
"""Squared sine of the shortest arc that has inner points; leaving those of a shorter one out costs 1e-7."""


class Ends(NamedTuple):
    """Inner products of the ends of one curve, x1 and x2, and of another, y1 and y2; all broadcast."""

    xx: Tensor
    yy: Tensor
    x1y1: Tensor
    x1y2: Tensor
    x2y1: Tensor
    x2y2: Tensor
    squares: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
    """Squared lengths of x1, x2, y1, y2; None for unit vectors, whose curves are arcs."""


def squared_distances(ends: Ends, x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> Tensor:
    """Of two points, given by the weights of each curve's ends; arcs' points are brought back to the sphere."""
    cross = x[0] * (y[0] * ends.x1y1 + y[1] * ends.x1y2) + x[1] * (y[0] * ends.x2y1 + y[1] * ends.x2y2)
    one = torch.ones_like(ends.xx)
    x1, x2, y1, y2 = ends.squares or (one, one, one, one)
    of_x = x[0].square() * x1 + x[1].square() * x2 + 2 * x[0] * x[1] * ends.xx
    of_y = y[0].square() * y1 + y[1].square() * y2 + 2 * y[0] * y[1] * ends.yy
    return 2 - 2 * cross * (of_x * of_y).rsqrt() if ends.squares is None else of_x + of_y - 2 * cross


def shortest(ends: Ends) -> Tensor:
    """Squared distance of the nearest points."""
    return torch.stack(_Arcs.of(ends).costs() if ends.squares is None else _segments(ends)[0]).amin(0)


def nearest_points(ends: Ends) -> Tensor:
    """Weights ``[..., 4]`` of x1, x2, y1, y2 in the nearest points."""
    if ends.squares is None:
        arcs = _Arcs.of(ends)
        candidates, (x, y) = arcs.costs(), arcs.weights()
    else:
        candidates, x, y = _segments(ends)
    costs = torch.stack(candidates)
    first = (costs <= costs.amin(0) + tolerance(ends)).int().argmax(0, keepdim=True)
    return torch.stack([part.gather(0, first)[0] for part in (*x, *y)], -1)


def tolerance(ends: Ends) -> Tensor | float:
    """What counts as a tie of squared distances."""
    if ends.squares is None:
        return TOLERANCE
    return TOLERANCE / 4 * sum(ends.squares[1:], start=ends.squares[0])


Weights = tuple[Tensor, Tensor]


class _Arcs(NamedTuple):
    """Two arcs in the bases of their planes."""

    ends: Ends
    x: tuple[Tensor, Tensor, Tensor]
    """Length, its sine, and whether there are inner points."""
    y: tuple[Tensor, Tensor, Tensor]
    m: tuple[Tensor, Tensor, Tensor]
    """The inner products of the bases, 12, 21 and 22; 11 is that of x1 and y1."""
    across: tuple[Tensor, Tensor]
    """Inner products of the second basis vector of x with y2, and of that of y with x2."""

    @classmethod
    def of(cls, ends: Ends) -> "_Arcs":
        ends = Ends(*torch.broadcast_tensors(*ends[:6]))
        xx, yy, x1y1, x1y2, x2y1, x2y2, _ = ends
        x, y = _arc(xx), _arc(yy)
        m21, of_y2 = (x2y1 - xx * x1y1) / x[1], (x2y2 - xx * x1y2) / x[1]
        m12, of_x2 = (x1y2 - yy * x1y1) / y[1], (x2y2 - yy * x2y1) / y[1]
        return cls(ends, x, y, (m12, m21, (of_y2 - yy * m21) / y[1]), (of_y2, of_x2))

    def peak(self) -> tuple[Tensor, Tensor, Tensor]:
        """The cosine where both sinusoids peak, and its place in the half turn of x above 0."""
        m11, (m12, m21, m22) = self.ends.x1y1, self.m
        minus, plus = (m21 - m12, m11 + m22), (m21 + m12, m11 - m22)
        of_minus, of_plus = torch.atan2(*minus), torch.atan2(*plus)
        turn = torch.where(of_minus + of_plus < 0, math.pi, 0)
        return (_length(*minus) + _length(*plus)) / 2, (of_plus + of_minus) / 2 + turn, (of_plus - of_minus) / 2 + turn

    def costs(self) -> list[Tensor]:
        """Squared distances of the nine candidates, infinite for a peak outside of its arc."""
        _, _, x1y1, x1y2, x2y1, x2y2, _ = self.ends
        (m12, m21, _), (of_y2, of_x2) = self.m, self.across
        cosine, alpha, beta = self.peak()
        inside = (alpha > 0) & (alpha < self.x[0]) & (beta > 0) & (beta < self.y[0]) & self.x[2] & self.y[2]
        return [
            *(2 - 2 * corner for corner in (x1y1, x1y2, x2y1, x2y2)),
            _of_edge(x1y1, m21, self.ends.xx, self.x), _of_edge(x1y2, of_y2, self.ends.xx, self.x),
            _of_edge(x1y1, m12, self.ends.yy, self.y), _of_edge(x2y1, of_x2, self.ends.yy, self.y),
            torch.where(inside, 2 - 2 * cosine, torch.inf),
        ]  # fmt: skip

    def weights(self) -> tuple[Weights, Weights]:
        """Weights of the ends in the nine candidates."""
        _, _, x1y1, x1y2, x2y1, _, _ = self.ends
        (m12, m21, _), (of_y2, of_x2) = self.m, self.across
        (a, sine_x, _), (b, sine_y, _) = self.x, self.y
        zero = torch.zeros_like(a)
        _, alpha, beta = self.peak()
        on_y1, on_y2 = torch.atan2(m21, x1y1), torch.atan2(of_y2, x1y2)
        on_x1, on_x2 = torch.atan2(m12, x1y1), torch.atan2(of_x2, x2y1)
        alphas = torch.stack([zero, zero, a, a, on_y1, on_y2, zero, a, alpha])
        betas = torch.stack([zero, b, zero, b, zero, b, on_x1, on_x2, beta])
        x = ((a - alphas).sin() / sine_x, alphas.sin() / sine_x)
        return x, ((b - betas).sin() / sine_y, betas.sin() / sine_y)


def _arc(cosine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Length, its sine, and whether there are inner points: not of a point, nor between opposites. Those get a quarter
    turn, which makes the weights of the ends 1 and 0 all the same."""
    squares = 1 - cosine.square()
    inner = squares > SHORTEST
    return torch.where(inner, cosine.clamp(-1, 1).acos(), math.pi / 2), torch.where(inner, squares, 1).sqrt(), inner


def _of_edge(along: Tensor, up: Tensor, cosine: Tensor, arc: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Squared distance of an end to the peak of ``along cos + up sin`` on the other arc: the slope is up where the arc
    starts, and down where it ends."""
    inside = (up > 0) & (up * cosine < along * arc[1]) & arc[2]
    return torch.where(inside, 2 - 2 * _length(along, up), torch.inf)


def _length(one: Tensor, other: Tensor) -> Tensor:
    return (one.square() + other.square()).sqrt()


def _segments(ends: Ends) -> tuple[list[Tensor], Weights, Weights]:
    """Squared distances and weights of the nine candidates."""
    assert ends.squares is not None
    xx, yy, x1y1, x1y2, x2y1, x2y2, xs1, xs2, ys1, ys2 = torch.broadcast_tensors(*ends[:6], *ends.squares)
    # With u = x2 - x1, v = y2 - y1, w = x1 - y1: d^2 = |w + t u - r v|^2.
    uu, vv, uv = (xs1 + xs2 - 2 * xx).clamp(min=0), (ys1 + ys2 - 2 * yy).clamp(min=0), x2y2 - x2y1 - x1y2 + x1y1
    uw, vw = xx - xs1 - x2y1 + x1y1, x1y2 - yy - x1y1 + ys1
    zero, one = torch.zeros_like(uu), torch.ones_like(uu)
    determinant = uu * vv - uv.square()
    inner = determinant > 1e-6 * uu * vv  # else they are parallel, and an end is as near as any point
    determinant = torch.where(inner, determinant, 1)
    t, r = (uv * vw - vv * uw) / determinant, (uu * vw - uv * uw) / determinant
    inner &= (t > 0) & (t < 1) & (r > 0) & (r < 1)
    candidates = [
        (zero, zero), (zero, one), (one, zero), (one, one),
        (_share(-uw, uu), zero), (_share(uv - uw, uu), one), (zero, _share(vw, vv)), (one, _share(vw + uv, vv)),
        (torch.where(inner, t, 0), torch.where(inner, r, 0)),
    ]  # fmt: skip
    ts, rs = (torch.stack(parts) for parts in zip(*candidates, strict=True))
    x, y = (1 - ts, ts), (1 - rs, rs)
    costs = squared_distances(Ends(xx, yy, x1y1, x1y2, x2y1, x2y2, (xs1, xs2, ys1, ys2)), x, y)
    return list(costs), x, y


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """The quotient within [0, 1]; 0 where the whole is 0."""
    return (part / torch.where(whole > 0, whole, 1)).clamp(0, 1)
