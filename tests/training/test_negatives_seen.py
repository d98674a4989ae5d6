import gc
import math
import weakref
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankwell import keyed
from rankwell.errors import InputError
from rankwell.losses import LOSSES, as_contrast, bpr_loss, sampled_softmax_loss
from rankwell.miners import hardest
from rankwell.models import MatrixFactorisation
from rankwell.samplers import InBatchSampler, UniformSampler
from rankwell.training import Contrast, ContrastObjective, NegativesSeen, Objective, RowAdam, TrainingSettings, fit
from rankwell.types import Ragged

ITEMS = 20
COUNTS = [3, 0, 1, 2, 5, 0, 4, 1, 1, 6, 0, 2, 3, 3, 7, 0, 2, 9, 8, 1]
OWNERS = [[user for user in range(10) if user < count] for count in COUNTS]
LISTS = [[item for item in range(ITEMS) if user in OWNERS[item]] for user in range(10)]


def ragged(lists: list[list[int]]) -> Ragged:
    offsets = torch.tensor([0, *(len(each) for each in lists)]).cumsum(0)
    return Ragged(offsets, torch.tensor([item for each in lists for item in each], dtype=torch.int64))


KNOWN = ragged(LISTS)


def shown(pos: Tensor, neg: Tensor, ids: Tensor | None = None, *, step: int = 0, **given: Any) -> Contrast:
    """A step, of which the first users see the first items where nothing else is said."""
    rows = torch.arange(len(pos))
    plain: dict[str, Any] = {"users": rows, "positives": rows, "log_q": None, "collisions": None, "where": None}
    return Contrast(**{**plain, "pos_where": None, **given}, ids=ids, pos=pos, neg=neg, epoch=0, step=step)


def figures(seen: Contrast, loss: Any, **own: Any) -> dict[str, Any]:
    """Those of one step, on which the loss was carried out."""
    observer = NegativesSeen(KNOWN, ITEMS, **own)
    observer(seen)
    masks = {} if seen.pos.ndim == 1 else {"pos_where": seen.pos_where}
    loss(seen.pos, seen.neg, where=seen.where, **masks).backward()
    found = observer.finish()
    assert found is not None
    return found


POS = torch.tensor([1.0, 0.0])
NEG = torch.tensor([[2.0, 0.0, 0.96], [-1.0, 0.5, 9.0]])
COLLISIONS = torch.tensor([[False, False, False], [False, False, True]])
IDS = torch.tensor([[17, 1, 0], [17, 4, 0]])


def total(_: Tensor, neg: Tensor, **__: Any) -> Tensor:
    """A loss with the same gradient everywhere."""
    return neg.sum()


def nothing(_: Tensor, neg: Tensor, **__: Any) -> Tensor:
    return (neg * 0).sum()


def softmax(pos: Tensor, neg: Tensor, **given: Any) -> Tensor:
    return sampled_softmax_loss(pos, neg, temperature=1.0, **given)


def worked() -> dict[str, Any]:
    seen = shown(POS, NEG.clone().requires_grad_(), IDS, collisions=COLLISIONS, where=~COLLISIONS)
    return figures(seen, softmax, held_out=ragged([[0, 17], [4], *[[] for _ in range(8)]]))


def test_counts_worked_by_hand():
    """Two rows of three: a collision, and of the other five one a row above its positive."""
    found = worked()
    assert (found["steps"], found["rows"], found["negatives"]) == (1, 2, 5 / 2)
    assert (found["collision_rate"], found["used"]) == (1 / 6, 5 / 6)
    assert found["violating"] == 2 / 5  # 2 > 1 and 0.5 > 0
    assert found["suspected_false"] == 3 / 5  # and 0.96 > 0.95
    assert found["held_out_positives"] == 3 / 5  # 17 and 0 of the first row, 4 of the second
    assert found["with_gradient"] == 1


def gradients() -> list[list[float]]:
    """Of the mean of two softmax losses: half the shares, the collision none."""
    rows = [[2.0, 0.0, 0.96], [-1.0, 0.5]]
    sums = [math.exp(pos) + sum(map(math.exp, row)) for pos, row in zip((1.0, 0.0), rows, strict=True)]
    return [[math.exp(s) / total / 2 for s in row] for row, total in zip(rows, sums, strict=True)]


def test_effective_number_of_a_softmax():
    each = [sum(row) ** 2 / sum(g * g for g in row) for row in gradients()]
    assert worked()["effective"] == pytest.approx(sum(each) / 2)


def test_gradient_by_rank_worked_by_hand():
    (a, c, b), (e, d) = gradients()
    mass = a + b + c + d + e
    found = worked()["by_rank"]
    assert found["ranks"] == ["1", "2-3"]
    assert found["gradient"] == pytest.approx([(a + d) / mass, (b + c + e) / mass])
    assert found["negatives"] == pytest.approx([2 / 5, 3 / 5])


def test_a_hinge_moves_those_within_the_margin():
    """Margin 1: of the first row two of three, with the same gradient; of the second one; of the third none."""
    hinge = partial(as_contrast(LOSSES["hinge"]).function, margin=1.0)
    pos, neg = torch.tensor([1.0, 0.0, 5.0]), torch.tensor([[2.0, -0.5, 0.5], [-2.0, 0.5, -3.0], [0.0, 1.0, 2.0]])
    found = figures(shown(pos, neg.requires_grad_()), hinge)
    assert found["with_gradient"] == 3 / 9
    assert found["effective"] == pytest.approx((2 + 1) / 2)  # the third row has no gradient
    assert found["by_rank"]["gradient"] == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize("pool", [True, False])
def test_ranks_and_popularity_by_brute_force(pool):
    generator = torch.Generator().manual_seed(0)
    rows, n = 9, 37
    ids = torch.randint(ITEMS, (n,) if pool else (rows, n), generator=generator)
    collisions = torch.rand(rows, n, generator=generator) < 0.2
    pos, neg = (torch.randn(*size, generator=generator) for size in ((rows,), (rows, n)))
    held_out = [sorted({(3 * user + j) % ITEMS for j in range(4)}) for user in range(10)]
    neg = neg.requires_grad_()
    seen = shown(pos, neg, ids, collisions=collisions, where=~collisions)
    found = figures(seen, bpr_loss, held_out=ragged(held_out))
    assert neg.grad is not None
    order = sorted(range(ITEMS), key=lambda item: (COUNTS[item], item))
    tenth = {item: place * 10 // ITEMS for place, item in enumerate(order)}
    by_rank, by_tenth, drawn, hits, total = [0.0] * 5, [0.0] * 10, [0] * 10, 0, 0
    for row in range(rows):
        for place in range(n):
            item, score, g = int(ids.expand(rows, n)[row, place]), neg[row, place].item(), neg.grad[row, place].item()
            drawn[tenth[item]] += 1
            if collisions[row, place]:
                continue
            others = neg[row][~collisions[row]]
            rank = 1 + int((others > score).sum())
            by_rank[0 if rank == 1 else 1 if rank <= 3 else 2 if rank <= 10 else 3 if rank <= 30 else 4] += abs(g)
            by_tenth[tenth[item]] += abs(g)
            hits += item in held_out[row]
            total += 1
    mass = sum(by_rank)
    assert found["by_rank"]["ranks"] == ["1", "2-3", "4-10", "11-30", "31-100"][: len(found["by_rank"]["ranks"])]
    assert found["by_rank"]["gradient"] == pytest.approx([each / mass for each in by_rank if each], rel=1e-5)
    assert found["by_popularity"]["gradient"] == pytest.approx([each / mass for each in by_tenth], rel=1e-5)
    assert found["by_popularity"]["drawn"] == pytest.approx([each / (rows * n) for each in drawn])
    assert found["held_out_positives"] == pytest.approx(hits / total) and hits


def test_several_positives():
    """Violating: above the lowest valid one; suspect: near the highest. A row without positives has neither."""
    pos = torch.tensor([[1.0, 4.0, -9.0], [7.0, 7.0, 7.0]])
    there = torch.tensor([[True, True, False], [False, False, False]])
    neg = torch.tensor([[0.0, 2.0, 3.9], [8.0, 9.0, 10.0]], requires_grad=True)
    found = figures(shown(pos, neg, pos_where=there), total)
    assert (found["violating"], found["suspected_false"]) == (2 / 6, 1 / 6)


def test_negative_scores_of_positives():
    """The limit lies below the positive on that side too: at -1.05 for -1."""
    neg = torch.tensor([[-1.04, -1.06]], requires_grad=True)
    found = figures(shown(torch.tensor([-1.0]), neg), bpr_loss)
    assert (found["violating"], found["suspected_false"]) == (0, 1 / 2)


def test_negatives_that_are_no_items():
    seen = shown(POS, NEG.clone().requires_grad_())
    found = figures(seen, softmax, held_out=ragged([[0], [1], *[[] for _ in range(8)]]))
    assert found["by_popularity"] is None and found["held_out_positives"] is None
    assert found["effective"] > 1 and sum(found["by_rank"]["gradient"]) == pytest.approx(1)


def test_rows_without_negatives():
    where = torch.zeros(2, 3, dtype=torch.bool)
    neg = NEG.clone().requires_grad_()
    found = figures(shown(POS, neg, IDS, where=where, collisions=~where), nothing)
    assert (found["collision_rate"], found["used"], found["negatives"]) == (1, 0, 0)
    assert found["violating"] == found["with_gradient"] == found["effective"] == 0


def test_every_so_many_steps_and_evenly_spaced_rows():
    observer = NegativesSeen(KNOWN, ITEMS, every=3, scores=9)  # three rows of three
    assert observer.finish() is None
    for step in range(7):
        neg = torch.full((7, 3), -1.0)
        neg[[0, 3, 6]] = 1.0
        neg.requires_grad_()
        if observer.looks(step):
            observer(shown(torch.zeros(7), neg, step=step))
        if step != 3:  # which is never carried out
            neg.sum().backward()
    found = observer.finish()
    assert found is not None and (found["steps"], found["rows"], found["violating"]) == (2, 6, 1)
    assert found["effective"] == pytest.approx(3)
    assert observer.finish() is None


def test_half_precision():
    neg = NEG.to(torch.bfloat16).requires_grad_()
    assert figures(shown(POS.to(torch.bfloat16), neg, IDS), softmax)["effective"] > 1


def test_a_step_s_graph_is_not_kept():
    observer, weights = NegativesSeen(KNOWN, ITEMS), torch.ones(3, requires_grad=True)
    neg = weights * NEG
    observer(shown(POS, neg, IDS))
    neg.sum().backward()
    kept = weakref.ref(neg)
    gc.disable()
    try:
        del neg
        assert kept() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("own", [{"every": 0}, {"scores": 0}])
def test_refused(own):
    with pytest.raises(InputError, match="every and scores must be at least 1"):
        NegativesSeen(KNOWN, ITEMS, **own)


PAIRS = (torch.repeat_interleave(KNOWN.offsets.diff()), KNOWN.values)


def objective(observer: NegativesSeen | None, kind: str = "pool", **own: Any) -> ContrastObjective:
    model = MatrixFactorisation(10, ITEMS, dim=3, init="normal")
    model.initialise(KNOWN, seed=0)
    samplers = {
        "pool": partial(UniformSampler, n=6, shared=True),
        "rows": partial(UniformSampler, n=6, shared=False),
        "batch": InBatchSampler,
    }
    sampler = samplers[kind](KNOWN, ITEMS, seed=0)
    return ContrastObjective(model, softmax, sampler, seed=0, correct=True, observer=observer, **own)


def train(of: Objective, observer: NegativesSeen | None, **own: Any) -> list[dict[str, Any] | None]:
    settings = TrainingSettings(epochs=3, batch_size=8, learning_rate=0.05, checkpoint_seconds=0)
    history = fit(of, PAIRS, settings, seed=0, negatives=observer.finish if observer else None, **own)
    return [record.negatives for record in history.epochs]


@pytest.mark.parametrize("kind", ["pool", "rows", "batch"])
def test_weights_are_the_same_with_and_without(kind):
    observer = NegativesSeen(KNOWN, ITEMS, every=1, held_out=KNOWN)
    watched = objective(observer, kind, miner=hardest(3))
    plain = objective(None, kind, miner=hardest(3))
    seen, none = train(watched, observer), train(plain, None)
    assert none == [None] * 3 and plain.groups.keys() == {"model"}
    assert watched.model.users.equal(plain.model.users) and watched.model.items.equal(plain.model.items)  # type: ignore[operator, union-attr]
    for each in seen:
        assert each is not None and each["rows"] == len(PAIRS[0]) and each["negatives"] <= 3
        assert each["held_out_positives"] == 0  # they are the known positives here, which no sampler leaves
        assert sum(each["by_popularity"]["gradient"]) == pytest.approx(1)
        assert (each["collision_rate"] > 0) == (kind != "rows")


@pytest.mark.parametrize("name", ["bpr", "sampled_softmax", "mml"])
def test_weights_are_the_same_where_scores_are_written_over(name):
    """Only a step that is looked at makes the mask, and the gradient of the scores as such."""
    entry, models = LOSSES[name], []
    for observer in (NegativesSeen(KNOWN, ITEMS, every=2), None):
        of = replace(objective(observer), loss=entry.function, inputs=entry.inputs)
        train(of, None)
        models.append(of.model)
    assert models[0].users.equal(models[1].users) and models[0].items.equal(models[1].items)


@pytest.mark.parametrize("kind", ["pool", "rows", "batch"])
def test_losses_that_write_over_scores_are_seen_alike(kind):
    entry, found = LOSSES["sampled_softmax"], []
    for inputs in (entry.inputs, {}):
        observer = NegativesSeen(KNOWN, ITEMS, every=1)
        of = replace(objective(observer, kind), loss=entry.function, inputs=inputs)
        of.model.double()
        train(of, None)
        found.append(observer.finish())
    assert found[0] is not None and found[0].keys() == found[1].keys()
    for name, numbers in found[0]["by_popularity"].items():
        assert numbers == pytest.approx(found[1]["by_popularity"][name])
    for name, number in found[0].items():
        assert isinstance(number, dict) or number == pytest.approx(found[1][name]), name


def test_frozen_models_are_not_looked_at():
    observer = NegativesSeen(KNOWN, ITEMS)
    frozen = objective(observer)
    frozen.model.requires_grad_(False)
    batch = _batch()
    next(frozen.plays(batch, epoch=0, step=0))
    assert observer.finish() is None


def _batch() -> Any:
    from rankwell.data import Batch

    index = torch.arange(0, 56, 7)  # of several users
    return Batch(PAIRS[0][index], PAIRS[1][index], index)


def test_the_correction_is_behind_the_figures():
    """Scores as the model gives them; the gradient as it passes the correction."""
    observer = NegativesSeen(KNOWN, ITEMS, every=1)
    of = objective(observer, "batch")
    batch = _batch()
    (play,) = of.plays(batch, epoch=0, step=0)
    play.value.backward()
    found = observer.finish()
    ids, log_q, collisions, *_ = of.sampler(batch.users, batch.index, epoch=0, step=0, positives=batch.items)
    dropout = keyed.generator(0, 0, 0, 1)
    pos, neg = of.model.contrast_scores(batch.users, batch.items, ids, generator=dropout)  # type: ignore[operator]
    assert found is not None and collisions is not None and log_q is not None
    above = (neg > pos[:, None]) & ~collisions
    assert found["violating"] == pytest.approx((above.sum() / (~collisions).sum()).item()) and above.any()
    corrected = (neg - (math.log(len(ids)) + log_q)).masked_fill(collisions, -math.inf)
    g = torch.cat([pos[:, None], corrected], -1).softmax(-1)[:, 1:]
    rows = g.sum(-1) > 0
    effective = (g.sum(-1) ** 2 / (g**2).sum(-1))[rows].mean()
    assert found["effective"] == pytest.approx(effective.item(), rel=1e-5)


@pytest.mark.parametrize("stopped", [3, 9, 16])
def test_an_interrupted_epoch_keeps_its_sums(tmp_path, monkeypatch, stopped):
    """Eight steps an epoch, stopped in the first, second and third."""
    observer = NegativesSeen(KNOWN, ITEMS, every=1)
    whole = train(objective(observer), observer)
    step, done = RowAdam.step, 0

    def stopping(self: RowAdam, closure: None = None) -> None:
        nonlocal done
        done += 1
        if done == stopped:
            raise KeyboardInterrupt
        step(self, closure)

    with monkeypatch.context() as patch:
        patch.setattr(RowAdam, "step", stopping)
        observer = NegativesSeen(KNOWN, ITEMS, every=1)
        with pytest.raises(KeyboardInterrupt):
            train(objective(observer), observer, folder=tmp_path)
    observer = NegativesSeen(KNOWN, ITEMS, every=1)
    assert train(objective(observer), observer, folder=tmp_path) == whole


def test_it_is_a_module_whose_sums_checkpoints_keep():
    observer = NegativesSeen(KNOWN, ITEMS)
    assert isinstance(observer, nn.Module) and objective(observer).groups["observer"] is observer
    assert observer.state_dict().keys() == {"sums", "by_rank", "by_popularity"} and not list(observer.parameters())
