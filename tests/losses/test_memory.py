"""Memories of embeddings, against a plain list of what was put in."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from rankwell.errors import ConfigError, InputError
from rankwell.losses import (
    CrossBatchMemoryLoss,
    EmbeddingMemory,
    LearnedTemperature,
    contrastive_margin_loss,
    info_nce_loss,
    momentum_update,
    multi_similarity_loss,
    same_class,
    supervised_contrastive_loss,
    triplet_loss,
)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def held(memory):
    vectors, ids, where = memory.contents()
    return {(int(i), *v.tolist()) for i, v, there in zip(ids, vectors, where, strict=True) if there}


# ---------------------------------------------------------------------------------------------------------------- memory


def test_the_last_ones_are_held_whatever_the_sizes_of_batches():
    memory, everything = EmbeddingMemory(5, dim=2), []
    for step, size in enumerate([2, 0, 2, 3, 5, 1, 12, 4, 6]):
        vectors, ids = drawn(size, 2, seed=step), torch.arange(size) + 100 * step
        memory.update(vectors, ids)
        everything += [(int(i), *v.tolist()) for i, v in zip(ids, vectors, strict=True)]
        assert held(memory) == set(everything[-5:])
    assert memory.contents().where.all() and int(memory.count) == len(everything)


def test_shapes_are_fixed_and_a_new_memory_is_empty():
    vectors, ids, where = EmbeddingMemory(3, dim=2).contents()
    assert vectors.shape == (3, 2) and ids.shape == where.shape == (3,)
    assert not where.any()


def test_copies_without_gradient_are_put_in():
    memory, vectors = EmbeddingMemory(2, dim=1), torch.ones(2, 1, requires_grad=True)
    memory.update(vectors * 2, torch.arange(2))
    with torch.no_grad():
        vectors.zero_()
    assert_close(memory.contents().vectors, tensor([[2.0], [2.0]]))
    assert not memory.contents().vectors.requires_grad


def test_memory_is_resumed_from_its_state():
    memory = EmbeddingMemory(4, dim=2)
    memory.update(drawn(3, 2), torch.arange(3))
    resumed = EmbeddingMemory(4, dim=2)
    resumed.load_state_dict(memory.state_dict())
    for each in (memory, resumed):
        each.update(drawn(2, 2, seed=1), torch.arange(2))
    for one, other in zip(memory.contents(), resumed.contents(), strict=True):
        assert torch.equal(one, other)


def test_half_precision_memory_keeps_ids_exact():
    for memory in (EmbeddingMemory(2, dim=1, dtype=torch.bfloat16), EmbeddingMemory(2, dim=1).bfloat16()):
        memory.update(tensor([[0.3], [0.4]]), tensor([1_000_001, 2**40 + 1]))
        assert memory.contents().vectors.dtype == torch.bfloat16
        assert memory.contents().ids.tolist() == [1_000_001, 2**40 + 1]


def test_what_is_masked_is_not_put_in():
    """Padding of a batch, NaN say, would stand in the memory for the steps to come."""
    memory, everything = EmbeddingMemory(5, dim=2), []
    for step, there in enumerate(["101", "000", "", "0110", "11111101", "0", "1", "0001000"]):
        vectors, ids = drawn(len(there), 2, seed=step), torch.arange(len(there)) + 100 * step
        where = tensor([x == "1" for x in there], dtype=torch.bool)
        memory.update(torch.where(where[:, None], vectors, torch.nan), ids, where=where)
        everything += [(int(i), *v.tolist()) for i, v, x in zip(ids, vectors, where, strict=True) if x]
        assert held(memory) == set(everything[-5:])
        assert int(memory.count) == len(everything) and memory.vectors.isfinite().all()


def test_items_that_no_query_may_see_are_not_remembered():
    loss = CrossBatchMemoryLoss(1, loss="info_nce", size=4)
    where = tensor([[True, False, False], [False, True, False]])
    loss.update(tensor([5, 6, 7]), tensor([[1.0], [2.0], [torch.nan]]), where=where)
    assert held(loss.memory) == {(5, 1.0), (6, 2.0)} and int(loss.step) == 1
    loss.update(tensor([8]), tensor([[3.0]]), where=tensor(True))
    assert held(loss.memory) == {(5, 1.0), (6, 2.0), (8, 3.0)}


def test_a_memory_moves_with_its_module():
    memory = nn.Sequential(EmbeddingMemory(2, dim=1)).to("meta")[0]
    assert {x.device.type for x in memory.contents()} == {"meta"}


@pytest.mark.parametrize(
    ("vectors", "ids"),
    [
        (torch.ones(2, 3), torch.arange(2)),
        (torch.ones(2, 1), torch.arange(3)),
        (torch.ones(2, 1), torch.ones(2)),
        (torch.ones(2, 1), torch.ones(2, 1, dtype=torch.int64)),
    ],
)
def test_what_does_not_fit_a_memory(vectors, ids):
    with pytest.raises(InputError, match="a memory of length 1 takes vectors"):
        EmbeddingMemory(4, dim=1).update(vectors, ids)


def test_sizes_of_a_memory():
    with pytest.raises(InputError, match="size must be a whole number of at least 1: got 0"):
        EmbeddingMemory(0, 2)


# -------------------------------------------------------------------------------------------------------------- momentum


def test_momentum_is_an_exponential_moving_average():
    source = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    target = copy.deepcopy(source)
    expected = {name: x.detach().clone() for name, x in target.named_parameters()}
    for step in range(3):
        with torch.no_grad():
            for x in source.parameters():
                x.add_(step + 1.0)
        source(drawn(4, 2, seed=step))
        momentum_update(target, source, momentum=0.9)
        for name, x in source.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * x.detach()
    for name, x in target.named_parameters():
        assert_close(x.detach(), expected[name])
        assert x.grad_fn is None
    for ours, theirs in zip(target.buffers(), source.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_ends_of_momentum():
    source, target = nn.Linear(1, 1), nn.Linear(1, 1)
    before = target.weight.detach().clone()
    momentum_update(target, source, momentum=1.0)
    assert torch.equal(target.weight, before)
    momentum_update(target, source, momentum=0.0)
    assert_close(target.weight, source.weight)


def test_momentum_between_other_modules():
    with pytest.raises(InputError, match="the same parameters"):
        momentum_update(nn.Linear(1, 2), nn.Linear(1, 1), momentum=0.5)
    with pytest.raises(InputError, match=r"momentum must be in \[0, 1\]: got 1.5"):
        momentum_update(nn.Linear(1, 1), nn.Linear(1, 1), momentum=1.5)


# ---------------------------------------------------------------------------------------------------- cross-batch memory

LOSSES = {
    "triplet": triplet_loss,
    "info_nce": info_nce_loss,
    "contrastive_margin": contrastive_margin_loss,
    "multi_similarity": multi_similarity_loss,
}
each = pytest.mark.parametrize("name", LOSSES)


@each
@pytest.mark.parametrize("joined", [False, True])
def test_with_an_empty_memory_it_is_the_batch_loss(name, joined):
    x, labels = drawn(6, 3), tensor([0, 1, 0, 2, 1, 0])
    positives, where = same_class(labels)
    loss = CrossBatchMemoryLoss(3, loss=name, warm_up=0, joined=joined)
    for reduction in ("none", "mean", "sum"):
        expected = LOSSES[name](x, x, positives=positives, where=where, reduction=reduction)
        assert_close(loss(x, ids=labels, reduction=reduction), expected)


def by_hand(function, x, labels, old, old_labels, weight, joined):
    """A query at a time, in float64, over lists of what counts."""
    values = []
    for q in range(len(x)):
        rest = [j for j in range(len(x)) if j != q]
        batch, own = x[rest], labels[rest] == labels[q]
        queries = x[q : q + 1]
        parts = [(torch.cat([batch, old]), torch.cat([own, old_labels == labels[q]]), 1.0)]
        if not joined:
            parts = [(batch, own, 1.0), (old, old_labels == labels[q], weight)]
        values.append(
            sum(w * function(queries, items, positives=right[None], reduction="sum") for items, right, w in parts)
        )
    return torch.stack(values)


@each
@pytest.mark.parametrize("joined", [False, True])
def test_over_several_steps_by_hand(name, joined):
    loss = CrossBatchMemoryLoss(2, loss=name, size=7, weight=0.3, warm_up=2, joined=joined).double()
    vectors, classes = torch.zeros(0, 2, dtype=torch.double), torch.zeros(0, dtype=torch.int64)
    for step in range(5):
        x, labels = drawn(4, 2, seed=step).double().requires_grad_(), tensor([0, 1, step % 2, 0])
        old, old_labels = (vectors[-7:], classes[-7:]) if step >= 2 else (vectors[:0], classes[:0])
        expected = by_hand(LOSSES[name], x, labels, old, old_labels, 0.3, joined)
        ours = loss(x, ids=labels, reduction="none")
        assert_close(ours, expected)
        assert_close(*(torch.autograd.grad(v.sum(), x, retain_graph=True)[0] for v in (ours, expected)))
        loss.update(labels, x)
        vectors, classes = torch.cat([vectors, x.detach()]), torch.cat([classes, labels])


def test_calls_change_nothing():
    loss = CrossBatchMemoryLoss(2, loss="triplet", size=4, warm_up=0)
    loss.update(tensor([0, 1]), drawn(2, 2))
    before = {name: x.clone() for name, x in loss.state_dict().items()}
    x, ids = drawn(3, 2, seed=1).requires_grad_(), tensor([0, 1, 1])
    first, second = loss(x, ids=ids), loss(x, ids=ids)
    second.backward()
    assert torch.equal(first, second)
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.grad is None


def test_training_is_resumed_from_the_state():
    def built():
        return CrossBatchMemoryLoss(2, loss="supervised_contrastive", size=5, warm_up=2)

    def step(loss, number):
        x, ids = drawn(3, 2, seed=number), tensor([0, 0, 1])
        value = loss(x, ids=ids)
        loss.update(ids, x)
        return value

    loss, values = built(), []
    for number in range(3):
        step(loss, number)
    resumed = built()
    resumed.load_state_dict(loss.state_dict())
    assert set(loss.state_dict()) == {"step", "memory.vectors", "memory.ids", "memory.count"}
    values = [[step(each, number) for number in range(3, 7)] for each in (loss, resumed)]
    assert torch.equal(*(torch.stack(v) for v in values))


@each
def test_an_update_ahead_of_the_backward_pass_does_not_reach_the_gradient(name):
    loss = CrossBatchMemoryLoss(2, loss=name, size=4, warm_up=0)
    loss.update(tensor([0, 1]), drawn(2, 2))
    x, ids = drawn(3, 2, seed=1).requires_grad_(), tensor([0, 1, 1])
    (expected,) = torch.autograd.grad(loss(x, ids=ids), x)
    value = loss(x, ids=ids)
    loss.update(ids, x)
    assert torch.equal(*torch.autograd.grad(value, x), expected)


def test_easy_negatives_of_the_memory_are_dropped():
    """Only cosines above a half count among negatives; the positive at minus one stays."""
    loss = CrossBatchMemoryLoss(2, loss="contrastive_margin", warm_up=0, hard_above=0.5)
    loss.update(tensor([0, 1, 1]), tensor([[-1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]))
    ours = loss(tensor([[1.0, 0.0]]), ids=tensor([0]))
    near = math.sqrt(0.2**2 + 0.6**2)
    assert_close(ours, tensor((2.0**2 + (1 - near) ** 2) / 2))
    loss.hard_above = None
    assert_close(loss(tensor([[1.0, 0.0]]), ids=tensor([0])), tensor((2.0**2 + (1 - near) ** 2 + 0) / 3))


def test_joined_with_info_nce_it_is_the_queue_of_moco():
    keys, queue, queries = drawn(3, 4), drawn(5, 4, seed=1), drawn(3, 4, seed=2)
    loss = CrossBatchMemoryLoss(
        4, loss=partial(info_nce_loss, similarity="dot", temperature=0.5), warm_up=0, joined=True
    )
    loss.update(torch.arange(10, 15), queue)
    logits = queries @ torch.cat([keys, queue]).T / 0.5
    expected = nn.functional.cross_entropy(logits, torch.arange(3))
    assert_close(loss(queries, keys, ids=torch.arange(3)), expected)


def test_items_have_ids_of_their_own():
    queries, items = drawn(2, 3), drawn(4, 3, seed=1)
    loss = CrossBatchMemoryLoss(3, loss="info_nce", warm_up=0)
    expected = info_nce_loss(
        queries, items, positives=tensor([[False, True, False, True], [True, False, False, False]])
    )
    assert_close(loss(queries, items, ids=tensor([5, 6]), item_ids=tensor([6, 5, 7, 5])), expected)


def test_masked_queries_are_absent_from_the_memory_too():
    x, ids = drawn(3, 2), tensor([0, 0, 1])
    where = tensor([[True, True, False], [True, True, False], [False, False, False]])
    for joined in (False, True):
        loss = CrossBatchMemoryLoss(2, loss="info_nce", warm_up=0, joined=joined)
        loss.update(tensor([0, 1]), drawn(2, 2, seed=1))
        expected = loss(x[:2], ids=ids[:2])
        assert_close(loss(torch.where(where.any(-1)[:, None], x, torch.nan), ids=ids, where=where), expected)


def test_weights_are_of_queries():
    x, ids, weights = drawn(3, 2), tensor([0, 0, 1]), tensor([[2.0], [0.0], [1.0]])
    loss = CrossBatchMemoryLoss(2, loss="info_nce", warm_up=0)
    loss.update(tensor([0, 1]), drawn(2, 2, seed=1))
    values = loss(x, ids=ids, reduction="none")
    assert_close(loss(x, ids=ids, weights=weights, reduction="none"), values * weights[:, 0])


def test_batches_may_have_dimensions():
    x, ids = drawn(2, 3, 2), tensor([[0, 0, 1], [1, 0, 1]])
    for joined in (False, True):
        loss = CrossBatchMemoryLoss(2, loss="info_nce", warm_up=0, joined=joined)
        loss.update(ids, x)
        expected = torch.stack([loss(a, ids=b, reduction="none") for a, b in zip(x, ids, strict=True)])
        assert_close(loss(x, ids=ids, reduction="none"), expected)


def test_half_precision_queries_over_a_full_memory_and_the_other_way_round():
    x, ids, old = drawn(3, 2).bfloat16(), tensor([0, 0, 1]), drawn(2, 2, seed=1).bfloat16()
    loss = CrossBatchMemoryLoss(2, loss="info_nce", warm_up=0)
    loss.update(tensor([0, 1]), old)
    expected = loss(x.float(), ids=ids)
    assert_close(loss(x, ids=ids), expected)
    assert_close(loss.bfloat16()(x.float(), ids=ids), expected)
    loss.joined = True
    assert loss(x, ids=ids).isfinite()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch's own tracer
def test_compiles():
    x, ids = drawn(3, 2), tensor([0, 0, 1])
    loss = CrossBatchMemoryLoss(2, loss="supervised_contrastive", warm_up=0, size=4)
    loss.update(ids, drawn(3, 2, seed=1))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x, ids=ids), loss(x, ids=ids))
    torch._dynamo.reset()


def test_the_loss_may_be_a_module_with_parameters():
    loss = CrossBatchMemoryLoss(2, loss=LearnedTemperature(loss="supervised_contrastive", temperature=0.1), warm_up=0)
    assert [name for name, _ in loss.named_parameters()] == ["loss.log_temperature"]
    x, ids = drawn(3, 2), tensor([0, 0, 1])
    positives, where = same_class(ids)
    expected = supervised_contrastive_loss(x, x, positives=positives, where=where, temperature=0.1)
    assert_close(loss(x, ids=ids), expected)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="'bpr' is of kind 'contrast'"):
        CrossBatchMemoryLoss(2, loss="bpr")
    loss = CrossBatchMemoryLoss(2, loss="info_nce")
    x = drawn(3, 2)
    with pytest.raises(InputError, match="ids must be integers, one an embedding"):
        loss(x, ids=torch.arange(2))
    with pytest.raises(InputError, match="item_ids must be integers"):
        loss(x, x, ids=torch.arange(3), item_ids=torch.ones(3))
    with pytest.raises(InputError, match="weights must be one a query"):
        loss(x, ids=torch.arange(3), weights=torch.ones(3, 3))
    assert "warm_up=1000" in repr(loss)
