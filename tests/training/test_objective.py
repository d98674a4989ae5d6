import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.losses import LOSSES, as_contrast, bpr_loss, bsl_loss, sampled_softmax_loss
from rankwell.registry import Input
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective
from rankwell.types import Negatives, Ragged

USERS, ITEMS = 4, 12
KNOWN = Ragged(torch.tensor([0, 1, 2, 3, 4]), torch.tensor([5, 0, 11, 7]))
BATCH = SimpleNamespace(users=torch.tensor([2, 0, 1]), items=torch.tensor([11, 5, 0]), index=torch.tensor([2, 0, 1]))


class Given(nn.Module):
    """Scores from a table."""

    def __init__(self) -> None:
        super().__init__()
        self.num_items = ITEMS
        self.table = nn.Parameter(torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(0)))
        self.generators: list[int] = []

    def contrast_scores(
        self, queries: Tensor, positives: Tensor, negatives: Tensor, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        assert generator is not None
        self.generators.append(generator.initial_seed())
        rows = self.table[queries]
        return rows.gather(1, positives[:, None])[:, 0], rows.gather(1, negatives.expand(len(queries), -1))


class Chosen:
    """A sampler that gives what it is told, and notes what it is asked."""

    def __init__(self, negatives: Negatives) -> None:
        self.negatives, self.asked = negatives, []  # type: ignore[var-annotated]

    def __call__(self, queries: Tensor, samples: Tensor, *, epoch: int, step: int) -> Negatives:
        self.asked.append((queries.tolist(), samples.tolist(), epoch, step))
        return self.negatives


POOL = Negatives(
    torch.tensor([3, 5, 9]),
    torch.tensor([0.5, 0.25, 0.25]).log(),
    torch.tensor([[False] * 3, [False, True, False], [False] * 3]),
)


class Record:
    """A loss that keeps its arguments."""

    def __call__(self, pos: Tensor, neg: Tensor, **given: Any) -> Tensor:
        self.pos, self.neg, self.given = pos.detach(), neg.detach(), given
        return pos.sum()


def play(**own: Any) -> tuple[Record, Given, Chosen]:
    record, model, sampler = Record(), Given(), Chosen(POOL)
    objective = ContrastObjective(model, record, sampler, seed=8, **own)
    (one,) = objective.plays(BATCH, epoch=3, step=6)
    assert (one.group, one.maximise, one.every) == ("model", False, 1)
    assert objective.groups == {"model": model}
    return record, model, sampler


def test_sampler_mask_and_generator_reach_model_and_loss():
    record, model, sampler = play()
    assert sampler.asked == [([2, 0, 1], [2, 0, 1], 3, 6)]
    assert record.pos.equal(model.table.detach()[BATCH.users, BATCH.items])
    assert record.neg.equal(model.table.detach()[BATCH.users][:, [3, 5, 9]])
    assert POOL.collisions is not None and record.given["where"].equal(~POOL.collisions)
    assert record.given["weights"] is None
    assert model.generators == play()[1].generators != [keyed.mix(8, 3, 6)]  # keyed, and apart from others of this step


def test_weights_of_the_data_reach_the_loss():
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0])
    record, model, _ = play(weights=weights)
    assert record.given["weights"].equal(torch.tensor([4.0, 1.0, 2.0]))

    def value(of: Tensor | None) -> Tensor:
        objective = ContrastObjective(model, bpr_loss, Chosen(POOL), seed=0, weights=of)
        return next(objective.plays(BATCH, epoch=0, step=0)).value

    assert value(torch.ones(4)).item() == pytest.approx(value(None).item())
    assert value(torch.full((4,), 3.0)).item() == pytest.approx(3 * value(None).item())


def test_declared_inputs_are_filled_and_no_others():
    assert set(play()[0].given) == {"where", "weights"}
    given = play(inputs={"query_ids": Input("list", "id"), "num_items": Input("scalar", "count")})[0].given
    assert given["query_ids"].equal(BATCH.users) and given["num_items"] == ITEMS


def test_bsl_pools_the_positives_of_a_user():
    """Two rows of one user: with query_ids both see the mean of their exponentials."""
    batch = SimpleNamespace(users=torch.tensor([1, 1]), items=torch.tensor([0, 4]), index=torch.tensor([0, 1]))
    model = Given()
    pool = POOL._replace(collisions=None)
    pooled = ContrastObjective(
        model, partial(bsl_loss, temperature=0.5), Chosen(pool), seed=0, inputs={"query_ids": Input("list")}
    )
    s = model.table.detach()[1].double()
    pull = math.log((math.exp(s[0] / 0.5) + math.exp(s[4] / 0.5)) / 2)
    push = math.log(sum(math.exp(s[i] / 0.5) for i in (3, 5, 9)) / 3)
    assert next(pooled.plays(batch, epoch=0, step=0)).value.item() == pytest.approx(1.2 * push - pull, rel=1e-5)


def test_an_input_that_nobody_offers():
    with pytest.raises(ConfigError, match=r"the loss needs teacher, which interactions do not tell"):
        ContrastObjective(Given(), Record(), Chosen(POOL), seed=0, inputs={"teacher": Input("item", required=True)})


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_log_q_is_subtracted_behind_the_temperature(temperature):
    plain, _, _ = play()
    record, _, _ = play(correct=True, temperature=temperature)
    corrected = (plain.neg / temperature - (3 * torch.tensor([0.5, 0.25, 0.25])).log()) * temperature
    torch.testing.assert_close(record.neg, corrected)
    assert record.pos.equal(plain.pos)


def test_only_the_softmax_family_is_corrected():
    entries = {entry.name: as_contrast(entry) for entry in LOSSES if entry.kind in ("list", "contrast")}
    assert {name for name, entry in entries.items() if entry.softmax} == {
        "adversarial_info_nce",
        "softmax",
        "poly1_softmax",
        "unique_softmax",
        "sampled_softmax",
        "decoupled_softmax",
        "multi_sample_contrastive",
        "soft_info_nce",
    }


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", ["sampled_softmax", "softmax"])
def test_corrected_sampled_softmax_comes_near_the_full_one(name, shared):
    temperature, n = 0.7, 40_000
    entry = as_contrast(LOSSES[name])
    assert entry.softmax
    sampler = UniformSampler(KNOWN, ITEMS, seed=0, n=n, shared=shared, collisions="mask")

    def value(correct: bool) -> tuple[float, Tensor]:
        model = Given()
        objective = ContrastObjective(
            model,
            partial(entry.function, temperature=temperature),
            sampler,
            seed=0,
            correct=correct,
            temperature=temperature,
        )
        (one,) = objective.plays(BATCH, epoch=0, step=0)
        one.value.backward()
        assert model.table.grad is not None
        return one.value.item(), model.table.grad

    full = Given()
    exact = nn.functional.cross_entropy(full.table[BATCH.users] / temperature, BATCH.items)
    exact.backward()
    got, grad = value(correct=True)
    assert got == pytest.approx(exact.item(), abs=0.03)
    torch.testing.assert_close(grad, full.table.grad, atol=0.01, rtol=0)
    # Without it the negatives count n / catalogue times.
    assert value(correct=False)[0] - exact.item() > 0.9 * math.log(n / ITEMS) - 2


def test_the_default_temperature_is_one():
    objective = ContrastObjective(Given(), sampled_softmax_loss, Chosen(POOL), seed=0, correct=True)
    assert objective.temperature == 1
