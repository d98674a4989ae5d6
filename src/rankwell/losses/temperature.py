"""A temperature that is learned along with the model, for any loss of scores."""

# mypy: allow-untyped-calls

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from rankwell.errors import ConfigError, InputError
from rankwell.lists import check_positive, in_full_precision
from rankwell.losses.grid import check_similarity, open_embeddings
from rankwell.losses.registry import LOSSES, stateful_loss
from rankwell.registry import Input, Search
from rankwell.similarity import normalise
from rankwell.types import Kind, Mask

__all__ = ["LearnedTemperature"]

KINDS: dict[str, Kind] = {"scores": "list", "pos": "contrast", "queries": "embedding"}
"""The kind of a loss by its first argument."""

DIVIDED: dict[Kind, dict[str, str]] = {
    "list": {"scores": "where"},
    "contrast": {"pos": "pos_where", "neg": "where"},
    "embedding": {},
}
"""What the temperature divides, and by which mask it is there, for each kind."""

_FLOOR = "the floor of its estimate depends on the temperature"
_THRESHOLD = "its threshold is held against scores as they are"
_NOISE = "its noise joins the scores before the temperature does"

REFUSED = {
    "debiased_contrastive": _FLOOR,
    "hard_contrastive": _FLOOR,
    "pirank": "its value is that of the hard order, which no temperature changes",
    "psl": "its activation stands between scores and temperature",
    "softmax_at_k": _THRESHOLD,
    "listwise_softmax_at_k": _THRESHOLD,
    "gumbel_approx_ndcg": _NOISE,
    "gumbel_neural_ndcg": _NOISE,
}
"""Losses that are no function of scores over temperature."""


@stateful_loss(name="learned_temperature", paper="radford2021")
class LearnedTemperature(nn.Module):
    r"""A loss of scores divided by a temperature that is a parameter.

    .. math:: \ell = f\!\left(\frac{s}{\tau}\right), \qquad \tau = \max(e^a, \tau_{\min})

    It is called as the loss is, less its ``temperature``. List and contrast losses get their scores divided; embedding losses
    get embeddings whose similarities are the divided ones. A loss without a temperature of its own (``softmax``, ``bpr``)
    gets one so. One that falls steadily as scores shrink, or as they grow, drives it to an end. Time and memory as the loss's.

    The parameter is :math:`a`, ``log_temperature``: give it to the optimiser, without weight decay. ``update()``, once a step,
    puts it back into its range, as CLIP does. Outside of the range the value is that of the range's end, and the gradient
    passes, so that it finds its way back.

    Choose it around a loss of cosines in long training where runs for a search of the temperature cannot be paid for,
    as in CLIP; for short runs a few fixed temperatures on validation data are safer. Not around
    :func:`~rankwell.losses.decoupled_softmax_loss`, :func:`~rankwell.losses.bsl_loss` or another loss that falls on as
    scores are sharpened: the temperature may run to its least.

    Args:
        loss: a list, contrast or embedding loss, or its name; a configured one is a ``functools.partial``.
        temperature: where it starts.
        least: :math:`\tau_{\min}`. CLIP's greatest scale, 100, is 0.01.

    Raises:
        InputError: if ``temperature`` or ``least`` is not above 0, or the first is below the second.
        ConfigError: if the loss is of another kind, is no function of scores over temperature, has its temperature bound, or is
            an embedding loss whose similarity cannot be chosen.

    >>> loss = LearnedTemperature(loss="info_nce", temperature=0.5)
    >>> value = loss(torch.eye(2), torch.eye(2))  # log(1 + e^-2)
    >>> value.backward()
    >>> value.detach(), loss.log_temperature.grad  # by log t: 2 / (1 + e^2)
    (tensor(0.1269), tensor(0.2384))

    Source: :cite:`radford2021`, section 2.5. Differs from it: other losses than the symmetric InfoNCE, which is
    ``partial(info_nce_loss, symmetric=True)``; the range holds in the value too. The paper's form of ``bsl`` is without its
    factor :math:`\tau`.
    """

    log_temperature: nn.Parameter

    def __init__(
        self,
        *,
        loss: str | Callable[..., Tensor] = "info_nce",
        temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 0.07,
        least: float = 0.01,
    ) -> None:
        super().__init__()
        check_positive(temperature, "temperature")
        check_positive(least, "least")
        if temperature < least:
            raise InputError(f"temperature must not start below its least, {least}: got {temperature}.")
        self.loss = LOSSES[loss].function if isinstance(loss, str) else loss
        self.call, self.takes, self.inputs = _examined(self.loss)
        self.lowest = math.log(least)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    @property
    def temperature(self) -> Tensor:
        """The temperature, inside its range."""
        a = self.log_temperature
        return (a + (a.clamp(min=self.lowest) - a).detach()).exp()

    def forward(self, *args: Tensor, **named: Any) -> Tensor:
        """The loss of scores and labels, positives and negatives, or queries and items."""
        named |= dict(zip(self.takes, args, strict=False))
        named.pop("overwrite", None)  # a permission, of no use here
        if "temperature" in self.takes:
            named["temperature"] = 1.0
        if self.call == "embedding":
            given = ("queries", "items", "where", "similarity")
            named |= self._embeddings(**{name: named[name] for name in given if name in named})
        for name, mask in DIVIDED[self.call].items():
            named[name] = _present(named[name], named.get(mask)) / self.temperature
        return self.loss(**named)

    def _embeddings(
        self, queries: Tensor, items: Tensor, where: Mask | None = None, similarity: str | None = None
    ) -> dict[str, Any]:
        """Embeddings whose similarities are the given ones' over the temperature, and which similarity that is."""
        similarity = self.takes["similarity"].default if similarity is None else similarity
        check_similarity(similarity)
        queries, items, _ = open_embeddings(queries, items, where)
        if similarity == "cosine":
            queries, items, similarity = normalise(queries), normalise(items), "dot"
        if similarity == "dot":
            return {"queries": queries / self.temperature, "items": items, "similarity": similarity}
        scale = self.temperature if similarity == "euclidean" else self.temperature.sqrt()
        return {"queries": queries / scale, "items": items / scale, "similarity": similarity}

    @torch.no_grad()
    def update(self) -> None:
        """Put the parameter back into its range, once a step, behind the optimiser's."""
        self.log_temperature.clamp_(min=self.lowest)

    def extra_repr(self) -> str:
        """The configuration."""
        return f"loss={getattr(self.loss, '__name__', type(self.loss).__name__)}, least={math.exp(self.lowest):.4g}"


def _examined(loss: Callable[..., Tensor]) -> tuple[Kind, dict[str, inspect.Parameter], Mapping[str, Input]]:
    """The kind of the loss, its parameters and declared inputs, if its scores can be divided by a temperature."""
    inner: Any = loss
    while isinstance(inner, partial):
        if "temperature" in inner.keywords:
            raise ConfigError("the temperature is learned: leave it out of the configured loss.")
        inner = inner.func
    entry = next((entry for entry in LOSSES if entry.function is inner), None)
    name = entry.name if entry else getattr(inner, "__name__", type(inner).__name__)
    if name in REFUSED:
        raise ConfigError(f"loss {name!r} cannot have a learned temperature: {REFUSED[name]}.")
    takes = dict(inspect.signature(loss).parameters)
    kind = entry.kind if entry else KINDS.get(next(iter(takes), ""))
    if kind not in KINDS.values():
        raise ConfigError(
            f"a learned temperature needs a list, contrast or embedding loss: {name!r} is of kind {kind!r}."
        )
    if kind == "embedding" and "similarity" not in takes:
        raise ConfigError(
            f"loss {name!r} has no similarity that can be chosen: its scores cannot be divided by a temperature."
        )
    return kind, takes, entry.inputs if entry else {}  # type: ignore[return-value]


def _present(x: Tensor, where: Mask | None) -> Tensor:
    """Zeros where masked: what stands there, times 0, would reach the temperature. What does not fit, the loss complains of."""
    x = in_full_precision(x)
    if where is None or where.dtype != torch.bool:
        return x
    padded = (1,) * (x.ndim - where.ndim) + tuple(where.shape)
    fits = len(padded) == x.ndim and all(a in (1, b) for a, b in zip(padded, x.shape, strict=True))
    return torch.where(where, x, 0) if fits else x
