"""Losses of noisy scores: the mean over samples that Gumbel noise perturbs."""

# mypy: allow-untyped-calls

from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.comparisons import places
from rankwell.keyed import splitmix64
from rankwell.lists import Opened, check_count, check_positive, open_lists
from rankwell.losses.registry import ListLoss, list_loss
from rankwell.losses.smooth_rank import approx_ndcg_loss
from rankwell.losses.soft_sort import neural_ndcg_loss
from rankwell.metrics import Gain
from rankwell.registry import Input, Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["gumbel", "gumbel_approx_ndcg_loss", "gumbel_neural_ndcg_loss"]

RANDOM = {"key": Input("scalar", "count"), "generator": Input("scalar")}


def gumbel(list_loss: Callable[..., Tensor], *, samples: int = 8, beta: float = 1.0) -> ListLoss:
    r"""The list loss of scores under Gumbel noise, averaged over samples.

    .. math:: \ell = \frac{1}{S} \sum_{k=1}^{S} \ell_\text{inner}(s + \beta\, \epsilon_k, y), \qquad
        \epsilon = -\log(-\log u)

    The order of scores with noise is a draw of the Plackett–Luce model of :math:`s / \beta`, so that the loss sees rankings
    that the scores nearly give, and its gradient does not vanish where the best ranking is won by little.

    The noise is drawn by a ``generator``, for each item of each sample anew; or, without one, is a function of ``key``, the
    sample and the place that the item has in its list by score. That is the same on every machine and in any order,
    padding or batch. A key is a number, which all lists of the call share, or a tensor of one a list. Give another at every
    step: with the default, 0, the noise is the same in every call. A loop without keys takes a generator. Tensors among the
    inner loss's own arguments are repeated for each sample.

    Time and memory: ``samples`` times the inner loss's.

    Args:
        list_loss: what is averaged.
        samples: how many.
        beta: the noise's scale, in units of the scores.

    Raises:
        InputError: if ``samples`` is no whole number from 1, ``beta`` is not above 0, both a key and a generator are given, or
            the keys are neither one nor one a list.

    >>> from rankwell.losses import softmax_loss
    >>> noisy = gumbel(softmax_loss, samples=2, beta=1e-6)
    >>> noisy(torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 0.0, 0.0]), key=7)  # hardly any noise: log(1 + 1/e + e)
    tensor(1.4076)
    >>> draw = torch.Generator().manual_seed(0)  # made once, before the loop
    >>> first, second = (noisy(torch.tensor([2.0, 1.0]), torch.tensor([0.0, 1.0]), generator=draw) for step in range(2))
    >>> bool(first == second)
    False

    Source: :cite:`bruch2020`, and rax's transformation, whose defaults these are. Differs from TensorFlow Ranking, which
    takes a log-softmax of the noisy scores.
    """
    check_count(samples, "samples")
    check_positive(beta, "beta")

    def loss(
        scores: Scores,
        labels: Labels,
        *,
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        key: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        **own: Any,
    ) -> Tensor:
        opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
        noise = _noise(opened, key, generator, samples)
        repeat = _Repeat(samples, offsets)
        values = list_loss(
            repeat.joined(opened.scores + beta * noise),
            repeat(opened.labels),
            where=None if opened.where is None else repeat(opened.where),
            weights=None if weights is None else repeat(opened.weights.expand(opened.scores.shape)),
            offsets=repeat.offsets(),
            reduction="none",
            **{name: repeat(x) if isinstance(x, Tensor) and x.ndim else x for name, x in own.items()},
        )
        return opened.reduce(values.unflatten(0, (samples, -1)).mean(0) if repeat.ragged else values.mean(0), reduction)

    name = getattr(list_loss, "__name__", type(list_loss).__name__)
    loss.__name__ = loss.__qualname__ = f"gumbel_{name}"
    loss.__doc__ = f"``gumbel({name})``. {list_loss.__doc__ or ''}"
    return loss


class _Repeat:
    """Samples as more lists: stacked in front of dense ones, one behind the other for ragged ones."""

    def __init__(self, samples: int, offsets: Offsets | None) -> None:
        self._samples, self._offsets = samples, offsets
        self.ragged = offsets is not None

    def __call__(self, x: Tensor) -> Tensor:
        return self.joined(x.expand(self._samples, *x.shape))

    def joined(self, x: Tensor) -> Tensor:
        """What has the samples in front, in the layout of the lists."""
        return x.flatten(0, 1) if self.ragged else x

    def offsets(self) -> Offsets | None:
        """Those of all samples."""
        if self._offsets is None:
            return None
        starts = torch.arange(self._samples, device=self._offsets.device)[:, None] * self._offsets[-1]
        return torch.cat([self._offsets[:1], (starts + self._offsets[1:]).flatten()])


def _noise(opened: Opened, key: int | Tensor | None, generator: torch.Generator | None, samples: int) -> Tensor:
    """Standard Gumbel noise, ``[samples, *scores.shape]``."""
    scores = opened.scores
    if generator is not None:
        if key is not None:
            raise InputError("key and generator both say what the noise is: give one of them.")
        shape = (samples, *scores.shape)
        uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.double)
        uniform = uniform.to(scores.device).clamp(min=2.0**-53)
    else:
        keys = splitmix64(_keys(opened, key))
        sample = torch.arange(samples, device=scores.device).reshape(-1, *[1] * scores.ndim)
        bits = splitmix64(places(opened, scores).long() ^ splitmix64(keys + sample))
        uniform = (((bits >> 12) & ((1 << 52) - 1)).double() + 0.5) * 2.0**-52
    return -((-uniform.log()).log()).to(scores.dtype)


def _keys(opened: Opened, key: int | Tensor | None) -> Tensor:
    """Keys that broadcast to the scores."""
    if not isinstance(key, Tensor):
        return torch.full((1,), key or 0, device=opened.scores.device)
    if not key.ndim:
        return key[None]
    shape = opened.lists.count().shape
    if key.shape != shape:
        raise InputError(f"key must be a number, or one a list, {tuple(shape)}: got {tuple(key.shape)}.")
    return opened.lists.spread(key)


@list_loss(paper="bruch2020", complexity="samples n^2", inputs=RANDOM)
def gumbel_approx_ndcg_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    key: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    gain: Gain = "exponential",
    samples: int = 8,
    beta: Annotated[float, Search(0.01, 10.0, log=True)] = 1.0,
) -> Tensor:
    r"""ApproxNDCG of scores under Gumbel noise, averaged over samples.

    .. math:: \ell(s, y) = \frac{1}{S} \sum_{k=1}^{S} \ell_\text{ApproxNDCG}(s + \beta\, \epsilon_k, y)

    ``gumbel(approx_ndcg_loss)``: see :func:`gumbel` for the noise, :func:`~rankwell.losses.approx_ndcg_loss` for the rest. Time
    and memory ``samples`` times those. No second derivatives.

    Weights weigh the gains, above and below. A list without gains is 0, and counts.

    Choose it where :func:`~rankwell.losses.approx_ndcg_loss` stands still because gaps are far beyond its temperature:
    noise brings other orders into view. It takes ``samples`` times as long; try a higher temperature first. On MQ2008
    it had NDCG@10 0.5057, approx_ndcg 0.5083, :func:`~rankwell.losses.softmax_loss` 0.5147 (``docs/leaderboard.md``).

    Args:
        key: what the noise is a function of; another one at every step. None is 0.
        generator: draws the noise instead, anew at each call.
        temperature: the gap, in units of the scores, over which one item gives way to another.
        gain: ``"exponential"`` or ``"linear"``.
        samples: how many.
        beta: the noise's scale, in units of the scores.

    Raises:
        InputError: if ``temperature``, ``samples`` or ``beta`` is not above 0, ``gain`` is neither, or both ``key`` and
            ``generator`` are given.

    >>> scores = torch.tensor([5.0, 0.0])  # far apart beside this noise: the relevant item is second
    >>> gumbel_approx_ndcg_loss(scores, torch.tensor([0.0, 1.0]), beta=0.1)  # 1 - 1 / log2(3)
    tensor(0.3691)

    Source: :cite:`bruch2020`, the stochastic treatment of ApproxNDCG; equation number unchecked.
    """
    noisy = gumbel(approx_ndcg_loss, samples=samples, beta=beta)
    given = {"where": where, "weights": weights, "offsets": offsets, "reduction": reduction}
    noise = {"key": key, "generator": generator}
    return noisy(scores, labels, **given, **noise, temperature=temperature, gain=gain)  # type: ignore[arg-type]


@list_loss(paper="pobrotyn2021", complexity="samples n^2", inputs=RANDOM)
def gumbel_neural_ndcg_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    key: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    temperature: Annotated[float, Search(0.1, 10.0, log=True)] = 1.0,
    k: Annotated[int | None, Search(1, 100, log=True)] = None,
    gain: Gain = "exponential",
    iterations: int = 50,
    samples: int = 32,
    beta: Annotated[float, Search(0.01, 10.0, log=True)] = 0.1,
) -> Tensor:
    r"""The stochastic NeuralNDCG: that of scores under Gumbel noise, averaged over samples.

    .. math:: \ell(s, y) = \frac{1}{S} \sum_{k=1}^{S} \ell_\text{NeuralNDCG}(s + \beta\, \epsilon_k, y)

    ``gumbel(neural_ndcg_loss)``: see :func:`gumbel` for the noise, :func:`~rankwell.losses.neural_ndcg_loss` for the rest. Time
    and memory ``samples`` times those. No second derivatives.

    Weights weigh the gains, above and below. A list without gains is 0, and counts.

    Choose it only to compare with :func:`~rankwell.losses.neural_ndcg_loss`: with 32 samples 256 lists of 100 take 14
    seconds (``bench/LOG.md``, every loss). :func:`gumbel_approx_ndcg_loss` has the same noise at a small part of that.
    On MQ2008 it had NDCG@10 0.5090, neural_ndcg 0.5064, :func:`~rankwell.losses.softmax_loss` 0.5147
    (``docs/leaderboard.md``).

    Args:
        key: what the noise is a function of; another one at every step. None is 0.
        generator: draws the noise instead, anew at each call.
        temperature: in units of the scores; lower is nearer to the hard permutation.
        k: the cut-off of the NDCG.
        gain: ``"exponential"`` or ``"linear"``.
        iterations: of Sinkhorn's scaling.
        samples: how many.
        beta: the noise's scale, in units of the scores.

    Raises:
        InputError: if ``temperature``, ``k``, ``samples`` or ``beta`` is not above 0, ``iterations`` below 0, ``gain`` is
            neither, or both ``key`` and ``generator`` are given.

    >>> scores = torch.tensor([30.0, 0.0])  # far apart beside noise and temperature: the relevant item is second
    >>> gumbel_neural_ndcg_loss(scores, torch.tensor([0.0, 1.0]))  # 1 - 1 / log2(3)
    tensor(0.3691)

    Source: :cite:`pobrotyn2021`, the stochastic variant, with the defaults of its official code; equation number unchecked.
    Differs from the code: noise is added to the scores themselves, not to the logarithm of scores shifted above 0 by the
    least of the batch.
    """
    noisy = gumbel(neural_ndcg_loss, samples=samples, beta=beta)
    given = {"where": where, "weights": weights, "offsets": offsets, "reduction": reduction}
    noise = {"key": key, "generator": generator}
    own = {"temperature": temperature, "k": k, "gain": gain, "iterations": iterations}
    return noisy(scores, labels, **given, **noise, **own)  # type: ignore[arg-type]
