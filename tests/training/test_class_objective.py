"""Losses of embeddings on examples with classes."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rankwell.data.batching import BATCHES, ExampleBatches
from rankwell.errors import ConfigError
from rankwell.generators import GENERATORS, HardMixing, LoopNegatives, MemoryNegatives, MixGCF
from rankwell.losses import LOSSES, CrossBatchMemoryLoss, same_class, supervised_contrastive_loss, triplet_loss
from rankwell.miners import hardest
from rankwell.models import Encoder
from rankwell.registry import Input
from rankwell.training import ClassObjective, TrainingSettings, fit
from rankwell.types import Ragged

DIM, N = 3, 12
CLASSES = torch.arange(N) % 4
FEATURES = torch.randn(N, 5, generator=torch.Generator().manual_seed(0))
KNOWN = Ragged(torch.arange(N + 1), CLASSES)
LOSS = partial(supervised_contrastive_loss, temperature=0.5)


def batch_of(*rows):
    index = torch.tensor(rows)
    return SimpleNamespace(features=FEATURES[index], classes=CLASSES[index], index=index)


BATCH = batch_of(0, 1, 4, 5, 8, 2)
"""Classes 0, 1, 0, 1, 0, 2."""


def model(**own):
    made = Encoder((5,), dim=DIM, widths=(8,), **own)
    made.initialise(FEATURES, CLASSES, seed=0)
    return made


def only(objective, batch=BATCH):
    return next(objective.plays(batch, epoch=0, step=0)).value


def test_it_is_the_loss_of_classes_without_oneself():
    x = model()(BATCH.features)
    positives, where = same_class(BATCH.classes)
    expected = supervised_contrastive_loss(x, x, positives=positives, where=where, temperature=0.5)
    torch.testing.assert_close(only(ClassObjective(model(), LOSS, seed=0)), expected)


def test_an_example_that_comes_twice_is_not_its_own_positive():
    def record(queries, items, *, positives, where):
        assert where.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
        assert not positives.any()
        return queries.sum()

    only(ClassObjective(model(), record, seed=0), batch_of(0, 1, 0))


def test_the_miner_narrows_the_negatives_of_each_query():
    x = model()(BATCH.features).detach()
    positives, apart = same_class(BATCH.classes)
    scores = torch.where(apart & ~positives, x @ x.T, -torch.inf)

    def record(queries, items, *, positives, where):
        assert (where & ~positives).nonzero()[:, 1].equal(scores.argmax(1))
        assert (where & positives).equal(positives)
        return queries.sum()

    only(ClassObjective(model(), record, seed=0, miner=hardest(1)))


def test_a_memory_holds_each_example_once_and_leaves_out_its_class():
    make = MemoryNegatives(KNOWN, 4, DIM, seed=0, size=9)
    objective = ClassObjective(model(), LOSS, seed=0, generator=make)
    plays = objective.plays(BATCH, epoch=0, step=0)
    torch.testing.assert_close(next(plays).value, only(ClassObjective(model(), LOSS, seed=0)))
    assert next(plays, None) is None
    vectors, classes, there = make.memory.contents()
    assert there.sum() == 6 and classes[:6].equal(BATCH.classes)
    x = model()(BATCH.features).detach()
    for code in (0, 1, 2):
        ours, theirs = (rows[BATCH.classes == code] for rows in (x, vectors[:6]))
        torch.testing.assert_close(ours.sort(0).values, theirs.sort(0).values)
    # A second step: what is remembered counts for other classes.
    positives, where = same_class(BATCH.classes)
    items = torch.cat([x, vectors[:6]])
    old = BATCH.classes[:, None] != classes[:6]
    expected = supervised_contrastive_loss(
        x,
        items,
        positives=nn.functional.pad(positives, (0, 6)),
        where=torch.cat([where, old], 1),
        temperature=0.5,
    )
    torch.testing.assert_close(only(objective), expected)


def test_vectors_of_a_row_are_for_its_own_query():
    make = LoopNegatives(KNOWN, 4, DIM, seed=0, k=2)
    seen = {}

    def record(queries, items, *, positives, where):
        seen.update(items=items, positives=positives, where=where)
        return queries.sum()

    only(ClassObjective(model(), record, seed=0, generator=make))
    assert seen["items"].shape == (6 + 6 * 2, DIM) and not seen["positives"][:, 6:].any()
    torch.testing.assert_close(seen["items"].norm(dim=-1), torch.ones(18))
    own = torch.arange(12) // 2 == torch.arange(6)[:, None]
    assert seen["where"][:, 6:].equal(own)


def test_curves_join_two_examples_of_a_class():
    seen = []

    def make(embedded):
        seen.append(embedded)
        return LoopNegatives(KNOWN, 4, DIM, seed=0, k=1)(embedded)

    only(ClassObjective(model(), LOSS, seed=0, generator=make))
    x = seen[0].queries
    # Classes 0 1 0 1 0 2: the next of each class, and the one that is alone itself.
    assert seen[0].positives.equal(x[[2, 3, 4, 1, 0, 5]]) and seen[0].negatives is x
    assert seen[0].where.equal(BATCH.classes[:, None] != BATCH.classes)


def test_mixtures_are_of_other_classes_alone():
    x = torch.eye(6)[:, :DIM]
    make = HardMixing(KNOWN, 4, DIM, seed=0, hardest=2, pairs=3, with_query=0)

    def made(embedded):
        assert embedded.where.equal(BATCH.classes[:, None] != BATCH.classes)
        return make(embedded)

    value = only(ClassObjective(model(), LOSS, seed=0, generator=made))
    assert value > only(ClassObjective(model(), LOSS, seed=0)) and len(x)
    replaced = []

    def record(queries, items, *, positives, where):
        replaced.append((positives, where))
        return queries.sum()

    only(ClassObjective(model(), record, seed=0, generator=MixGCF(KNOWN, 4, DIM, seed=0)))
    (positives, where), batch = replaced[0], slice(0, 6)
    assert where[:, batch].equal(positives[:, batch]) and where[:, 6:].sum() == 6  # in place of the batch's negatives


def test_classes_of_items_are_told_where_a_loss_asks():
    def record(queries, items, *, positives, where, item_classes):
        assert item_classes[:6].equal(BATCH.classes) and item_classes.shape == items.shape[:1]
        assert len(item_classes.unique()) == 3 + 6
        return queries.sum()

    make = LoopNegatives(KNOWN, 4, DIM, seed=0, k=1)
    inputs = LOSSES["loop"].inputs
    only(ClassObjective(model(), record, seed=0, generator=make, inputs=inputs))


def test_a_cross_batch_memory_has_positives_too():
    loss = CrossBatchMemoryLoss(DIM, loss=LOSS, size=8, warm_up=0)
    objective = ClassObjective(model(), loss, seed=0)
    assert list(objective.plays(BATCH, epoch=0, step=0))
    x = model()(BATCH.features).detach()
    vectors, classes, there = loss.memory.contents()
    torch.testing.assert_close(vectors[:6], x)
    assert classes[:6].equal(BATCH.classes) and there.sum() == 6
    assert only(objective) > only(ClassObjective(model(), LOSS, seed=0))
    assert set(objective.groups) == {"model", "loss"}


@pytest.mark.parametrize("name", [entry.name for entry in LOSSES if entry.kind == "embedding"])
@pytest.mark.parametrize("generator", [None, "memory", "loop_negatives", "hard_mixing"])
def test_every_embedding_loss_trains(name, generator):
    entry = LOSSES[name]
    build = None if generator is None else GENERATORS[generator].function
    make = None if build is None else build(KNOWN, 4, DIM, seed=0)
    objective = ClassObjective(model(), entry.function, seed=0, generator=make, inputs=entry.inputs)
    value = only(objective)
    value.backward()
    grad = objective.model.out.weight.grad
    assert value.isfinite() and grad.isfinite().all() and grad.any()


@pytest.mark.parametrize("memory", ["generator", "loss"])
def test_training_goes_on_bit_for_bit(tmp_path, memory):
    def objective():
        if memory == "generator":
            make = MemoryNegatives(KNOWN, 4, DIM, seed=0, size=7)
            return ClassObjective(model(dropout=0.3), LOSS, seed=0, generator=make)
        loss = CrossBatchMemoryLoss(DIM, loss=triplet_loss, size=7, warm_up=2)
        return ClassObjective(model(dropout=0.3), loss, seed=0)

    def batches():
        pairs = BATCHES["class_balanced"].function((torch.arange(N), CLASSES), 6, seed=0, per_class=2)
        return ExampleBatches(FEATURES, pairs)

    settings = TrainingSettings(epochs=4, learning_rate=0.05)
    whole, begun, resumed = objective(), objective(), objective()
    start = whole.model.out.weight.detach().clone()
    fit(whole, batches(), settings, seed=0)
    fit(begun, batches(), settings, seed=0, stop_after=2, folder=tmp_path)
    fit(resumed, batches(), settings, seed=0, folder=tmp_path)
    assert not whole.model.out.weight.equal(start)
    for group, module in whole.groups.items():
        other = resumed.groups[group].state_dict()
        assert all(value.equal(other[name]) for name, value in module.state_dict().items())


def test_what_it_cannot_use_is_a_clear_error():
    memory = CrossBatchMemoryLoss(DIM)
    with pytest.raises(ConfigError, match="a loss with a memory of its own takes no generator"):
        ClassObjective(model(), memory, seed=0, generator=LoopNegatives(KNOWN, 4, DIM, seed=0))
    with pytest.raises(ConfigError, match="the loss needs teacher, which classes do not tell"):
        ClassObjective(model(), LOSS, seed=0, inputs={"teacher": Input("item", required=True)})
