"""The lower-left corner of the ROC curve: the best positives against the best negatives."""

# mypy: allow-untyped-calls

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import Dense, Rows, check_positive, open_rows
from rankwell.losses.registry import Neg, Pos, contrast_loss, stateful_loss
from rankwell.registry import Input, Search
from rankwell.types import Kind, Mask, Reduction, Weights

__all__ = ["LLPAUCVariables", "MinMaxLLPAUCLoss", "llpauc_loss", "llpauc_value"]

PosShare: TypeAlias = Annotated[float, Search(0.1, 1.0)]
NegShare: TypeAlias = Annotated[float, Search(0.01, 1.0, log=True)]


@contrast_loss(paper="shi2024", complexity="m log m + n log n")
def llpauc_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    alpha: PosShare = 0.7,
    beta: NegShare = 0.1,
) -> Tensor:
    r"""Lower-left partial AUC: squared loss of the pairs of the best positives and the best negatives of a row.

    .. math:: \ell = \bar w \operatorname{mean}_{i \in P_\alpha} \operatorname{mean}_{j \in N_\beta}
        \left( 1 - \sigma(s_i) + \sigma(s_j) \right)^2

    :math:`P_\alpha` are the :math:`\alpha m` highest of the positives and :math:`N_\beta` the :math:`\beta n` highest of the
    negatives, the last one in part, and one at least. It is an upper bound of the share of these pairs that are in the wrong
    order, one minus the area in the corner over :math:`\alpha\beta`. No pair is made: it is the variance of both, and the
    squared gap of their means. Time O(m log m + n log n), memory O(m + n) a row.

    This is what :class:`MinMaxLLPAUCLoss` comes to where a row is at hand whole, without variables to train. With one
    positive a row ``alpha`` has no part in it. Numerically delicate: all passes through a sigmoid, so that scores beyond some
    ±10 have next to no gradient (start with small ones), and only the few items of the corner have any.

    A row's value is multiplied by the mean weight :math:`\bar w` of its positives. A row without negatives has value 0.

    Choose it for rows with several positives, some of them noise, and many negatives, where only the top of both should
    count. With one positive a row ``alpha`` does nothing and :func:`~rankwell.losses.sampled_softmax_loss` minds the
    top as well, without a sigmoid's flat ends: so on our leaderboard, where it had NDCG@20 0.2901 on ml-latest-small,
    sampled softmax 0.2994 (``docs/leaderboard.md``).

    Args:
        alpha: share of the positives, the highest, that counts, in (0, 1]. Published: 0.7 to 0.8.
        beta: share of the negatives, the highest, that counts, in (0, 1]. Published: 0.01 to 0.1.

    Raises:
        InputError: if ``alpha`` or ``beta`` is not in (0, 1].

    >>> llpauc_loss(torch.tensor([[0.0, -5.0]]), torch.tensor([[1.0986, -9.0]]),  # sigmoids 1/2 and 3/4 count
    ...             alpha=0.5, beta=0.5)  # (1 - 1/2 + 3/4)^2
    tensor(1.5625)

    Source: :cite:`shi2024`, the surrogate of LLPAUC with the squared loss, equation number unchecked. Differs from it: the
    items of the corner are found by sorting the row, not by trained thresholds, and there is no smoothing by softplus.
    """
    _check_shares(alpha, beta)
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    mean_pos, spread_pos = _of_top(rows.pos, rows.pos_where, alpha)
    mean_neg, spread_neg = _of_top(rows.given_neg, rows.where, beta)
    values = spread_pos + spread_neg + (1 - mean_pos + mean_neg).square()
    return rows.reduce(_weigh(values, rows), reduction)


def _of_top(scores: Tensor, where: Mask | None, share: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of the sigmoids of each row's highest scores."""
    count = Dense(scores, where).count()[..., None].to(scores.dtype)
    scores = scores if where is None else torch.where(where, scores, -torch.inf)
    # By scores: their sigmoids tie where they round to 1.
    chances = torch.sigmoid(scores.sort(-1, descending=True).values)
    cut = (share * count).clamp(min=1)
    place = torch.arange(scores.shape[-1], device=scores.device)
    shares = torch.where(place < count, (cut - place).clamp(0, 1), 0) / cut
    mean = (shares * chances).sum(-1, keepdim=True)
    return mean.squeeze(-1), (shares * (chances - mean).square()).sum(-1)


def _weigh(values: Tensor, rows: Rows) -> Tensor:
    """Times the mean weight of the positives; 0 in rows without negatives."""
    weighed = rows.by_mean_weight(values)
    return torch.where(rows.count_neg() > 0, weighed, 0)


class LLPAUCVariables(NamedTuple):
    """What :func:`llpauc_value` is minimised or maximised by beside the scores: numbers, or one a row, ``[*batch]``."""

    a: Tensor
    """Mean of the best positives, in [0, 1]. Minimised."""
    b: Tensor
    """Mean of the best negatives, in [0, 1]. Minimised."""
    s_neg: Tensor
    """Threshold of the negatives' terms, in [0, 5]. Minimised."""
    theta_a: Tensor
    """Multiplier of the constraint a + gamma >= 0, at least 0. Minimised."""
    theta_b: Tensor
    """Multiplier of the constraint b - 1 - gamma <= 0, at least 0. Minimised."""
    s_pos: Tensor
    """Threshold of the positives' terms, in [-1, 4]. Maximised."""
    gamma: Tensor
    """b - a at the best, in [-1, 1]. Maximised."""


def llpauc_value(
    pos: Pos,
    neg: Neg,
    variables: LLPAUCVariables,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    alpha: PosShare = 0.7,
    beta: NegShare = 0.1,
    sharpness: Annotated[float, Search(1.0, 100.0, log=True)] = 5.0,
) -> Tensor:
    r"""The min–max function of LLPAUC, in which no item meets another: a contrast loss with trained thresholds.

    .. math::
        \ell = 1 &- s^+ - \tfrac{1}{\alpha} \operatorname{mean}_i r\left(-(p_i - a)^2 + 2(1 + \gamma) p_i - s^+\right) \\
                 &+ s^- + \tfrac{1}{\beta} \operatorname{mean}_j r\left((q_j - b)^2 + 2(1 + \gamma) q_j - s^-\right)
                 - \gamma^2 + \theta_a (a + \gamma) - \theta_b (b - 1 - \gamma)

    with :math:`p_i = \sigma(s_i)`, :math:`q_j = \sigma(s_j)` and :math:`r(x) = \log(1 + e^{\kappa x})/\kappa`, all times the
    mean weight of the row's positives. Model, a, b, :math:`s^-` and :math:`\theta` minimise, :math:`s^+` and :math:`\gamma`
    maximise. With :math:`[x]_+` for r, a and b the means of the corner, :math:`\gamma = b - a`, the thresholds at the last
    items of the corner and :math:`\theta = 0` it is :func:`llpauc_loss`; r adds at most :math:`\log 2/(\kappa\beta)` to that
    and takes at most :math:`\log 2/(\kappa\alpha)` away. Time and memory O(m + n) a row. A row without negatives has value 0.

    Args:
        variables: what is trained beside the model; :class:`MinMaxLLPAUCLoss` holds them.
        alpha: share of the positives that counts.
        beta: share of the negatives that counts.
        sharpness: :math:`\kappa`; the higher, the closer is r to :math:`[x]_+`.

    Raises:
        InputError: if ``alpha`` or ``beta`` is not in (0, 1], or ``sharpness`` is not above 0.

    >>> at = LLPAUCVariables(*(torch.tensor(x) for x in (0.5, 0.5, 1.0, 0.0, 0.0, 1.0, 0.0)))
    >>> llpauc_value(torch.tensor([0.0]), torch.tensor([[0.0]]), at, alpha=1.0, beta=1.0)  # 1 - 1 - r(0) + 1 + r(0)
    tensor(1.)

    Source: :cite:`shi2024`, confirmed in its official code, equation number unchecked. Differs from it: the constant 1, so that
    it bounds the share of wrong pairs.
    """
    _check_shares(alpha, beta)
    check_positive(sharpness, "sharpness")
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    # One a row lies along the rows, a number along nothing.
    a, b, s_neg, theta_a, theta_b, s_pos, gamma = (x[..., None] if x.ndim else x for x in variables)
    p = torch.sigmoid(rows.pos)
    q = torch.sigmoid(rows.given_neg if rows.where is None else torch.where(rows.where, rows.given_neg, 0))
    of_pos = -(p - a).square() + 2 * (1 + gamma) * p - s_pos
    of_neg = (q - b).square() + 2 * (1 + gamma) * q - s_neg
    smooth_pos, smooth_neg = (functional.softplus(x, beta=sharpness, threshold=40) for x in (of_pos, of_neg))
    above = Dense(q, rows.where).sum(smooth_neg) / rows.count_neg().clamp(min=1)
    between = 1 - s_pos + s_neg - gamma.square() + theta_a * (a + gamma) - theta_b * (b - 1 - gamma)
    between = between.squeeze(-1) if between.ndim else between
    return rows.reduce(
        _weigh(between - Dense(rows.pos, rows.pos_where).mean(smooth_pos) / alpha + above / beta, rows), reduction
    )


@stateful_loss(name="min_max_llpauc", paper="shi2024", complexity="m + n")
class MinMaxLLPAUCLoss(nn.Module):
    r"""LLPAUC as its paper trains it: the corner of the whole data, from batches, by thresholds that are trained along.

    .. math:: \min_{\text{model}, a, b, s^-, \theta} \; \max_{s^+, \gamma} \; \ell

    with :math:`\ell` of :func:`llpauc_value`, whose formula it is. It is called as a contrast loss. Its thresholds are those of
    all rows together: so ``alpha`` means something with one positive a row too, where :func:`llpauc_loss` has but the row. Two
    plays of one value: the first lowers the model and ``low``, the second raises ``high``. ``update``, once a step, puts the
    variables back into their ranges. The parameters are the state, and in ``state_dict``. Time and memory O(m + n) a row.

    Numerically delicate: the game is not concave in ``high`` where ``beta`` is small, and a learning rate that suits the model
    may let the thresholds swing. For a row that is whole prefer :func:`llpauc_loss`.

    Choose it only to compare with the paper, or where rows have one positive and ``alpha`` must have a meaning: it
    needs an optimiser for each side and a call of ``update`` a step, and may swing. Where a row is whole take
    :func:`llpauc_loss`, which sorts instead.

    Args:
        alpha: share of the positives that counts, in (0, 1].
        beta: share of the negatives that counts, in (0, 1].
        sharpness: of the softplus in place of the hinge, above 0.

    Raises:
        InputError: if ``alpha`` or ``beta`` is not in (0, 1], or ``sharpness`` is not above 0.

    >>> loss = MinMaxLLPAUCLoss(alpha=1.0, beta=1.0)
    >>> loss.variables.a.item(), loss.variables.gamma.item()
    (1.0, 0.0)
    >>> with torch.no_grad():
    ...     _ = loss.high["gamma"].fill_(3.0)
    >>> loss.update()
    >>> loss.variables.gamma.item()
    1.0

    Source: :cite:`shi2024`; ranges and starting values of its official code. Differs from it: the code clips within the
    value, so that a variable that leaves its range has no gradient to come back by; here it is put back behind the step.
    """

    call: ClassVar[Kind] = "contrast"
    """The kind of loss that it is called as."""
    inputs: ClassVar[Mapping[str, Input]] = {}
    """What calls take besides: nothing."""

    def __init__(
        self,
        *,
        alpha: PosShare = 0.7,
        beta: NegShare = 0.1,
        sharpness: Annotated[float, Search(1.0, 100.0, log=True)] = 5.0,
    ) -> None:
        super().__init__()
        _check_shares(alpha, beta)
        check_positive(sharpness, "sharpness")
        self.own = {"alpha": alpha, "beta": beta, "sharpness": sharpness}
        self.low = _parameters(a=1.0, b=0.0, s_neg=0.5, theta_a=0.5, theta_b=0.5)
        """The parameters that are lowered with the model."""
        self.high = _parameters(s_pos=0.5, gamma=0.0)
        """The parameters that are raised."""

    @property
    def variables(self) -> LLPAUCVariables:
        """Where the game stands."""
        return LLPAUCVariables(**dict(self.low.items()), **dict(self.high.items()))

    def forward(
        self,
        pos: Pos,
        neg: Neg,
        *,
        pos_where: Mask | None = None,
        where: Mask | None = None,
        weights: Weights | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """One value a row, reduced."""
        return llpauc_value(
            pos, neg, self.variables, pos_where=pos_where, where=where, weights=weights, reduction=reduction, **self.own
        )

    @torch.no_grad()
    def update(self, *_: Any, **__: Any) -> None:
        """Put the variables back into their ranges: once a step, behind the optimisers'."""
        for name, (lowest, highest) in _RANGES.items():
            (self.low if name in self.low else self.high)[name].clamp_(lowest, highest)


_RANGES: dict[str, tuple[float, float | None]] = {
    "a": (0, 1), "b": (0, 1), "s_neg": (0, 5), "theta_a": (0, None), "theta_b": (0, None), "s_pos": (-1, 4), "gamma": (-1, 1),
}  # fmt: skip


def _parameters(**values: float) -> nn.ParameterDict:
    return nn.ParameterDict({name: nn.Parameter(torch.tensor(value)) for name, value in values.items()})


def _check_shares(alpha: float, beta: float) -> None:
    for name, share in {"alpha": alpha, "beta": beta}.items():
        if not 0 < share <= 1:
            raise InputError(f"{name} must be above 0 and at most 1: got {share}.")
