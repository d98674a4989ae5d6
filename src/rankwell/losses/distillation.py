"""Distillation: a student ranks as a teacher scores."""

import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.kernels.pairs import pair_means
from rankwell.lists import Opened, in_full_precision, open_lists
from rankwell.losses.registry import list_loss
from rankwell.registry import Input
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = ["margin_mse_loss"]


@list_loss(paper="hofstatter2020", complexity="n log n", inputs={"teacher": Input("item", required=True)})
def margin_mse_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    teacher: Tensor | None = None,
) -> Tensor:
    r"""Margin-MSE: squared difference between the student's and the teacher's gap of each better and each worse item.

    .. math:: \ell(s, y) = \frac{1}{|P|} \sum_{(i,j) \in P} w_i \left( (s_i - s_j) - (t_i - t_j) \right)^2,
        \qquad P = \{(i, j): y_i > y_j\}

    The labels say which pairs count, the teacher's scores :math:`t` how far apart they belong; the teacher's level does not
    matter, only its gaps. Labels in the teacher's place and all pairs make it
    :func:`~rankwell.losses.pairwise_mse_loss`. No pair is made: time O(n log n), a sort by label, and memory O(n). No
    second derivatives.

    A pair weighs as its better item. A list without pairs has value 0, and counts in the mean.

    Choose it to distil a teacher that reads query and document together into inner products, where its gaps are to be
    learned. Cosines cannot reach such gaps: take :func:`~rankwell.losses.kl_loss` with a temperature there; without
    labels beside the teacher :func:`~rankwell.losses.pairwise_mse_loss`. It copies a weak teacher too: from BM25,
    SciFact's NDCG@10 fell from 0.6239 before training to 0.5575, where the labels of the same lists gave 0.6779
    (``bench/results/scifact.txt``).

    Args:
        teacher: scores of the teacher, of the shape of ``scores``, in the scale that the student should learn.

    Raises:
        InputError: if ``teacher`` is missing, is not floating point, or has another shape than ``scores``.

    >>> labels, teacher = torch.tensor([1, 0, 0]), torch.tensor([5.0, 3.0, 1.0])
    >>> margin_mse_loss(torch.tensor([2.0, 1.0, 0.0]), labels, teacher=teacher)  # ((1 - 2)^2 + (2 - 4)^2) / 2
    tensor(2.5000)

    Source: :cite:`hofstatter2020`, the Margin-MSE loss; equation number unchecked. Differs from it: all pairs of a list, not
    one positive and one negative a query.
    """
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    off = lists._replace(scores=lists.scores - _cleaned(teacher, lists))
    return lists.reduce(pair_means(off, "square"), reduction)


def _cleaned(teacher: Tensor | None, lists: Opened) -> Tensor:
    """The teacher's scores, with zeros where masked."""
    if teacher is None or not teacher.is_floating_point():
        raise InputError(
            f"margin_mse needs teacher=, floating point scores: got {'none' if teacher is None else teacher.dtype}."
        )
    if teacher.shape != lists.scores.shape:
        raise InputError(
            f"teacher must have the shape of scores: got teacher {tuple(teacher.shape)} and scores {tuple(lists.scores.shape)}."
        )
    teacher = in_full_precision(teacher)
    return teacher if lists.where is None else torch.where(lists.where, teacher, 0)
