"""Transformations: of scores before a loss, of losses, and of metrics into losses."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from rankwell.errors import ConfigError
from rankwell.lists import check_count, check_positive, open_lists
from rankwell.losses.gumbel import gumbel
from rankwell.losses.registry import ListLoss
from rankwell.losses.soft_ranks import FORMS, Form, Fraction, Hinged, Smooth, SoftRanks, rank_form, ranked_loss
from rankwell.metrics import METRICS, Measure
from rankwell.metrics.registry import RESULTS
from rankwell.registry import Entry
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["Fraction", "SoftRanks", "approximate", "bound", "correct_log_q", "gumbel", "rank_form"]


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


def approximate(metric: Callable[..., Any] | Measure | str) -> ListLoss:
    r"""A differentiable loss of a metric: hard ranks are replaced by smooth ones.

    .. math:: \hat\pi_i = 1 + \sum_{j \ne i} \sigma\!\left(\frac{s_j - s_i}{\tau}\right), \qquad
        [\pi_i \le k] \approx \sigma\!\left(\frac{k + \frac{1}{2} - \hat\pi_i}{\tau_k}\right)

    The loss is one less the metric, and 0 for a list without anything relevant; DCG, which has no bound, has its sign turned.
    ``approximate(ndcg)`` is :func:`~rankwell.losses.approx_ndcg_loss`, ``approximate(mrr)``
    :func:`~rankwell.losses.approx_mrr_loss` (of several relevant items the mean), ``approximate(ap)``
    :func:`~rankwell.losses.smooth_ap_loss`, ``approximate(opa)`` at temperature 1
    :func:`~rankwell.losses.soft_zero_one_loss`. It takes ``temperature`` (0.1, in units of the scores), ``cut_temperature``
    (1, in positions), ``k`` and the metric's own parameters in the call. Towards temperatures of 0 it is the metric of scores
    without ties; of MRR, where one item is relevant.

    All metrics of scores and labels have such a form, each with its deviations in :mod:`rankwell.losses.of_ranks`; one of your
    own gets it by :func:`rank_form`. Metrics of recommended items have none: they look at what was chosen, and at no scores.
    Time O(relevant items x n), O(n^2) for opa, kendall_tau and spearman, memory O(n) a list.

    Args:
        metric: the function, a :class:`~rankwell.metrics.Measure`, its text (``"ndcg@10"``), or a form.

    Raises:
        ConfigError: if the metric has no form in terms of ranks, or its form not one of the parameters, as ``ties``.

    >>> import torch
    >>> scores = torch.zeros(3)  # every rank is 2
    >>> approximate("recall@2")(scores, torch.tensor([1.0, 0.0, 0.0]))  # 1 - sigmoid(1 / 2)
    tensor(0.3775)

    Source: :cite:`qin2010`, metrics of approximate ranks; equation numbers unchecked. Differs from rax's transformation: one
    less, not the negative; a cut-off acts on the soft rank, not on the gap to the k-th score; MRR is the mean over the
    relevant items, there that of the best; in AP the relevant items above count softly too, there by their hard ranks.
    """
    form, own = _form_of(metric)

    def loss(
        scores: Scores,
        labels: Labels,
        *,
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        temperature: float = 0.1,
        cut_temperature: float = 1.0,
        **given: Any,
    ) -> Tensor:
        check_positive(temperature, "temperature")
        check_positive(cut_temperature, "cut_temperature")
        settings = _settings(form, {**own, **given})
        opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
        return ranked_loss(form.function, Smooth(opened, temperature, cut_temperature), reduction, **settings)

    return _named(loss, "approximate", form)


def bound(metric: Callable[..., Any] | Measure | str) -> ListLoss:
    r"""An upper bound of one less the metric: hard ranks are replaced by their hinge bounds.

    .. math:: \pi_i \le \hat\pi_i = 1 + \sum_{j \ne i} [1 + s_j - s_i]_+, \qquad
        [\pi_i \le k] \ge \min(1,\, k + 1 - \hat\pi_i)

    Convex in each rank's comparisons, so that a far misplaced item is pulled as hard as a near one until the discount
    flattens. The precision of average precision counts the relevant items above by their hard ranks, without gradient, as a
    bound of theirs would point the wrong way. ``bound(opa)`` is :func:`~rankwell.losses.hinge_loss` at margin 1. Otherwise as
    :func:`approximate`, without temperatures.

    Args:
        metric: the function, a :class:`~rankwell.metrics.Measure`, its text (``"ndcg@10"``), or a form.

    Raises:
        ConfigError: if the metric has no form in terms of ranks, or its form not one of the parameters, as ``ties``.

    >>> import torch
    >>> scores = torch.tensor([0.0, 0.0, 3.0])  # rank 2 or 3; bounded by 1 + 1 + 4
    >>> bound("mrr")(scores, torch.tensor([1.0, 0.0, 0.0]))  # 1 - 1 / 6
    tensor(0.8333)

    Source: :cite:`jagerman2022rax`, the bounding transformation. Differs from it: one less, not the negative; a cut-off acts on
    the bound of the rank, not on the gap to the k-th score; MRR as in :func:`approximate`.
    """
    form, own = _form_of(metric)

    def loss(
        scores: Scores,
        labels: Labels,
        *,
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        **given: Any,
    ) -> Tensor:
        settings = _settings(form, {**own, **given})
        opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
        return ranked_loss(form.function, Hinged(opened), reduction, **settings)

    return _named(loss, "bound", form)


def _form_of(metric: Callable[..., Any] | Measure | str) -> tuple[Entry[Form], dict[str, Any]]:
    """The form of a metric, and the cut-off and parameters that it comes with."""
    own: dict[str, Any] = {}
    if isinstance(metric, str):
        metric = Measure.parse(metric)
    if isinstance(metric, Measure):
        name, own = metric.name, {"k": metric.k, **dict(metric.parameters)}
    else:
        function: Any = metric
        while isinstance(function, partial):
            function, own = function.func, {**function.keywords, **own}
        forms = (form.name for form in FORMS if form.function is function)
        name = next(forms, None) or METRICS.of(function).name
    form = FORMS.find(name)
    if form is None and METRICS[name].kind in RESULTS:
        raise ConfigError(f"{name} looks at recommended items, not at scores, which a loss would have to change.")
    if form is None:
        raise ConfigError(f"{name} has no form in terms of soft ranks. Give it one by @rank_form({name}).")
    _settings(form, own)
    return form, own


def _settings(form: Entry[Form], given: Mapping[str, Any]) -> dict[str, Any]:
    """What the form is called with."""
    given = {name: value for name, value in given.items() if name != "k" or value is not None}
    if unknown := sorted(given.keys() - form.parameters.keys()):
        has = ", ".join(form.parameters) or "no parameters"
        raise ConfigError(f"a loss of {form.name} has no {', '.join(unknown)}: leave it out. It has {has}.")
    check_count(given.get("k"), "k", optional=True)
    return given


def _named(loss: Callable[..., Tensor], style: str, form: Entry[Form]) -> ListLoss:
    """Name and document a loss after the metric that it is made of."""
    of = METRICS.find(form.name) or form
    loss.__name__ = loss.__qualname__ = f"{style}_{form.name}"
    loss.__doc__ = f"``{style}({form.name})``. {of.function.__doc__ or ''}"
    return loss
