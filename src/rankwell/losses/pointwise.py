"""Pointwise losses: a term an item, averaged over the valid items of a list."""

# mypy: allow-untyped-calls

from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import check_at_least, check_positive, open_lists
from rankwell.losses.registry import list_loss
from rankwell.registry import Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = [
    "focal_loss",
    "mae_loss",
    "mse_loss",
    "pointwise_hinge_loss",
    "poly1_loss",
    "sigmoid_loss",
    "smooth_l1_loss",
]


@list_loss(paper="he2017", complexity="n")
def sigmoid_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Binary cross-entropy between the sigmoid of each score and its label in [0, 1].

    .. math:: \ell(s, y) = -\frac1n \sum_i w_i \left[ y_i \log \sigma(s_i) + (1 - y_i) \log \sigma(-s_i) \right]

    Each item by itself: scores become calibrated probabilities, and order within the list is only a by-product. The
    pairwise :func:`~rankwell.losses.logistic_loss` has the same curve over gaps of scores. Both logarithms are taken by
    ``logsigmoid``, so that neither value nor gradient dies at large scores. Time and memory O(n) a list.

    Weights multiply the terms. Labels outside [0, 1] are not refused, and leave the loss without a lower bound.

    Choose it where scores must be probabilities, comparable between lists: several labels a row, thresholds, mixtures
    with other scores. For the order alone take :func:`~rankwell.losses.softmax_loss`: on judged lists it was behind,
    MQ2008 NDCG@10 0.4982 and 0.5152 (``bench/results/mq2008.txt``), on labels of films level, 0.7835 and 0.7803
    (``bench/results/set_wise.txt``).

    >>> sigmoid_loss(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))  # log 2
    tensor(0.6931)

    Source: :cite:`he2017`, its log loss; equation number unchecked. Differs from it: a mean over items, not a sum.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    s, y = lists.scores, lists.labels
    terms = -(y * functional.logsigmoid(s) + (1 - y) * functional.logsigmoid(-s))
    return lists.reduce(lists.mean(lists.weights * terms), reduction)


@list_loss(paper="lin2017", complexity="n")
def focal_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    gamma: Annotated[float, Search(0.0, 5.0)] = 2.0,
    alpha: Annotated[float, Search(0.05, 0.95)] = 0.25,
) -> Tensor:
    r"""Binary cross-entropy in which items that are already right count little: for few relevant among many.

    .. math:: \ell(s, y) = -\frac1n \sum_i w_i \left[ \alpha\, y_i\, \sigma(-s_i)^\gamma \log \sigma(s_i)
        + (1 - \alpha) (1 - y_i)\, \sigma(s_i)^\gamma \log \sigma(-s_i) \right]

    At :math:`\gamma = 0, \alpha = \frac12` half of :func:`sigmoid_loss`. The powers are exponentials of ``logsigmoid``, so
    that neither value nor gradient dies at large scores. Time and memory O(n) a list.

    Weights multiply the terms. Labels are meant in [0, 1].

    Choose it for labels of which nearly all are absent and easily told, where :func:`sigmoid_loss` would hear little
    else; not for probabilities or a threshold at 0. On labels of films it ordered as well, NDCG@10 0.7800 and sigmoid
    0.7835, but F1 above 0 was 0.2397 and 0.4477 (``bench/results/set_wise.txt``).

    Args:
        gamma: the power, from 0; the higher, the less an item that is nearly right counts.
        alpha: share of the relevant items' terms, in [0, 1]; the others' is 1 - alpha.

    Raises:
        InputError: if ``gamma`` is below 0 or ``alpha`` not in [0, 1].

    >>> focal_loss(torch.tensor([0.0]), torch.tensor([1.0]))  # 1/4 x (1/2)^2 x log 2
    tensor(0.0433)

    Source: :cite:`lin2017`, eq. 5; equation number unchecked. Differs from it: a mean over items, not a sum over the number
    of relevant ones; labels may lie between 0 and 1.
    """
    check_at_least(gamma, "gamma")
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha must be in [0, 1]: got {alpha}.")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    s, y = lists.scores, lists.labels
    relevant, other = _Focal.apply(s, gamma), _Focal.apply(-s, gamma)
    return lists.reduce(lists.mean(lists.weights * torch.lerp((1 - alpha) * other, alpha * relevant, y)), reduction)


class _Focal(torch.autograd.Function):
    r""":math:`-(1 - p)^\gamma \log p` of :math:`p = \sigma(x)`, which keeps nothing but its input for the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gamma: float) -> Tensor:
        return -functional.logsigmoid(x) * torch.exp(gamma * functional.logsigmoid(-x))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[0])
        ctx.gamma = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        steepness = ctx.gamma * torch.sigmoid(x) * functional.logsigmoid(x) - torch.sigmoid(-x)
        return grad * torch.exp(ctx.gamma * functional.logsigmoid(-x)) * steepness, None


@list_loss(paper="leng2022", complexity="n")
def poly1_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    epsilon: Annotated[float, Search(-1.0, 6.0)] = 1.0,
) -> Tensor:
    r"""Binary cross-entropy whose first-order term weighs otherwise.

    .. math:: \ell(s, y) = \frac1n \sum_i w_i \left[ -\log p_i + \epsilon (1 - p_i) \right],
        \qquad p_i = \sigma(s_i) \text{ if } y_i = 1, \; \sigma(-s_i) \text{ if } y_i = 0

    The cross-entropy is :math:`\sum_j (1 - p)^j / j`; this adds epsilon to the first coefficient. At 0 it is
    :func:`sigmoid_loss`; its listwise sister is :func:`~rankwell.losses.poly1_softmax_loss`. Labels between 0 and 1 mix the
    two cases. Time and memory O(n) a list.

    Weights multiply the terms. Labels are meant in [0, 1].

    Choose it where :func:`sigmoid_loss` is tuned, one setting more can be paid for, and scores need not be
    probabilities: above 0, epsilon pulls longer on items that are right already, below 0 shorter. For the order alone
    take :func:`~rankwell.losses.softmax_loss`. On MQ2008 it had NDCG@10 0.5043, sigmoid 0.5024, softmax 0.5147
    (``docs/leaderboard.md``).

    Args:
        epsilon: what is added to the first coefficient, which is 1; from -1, where the term vanishes.

    Raises:
        InputError: if ``epsilon`` is below -1.

    >>> poly1_loss(torch.tensor([0.0]), torch.tensor([1.0]))  # log 2 + 1/2
    tensor(1.1931)

    Source: :cite:`leng2022`, its Poly-1 loss, here for two classes; equation number unchecked.
    """
    check_at_least(epsilon, "epsilon", -1)
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    s, y = lists.scores, lists.labels
    of_relevant = epsilon * torch.sigmoid(-s) - functional.logsigmoid(s)
    of_others = epsilon * torch.sigmoid(s) - functional.logsigmoid(-s)
    return lists.reduce(lists.mean(lists.weights * torch.lerp(of_others, of_relevant, y)), reduction)


@list_loss(paper="cortes1995", complexity="n")
def pointwise_hinge_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    margin: Annotated[float, Search(0.05, 5.0, log=True)] = 1.0,
) -> Tensor:
    r"""Hinge of each score by itself: the relevant above the margin, the others below minus it.

    .. math:: \ell(s, y) = \frac1n \sum_i w_i \left( y_i \left[ m - s_i \right]_+ + (1 - y_i) \left[ m + s_i \right]_+
        \right)

    The support vector machine's loss: what is right by the margin costs nothing. :func:`~rankwell.losses.hinge_loss` is the
    same over gaps between items, and needs no zero that separates the lists' items. Time and memory O(n) a list.

    Weights multiply the terms. Labels are meant in [0, 1].

    Choose it only where the sign of a score is all that is wanted, a yes or no of each item, no order and no
    probability: items right by the margin are no longer told apart. For an order take
    :func:`~rankwell.losses.hinge_loss`, for probabilities :func:`sigmoid_loss`. On MQ2008 it had NDCG@10 0.4796, these
    0.5017 and 0.5024 (``docs/leaderboard.md``).

    Args:
        margin: distance from zero, in units of the scores, beyond which an item costs nothing.

    Raises:
        InputError: if ``margin`` is below 0.

    >>> pointwise_hinge_loss(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))  # (.5 + 1.5) / 2
    tensor(1.)

    Source: :cite:`cortes1995`, the soft margin; equation number unchecked. Differs from it: a mean over items, no
    regulariser, and labels are 0 and 1.
    """
    check_at_least(margin, "margin")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    s, y = lists.scores, lists.labels
    terms = y * torch.relu(margin - s) + (1 - y) * torch.relu(margin + s)
    return lists.reduce(lists.mean(lists.weights * terms), reduction)


@list_loss(paper="cossock2006", complexity="n")
def mse_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Squared difference between each score and its label.

    .. math:: \ell(s, y) = \frac1n \sum_i w_i (s_i - y_i)^2

    Regression on the grades. Unlike the pairwise and listwise losses it ties scores to the scale of the labels. Time and
    memory O(n) a list.

    Weights multiply the terms.

    Choose it where scores should be the labels themselves, as ratings to be predicted; a level that differs by list
    goes to :func:`~rankwell.losses.pairwise_mse_loss`, outliers to :func:`smooth_l1_loss`. For the order alone take
    :func:`~rankwell.losses.softmax_loss`: on MQ2008 it had NDCG@10 0.5050, softmax 0.5152
    (``bench/results/mq2008.txt``).

    >>> mse_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0]))
    tensor(2.)

    Source: :cite:`cossock2006`, where regression on grades bounds the DCG; recalled, its equation number unchecked. Differs
    from it: uniform weights unless given, and a mean over items.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(lists.mean(lists.weights * torch.square(lists.scores - lists.labels)), reduction)


@list_loss(paper="bloomfield1983", complexity="n")
def mae_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Absolute difference between each score and its label.

    .. math:: \ell(s, y) = \frac1n \sum_i w_i \left| s_i - y_i \right|

    Its best constant is the median of the labels, where :func:`mse_loss` has the mean: a few wild labels move it little.
    :func:`smooth_l1_loss` rounds its corner. Time and memory O(n) a list.

    Weights multiply the terms.

    Choose it where scores should be the labels themselves and some labels are wildly wrong, the median being wanted.
    Not for lists of which most items have one label: the median is that label; it was the last of 38 losses on MQ2008,
    NDCG@10 0.4333, :func:`mse_loss` 0.5054 (``docs/leaderboard.md``). :func:`smooth_l1_loss` lies between.

    >>> mae_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0]))
    tensor(1.)

    Source: :cite:`bloomfield1983`, least absolute deviations; equation number unchecked.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    return lists.reduce(lists.mean(lists.weights * (lists.scores - lists.labels).abs()), reduction)


@list_loss(paper="girshick2015", complexity="n")
def smooth_l1_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    beta: Annotated[float, Search(0.05, 5.0, log=True)] = 1.0,
) -> Tensor:
    r"""Squared difference between score and label near zero, absolute difference beyond.

    .. math:: \ell(s, y) = \frac1n \sum_i w_i \begin{cases} d_i^2 / 2 \beta & d_i < \beta \\ d_i - \beta / 2 & \text{else}
        \end{cases} \qquad d_i = \left| s_i - y_i \right|

    Huber's loss divided by beta. As beta falls it becomes :func:`mae_loss`; times beta, as beta grows, half of
    :func:`mse_loss`. Equals ``torch.nn.functional.smooth_l1_loss``. Time and memory O(n) a list.

    Weights multiply the terms.

    Choose it where scores should be the labels themselves and few labels are outliers, ``beta`` being the size of an
    ordinary error. For the order alone take :func:`~rankwell.losses.softmax_loss`. On MQ2008 it had NDCG@10 0.5077,
    :func:`mse_loss` 0.5054, :func:`mae_loss` 0.4333, softmax 0.5147 (``docs/leaderboard.md``).

    Args:
        beta: the difference, in units of the scores, at which the curve becomes a line.

    Raises:
        InputError: if ``beta`` is not above 0.

    >>> smooth_l1_loss(torch.tensor([1.5, 2.0]), torch.tensor([1.0, 0.0]))  # (.5^2 / 2 + 2 - .5) / 2
    tensor(0.8125)

    Source: :cite:`girshick2015`, eq. 3; equation number unchecked. Differs from it: there beta is 1.
    """
    check_positive(beta, "beta")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    terms = functional.smooth_l1_loss(lists.scores, lists.labels, reduction="none", beta=beta)
    return lists.reduce(lists.mean(lists.weights * terms), reduction)
