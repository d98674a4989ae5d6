"""Two players: a model that learns from what a rival says of its items, and the rival, which learns from its choices."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError, UnknownName
from rankwell.lists import check_at_least, check_count
from rankwell.losses import gan_discriminator_loss, sampled_softmax_loss
from rankwell.registry import Registry
from rankwell.training.objective import ContrastObjective, Play
from rankwell.types import Contrast, Ragged

__all__ = ["RIVALS", "AdversarialObjective", "Critic", "Rival"]

START, DRAWS, RIVAL_DROPOUT = 38, 39, 40
"""Keep the rival's start, the items that it is shown, and its dropout apart from what else is keyed by seed, epoch and step."""

Reward = Literal["bounded", "log", "score"]

REWARDS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "bounded": lambda score: 2 * score.sigmoid() - 1,
    "log": nn.functional.softplus,
    "score": lambda score: score,
}


class Rival(Protocol):
    """Who plays against a model: fills inputs of its loss, and learns from what the step put before that loss."""

    model: nn.Module
    """Its own."""
    player: nn.Module
    """Whom it plays against."""
    result: str
    """Which of the two was built from the run's model: ``discriminator`` for its own."""
    every: int
    fills: Mapping[str, Callable[[Contrast], Tensor | None]]

    def against(self, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The loss of the model against this rival."""
        ...

    def value(self, model: Any, *, epoch: int, step: int) -> Float[Tensor, ""]:
        """What the rival lowers, now that the model has made its move."""
        ...


RIVALS: Registry[Callable[..., Rival]] = Registry("rival", {"contrast": ("model", "known", "seed", "temperature")})
"""Rivals, by the input of a loss that they fill: a loss that needs one of these gets that rival, and its parameters."""


@RIVALS.register("contrast", name="rewards", paper="wang2017")
class Critic:
    r"""IRGAN's discriminator: it tells items that users took from items that the generator draws, and its scores are rewards.

    The generator's policy is the softmax of its scores over a row's positive and its sampled negatives, corrected by
    :math:`\log n q` where the sampler states it: the softmax over the catalogue, estimated. The generator lowers
    :func:`~rankwell.losses.irgan_generator_loss`; its first epochs are supervised by
    :func:`~rankwell.losses.sampled_softmax_loss`, the likelihood of the same policy. From the first step on the critic lowers
    :func:`~rankwell.losses.gan_discriminator_loss` of the positive against ``draws`` of the negatives, drawn by the policy that
    the generator's move has just left. It is a model like the generator, with a start of its own seed. A spectral start is
    that of the data, so that both players begin with what it tells, as after the paper's training of both beforehand.

    A step costs the generator's, the critic's scores of the same items, and a critic's step of ``draws`` negatives. Draws are
    keyed by seed, epoch and step.

    Args:
        model: the run's model, which ``result`` makes generator or critic; the other is a copy with another start.
        known: what each user knows, for that start.
        seed: of start, draws and dropout.
        temperature: what both players' scores are divided by.
        warm_epochs: supervised epochs of the generator.
        reward: ``bounded`` is :math:`2\sigma(D) - 1` of the critic's score, ``log`` is :math:`\log(1 + e^D)`, ``score`` is D.
        form: the critic's loss; with ``score``, ``wasserstein`` and ``hinge`` are those games.
        draws: items a row that the critic is shown.
        every: steps between the critic's moves.
        result: which player is the run's model.

    Raises:
        InputError, UnknownName: for settings out of range.

    Source: :cite:`wang2017`, section 3; algorithm number unchecked. ``bounded`` is its code's reward, ``log`` the paper's.
    Differs from it: the generator's gradient is the expectation over the candidates, not over draws; items that a user knows
    are not drawn for the critic; the players alternate by step, not by epoch; warming up is the maximum likelihood of the
    policy.
    """

    def __init__(
        self,
        model: nn.Module,
        known: Ragged,
        *,
        seed: int,
        temperature: float = 1.0,
        warm_epochs: int = 5,
        reward: Reward = "bounded",
        form: Literal["minimax", "hinge", "wasserstein"] = "minimax",
        draws: int = 8,
        every: int = 1,
        result: Literal["generator", "discriminator"] = "generator",
    ) -> None:
        for what, value, ways in (
            ("reward", reward, tuple(REWARDS)),
            ("form", form, ("minimax", "hinge", "wasserstein")),
            ("result", result, ("generator", "discriminator")),
        ):
            if value not in ways:
                raise UnknownName(f"value of {what}", value, ways)
        check_at_least(warm_epochs, "warm_epochs")
        check_count(draws, "draws")
        check_count(every, "every")
        other = copy.deepcopy(model)
        other.initialise(known, seed=keyed.mix(seed, START))  # type: ignore[operator]
        self.player: nn.Module = model if result == "generator" else other
        self.model: nn.Module = other if result == "generator" else model
        self.seed, self.temperature, self.warm_epochs = seed, temperature, warm_epochs
        self.reward, self.form, self.draws, self.every = reward, form, draws, every
        self.result: str = result
        self.fills: Mapping[str, Callable[[Contrast], Tensor | None]] = {
            "rewards": self._rewards,
            "log_q": self._log_q,
        }
        self._seen: Contrast | None = None

    def against(self, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """``loss``; while there are no rewards yet, the sampled softmax of the same policy."""

        def either(pos: Tensor, neg: Tensor, *, rewards: Tensor | None, log_q: Tensor | None, **given: Any) -> Tensor:
            if rewards is not None:
                return loss(pos, neg, rewards=rewards, log_q=log_q, **given)
            if log_q is not None:
                neg = neg - self.temperature * log_q[:, -neg.shape[1] :]
            return sampled_softmax_loss(pos, neg, temperature=self.temperature, **given)

        return either

    def value(self, model: Any, *, epoch: int, step: int) -> Float[Tensor, ""]:
        """The critic's loss of positives and of items that the generator draws."""
        assert self._seen is not None  # the model's play comes first
        seen = self._seen
        users, device = seen.users, seen.users.device
        drawn, there = self._drawn(model, seen, keyed.generator(self.seed, epoch, step, DRAWS, device=device))
        dropout = keyed.generator(self.seed, epoch, step, RIVAL_DROPOUT, device=device)
        scores = self.model.contrast_scores(users, seen.positives, drawn, generator=dropout)  # type: ignore[operator]
        pos, neg = (each / self.temperature for each in scores)
        return gan_discriminator_loss(pos, neg, pos_where=seen.pos_where, where=there, form=self.form)

    @torch.no_grad()
    def _drawn(
        self, model: Any, seen: Contrast, generator: torch.Generator
    ) -> tuple[Int[Tensor, "b draws"], Tensor | None]:
        """Negatives that the generator draws by its policy, and whether the row has any."""
        assert seen.ids is not None
        _, neg = model.contrast_scores(seen.users, seen.positives, seen.ids)
        policy = neg / self.temperature
        if seen.log_q is not None:
            policy = policy - seen.log_q
        where = None if seen.where is None else seen.where.expand(policy.shape)
        if where is not None:
            policy = torch.where(where, policy, torch.finfo(policy.dtype).min)
        places = policy.softmax(1).multinomial(self.draws, replacement=True, generator=generator)
        drawn = seen.ids[places] if seen.ids.ndim == 1 else seen.ids.gather(1, places)
        return drawn, None if where is None else where.gather(1, places)

    @torch.no_grad()
    def _rewards(self, seen: Contrast) -> Tensor | None:
        """Of positives and negatives; None while the generator is supervised."""
        self._seen = seen._replace(pos=seen.pos.detach(), neg=seen.neg.detach())
        if seen.epoch < self.warm_epochs:
            return None
        pos, neg = self.model.contrast_scores(seen.users, seen.positives, seen.ids)  # type: ignore[operator]
        return REWARDS[self.reward](torch.cat([pos.view(len(neg), -1), neg], 1) / self.temperature)

    def _log_q(self, seen: Contrast) -> Tensor | None:
        """Of positives, which are always there, and of n draws; None where the sampler states none."""
        if seen.log_q is None:
            return None
        rows, n = seen.neg.shape
        of_pos = seen.neg.new_zeros(rows, seen.pos.numel() // rows)
        return torch.cat([of_pos, (seen.log_q + torch.tensor(n).log()).expand(rows, n)], 1)


@dataclass
class AdversarialObjective(ContrastObjective):
    """A contrast objective with a rival: two plays a step, each by its own optimiser.

    The model's loss takes what the rival says of the items of the step; then the rival makes its move, every so many steps,
    against the model as that play has left it. The rival knows who plays which part: the run's model is the group ``model``,
    which is validated and saved; the other is the group ``rival``, which checkpoints keep.
    """

    rival: Rival | None = None

    def __post_init__(self) -> None:
        if self.rival is None or self.generator is not None:
            raise ConfigError("a game needs a rival, and negatives that are items: leave the generator out.")
        self.model = self.rival.player
        self.loss, self.fills = self.rival.against(self.loss), {**self.fills, **self.rival.fills}
        super().__post_init__()
        swapped = self.rival.result == "discriminator"
        self._own, self._other = ("rival", "model") if swapped else ("model", "rival")
        self.groups |= {self._own: self.model, self._other: self.rival.model}

    def plays(self, batch: Any, *, epoch: int, step: int) -> Iterator[Play]:
        """The model's play, and the rival's."""
        assert self.rival is not None
        for play in super().plays(batch, epoch=epoch, step=step):
            yield replace(play, group=self._own)
        yield Play(self.rival.value(self.model, epoch=epoch, step=step), self._other, every=self.rival.every)
