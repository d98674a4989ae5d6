"""Losses of embeddings on interactions."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankwell.errors import ConfigError
from rankwell.generators import HardMixing, MemoryNegatives
from rankwell.losses import info_nce_loss, sampled_softmax_loss
from rankwell.miners import hardest
from rankwell.models import MatrixFactorisation
from rankwell.samplers import InBatchSampler
from rankwell.samplers.mined import MinedNegatives
from rankwell.training import ContrastObjective, EmbeddingObjective, TrainingSettings, fit
from rankwell.training.mined_objective import MinedEmbeddingObjective
from rankwell.types import Contrast, Ragged

USERS, ITEMS, DIM = 4, 8, 3
KNOWN = Ragged(torch.tensor([0, 2, 4, 5, 6]), torch.tensor([1, 5, 0, 2, 1, 7]))
"""User 0 knows items 1 and 5, user 1 items 0 and 2, user 2 item 1, user 3 item 7."""
BATCH = SimpleNamespace(
    users=torch.tensor([0, 1, 2, 0, 3]), items=torch.tensor([1, 2, 1, 5, 7]), index=torch.tensor([0, 3, 4, 1, 5])
)
KNOWN_THERE = torch.tensor(
    [[1, 0, 1, 1, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1]], dtype=torch.bool
)
"""Items of the batch that the user of each row knows."""
OWN = torch.eye(5, dtype=torch.bool)
COMPARED = OWN | ~KNOWN_THERE
LOSS = partial(info_nce_loss, temperature=0.5, similarity="dot")


def model() -> MatrixFactorisation:
    made = MatrixFactorisation(USERS, ITEMS, dim=DIM, similarity="dot", dropout=0.0, init="normal", init_std=1.0)
    made.initialise(KNOWN, seed=1)
    return made


def value(of: MatrixFactorisation, batch: Any = BATCH, **own: Any) -> Tensor:
    objective = EmbeddingObjective(of, own.pop("loss", LOSS), KNOWN, seed=0, **own)
    (one,) = objective.plays(batch, epoch=0, step=0)
    assert (one.group, one.beside) == ("model", ())
    return one.value


def test_what_else_a_user_knows_of_the_batch_is_left_out():
    of = model()
    scores = of.users[BATCH.users] @ of.items[BATCH.items].T / 0.5
    by_hand = torch.stack([scores[r, COMPARED[r]].logsumexp(0) - scores[r, r] for r in range(5)]).mean()
    assert value(of).item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_with_one_positive_each_it_is_the_softmax_of_the_batch():
    known = Ragged(torch.arange(5), torch.tensor([3, 0, 6, 2]))
    batch = SimpleNamespace(users=torch.arange(4), items=known.values, index=torch.arange(4))
    of = model()
    contrast = ContrastObjective(
        of, partial(sampled_softmax_loss, temperature=0.5), InBatchSampler(known, ITEMS, seed=0), seed=0
    )
    (other,) = contrast.plays(batch, epoch=0, step=0)
    (one,) = EmbeddingObjective(of, LOSS, known, seed=0).plays(batch, epoch=0, step=0)
    assert one.value.item() == pytest.approx(other.value.item(), abs=1e-5)


def test_a_memory_adds_items_but_for_those_that_the_user_knows():
    of, make = model(), MemoryNegatives(KNOWN, ITEMS, DIM, seed=0, size=3)
    objective = EmbeddingObjective(of, LOSS, KNOWN, seed=0, generator=make)
    old = torch.randn(2, DIM, generator=torch.Generator().manual_seed(3))
    make.memory.update(old, torch.tensor([5, 6]))
    plays = objective.plays(BATCH, epoch=0, step=0)
    got = next(plays).value
    scores = torch.cat([of.items[BATCH.items], old]) @ of.users[BATCH.users].T
    there = torch.cat([COMPARED.T, torch.ones(2, 5, dtype=torch.bool)])
    there[5, [0, 3]] = False  # user 0 knows item 5
    by_hand = -torch.where(there, scores / 0.5, -torch.inf).log_softmax(0)[:5].diagonal().mean()
    assert got.item() == pytest.approx(by_hand.item(), abs=1e-5)
    assert make.memory.count == 2
    assert next(plays, None) is None and make.memory.count == 2 + 5  # the step's items, once it is carried out


def test_weights_and_miner_reach_the_loss():
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])

    def record(queries: Tensor, items: Tensor, **given: Any) -> Tensor:
        assert given["weights"].squeeze(1).equal(weights[BATCH.index])
        assert given["positives"].equal(OWN)
        scores = torch.where(KNOWN_THERE, -torch.inf, queries @ items.T)
        negatives = given["where"] & ~KNOWN_THERE
        assert negatives.sum(1).tolist() == [1] * 5 and negatives.int().argmax(1).equal(scores.argmax(1))
        return queries.sum()

    value(model(), loss=record, weights=weights, miner=hardest(1))


def test_weights_of_a_batch_are_of_the_rows_that_count():
    """The loss says 1, 2 … 5 of the rows; the generator leaves nothing to compare for the third."""
    batch = SimpleNamespace(**vars(BATCH), weights=torch.tensor([2.0, 1.0, 7.0, 1.0, 3.0]))
    there = torch.ones(5, 5, dtype=torch.bool)

    class Some(EmbeddingObjective):
        def pairs(self, batch: Any) -> tuple[Tensor, Tensor]:
            return super().pairs(batch)[0], there

    def rows(queries: Tensor, items: Tensor, *, reduction: str, where: Tensor, **given: Any) -> Tensor:
        assert reduction == "none"
        return torch.arange(1.0, 6.0) * where.any(-1) + 0 * queries.sum()

    (whole,) = Some(model(), rows, KNOWN, seed=0).plays(batch, epoch=0, step=0)
    assert whole.value.item() == pytest.approx((2 + 2 + 21 + 4 + 15) / 5)
    there[2] = False
    (some,) = Some(model(), rows, KNOWN, seed=0).plays(batch, epoch=0, step=0)
    assert some.value.item() == pytest.approx((2 + 2 + 4 + 15) / 4)


def test_weights_of_a_batch_reach_rows_with_mined_items():
    batch = SimpleNamespace(**vars(BATCH), weights=torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0]))
    mined = MinedNegatives(Ragged(torch.arange(7), torch.tensor([3, 4, 3, 6, 4, 0])), KNOWN, ITEMS, seed=0)
    of = model()
    (play,) = MinedEmbeddingObjective(of, LOSS, KNOWN, seed=0, sampler=mined).plays(batch, epoch=0, step=0)
    plain = SimpleNamespace(**vars(BATCH))
    (other,) = MinedEmbeddingObjective(of, LOSS, KNOWN, seed=0, sampler=mined).plays(plain, epoch=0, step=0)
    pool = torch.cat(
        [BATCH.items, mined(BATCH.users, BATCH.index, epoch=0, step=0, positives=BATCH.items).ids.unique()]
    )
    scores = (of.users[0] @ of.items[pool.unique()].T / 0.5).detach()
    assert other.value.item() != pytest.approx(play.value.item())
    compared = pool.unique() != 5  # which the user of the first row knows, too
    assert play.value.item() == pytest.approx(
        2 * float(scores[compared].logsumexp(0) - scores[pool.unique() == 1].squeeze()) / 5, abs=1e-5
    )


def test_a_batch_of_one_has_no_negatives():
    one = SimpleNamespace(users=torch.tensor([3]), items=torch.tensor([7]), index=torch.tensor([5]))
    assert value(model(), one).item() == pytest.approx(0.0, abs=1e-6)


def test_training_goes_on_bit_for_bit(tmp_path: Path):
    pairs = (torch.tensor([0, 0, 1, 1, 2, 3]), KNOWN.values)
    settings = TrainingSettings(epochs=4, batch_size=3, learning_rate=0.05, schedule="constant")

    def objective() -> EmbeddingObjective:
        make = MemoryNegatives(KNOWN, ITEMS, DIM, seed=0, size=4)
        return EmbeddingObjective(model(), LOSS, KNOWN, seed=0, generator=make)

    whole, begun, resumed = objective(), objective(), objective()
    start = whole.model.state_dict()["users"].clone()
    fit(whole, pairs, settings, seed=0)
    fit(begun, pairs, settings, seed=0, stop_after=2, folder=tmp_path)
    fit(resumed, pairs, settings, seed=0, folder=tmp_path)
    assert not whole.model.state_dict()["users"].equal(start)
    for name in ("model", "generator"):
        left, right = (of.groups[name].state_dict() for of in (whole, resumed))
        assert all(one.equal(right[key]) for key, one in left.items())


class WithTerm(MatrixFactorisation):
    def auxiliary(self, seen: Contrast, *, generator: torch.Generator) -> Tensor:
        assert 0 <= torch.rand((), generator=generator) < 1
        self.seen = seen
        return seen.neg.sum()


def test_a_models_own_term_is_added():
    plain = model()
    own = WithTerm(plain.num_users, ITEMS, dim=DIM, similarity=plain.similarity, dropout=plain.dropout)
    own.load_state_dict(plain.state_dict())
    added = value(own) - value(plain)
    whole = plain.score_all(BATCH.users)[:, BATCH.items]
    torch.testing.assert_close(added, whole.sum())
    assert own.seen.where.equal(~KNOWN_THERE) and own.seen.ids.equal(BATCH.items)
    torch.testing.assert_close(own.seen.pos, whole.diagonal())


def test_vectors_of_a_row_are_mixed_of_what_its_user_does_not_know_and_for_it_alone():
    make = HardMixing(KNOWN, ITEMS, DIM, seed=0, hardest=1, pairs=0, with_query=2)
    seen = {}

    def record(queries: Tensor, items: Tensor, **given: Any) -> Tensor:
        seen.update(given, items=items)
        return queries.sum()

    of = model()
    value(of, loss=record, generator=make)
    own = torch.arange(10) // 2 == torch.arange(5)[:, None]
    assert seen["where"].equal(torch.cat([COMPARED, own], 1))
    assert seen["positives"].equal(torch.cat([OWN, torch.zeros(5, 10, dtype=torch.bool)], 1))
    users, items = of.users[BATCH.users], of.items[BATCH.items]
    hard = items[torch.where(KNOWN_THERE, -torch.inf, users @ items.T).argmax(1)]
    made = seen["items"][5:].view(5, 2, DIM)
    share = (made - hard[:, None]) / (users - hard)[:, None]
    torch.testing.assert_close(share, share[..., :1].expand_as(share), rtol=1e-3, atol=1e-3)


class Scores(nn.Module):
    num_items = ITEMS


def test_what_it_cannot_use_is_a_clear_error():
    with pytest.raises(ConfigError, match="and Scores hands out none"):
        EmbeddingObjective(Scores(), LOSS, KNOWN, seed=0)
