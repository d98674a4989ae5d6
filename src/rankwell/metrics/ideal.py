"""The best order a list could have, where ``ideal`` names relevant items that were not retrieved."""

from collections.abc import Callable
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Bool, Real
from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import Dense, Flat, Lists, open_lists
from rankwell.types import Ragged

__all__ = ["Discount", "GainOf", "Ideal", "IdealLabels", "discounted", "open_ideal"]

IdealLabels: TypeAlias = Real[Tensor, "..."] | Bool[Tensor, "..."] | Ragged | tuple[Tensor, Tensor]
"""Labels of all relevant items of each list: ``[*batch, m]`` padded with zeros, or ragged: offsets and labels."""


Discount: TypeAlias = Literal["shifted", "original"]
"""At position p, counted from 1: :math:`1 / \\log_2(1 + p)`, or :math:`1 / \\max(1, \\log_2 p)`."""

GainOf: TypeAlias = Callable[[Tensor, Tensor | None], Tensor]
"""Gains of labels; over any number of each list where its highest label is given, which broadcasts."""


def discounted(places: Tensor, k: int | None, kind: Discount = "shifted") -> Tensor:
    """The logarithmic discount at positions counted from 0, in float64; 0 from position ``k`` on."""
    if kind not in ("shifted", "original"):
        raise InputError(f"discount must be 'shifted' or 'original': got {kind!r}.")
    places = places.double()
    discount = 1 / torch.log2(places + 2 if kind == "shifted" else (places + 1).clamp(min=2))
    return discount if k is None else torch.where(places < k, discount, 0)


@final
class Ideal:
    """Labels of all relevant items, best first, list by list."""

    def __init__(self, lists: Lists, labels: Tensor, places: Tensor) -> None:
        self._lists, self._labels, self._places = lists, labels, places
        self._known: dict[tuple[object, ...], Tensor] = {}

    def positives(self, rel: float) -> Tensor:
        """Relevant items of each list."""
        if ("positives", rel) not in self._known:
            relevant = (self._labels >= rel).to(self._labels.dtype)
            self._known["positives", rel] = self._lists.sum(relevant)
        return self._known["positives", rel]

    def irrelevant(self, rel: float) -> Tensor:
        """Items of each list that are judged, and not relevant: labels from 0 to below ``rel``."""
        irrelevant = (self._labels >= 0) & (self._labels < rel)
        return self._lists.sum(irrelevant.to(self._labels.dtype))

    def highest(self) -> Tensor:
        """The highest label of each list."""
        return self._lists.largest(self._labels)

    def spoilt(self) -> Tensor:
        """Lists with a NaN."""
        return self._lists.sum(self._labels).isnan()

    def dcg(self, k: int | None, gain: GainOf, discount: Discount, *, relative: bool) -> Tensor:
        """DCG at ``k`` of each list's best order."""
        key = k, gain, discount, relative
        if key not in self._known:
            at = discounted(self._places, k, discount).to(self._labels.dtype)
            gained = gain(self._labels, self._lists.spread(self.highest()) if relative else None)
            self._known[key] = self._lists.sum(gained * at)
        return self._known[key]


def open_ideal(ideal: IdealLabels, batch: torch.Size, dtype: torch.dtype) -> Ideal:
    """Check the labels of all relevant items against the lists they belong to, and order them."""
    if isinstance(ideal, tuple):
        return _open_ragged(Ragged(*ideal), batch, dtype)
    if ideal.ndim == 0 or ideal.shape[:-1] != batch:
        raise InputError(
            f"ideal must be [*batch, m] with the batch of the scores, {tuple(batch)}: got {tuple(ideal.shape)}."
        )
    labels = ideal.to(dtype).reshape(batch.numel(), ideal.shape[-1]).sort(dim=-1, descending=True).values
    return Ideal(Dense(labels, None), labels, torch.arange(labels.shape[-1], device=labels.device))


def _open_ragged(ideal: Ragged, batch: torch.Size, dtype: torch.dtype) -> Ideal:
    values = ideal.values.to(dtype)
    lists = open_lists(values, values, where=None, weights=None, offsets=ideal.offsets).lists
    assert isinstance(lists, Flat)
    if lists.lengths.numel() != batch.numel():
        raise InputError(f"ideal must have a list for each of the {batch.numel()} lists: got {lists.lengths.numel()}.")
    by_label = values.argsort(descending=True, stable=True)
    by_list = lists.segment[by_label].argsort(stable=True)
    places = torch.arange(values.numel(), device=values.device) - ideal.offsets[lists.segment]
    return Ideal(lists, values[by_label[by_list]], places)
