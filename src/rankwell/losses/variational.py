"""Variational BPR: posteriors over which positive and which negative are meant."""

from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.kernels.gaps import gap_sums
from rankwell.lists import Dense, check_positive, open_rows
from rankwell.losses.registry import Neg, Pos, contrast_loss
from rankwell.registry import Input, Search
from rankwell.types import Mask, Reduction, Weights

__all__ = ["variational_bpr_loss"]

Sharpness: TypeAlias = Annotated[float, Search(0.5, 20.0, log=True)]


@contrast_loss(
    paper="liu2025",
    complexity="m n",
    inputs={"pos_prior": Input("positive", "share"), "neg_prior": Input("item", "share")},
)
def variational_bpr_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    pos_prior: Tensor | None = None,
    neg_prior: Tensor | None = None,
    form: Literal["exact", "plug_in"] = "exact",
    c_pos: Sharpness = 8.0,
    c_neg: Sharpness = 8.0,
) -> Tensor:
    r"""BPR over posteriors: high positives count more, against noisy ones; high negatives less, against false ones.

    .. math::
        \ell_\text{exact} &= \sum_i \sum_j w_i\, \alpha_i \beta_j \log\left(1 + e^{s_j - s_i}\right), \qquad
        \ell_\text{plug-in} = \bar w \log\left(1 + e^{\sum_j \beta_j s_j - \sum_i \alpha_i s_i}\right) \\
        \alpha_i &\propto \pi_i^+ e^{s_i/c^+}, \qquad \beta_j \propto \pi_j^- e^{-s_j/c^-}, \qquad
        \bar w = \textstyle\sum_i \alpha_i w_i

    The posteriors :math:`\alpha` and :math:`\beta`, which sum to one, carry no gradient. With one positive and one negative
    both forms are :func:`~rankwell.losses.bpr_loss`, and so is the exact form, up to several of both, as the c grow. On dot
    products the plug-in form is attention: the score of the query with a prototype, the mean of the positives by
    :math:`\alpha`, against one of the negatives. It is the exact form's lower bound. An infinitely bad negative takes all of
    :math:`\beta`. Time O(m n) and memory O(m + n); O(m + n) for the plug-in. The exact form has no second derivatives.

    Weights multiply the terms; in the plug-in form the value, by their mean under :math:`\alpha`. A row without negatives has
    value 0.

    Choose it instead of :func:`~rankwell.losses.bpr_loss` for rows with several positives, some of them noise, and
    negatives of which some are false, above all where priors such as rarity are at hand. With one positive and one
    negative it is BPR; with one positive and a pool of easy negatives take BPR: at equal tuning so, ml-latest-small had
    NDCG@20 0.2842, BPR 0.2968 (``docs/leaderboard.md``).

    Args:
        pos_prior: like ``pos``, :math:`\pi^+` up to a factor, above 0: rarity, quality. What is 0 or below counts as the least
            number above 0, so that a row of zeros has equal priors.
        neg_prior: like ``neg``, :math:`\pi^-` up to a factor, likewise.
        form: which of the two.
        c_pos: :math:`c^+`, in units of the scores; the smaller, the more the best positive counts alone. Published: 4 and 8.
        c_neg: :math:`c^-`, in units of the scores; the smaller, the more the worst negative counts alone.

    Raises:
        InputError: if ``form`` is neither, a prior has not the shape of its scores, or ``c_pos`` or ``c_neg`` is not above 0.

    >>> variational_bpr_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0]]))  # log 2
    tensor(0.6931)

    Source: :cite:`liu2025`; read in its official code, equation numbers unchecked. Differs from it: priors are given, not made
    of popularity and hardness. The first version of the paper has another form.
    """
    if form not in ("exact", "plug_in"):
        raise InputError(f"form must be 'exact' or 'plug_in': got {form!r}.")
    check_positive(c_pos, "c_pos")
    check_positive(c_neg, "c_neg")
    _check_prior(pos_prior, pos, "pos_prior", "pos")
    _check_prior(neg_prior, neg, "neg_prior", "neg")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    if pos_prior is not None and pos.ndim < neg.ndim:
        pos_prior = pos_prior[..., None]
    of_pos = _posterior(rows.pos / c_pos, pos_prior, rows.pos_where)
    of_neg = _posterior(-rows.given_neg / c_neg, neg_prior, rows.where)
    if form == "exact":
        return rows.reduce(gap_sums(_logistic, rows, rows.weights * of_pos, of_neg), reduction)
    neg = rows.given_neg if rows.where is None else torch.where(rows.where, rows.given_neg, 0)
    gap = (of_neg * neg).sum(-1) - (of_pos * rows.pos).sum(-1)
    values = (of_pos * rows.weights).sum(-1) * functional.softplus(gap, threshold=40)
    return rows.reduce(torch.where(rows.count_neg() > 0, values, 0), reduction)


def _check_prior(prior: Tensor | None, scores: Tensor, name: str, of: str) -> None:
    if prior is not None and prior.shape != scores.shape:
        raise InputError(f"{name} must have the shape of {of}, {tuple(scores.shape)}: got {tuple(prior.shape)}.")


def _posterior(x: Tensor, prior: Tensor | None, where: Mask | None) -> Tensor:
    """Softmax of ``x`` plus the log of the prior, without a gradient; 0 where masked."""
    numbers = torch.finfo(x.dtype)
    x = x.detach().clamp(numbers.min, numbers.max)  # a score of minus infinity has a share too
    x = x if prior is None else x + prior.detach().to(x).clamp(min=numbers.tiny).log()
    posterior = Dense(x, where).log_softmax(x).exp()
    return posterior if where is None else torch.where(where, posterior, 0)


def _logistic(gap: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor, None]:
    """Mean by shares, which are constants, of the logistic loss."""
    assert shares is not None
    return (functional.softplus(gap, threshold=40) * shares).sum(-1), torch.sigmoid(gap) * shares, None
