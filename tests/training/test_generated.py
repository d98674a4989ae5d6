"""Negatives that are made of embeddings, in an objective."""

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import ConfigError
from rankwell.generators import Embedded, Made, MemoryNegatives, MixGCF
from rankwell.losses import bpr_loss, sampled_softmax_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.training.generated import generated
from rankwell.types import Negatives, Ragged

USERS, ITEMS, DIM = 4, 12, 3
KNOWN = Ragged(torch.tensor([0, 1, 2, 3, 4]), torch.tensor([5, 0, 11, 7]))
PAIRS = (torch.arange(4), torch.tensor([5, 0, 11, 7]))
BATCH = SimpleNamespace(users=torch.tensor([2, 0, 1]), items=torch.tensor([11, 5, 0]), index=torch.tensor([2, 0, 1]))
POOL = Negatives(
    torch.tensor([3, 5]), torch.tensor([0.5, 0.25]).log(), torch.tensor([[False, False], [False, True], [False, False]])
)


def model(similarity: str = "dot", **own: Any) -> MatrixFactorisation:
    made = MatrixFactorisation(USERS, ITEMS, dim=DIM, similarity=similarity, dropout=0.0, init="normal", **own)
    made.initialise(KNOWN, seed=1)
    return made


class Given:
    """A generator that gives what it is told, and notes what it sees."""

    def __init__(self, made: Made) -> None:
        self.made, self.seen = made, []  # type: ignore[var-annotated]

    def __call__(self, seen: Embedded) -> Made:
        self.seen.append(seen)
        return self.made


class Record:
    """A loss that keeps its arguments."""

    def __call__(self, pos: Tensor, neg: Tensor, **given: Any) -> Tensor:
        self.pos, self.neg, self.where = pos.detach(), neg.detach(), given["where"]
        return pos.sum()


def play(made: Made, similarity: str = "dot", **own: Any) -> tuple[Record, Given, MatrixFactorisation]:
    record, given, of = Record(), Given(made), model(similarity)
    objective = ContrastObjective(of, record, lambda *_, **__: POOL, seed=8, generator=given, **own)  # type: ignore[arg-type]
    (one,) = objective.plays(BATCH, epoch=3, step=6)
    assert one.beside == ()
    return record, given, of


VECTORS = torch.tensor([[[1.0, 0, 0], [0, 2, 0]], [[0, 0, 3], [1, 1, 0]], [[2, 0, 1], [0, 0, 0]]])


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_made_vectors_are_scored_by_the_models_similarity(similarity):
    record, given, of = play(Made(VECTORS), similarity)
    users, items = of.users.detach()[BATCH.users], of.items.detach()[BATCH.items]
    products = torch.einsum("bd,bnd->bn", users, VECTORS)
    positives = (users * items).sum(1)
    if similarity == "cosine":
        products = products / users.norm(dim=1)[:, None] / VECTORS.norm(dim=2).clamp(min=1e-8)
        positives = positives / users.norm(dim=1) / items.norm(dim=1)
    assert torch.allclose(record.neg, products, atol=1e-6) and torch.allclose(record.pos, positives, atol=1e-6)
    assert record.where is None  # the sampler's mask is of what was replaced
    (seen,) = given.seen
    assert seen.unit == (similarity == "cosine") and (seen.epoch, seen.step) == (3, 6)
    assert seen.where.equal(~POOL.collisions) and seen.samples.equal(BATCH.index)
    assert seen.negative_ids.equal(POOL.ids) and torch.allclose(seen.negatives, of.item_vectors(POOL.ids))


def test_beside_they_come_behind_the_sampled():
    where = torch.tensor([[True], [False], [True]])
    record, _, of = play(Made(VECTORS, where, beside=True))
    sampled = of.users.detach()[BATCH.users] @ of.items.detach()[POOL.ids].T
    assert torch.allclose(record.neg[:, :2], sampled, atol=1e-6) and record.neg.shape == (3, 4)
    assert record.where.equal(torch.cat([~POOL.collisions, where.expand(3, 2)], 1))


SHARED = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("beside", "stated", "expected"),
    [
        (False, None, [0, 0, 0]),
        (False, [0.1, 0.2, 0.4], [3 * 0.1, 3 * 0.2, 3 * 0.4]),
        (True, None, [2 * 0.5, 2 * 0.25, 1, 1, 1]),
        (True, [0.1, 0.2, 0.4], [5 * 0.5, 5 * 0.25, 5 * 0.1, 5 * 0.2, 5 * 0.4]),
    ],
    ids=["replaced", "replaced by draws", "beside", "draws beside draws"],
)
def test_the_correction_is_of_draws_alone(beside, stated, expected):
    """n of log(n q) counts the columns that state a q; a mixture is one more item."""
    log_q = None if stated is None else torch.tensor(stated).log()
    made = Made(SHARED, None, log_q, beside)
    plain, corrected = (play(made, correct=correct, temperature=0.5)[0].neg for correct in (False, True))
    wanted = 0.5 * torch.tensor(expected, dtype=torch.float32).clamp(min=1e-9).log()
    if stated is None and not beside:
        wanted = torch.zeros(3)
    assert torch.allclose(plain - corrected, wanted.expand(3, -1), atol=1e-5)


def test_with_a_memory_the_gradient_is_that_of_the_full_softmax():
    """Uniform draws and a memory of positives estimate one sum, not two."""
    tastes = torch.tensor([0.3, -0.8, 1.1, 0.2, -1.5, 3.2, 0.9, -0.2, 0.5, -0.6, 1.4, 0.0])
    popular = Ragged(
        torch.tensor([0, 1, *(1 + torch.tensor([12, 6, 4, 3, 2]).cumsum(0)).tolist()]),
        torch.tensor([5, *range(12), *range(6), *range(4), *range(3), *range(2)]),
    )
    full = tastes.softmax(0)[5] - 1
    sides = {"memory alone": False, "both": True}
    for beside in sides.values():
        slopes = []
        for trial in range(8):
            make = MemoryNegatives(popular, ITEMS, 1, seed=0, size=3000, beside=beside)
            drawn = popular.values[torch.randint(len(popular.values), (3000,), generator=keyed.generator(trial))]
            make.memory.update(tastes[drawn, None], drawn)
            of = MatrixFactorisation(6, ITEMS, dim=1, similarity="dot", dropout=0.0)
            with torch.no_grad():
                of.users.fill_(1.0)
                of.items.copy_(tastes[:, None])
            sampler = UniformSampler(popular, ITEMS, seed=trial, n=3000)
            objective = ContrastObjective(of, sampled_softmax_loss, sampler, seed=0, correct=True, generator=make)
            batch = SimpleNamespace(users=torch.tensor([0]), items=torch.tensor([5]), index=torch.tensor([0]))
            (one,) = objective.plays(batch, epoch=0, step=trial)
            slopes.append(-(1 - math.exp(-one.value.item())))  # by the positive: its probability less one
        assert abs(sum(slopes) / len(slopes) - full) < 0.01


class Adapter(nn.Module):
    """Negatives that are a learnt vector; it counts the steps that it has been told of."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.full((1, DIM), 0.5))
        self.register_buffer("steps", torch.zeros(()))
        self.at: list[Tensor] = []

    def forward(self, seen: Embedded) -> Made:
        return Made(self.vector + 0 * seen.queries.sum(), penalty=self.vector.square().sum())

    def update(self, seen: Embedded) -> None:  # noqa: ARG002
        self.steps += 1  # type: ignore[operator]
        self.at.append(self.vector.detach().clone())


def settings(**own: Any) -> TrainingSettings:
    return TrainingSettings(
        **{"epochs": 2, "batch_size": 2, "learning_rate": 0.05, "schedule": "constant", "watch_every": 0, **own}
    )


def test_parameters_of_a_generator_fall_with_the_models():
    of, adapter = model(), Adapter()
    objective = ContrastObjective(of, bpr_loss, UniformSampler(KNOWN, ITEMS, seed=0, n=2), seed=0, generator=adapter)
    before = of.users.detach().clone()
    fit(objective, PAIRS, settings(), seed=0)
    assert not of.users.equal(before)
    assert adapter.steps == 4 and len(adapter.at) == 4
    # Told of a step when the parameters have moved: Adam's first step is the learning rate long.
    assert torch.allclose((adapter.at[0] - 0.5).abs(), torch.full((1, DIM), 0.05), atol=1e-4)
    assert (adapter.vector < 0.5).all()  # the penalty draws it to zero
    assert set(objective.groups) == {"model", "generator"}


def test_the_penalty_is_added():
    record = Record()
    objective = ContrastObjective(model(), record, lambda *_, **__: POOL, seed=0, generator=Adapter())  # type: ignore[arg-type]
    (one,) = objective.plays(BATCH, epoch=0, step=0)
    assert one.value.item() == pytest.approx(record.pos.sum().item() + DIM * 0.25)
    assert one.beside == ("generator",)


def test_training_goes_on_bit_for_bit(tmp_path: Path):
    """A memory, interrupted after an epoch."""

    def objective() -> ContrastObjective:
        make = MemoryNegatives(KNOWN, ITEMS, DIM, seed=0, size=5, momentum=0.5)
        sampler = UniformSampler(KNOWN, ITEMS, seed=0, n=2)
        return ContrastObjective(model(), sampled_softmax_loss, sampler, seed=0, generator=make)

    whole, begun, resumed = objective(), objective(), objective()
    fit(whole, PAIRS, settings(epochs=4), seed=0)
    fit(begun, PAIRS, settings(epochs=4), seed=0, stop_after=2, folder=tmp_path)
    fit(resumed, PAIRS, settings(epochs=4), seed=0, folder=tmp_path)
    for name in ("model", "generator"):
        for one, other in zip(
            whole.groups[name].state_dict().values(), resumed.groups[name].state_dict().values(), strict=True
        ):
            assert one.equal(other)


class Scores(nn.Module):
    num_items = ITEMS


def test_a_model_without_vectors_is_a_clear_error():
    make = MixGCF(KNOWN, ITEMS, DIM, seed=0)
    build = partial(ContrastObjective, loss=bpr_loss, sampler=UniformSampler(KNOWN, ITEMS, seed=0), seed=0)
    with pytest.raises(ConfigError, match="and Scores hands out none"):
        build(Scores(), generator=make)
    of = model()
    of.similarity = "euclidean"
    with pytest.raises(ConfigError, match="compare by inner products: got 'euclidean'"):
        build(of, generator=make)


def test_of_several_positives_generators_see_the_first():
    given = Given(Made(SHARED))
    several = SimpleNamespace(users=BATCH.users, index=BATCH.index, items=torch.tensor([[11, 1], [5, 2], [0, 3]]))
    of = model()
    scored = generated(of, given, several, POOL, epoch=0, step=0)
    assert scored.pos.shape == (3, 2) and scored.neg.shape == (3, 3)
    (seen,) = given.seen
    assert seen.positive_ids.equal(BATCH.items) and torch.allclose(seen.positives, of.item_vectors(BATCH.items))
    expected = torch.einsum("bd,bmd->bm", of.users[BATCH.users], of.items[several.items])
    assert torch.allclose(scored.pos, expected, atol=1e-6)
