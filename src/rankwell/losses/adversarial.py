"""Losses of two players: generators against discriminators, and negatives whose hardness an adversary chooses."""

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import Dense, Rows, check_positive, in_full_precision, open_lists, open_rows
from rankwell.losses.registry import Neg, Pos, Temperature, contrast_loss, list_loss
from rankwell.losses.softmax_contrast import scaled_cross_entropy_loss
from rankwell.registry import Input, Search
from rankwell.types import Labels, Mask, Offsets, Reduction, Scores, Weights

__all__ = [
    "adversarial_info_nce_loss",
    "gan_discriminator_loss",
    "gan_generator_loss",
    "gradient_penalty",
    "irgan_generator_loss",
]

Game: TypeAlias = Literal["minimax", "non_saturating", "hinge", "wasserstein"]


@contrast_loss(paper="zhang2023adv", complexity="m + n", softmax=True, inputs={"hardness": Input("item")})
def adversarial_info_nce_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    hardness: Tensor | None = None,
    scale: Annotated[float, Search(1.0, 100.0, log=True)] = 1.0,
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""AdvInfoNCE: sampled softmax whose negatives count by a hardness that an adversary raises against the model.

    .. math::
        \ell = -\sum_i w_i \log \frac{e^{s_i/\tau}}{\sum_k e^{s_k/\tau} + K \sum_j n\, p_j\, e^{s_j/\tau}}, \qquad
        p = \operatorname{softmax}(h)

    The model minimises it and the hardness :math:`h` maximises it, as two plays: it has exact gradients by both. The factors
    :math:`n\, p_j` multiply the exponentials (:math:`\delta_j = \log n p_j` is what is added to :math:`s_j/\tau`), and average
    to 1: without ``hardness``, or with one that is equal for all, it is
    :func:`~rankwell.losses.scaled_cross_entropy_loss`, and with ``scale=1``
    :func:`~rankwell.losses.sampled_softmax_loss`. An adversary that is never held back puts all on the negative with the
    highest score; the paper stops it after some epochs. Time and memory O(m + n) a row.

    Weights multiply the terms, not the denominator. A row without negatives keeps its positives' denominator.

    Choose it where an adversary of your own, a second set of embeddings with an optimiser of its own, is to find out
    which negatives are hard or false, and stop it before it puts all on one. Without ``hardness`` it is
    :func:`~rankwell.losses.scaled_cross_entropy_loss`, as on our leaderboard; for hard negatives without a second model
    take :func:`~rankwell.losses.hard_contrastive_loss`.

    Args:
        hardness: like ``neg``, :math:`h`, any numbers: say dot products of an adversary's own embeddings.
        scale: :math:`K`, a further factor of the negatives.
        temperature: :math:`\tau`, what scores are divided by; hardness is not.

    Raises:
        InputError: if ``hardness`` is not floating point and of the shape of ``neg``, or ``scale`` or ``temperature`` is not
            above 0.

    >>> adversarial_info_nce_loss(torch.tensor([0.0]), torch.tensor([[0.0, 1.0]]),  # p = (1/4, 3/4): factors 1/2 and 3/2
    ...                           hardness=torch.tensor([[0.0, 1.0986]]))  # log(1 + 1/2 + 3/2 e)
    tensor(1.7187)

    Source: :cite:`zhang2023adv`; read in its official code, equation number unchecked. The code's ``k_neg`` is ``scale``.
    Differs from it: several positives, masks, and no bound on the hardness (its divergence from equal hardness is what the
    code watches).
    """
    if hardness is not None:
        if hardness.shape != neg.shape or not hardness.is_floating_point():
            raise InputError(
                f"hardness must be floating point, one a negative, {tuple(neg.shape)}:"
                f" got {tuple(hardness.shape)} of {hardness.dtype}."
            )
        check_positive(temperature, "temperature")
        rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
        log_shares = Dense(rows.given_neg, rows.where).log_softmax(in_full_precision(hardness))
        log_n = rows.count_neg().clamp(min=1).to(log_shares.dtype).log()
        neg = rows.given_neg + temperature * (log_shares + log_n[..., None])
    return scaled_cross_entropy_loss(
        pos, neg, pos_where=pos_where, where=where, weights=weights, reduction=reduction,
        scale=scale, temperature=temperature,
    )  # fmt: skip


@contrast_loss(paper="goodfellow2014", complexity="m + n")
def gan_discriminator_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    form: Game = "non_saturating",
) -> Tensor:
    r"""What the discriminator lowers: real items are to score high, generated ones low.

    .. math:: \ell = \operatorname{mean}_i w_i\, f(-s_i) + \bar w \operatorname{mean}_j f(s_j)

    ``pos`` are the discriminator's scores of real items, ``neg`` those of generated ones, before any sigmoid.
    ``"minimax"`` and ``"non_saturating"`` have :math:`f(x) = \log(1 + e^x)` here (they differ for the generator, see
    :func:`gan_generator_loss`): :math:`-\log\sigma(s_i)` and :math:`-\log(1 - \sigma(s_j))`, without the logarithm of a number
    that rounds to 0. ``"hinge"`` has :math:`f(x) = [1 + x]_+`, whose pull ends at a margin of 1. ``"wasserstein"`` has
    :math:`f(x) = x`, and no lower bound: hold the discriminator's slope by :func:`gradient_penalty`. The discriminator of
    IRGAN is the minimax one, with items drawn by the generator as ``neg``. Time and memory O(m + n) a row.

    A positive's weight multiplies its term; the negatives' mean weighs their mean :math:`\bar w`. A row without negatives
    keeps the term of its positives.

    Choose it for the critic of a game in which a generator makes items, with the form of that generator's loss:
    ``"non_saturating"`` first, ``"wasserstein"`` only with a gradient penalty. Not for a model that ranks by itself:
    IRGAN's discriminator had NDCG@20 0.1352 on ml-latest-small, a supervised generator 0.1793
    (``bench/results/irgan.txt``); there take :func:`~rankwell.losses.sampled_softmax_loss`.

    Args:
        form: which game is played. Take the same for the generator.

    Raises:
        InputError: if ``form`` is none of these.

    >>> gan_discriminator_loss(torch.tensor([0.0]), torch.tensor([[0.0]]))  # 2 log 2
    tensor(1.3863)
    >>> gan_discriminator_loss(torch.tensor([0.5]), torch.tensor([[0.5, -2.0]]), form="hinge")  # .5 + 1.5 / 2
    tensor(1.2500)

    Source: :cite:`goodfellow2014`, eq. 1; :cite:`lim2017` for the hinge, :cite:`arjovsky2017` for the Wasserstein form,
    equation numbers unchecked. Differs from them: a mean for each row, so that each query may have its own real and
    generated items.
    """
    charge = _charge(form)
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    of_real = rows.mean_pos(charge(-rows.pos))
    of_generated = rows.by_mean_weight(_mean_neg(charge, rows))
    return rows.reduce(of_real + of_generated, reduction)


@contrast_loss(paper="goodfellow2014", complexity="n")
def gan_generator_loss(
    pos: Pos,
    neg: Neg,
    *,
    pos_where: Mask | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    form: Game = "non_saturating",
) -> Tensor:
    r"""What the generator lowers: its items are to score as high as real ones with the discriminator.

    .. math:: \ell = \bar w \operatorname{mean}_j g(s_j), \qquad g(s) = \begin{cases}
        -\log(1 + e^s) = \log(1 - \sigma(s)) & \text{minimax} \\
        \log(1 + e^{-s}) = -\log \sigma(s) & \text{non-saturating} \\
        -s & \text{hinge, Wasserstein} \end{cases}

    ``neg`` are the discriminator's scores of the generated items. The slope of ``"minimax"`` is :math:`-\sigma(s)`: it vanishes
    just where the discriminator is sure that an item is generated, :math:`s \ll 0`, as it is early in training. That of
    ``"non_saturating"`` is :math:`-\sigma(-s)`, which is 1 there, and vanishes for items that pass for real. The others' slope
    is 1 everywhere. Generated items must be differentiable in the generator; to draw ids from a list take
    :func:`irgan_generator_loss`. Time and memory O(n) a row.

    ``pos`` has a value of no influence and the gradient 0; its weights and mask say what a row weighs (:math:`\bar w`, their
    mean), and whether it counts. So the two players take the same arguments. A row without negatives has value 0.

    Choose it for a generator whose items are differentiable vectors, beside :func:`gan_discriminator_loss` of the same
    form; not ``"minimax"``, unless to compare, since it stands still where the critic wins. For ids drawn from a list
    take :func:`irgan_generator_loss`, for a model that ranks :func:`~rankwell.losses.sampled_softmax_loss`: supervision
    is steadier than a game.

    Args:
        form: which game is played. Take the same for the discriminator.

    Raises:
        InputError: if ``form`` is none of these.

    >>> gan_generator_loss(torch.tensor([9.0]), torch.tensor([[0.0]]))  # log 2
    tensor(0.6931)
    >>> gan_generator_loss(torch.tensor([9.0]), torch.tensor([[0.0]]), form="minimax")  # log 1/2
    tensor(-0.6931)

    Source: :cite:`goodfellow2014`, eq. 1 and section 3; :cite:`lim2017` for the hinge, :cite:`arjovsky2017` for the
    Wasserstein form, equation numbers unchecked. Differs from them: a mean for each row; the minimax form leaves out the term
    of the real items, which the generator does not move.
    """
    _charge(form)
    rows = open_rows(pos, neg, pos_where=pos_where, where=where, weights=weights)
    # Never taken: it makes the value a function of the positives, so that autograd finds their gradient, 0.
    shares = torch.where(torch.zeros_like(rows.pos, dtype=torch.bool), rows.pos, rows.weights)
    return rows.reduce(Dense(rows.pos, rows.pos_where).mean(shares) * _mean_neg(_PRICES[form], rows), reduction)


def _softplus(x: Tensor) -> Tensor:
    return functional.softplus(x, threshold=40)  # torch's default threshold, 20, is too low for float64


_CHARGES: dict[str, Callable[[Tensor], Tensor]] = {
    "minimax": _softplus,
    "non_saturating": _softplus,
    "hinge": lambda x: functional.relu(1 + x),
    "wasserstein": lambda x: x,
}
"""What the discriminator pays for a score on the wrong side."""

_PRICES: dict[str, Callable[[Tensor], Tensor]] = {
    "minimax": lambda x: -_softplus(x),
    "non_saturating": lambda x: _softplus(-x),
    "hinge": lambda x: -x,
    "wasserstein": lambda x: -x,
}
"""What the generator pays for the score of an item of its own."""


def _charge(form: str) -> Callable[[Tensor], Tensor]:
    if form not in _CHARGES:
        raise InputError(f"form must be one of {', '.join(map(repr, _CHARGES))}: got {form!r}.")
    return _CHARGES[form]


def _mean_neg(charge: Callable[[Tensor], Tensor], rows: Rows) -> Tensor:
    """Mean of the charges of the valid negatives; 0 where there are none."""
    neg = rows.given_neg if rows.where is None else torch.where(rows.where, rows.given_neg, 0)
    return Dense(neg, rows.where).sum(charge(neg)) / rows.count_neg().clamp(min=1)


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor],
    real: Float[Tensor, "*batch d"],
    fake: Float[Tensor, "*batch d"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*batch"]:
    r"""How far the discriminator's slope is from 1 between real and generated vectors: one value a row, unreduced.

    .. math:: \left( \left\lVert \nabla_x D(x) \right\rVert_2 - 1 \right)^2, \qquad
        x = \epsilon\, x_\text{real} + (1 - \epsilon)\, x_\text{fake}, \qquad \epsilon \sim U(0, 1)

    Add its mean, times about 10, to the Wasserstein :func:`gan_discriminator_loss`. It can be differentiated by the
    discriminator's parameters; real and generated vectors have no gradient by it. The discriminator must score each vector by
    itself: a normalisation over the batch mixes their slopes. Time and memory are those of the discriminator's forward and
    backward pass.

    Args:
        discriminator: from vectors ``[*batch, d]`` to scores ``[*batch]``.
        real: real vectors.
        fake: generated vectors, of the same shape.
        generator: where :math:`\epsilon` is drawn from, one a row.

    Raises:
        InputError: if ``real`` and ``fake`` differ in shape, or the scores are not one a vector.

    >>> slope = torch.tensor([3.0, 4.0])  # of length 5: (5 - 1)^2
    >>> gradient_penalty(lambda x: x @ slope, torch.zeros(2, 2), torch.ones(2, 2))
    tensor([16., 16.])

    Source: :cite:`gulrajani2017`, eq. 3.
    """
    if real.shape != fake.shape:
        raise InputError(f"real and fake must have one shape: got {tuple(real.shape)} and {tuple(fake.shape)}.")
    share = torch.rand((*real.shape[:-1], 1), generator=generator, dtype=real.dtype, device=real.device)
    between = torch.lerp(fake.detach(), real.detach(), share).requires_grad_()
    with torch.enable_grad():
        scores = discriminator(between)
        if scores.shape != real.shape[:-1]:
            raise InputError(
                f"the discriminator must give one score a vector, {tuple(real.shape[:-1])}: got {tuple(scores.shape)}."
            )
        (slope,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    penalty: Tensor = (torch.linalg.vector_norm(slope, dim=-1) - 1).square()
    return penalty


@list_loss(paper="wang2017", complexity="n", inputs={"rewards": Input("item", required=True), "log_q": Input("item")})
def irgan_generator_loss(
    scores: Scores,
    labels: Labels,
    *,
    where: Mask | None = None,
    weights: Weights | None = None,
    offsets: Offsets | None = None,
    reduction: Reduction = "mean",
    rewards: Tensor | None = None,
    log_q: Tensor | None = None,
    temperature: Temperature = 1.0,
) -> Tensor:
    r"""Policy gradient of IRGAN: minus the reward that a generator expects which draws from a list of candidates.

    .. math:: \ell(s) = -\sum_j w_j\, p_j\, r_j, \qquad p = \operatorname{softmax}(s/\tau - \log q)

    Its gradient is that of REINFORCE, :math:`-\operatorname{E}_{j \sim p} [r_j \nabla \log p_j]`, exactly, since
    :math:`p_j \nabla \log p_j = \nabla p_j`: the expectation is over the candidates, and nothing is drawn. By a score it is
    :math:`-p_j (r_j - \operatorname{E}_p r)/\tau` with weights of 1: the mean reward is its baseline already, and a constant
    added to all rewards changes nothing. It vanishes for candidates of no probability, whatever their reward.

    Where the candidates are n draws from a proposal q, with repetition, ``log_q`` makes it the self-normalised importance
    estimate: with the generator's own log-probabilities (detached) as ``log_q`` and weights of 1 it is minus the mean reward of
    the draws. The bias is O(1/n). The discriminator of the game is :func:`gan_discriminator_loss`. Labels are not used: the
    generator learns from the rewards alone. Time and memory O(n) a list.

    An item's weight multiplies its reward.

    Choose it where a reward of each candidate is all that is known, a critic's or a simulated user's. With labels take
    :func:`~rankwell.losses.softmax_loss` or :func:`~rankwell.losses.sampled_softmax_loss`: IRGAN gained nothing over
    supervision by the latter; on ml-latest-small, seed 0, rate 0.001, validation NDCG@20 ended at 0.1044 to 0.1067 by
    three rewards, at 0.1104 without them, and at ten times the rate all games fell below their start
    (``bench/results/irgan.txt``).

    Args:
        rewards: like ``scores``, what drawing each candidate earns; no gradient. The paper takes :math:`\log(1 + e^D)` of the
            discriminator's score :math:`D`, its code the bounded :math:`2\sigma(D) - 1`.
        log_q: like ``scores``, the log-probability of one draw of each candidate, where they are drawn; no gradient.
        temperature: :math:`\tau`, what scores are divided by.

    Raises:
        InputError: if ``rewards`` are not given, ``rewards`` or ``log_q`` are not floating point and of the shape of
            ``scores``, or ``temperature`` is not above 0.

    >>> irgan_generator_loss(torch.zeros(2), torch.zeros(2), rewards=torch.tensor([4.0, 8.0]))  # 4/2 + 8/2
    tensor(-6.)

    Source: :cite:`wang2017`, eq. 5 (number unchecked), the policy gradient. Differs from it: the expectation over the
    candidates instead of K draws, and p normalised over the candidates given.
    """
    check_positive(temperature, "temperature")
    lists = open_lists(scores, labels, where=where, weights=weights, offsets=offsets)
    if rewards is None:
        raise InputError("irgan_generator needs rewards=, one a candidate: got none.")
    gains = _constant(rewards, "rewards", lists.scores, lists.where)
    corrected = lists.scores / temperature
    if log_q is not None:
        corrected = corrected - _constant(log_q, "log_q", lists.scores, lists.where)
    shares = lists.lists.log_softmax(corrected).exp()
    return lists.reduce(-lists.lists.sum(lists.weights * gains * shares), reduction)


def _constant(x: Tensor, name: str, scores: Tensor, where: Mask | None) -> Tensor:
    """An input without its gradient, zero where masked."""
    if x.shape != scores.shape or not x.is_floating_point():
        raise InputError(
            f"{name} must be floating point, of the shape of scores, {tuple(scores.shape)}: got {tuple(x.shape)} of {x.dtype}."
        )
    x = x.detach().to(scores.dtype)
    return x if where is None else torch.where(where, x, 0)
