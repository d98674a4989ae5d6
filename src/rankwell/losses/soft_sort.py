"""Metrics of relaxed sorting: soft permutations, distributions of ranks, ranks by projection.

All but :func:`fast_soft_rank_loss`'s squared error are one less an NDCG. They differ in what stands in for the discount of
an item: what a relaxed permutation gives it, the mean over a distribution of its rank, or the discount at a soft rank.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.comparisons import average_ranks, compared_ranks, expected_discounts
from rankwell.kernels.isotonic import Regularisation, projected_ranks
from rankwell.kernels.neural_sort import relaxed_discounts
from rankwell.lists import Opened, check_count, check_positive, open_lists
from rankwell.losses.of_ranks import check_gain, discounts, gains, ideal_dcg
from rankwell.losses.registry import list_loss
from rankwell.losses.soft_ranks import Fraction, one_less
from rankwell.metrics import Gain
from rankwell.registry import Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["fast_soft_rank_loss", "neural_ndcg_loss", "pirank_loss", "soft_rank_loss"]


@list_loss(paper="pobrotyn2021", complexity="n^2")
def neural_ndcg_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    temperature: Annotated[float, Search(0.1, 10.0, log=True)] = 1.0,
    k: Annotated[int | None, Search(1, 100, log=True)] = None,
    gain: Gain = "exponential",
    iterations: int = 50,
) -> Tensor:
    r"""NeuralNDCG: one less the NDCG under a doubly stochastic relaxation of sorting.

    .. math::
        \ell(s, y) = 1 - \frac{1}{\mathrm{DCG@}k(y, y)} \sum_{r \le k} \frac{(\tilde P g)_r}{\log_2(1 + r)}, \qquad
        \tilde P = \operatorname{sinkhorn}(P), \quad
        P_{r \cdot} = \operatorname{softmax}\left(\frac{(n + 1 - 2r)\, s - A}{\tau}\right)

    with :math:`g_i = w_i (2^{y_i} - 1)` or :math:`w_i y_i`, and :math:`A_i = \sum_j |s_i - s_j|`. Towards temperature 0 it is
    1 less :func:`~rankwell.metrics.ndcg`. The paper's transposed form, :math:`\sum_i g_i (\tilde P^\top d)_i` with the
    discounts d, is the same number with its two sums in the other order; it is what is computed here.
    :func:`pirank_loss` goes without the scaling, and with the hard value.

    Time O(iterations x n^2). The relaxed matrix is kept for the iterations up to lists of 4,096 items (64 MB, one list at a
    time); longer ones make theirs again in each. No second derivatives.

    Weights weigh the gains, above and below. A list without gains is 0, and counts.

    Choose it only to compare with :func:`~rankwell.losses.approx_ndcg_loss` and :func:`pirank_loss`, or on short lists
    where time is no matter: fifty passes over n x n take half a second for 256 lists of 100 (``bench/LOG.md``, every
    loss). On MQ2008 it had NDCG@10 0.5112, pirank 0.5106, softmax 0.5152 (``bench/results/mq2008.txt``).

    Args:
        temperature: in units of the scores; lower is nearer to the hard permutation.
        k: the cut-off of the NDCG.
        gain: ``"exponential"`` or ``"linear"``.
        iterations: of Sinkhorn's scaling, all of them whatever is reached; rows are scaled last.

    Raises:
        InputError: if ``temperature`` or ``k`` is not above 0, ``iterations`` below 0, or ``gain`` is neither.

    >>> import torch
    >>> scores = torch.tensor([0.0, 0.0])  # each item stands at each place by half
    >>> neural_ndcg_loss(scores, torch.tensor([1.0, 0.0]))  # 1 - (1 + 1 / log2(3)) / 2
    tensor(0.1845)

    Source: :cite:`pobrotyn2021`, NeuralNDCG and NeuralNDCG Transposed, and its official code; equation numbers unchecked; P
    is that of :cite:`grover2019`. Differs from the code: one less, where it has the negative; a list without gains
    counts, as 0; the number of iterations does not depend on the batch. Its stochastic form is
    ``gumbel(neural_ndcg_loss)``.
    """
    check_positive(temperature, "temperature")
    check_count(k, "k", optional=True)
    check_count(iterations, "iterations", least=0)
    opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    discount = relaxed_discounts(opened, k, temperature, iterations=iterations)
    return _one_less_ndcg(opened, discount, k, gain, reduction)


@list_loss(paper="swezey2021", complexity="n k + n log n")
def pirank_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    temperature: Annotated[float, Search(0.1, 10.0, log=True)] = 5.0,
    k: Annotated[int | None, Search(1, 100, log=True)] = None,
    gain: Gain = "exponential",
) -> Tensor:
    r"""PiRank: one less NDCG at k in value, with the gradient of its relaxation.

    .. math::
        \ell(s, y) = 1 - \frac{1}{\mathrm{DCG@}k(y, y)} \sum_{r \le k} \frac{(P g)_r}{\log_2(1 + r)}

    with the gains g of :func:`neural_ndcg_loss`. In the value P is the true permutation, so that it is 1 less
    :func:`~rankwell.metrics.ndcg` whatever the temperature; in the gradient by the scores it is NeuralSort's matrix (a
    straight-through estimate). The gradient is not that of finite differences, which is zero.

    Time O(n k + n log n), memory O(n) a list: only the first k rows are made, in chunks. No second derivatives.

    Weights weigh the gains, above and below. A list without gains is 0, and counts.

    Choose it for long lists of which the first k places matter: the value is the measure itself, and k rows are all
    that is made. Its gradient is another function's, so watch the measure, not the value;
    :func:`~rankwell.losses.lambda_rank_loss` with k costs alike and is convex in each pair. On MQ2008 it had NDCG@10
    0.5106, lambda_rank 0.5096, :func:`~rankwell.losses.softmax_loss` 0.5152 (``bench/results/mq2008.txt``).

    Args:
        temperature: of the relaxation, in units of the scores.
        k: the cut-off of the NDCG.
        gain: ``"exponential"`` or ``"linear"``.

    Raises:
        InputError: if ``temperature`` or ``k`` is not above 0, or ``gain`` is neither.

    >>> import torch
    >>> pirank_loss(torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 0.0, 0.0]))  # second of three: 1 - 1 / log2(3)
    tensor(0.3691)

    Source: :cite:`swezey2021`, and its official code; equation numbers unchecked; P is that of :cite:`grover2019`. Differs
    from the code: one value a list, where it divides sums over the batch; ties share their places; no merge tree
    over parts of the list (its depth is 1).
    """
    check_positive(temperature, "temperature")
    check_count(k, "k", optional=True)
    opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    discount = relaxed_discounts(opened, k, temperature, hard=True)
    return _one_less_ndcg(opened, discount, k, gain, reduction)


@list_loss(paper="taylor2008", complexity="n^2")
def soft_rank_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    deviation: Annotated[float, Search(0.05, 5.0, log=True)] = 1.0,
    gain: Gain = "exponential",
    form: Literal["distribution", "expected_rank"] = "distribution",
) -> Tensor:
    r"""SoftRank: one less the NDCG that is expected when scores are normal variables.

    .. math::
        \ell(s, y) = 1 - \frac{1}{\mathrm{DCG}(y, y)} \sum_i w_i\, g(y_i)\, D_i, \qquad
        \pi_{ij} = \Phi\left( \frac{s_j - s_i}{\sqrt 2\, \delta} \right)

    where :math:`\pi_{ij}` is the chance that j stands above i, and

    - ``"distribution"``: :math:`D_i = \sum_r p_i(r) / \log_2(1 + r)`, with the distribution of one plus a sum of independent
      draws of chances :math:`\pi_{ij}`. The paper adds rivals one by one, :math:`p(r) \leftarrow \pi_{ij}\, p(r - 1) +
      (1 - \pi_{ij})\, p(r)`, in O(n^2) an item; here it is O(n) an item, see
      :func:`~rankwell.kernels.comparisons.expected_discounts`, to a part in a million;
    - ``"expected_rank"``: :math:`D_i = 1 / \log_2(1 + 1 + \sum_j \pi_{ij})`, the discount at the mean rank: lower, as
      the discount is convex, and some ten times cheaper.

    Towards deviation 0 both are 1 less :func:`~rankwell.metrics.ndcg`. With logistic chances the second is
    :func:`~rankwell.losses.approx_ndcg_loss`. Time O(relevant items x n), memory O(n) a list. No second derivatives.

    Weights weigh the gains, above and below. A list without gains is 0, and counts.

    Choose it only to compare with :func:`~rankwell.losses.approx_ndcg_loss`, which its cheap form is but for the shape
    of the chances; the ``"distribution"`` takes eight times as long on lists of 100, ten times on lists of 1,000
    (``bench/results/losses.txt``). On MQ2008 it had NDCG@10 0.5109, approx_ndcg 0.5083,
    :func:`~rankwell.losses.softmax_loss` 0.5147 (``docs/leaderboard.md``).

    Args:
        deviation: :math:`\delta`, the standard deviation of each score.
        gain: ``"exponential"`` or ``"linear"``.
        form: which of the two.

    Raises:
        InputError: if ``deviation`` is not above 0, or ``form`` or ``gain`` is neither.

    >>> import torch
    >>> scores = torch.tensor([0.0, 0.0])  # first or second, by half each
    >>> soft_rank_loss(scores, torch.tensor([1.0, 0.0]))  # 1 - (1 + 1 / log2(3)) / 2
    tensor(0.1845)

    Source: :cite:`taylor2008`, SoftNDCG. The paper's text was not at hand: that the discount is expected under a distribution
    of ranks, made by comparing with one rival after the other, is confirmed by its patent (US 8,010,535); the
    recursion as written is not confirmed. Differs from it: one less, where it is maximised. The second form is what
    ptranking ships, at deviation 2.
    """
    check_positive(deviation, "deviation")
    opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    relevant = opened.labels > 0
    spread = 2**0.5 * deviation
    if form == "distribution":
        discount = expected_discounts(opened, relevant, spread)
    elif form == "expected_rank":
        discount = discounts(compared_ranks(opened, relevant, "gaussian", spread)[0])
    else:
        raise InputError(f"form must be 'distribution' or 'expected_rank': got {form!r}.")
    return _one_less_ndcg(opened, discount, None, gain, reduction)


@list_loss(paper="blondel2020", complexity="n log n")
def fast_soft_rank_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    strength: Annotated[float, Search(0.01, 10.0, log=True)] = 1.0,
    regularisation: Regularisation = "l2",
    form: Literal["spearman", "ndcg"] = "spearman",
    gain: Gain = "exponential",
) -> Tensor:
    r"""Squared error of soft ranks, one less Spearman's correlation; or one less the NDCG of soft ranks.

    .. math::
        \ell_\text{spearman} = \frac{6}{n (n^2 - 1)} \sum_i w_i \left(r_i(s) - r^*_i\right)^2, \qquad
        \ell_\text{ndcg} = 1 - \frac{1}{\mathrm{DCG}(y, y)} \sum_i \frac{w_i\, g(y_i)}{\log_2(1 + r_i(s))}

    with the soft ranks of :func:`~rankwell.kernels.isotonic.soft_ranks`, by projection onto the permutahedron, and the ranks
    :math:`r^*` of the labels, ties sharing the mean of their places. The first is the paper's loss for labels to be
    ranked; without tied labels it is, towards strength 0, one less Spearman's correlation. It pulls items of one grade
    together: where few items are relevant take the second. Once neighbouring scores are a strength apart the ranks are hard
    and the gradient is zero: raise the strength. Time O(n log n), memory O(n) a list.

    Weights multiply the squared errors; in the second form they weigh the gains, above and below, and a list without gains
    is 0, and counts. A list of one item is 0.

    Choose it for lists of thousands whose whole order counts, by numbers as labels: ``"spearman"`` is O(n log n), where
    :func:`~rankwell.losses.approx_ndcg_loss` is quadratic. The strength must suit the scale of the scores, else there
    is no gradient; for few relevant items take ``"ndcg"`` or :func:`~rankwell.losses.softmax_loss`. On MQ2008 the first
    form had NDCG@10 0.5041, softmax 0.5152 (``bench/results/mq2008.txt``).

    Args:
        strength: of the regularisation, in units of the scores.
        regularisation: ``"l2"``, or ``"kl"``: by Euclidean distance, or by relative entropy.
        form: which of the two.
        gain: of the second, ``"exponential"`` or ``"linear"``.

    Raises:
        InputError: if ``strength`` is not above 0, or ``regularisation``, ``form`` or ``gain`` is none of theirs.

    >>> import torch
    >>> fast_soft_rank_loss(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([2.0, 1.0, 0.0]))  # reversed: 1 - (-1)
    tensor(2.)

    Source: :cite:`blondel2020`, soft ranks and the loss of its label-ranking experiment; equation numbers unchecked. Differs
    from it: the highest score and label are first, the sum is scaled to Spearman's; the second form is our own.
    """
    opened = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    check_gain(gain)
    ranks = projected_ranks(opened, strength, regularisation)
    if form == "ndcg":
        relevant = opened.labels > 0
        return _one_less_ndcg(opened, discounts(torch.where(relevant, ranks, 1)), None, gain, reduction)
    if form != "spearman":
        raise InputError(f"form must be 'spearman' or 'ndcg': got {form!r}.")
    error = opened.lists.sum(opened.weights * (ranks - average_ranks(opened, opened.labels)).square())
    n = opened.lists.count().to(error.dtype)
    return opened.reduce(6 * error / (n * (n * n - 1)).clamp(min=1), reduction)


def _one_less_ndcg(opened: Opened, discount: Tensor, k: int | None, gain: Gain, reduction: Reduction) -> Tensor:
    gained = gains(opened, gain, relative=True)
    return one_less(opened, Fraction(opened.lists.sum(gained * discount), ideal_dcg(opened, gained, k)), reduction)
