r"""Logistic sums over rectangles of pairs: every item of some rows with every item of some columns, eight pairs at a time.

With :math:`a_i = e^{-s_i}` of a row and :math:`b_j = e^{s_j}` of a column, a group of rows has at a column the value and the
force

.. math:: \sum_i \log(1 + a_i b_j) = \log P(b_j), \qquad
    \sum_i w_i \frac{a_i b_j}{1 + a_i b_j} = \frac{Q(b_j)}{P(b_j)},

with polynomials :math:`P(x) = \prod_i (1 + a_i x)` and :math:`Q(x) = \sum_i w_i a_i x \prod_{k \ne i} (1 + a_k x)`. Their
coefficients are sums of products of positive numbers: nothing cancels, and :math:`P - 1` keeps its digits where it is small.
The values of many groups at many columns are one matrix product of coefficients and powers; a logarithm and a division serve
all pairs of a group. The same with rows and columns exchanged gives each row's value and force.

All of it is in float64, whose range holds the eighth power of the odds, and whose products are never rounded to TF32 or
bfloat16 on their way.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["GROUP", "Rectangles"]

GROUP = 8
"""Items of a group. Scores may lie 64 apart: ``e^(8 * 64)`` is far below the largest number of float64."""


class Rectangles:
    """Sums so far, of items ``[n]`` that are rows or columns; all grow with :meth:`add`."""

    def __init__(self, above: Tensor, below: Tensor, weights: Tensor) -> None:
        """Of ``e^-s`` of the rows and ``e^s`` of the columns, both 0 for an item that is none; and the rows' weights."""
        self._items = above.shape[0]
        above, below, weights = (_padded(x.double()) for x in (above, below, weights))
        self._rows, self._columns = _side(above, weights), _side(below, torch.ones_like(below))
        self._values, self._by_rows, self._by_columns = above.new_zeros(3, above.shape[0])

    def add(self, rows: slice, columns: slice) -> None:
        """Add a rectangle. Both slices start at a multiple of ``GROUP``, and end there or at the last row or column."""
        of_rows, of_columns = self._rows.at(rows), self._columns.at(columns)
        products, forces = of_rows.products @ of_columns.powers, of_rows.forces @ of_columns.powers
        self._by_columns[of_columns.items] += forces.div_(products.add_(1)).sum(0)
        powers = of_rows.powers.T
        products, forces = powers @ of_columns.products.T, powers @ of_columns.forces.T
        self._values[of_rows.items] += torch.log1p(products).sum(-1)
        self._by_rows[of_rows.items] += forces.div_(products.add_(1)).sum(-1)

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Each row's value and force, before its weight; and each column's force, after the weights of its rows."""
        values, by_rows, by_columns = (x[: self._items] for x in (self._values, self._by_rows, self._by_columns))
        return values, by_rows, by_columns


class _Side(NamedTuple):
    """Items as one side of pairs."""

    items: slice
    powers: Tensor
    """``[GROUP, n]``: from the first power on."""
    products: Tensor
    """``[groups, GROUP]``: coefficients of P - 1, by rising power."""
    forces: Tensor
    """``[groups, GROUP]``: coefficients of Q."""

    def at(self, items: slice) -> "_Side":
        groups = slice(items.start // GROUP, -(-items.stop // GROUP))
        items = slice(items.start, groups.stop * GROUP)
        return _Side(items, self.powers[:, items], self.products[groups], self.forces[groups])


def _side(x: Tensor, weights: Tensor) -> _Side:
    groups, weights = x.view(-1, GROUP, 1), weights.view(-1, GROUP, 1)
    products, forces = x.new_zeros(2, len(groups), GROUP + 1)
    products[:, 0] = 1
    for i in range(GROUP):  # one more factor 1 + x_i
        forces[:, 1:] += groups[:, i] * (forces + weights[:, i] * products)[:, :-1]
        products[:, 1:] += groups[:, i] * products[:, :-1]
    return _Side(slice(0, x.shape[0]), x.expand(GROUP, -1).cumprod(0), products[:, 1:], forces[:, 1:])


def _padded(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x, (0, -x.shape[0] % GROUP))
