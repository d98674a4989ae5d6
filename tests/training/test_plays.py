from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from rankwell.training import Play, TrainingSettings, fit


class Number(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))


@dataclass
class Saddle:
    """x minimises and y maximises (x - 1)² + 2xy - y², whose saddle is at x = y = 1/2."""

    every: int = 1
    groups: Mapping[str, nn.Module] = field(default_factory=lambda: {"low": Number(3.0), "high": Number(-2.0)})
    seen: list[tuple[float, float]] = field(default_factory=list)

    def value(self) -> Tensor:
        x, y = (self.groups[name].value for name in ("low", "high"))
        return (x - 1) ** 2 + 2 * x * y - y**2

    def plays(self, *_: Any, **__: Any) -> Iterator[Play]:
        yield Play(self.value(), "low")
        self.seen.append(tuple(self.groups[name].value.item() for name in ("low", "high")))  # type: ignore[arg-type]
        yield Play(self.value(), "high", maximise=True, every=self.every)


PAIRS = (torch.arange(40), torch.arange(40))


def settings(**own: Any) -> TrainingSettings:
    return TrainingSettings(**{"epochs": 1, "batch_size": 5, "learning_rate": 0.1, "schedule": "constant", **own})


def test_min_max_comes_to_the_saddle():
    game = Saddle()
    fit(game, PAIRS, settings(epochs=60, schedule="linear", learning_rate=0.05), seed=0)
    for group in game.groups.values():
        assert abs(group.value.item() - 0.5) < 0.02  # type: ignore[operator]


def test_the_first_step_by_hand():
    """Adam's first step is the sign of the gradient: x falls, and y rises, seeing the x that the play before left."""
    game = Saddle()
    fit(game, (PAIRS[0][:5], PAIRS[1][:5]), settings(), seed=0)
    # d/dx = 2 (3 - 1) + 2 (-2) = 0 at the start: pulled by neither; y: 2x - 2y = 10 upwards.
    assert abs(game.groups["low"].value.item() - 3.0) < 1e-6  # type: ignore[operator]
    assert abs(game.groups["high"].value.item() + 1.9) < 1e-4  # type: ignore[operator]


def test_every_second_step():
    game = Saddle(every=2)
    fit(game, PAIRS, settings(), seed=0)
    highs = [high for _, high in game.seen] + [game.groups["high"].value.item()]  # type: ignore[operator]
    moved = [after != before for before, after in pairwise(highs)]
    assert moved == [True, False] * 4  # at steps 0, 2, 4, 6
    lows = [low for low, _ in game.seen]
    assert len(set(lows)) == len(lows)


def test_each_play_moves_its_own_group_alone():
    """The value depends on both groups: what falls into the other's gradient is thrown away."""
    game = Saddle(every=1000)  # carried out at step 0 only
    fit(game, PAIRS, settings(), seed=0)
    highs = {high for _, high in game.seen[1:]}
    assert len(highs) == 1
