r"""Metrics of smooth ranks: each rank is one plus a sum of logistic comparisons with the other items.

.. math:: \hat\pi_i = 1 + \sum_{j \ne i} \sigma\!\left(\frac{s_j - s_i}{\tau}\right)

Any metric that is written in ranks becomes a loss so: :func:`~rankwell.transforms.approximate`.
"""

from typing import Annotated

from torch import Tensor

from rankwell.lists import check_positive, open_lists
from rankwell.losses import of_ranks
from rankwell.losses.registry import list_loss
from rankwell.losses.soft_ranks import Smooth, ranked_loss
from rankwell.metrics import Gain
from rankwell.registry import Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["approx_mrr_loss", "approx_ndcg_loss", "smooth_ap_loss"]


@list_loss(paper="qin2010", complexity="n^2")
def approx_ndcg_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    gain: Gain = "exponential",
) -> Tensor:
    r"""ApproxNDCG: one less the NDCG of smooth ranks.

    .. math::
        \ell(s, y) = 1 - \frac{1}{\mathrm{DCG}(y, y)} \sum_i \frac{w_i\, g(y_i)}{\log_2(1 + \hat\pi_i)}, \qquad
        \hat\pi_i = 1 + \sum_{j \ne i} \sigma\!\left(\frac{s_j - s_i}{\tau}\right)

    with :math:`g(y) = 2^y - 1` or :math:`y`. Towards temperature 0 it is 1 less :func:`~rankwell.metrics.ndcg`; it equals
    ``approximate(ndcg)``. Where gaps are far beyond the temperature the gradient fades: scale the scores or raise it.
    Time O(relevant items x n), memory O(n) a list. No second derivatives.

    Weights weigh the gains, above and below: one weight for a whole list cancels. A list without gains is 0, and counts.

    Choose it for graded lists of up to some hundred items, where the loss should be the NDCG that is reported, and the
    temperature can be fitted to the scores. It is the one to take of the smooth NDCGs unless lists are long
    (:func:`~rankwell.losses.fast_soft_rank_loss`, :func:`~rankwell.losses.pirank_loss`); start with
    :func:`~rankwell.losses.softmax_loss`, though: on MQ2008 it had NDCG@10 0.5018, softmax 0.5152
    (``bench/results/mq2008.txt``); of six settings each 0.5083 and 0.5147 (``docs/leaderboard.md``).

    Args:
        temperature: the gap, in units of the scores, over which one item gives way to another.
        gain: ``"exponential"`` or ``"linear"``.

    Raises:
        InputError: if ``temperature`` is not above 0, or ``gain`` is neither.

    >>> import torch
    >>> approx_ndcg_loss(torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))  # rank 2: 1 - 1 / log2(3)
    tensor(0.3691)

    Source: :cite:`qin2010`, the approximated NDCG; equation number unchecked. Differs from it: one less, where it is
    maximised; TensorFlow Ranking, whose temperature this is, has it with its sign turned, which is 1 lower.
    """
    check_positive(temperature, "temperature")
    opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return ranked_loss(of_ranks.ndcg, Smooth(opened, temperature), reduction, gain=gain)


@list_loss(paper="qin2010", complexity="n^2")
def approx_mrr_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 0.1,
    rel: float = 1.0,
) -> Tensor:
    r"""One less the mean reciprocal of the relevant items' smooth ranks.

    .. math::
        \ell(s, y) = 1 - \frac{\sum_{y_i \ge rel} w_i / \hat\pi_i}{\sum_{y_i \ge rel} w_i}, \qquad
        \hat\pi_i = 1 + \sum_{j \ne i} \sigma\!\left(\frac{s_j - s_i}{\tau}\right)

    With one relevant item it is, towards temperature 0, 1 less :func:`~rankwell.metrics.mrr`; with several it asks all of
    them upwards, not only the first. It equals ``approximate(mrr)``. Time and memory as :func:`approx_ndcg_loss`.

    Weights weigh the relevant items, above and below. A list without relevant items is 0, and counts.

    Choose it for lists with one relevant item, such as the one page that answers, whose first places alone matter. With
    several, of which the first is to be found, take :func:`~rankwell.losses.lambda_rank_loss` with ``metric="mrr"``;
    :func:`~rankwell.losses.softmax_loss` is O(n) and needs no temperature. On MQ2008, graded lists, it had NDCG@10
    0.5063, softmax 0.5147 (``docs/leaderboard.md``).

    Args:
        temperature: the gap, in units of the scores, over which one item gives way to another.
        rel: the least label that is relevant.

    Raises:
        InputError: if ``temperature`` or ``rel`` is not above 0.

    >>> import torch
    >>> approx_mrr_loss(torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))  # rank 2
    tensor(0.5000)

    Source: :cite:`qin2010`, smooth ranks in a metric; the mean over relevant items is TensorFlow Ranking's. Differs from
    that: one less, where it has the negative; labels are cut at ``rel``, where it weighs by them. Rax takes the item with
    the best rank alone.
    """
    check_positive(temperature, "temperature")
    opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return ranked_loss(of_ranks.mrr, Smooth(opened, temperature), reduction, rel=rel)


@list_loss(paper="brown2020", complexity="n^2")
def smooth_ap_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    temperature: Annotated[float, Search(0.001, 1.0, log=True)] = 0.01,
    rel: float = 1.0,
) -> Tensor:
    r"""Smooth-AP: one less the average precision of smooth ranks.

    .. math::
        \ell(s, y) = 1 - \frac{1}{\sum_{i \in P} w_i} \sum_{i \in P} w_i\,
            \frac{1 + \sum_{j \in P \setminus i} \sigma((s_j - s_i)/\tau)}{1 + \sum_{j \ne i} \sigma((s_j - s_i)/\tau)},
        \qquad P = \{i: y_i \ge rel\}

    Towards temperature 0 it is 1 less :func:`~rankwell.metrics.ap`; it equals ``approximate(ap)``. The default temperature
    is for cosine scores. Time O(relevant items x n), memory O(n) a list. No second derivatives.

    Weights weigh the relevant items, above and below; an item's precision counts items, as the metric's does. A list
    without relevant items is 0, and counts.

    Choose it for binary labels with several relevant items a list, cosines, and average precision as the measure, as in
    image retrieval. For grades take :func:`approx_ndcg_loss`; and compare with :func:`~rankwell.losses.softmax_loss`,
    which was ahead by this measure too: on MQ2008 0.4762, this 0.4541 (``bench/results/mq2008.txt``).

    Args:
        temperature: the gap, in units of the scores, over which one item gives way to another.
        rel: the least label that is relevant.

    Raises:
        InputError: if ``temperature`` or ``rel`` is not above 0.

    >>> import torch
    >>> smooth_ap_loss(torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]))  # 1 - 1.5 / 2
    tensor(0.2500)

    Source: :cite:`brown2020`; confirmed in its official code, equation number unchecked. Differs from the code: gaps are
    not clamped. Rax counts the relevant items above by hard ranks.
    """
    check_positive(temperature, "temperature")
    opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return ranked_loss(of_ranks.ap, Smooth(opened, temperature), reduction, rel=rel)
