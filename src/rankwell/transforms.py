"""Transformations: of scores before a loss, of losses, and of metrics into losses."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rankwell.errors import ConfigError
from rankwell.lists import check_count, check_positive, open_lists
from rankwell.losses.gumbel import gumbel
from rankwell.losses.of_ranks import FORMS, Ranker, ranked_loss
from rankwell.losses.registry import ListLoss
from rankwell.metrics import METRICS, Measure
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["approximate", "bound", "correct_log_q", "gumbel"]


def correct_log_q(neg: Tensor, log_q: Tensor, n: int, temperature: float = 1.0, *, overwrite: bool = False) -> Tensor:
    r"""Scores of sampled negatives, corrected for how likely their sampler draws them.

    .. math:: s_j - \tau \log(n\, q_j)

    for a loss that divides scores by :math:`\tau`. Each of n draws stands for :math:`1/(n q_j)` items, so that
    :math:`\sum_j e^{s_j/\tau} / (n q_j)` estimates the sum over the catalogue without bias, whatever n: the gradient of the
    sampled softmax then converges to that of the full one. Without n, :math:`s_j - \tau \log q_j` counts the catalogue n
    times beside the one positive, and the more draws the further off. The positive stays uncorrected, as it is always
    there; draws that hit it must be masked.

    Args:
        neg: ``[*batch, n]``.
        log_q: the log-probability of one draw, broadcastable to ``neg``.
        n: how many draws a row (or the shared pool) has.
        temperature: the loss's.
        overwrite: whether to write over ``neg``, which saves a matrix.

    Raises:
        InputError: if ``temperature`` is not above 0.

    >>> import torch
    >>> correct_log_q(torch.zeros(4), torch.full((4,), 0.25).log(), n=4)  # all of the catalogue once: nothing to correct
    tensor([0., 0., 0., 0.])

    Source: :cite:`bengio2003`, importance sampling of the sum; equation number unchecked. Measured in ``tests/losses``.
    """
    check_positive(temperature, "temperature")
    shift = temperature * (math.log(n) + log_q)
    return neg.sub_(shift) if overwrite else neg - shift


def approximate(metric: Callable[..., Tensor] | Measure | str) -> ListLoss:
    r"""A differentiable loss of a metric: hard ranks are replaced by smooth ones.

    .. math:: \hat\pi_i = 1 + \sum_{j \ne i} \sigma\!\left(\frac{s_j - s_i}{\tau}\right), \qquad
        [\pi_i \le k] \approx \sigma\!\left(\frac{k + \frac{1}{2} - \hat\pi_i}{\tau_k}\right)

    The loss is one less the metric, and 0 for a list without anything relevant; DCG, which has no bound, has its sign turned.
    ``approximate(ndcg)`` is :func:`~rankwell.losses.approx_ndcg_loss`, ``approximate(mrr)``
    :func:`~rankwell.losses.approx_mrr_loss` (of several relevant items the mean), ``approximate(ap)``
    :func:`~rankwell.losses.smooth_ap_loss`. It takes ``temperature`` (0.1, in units of the scores), ``cut_temperature`` (1, in
    positions), ``k`` and the metric's own parameters in the call. Towards temperatures of 0 it is the metric of scores
    without ties; of MRR, where one item is relevant. Time O(relevant items x n), memory O(n) a list.

    Args:
        metric: the function, a :class:`~rankwell.metrics.Measure` or its text (``"ndcg@10"``).

    Raises:
        ConfigError: if the metric is no function of ranks that has a form here, or fixes how ties or empty lists are met.

    >>> scores = torch.zeros(3)  # every rank is 2
    >>> approximate("recall@2")(scores, torch.tensor([1.0, 0.0, 0.0]))  # 1 - sigmoid(1 / 2)
    tensor(0.3775)

    Source: :cite:`qin2010`, metrics of approximate ranks; equation numbers unchecked. Differs from rax's transformation: one
    less, not the negative; a cut-off acts on the soft rank, not on the gap to the k-th score; MRR is the mean over the
    relevant items, there that of the best; in AP the relevant items above count softly too, there by their hard ranks.
    """
    name, cut, own = _of_ranks(metric)

    def loss(
        scores: Scores,
        labels: Labels,
        *,
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        k: int | None = cut,
        temperature: float = 0.1,
        cut_temperature: float = 1.0,
        **given: Any,
    ) -> Tensor:
        check_positive(temperature, "temperature")
        check_positive(cut_temperature, "cut_temperature")
        check_count(k, "k", optional=True)
        opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
        ranker = Ranker("logistic", temperature, lambda ranks, k: torch.sigmoid((k + 0.5 - ranks) / cut_temperature))
        return ranked_loss(FORMS[name], opened, ranker, reduction, k, **{**own, **given})

    return _named(loss, "approximate", name)


def bound(metric: Callable[..., Tensor] | Measure | str) -> ListLoss:
    r"""An upper bound of one less the metric: hard ranks are replaced by their hinge bounds.

    .. math:: \pi_i \le \hat\pi_i = 1 + \sum_{j \ne i} [1 + s_j - s_i]_+, \qquad
        [\pi_i \le k] \ge \min(1,\, k + 1 - \hat\pi_i)

    Convex in each rank's comparisons, so that a far misplaced item is pulled as hard as a near one until the discount
    flattens. The precision of average precision counts the relevant items above by their hard ranks, without gradient, as a
    bound of theirs would point the wrong way. Otherwise as :func:`approximate`, without temperatures.

    Args:
        metric: the function, a :class:`~rankwell.metrics.Measure` or its text (``"ndcg@10"``).

    Raises:
        ConfigError: if the metric is no function of ranks that has a form here, or fixes how ties or empty lists are met.

    >>> scores = torch.tensor([0.0, 0.0, 3.0])  # rank 2 or 3; bounded by 1 + 1 + 4
    >>> bound("mrr")(scores, torch.tensor([1.0, 0.0, 0.0]))  # 1 - 1 / 6
    tensor(0.8333)

    Source: :cite:`jagerman2022rax`, the bounding transformation. Differs from it: one less, not the negative; a cut-off acts on
    the bound of the rank, not on the gap to the k-th score; MRR as in :func:`approximate`.
    """
    name, cut, own = _of_ranks(metric)

    def loss(
        scores: Scores,
        labels: Labels,
        *,
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        k: int | None = cut,
        **given: Any,
    ) -> Tensor:
        check_count(k, "k", optional=True)
        opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
        ranker = Ranker("hinge", 1.0, lambda ranks, k: (k + 1 - ranks).clamp(max=1), among="above")
        return ranked_loss(FORMS[name], opened, ranker, reduction, k, **{**own, **given})

    return _named(loss, "bound", name)


def _of_ranks(metric: Callable[..., Tensor] | Measure | str) -> tuple[str, int | None, dict[str, Any]]:
    """A metric's name, cut-off and own parameters, if soft ranks can stand in for its hard ones."""
    own: dict[str, Any] = {}
    if isinstance(metric, str):
        metric = Measure.parse(metric)
    if isinstance(metric, Measure):
        name, own = metric.name, {"k": metric.k, **dict(metric.parameters)}
    else:
        function: Any = metric
        while isinstance(function, partial):
            function, own = function.func, {**function.keywords, **own}
        name = METRICS.of(function).name
    if name not in FORMS:
        raise ConfigError(f"{name} has no form in terms of soft ranks. Those that have: {', '.join(FORMS)}.")
    if fixed := {"ties", "empty", "ideal"} & own.keys():
        raise ConfigError(f"a loss of soft ranks has no {', '.join(sorted(fixed))}: leave it out of {name}.")
    return name, own.pop("k", None), own


def _named(loss: Callable[..., Tensor], style: str, name: str) -> ListLoss:
    """Name and document a loss after the metric that it is made of."""
    loss.__name__ = loss.__qualname__ = f"{style}_{name}"
    loss.__doc__ = f"``{style}({name})``. {METRICS[name].function.__doc__ or ''}"
    return loss
