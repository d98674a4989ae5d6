"""Batches that learn, rows that weigh, and several positives, in the objective and in the loop."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rankwell import lists
from rankwell.data import Batch, HighLossBatches, NoDuplicatesBatches, ShuffledBatches
from rankwell.errors import InputError
from rankwell.losses import LOSSES, as_contrast, bpr_loss, multi_sample_contrastive_loss, sampled_softmax_loss
from rankwell.miners import easy_positive
from rankwell.models import MatrixFactorisation
from rankwell.samplers import InBatchSampler, Positives, UniformPositives, UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Ragged

USERS, ITEMS = 10, 8
PAIRS = (
    torch.arange(USERS).repeat_interleave(3),
    torch.tensor([(2 * u + j) % ITEMS for u in range(USERS) for j in (0, 1, 3)]),
)
KNOWN = Ragged(torch.arange(0, 31, 3), PAIRS[1].view(USERS, 3).sort().values.flatten())
BATCH = Batch(*(column[4:11] for column in PAIRS), torch.arange(4, 11))


def objective(loss: Any = bpr_loss, sampler: Any = None, **own: Any) -> ContrastObjective:
    model = MatrixFactorisation(USERS, ITEMS, dim=3, dropout=0.2, init="normal")
    model.initialise(KNOWN, seed=0)
    sampler = sampler or UniformSampler(KNOWN, ITEMS, seed=0, n=4, shared=False)
    return ContrastObjective(model, loss, sampler, seed=0, **own)


def one(made: ContrastObjective, batch: Batch = BATCH) -> Any:
    (play,) = made.plays(batch, epoch=0, step=0)
    return play


def contrast_losses() -> list[str]:
    entries = [entry for entry in LOSSES if entry.kind in ("list", "contrast")]
    offered = {"query_ids", "num_items", "key"}
    return [
        entry.name
        for entry in entries
        if not {name for name, given in entry.inputs.items() if given.required} - offered
    ]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", contrast_losses())
def test_the_mean_of_the_rows_is_the_loss_itself(name, several):
    """Bit for bit, by every loss that can be trained, with masked negatives and with masked positives."""
    entry = as_contrast(LOSSES[name])
    own: dict[str, Any] = {"inputs": entry.inputs}
    if several:
        own |= {"positives": UniformPositives(KNOWN, ITEMS, seed=0, m=5), "miner": easy_positive()}
    pool = UniformSampler(KNOWN, ITEMS, seed=0, n=6)  # shared, so that known items are masked
    plain = one(objective(entry.function, pool, **own))
    told = one(objective(entry.function, pool, per_row=True, **own))
    assert plain.rows is None and told.rows.shape == (7,) and not told.rows.requires_grad
    assert told.value.equal(plain.value)
    assert lists.reduce(told.rows, None, "mean").equal(plain.value)


def test_weights_of_a_batch_multiply_the_values_of_rows():
    weights = torch.linspace(0.5, 2, 7)
    rows = one(objective(per_row=True)).rows
    play = one(objective(), BATCH._replace(weights=weights))
    assert play.value.item() == pytest.approx(float((rows * weights).mean()))
    assert play.rows.equal(rows)  # what is learned from is the loss, whatever it weighs


class Record:
    def __call__(self, pos: Tensor, neg: Tensor, **given: Any) -> Tensor:
        self.pos, self.neg, self.given = pos.detach(), neg.detach(), given
        return pos.sum()


def test_several_positives_reach_the_loss():
    record = Record()
    made = objective(record, positives=UniformPositives(KNOWN, ITEMS, seed=0, m=4), weights=torch.arange(30.0))
    one(made)
    assert record.pos.shape == record.given["pos_where"].shape == (7, 4) and record.neg.shape == (7, 4)
    assert record.given["pos_where"].tolist() == [[True, True, True, False]] * 7  # three known items each
    assert record.given["weights"].equal(torch.arange(4.0, 11)[:, None])
    plain = Record()
    one(objective(plain))
    torch.testing.assert_close(record.pos[:, 0], plain.pos)
    torch.testing.assert_close(record.neg, plain.neg)


@pytest.mark.parametrize("m", [2, 3])
def test_the_model_scores_the_positives_that_were_drawn(m):
    draw = UniformPositives(KNOWN, ITEMS, seed=0, m=m)
    record = Record()
    made = objective(record, positives=draw)
    made.model.eval()  # no dropout
    one(made)
    ids, _ = draw(BATCH.users, BATCH.index, BATCH.items, epoch=0)
    torch.testing.assert_close(record.pos, made.model.score(BATCH.users, ids))  # type: ignore[operator]


def test_masked_positives_change_nothing():
    """Users know three items: five places and three give the same loss."""
    values = [
        one(
            objective(multi_sample_contrastive_loss, positives=UniformPositives(KNOWN, ITEMS, seed=0, m=m))
        ).value.item()
        for m in (2, 3, 5)
    ]
    assert values[1] == pytest.approx(values[2]) and values[0] != pytest.approx(values[1])


def test_in_batch_negatives_are_the_rows_own_positives_with_their_log_q():
    """Others beside them neither enter the pool nor shift its log q; known ones are masked."""
    draw = UniformPositives(KNOWN, ITEMS, seed=0, m=3)
    alone, several = Record(), Record()
    for record, positives in ((alone, None), (several, draw)):
        one(objective(record, InBatchSampler(KNOWN, ITEMS, seed=0), correct=True, positives=positives))
    assert several.neg.equal(alone.neg) and several.given["where"].equal(alone.given["where"])
    pool = BATCH.items.sort().values
    ids, there = draw(BATCH.users, BATCH.index, BATCH.items, epoch=0)
    assert there.all()
    assert not several.given["where"][(ids[:, :, None] == pool).any(1)].any()


def settings(**own: Any) -> TrainingSettings:
    return TrainingSettings(**{"epochs": 4, "batch_size": 7, "learning_rate": 0.05, **own})


def weights_of(of: ContrastObjective) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in of.model.state_dict().values()]


class Stop(Exception):
    pass


def trained(unbiased: bool, folder: Path | None, stop: int = 0) -> tuple[list[Tensor], HighLossBatches]:
    """A whole training, or one that is stopped in its step of that number, a checkpoint after each."""
    calls = []

    def loss(*given: Any, **own: Any) -> Tensor:
        calls.append(1)
        if len(calls) == stop:
            raise Stop
        return sampled_softmax_loss(*given, **own)

    made = objective(loss, per_row=True)
    batches = HighLossBatches(PAIRS, 7, seed=0, pressure=50.0, unbiased=unbiased)
    fit(made, batches, settings(checkpoint_seconds=0), seed=0, folder=folder)
    return weights_of(made), batches


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("stop", [3, 6, 8, 13])
def test_learning_batches_resume_bit_for_bit(stop, unbiased, tmp_path):
    """Five steps an epoch: stopped in the first, at the end of it, and in the middle of later ones."""
    with pytest.raises(Stop):
        trained(unbiased, tmp_path, stop)
    resumed, batches = trained(unbiased, tmp_path)
    alone, expected = trained(unbiased, None)
    assert all(a.equal(b) for a, b in zip(resumed, alone, strict=True))
    assert batches.losses.equal(expected.losses) and batches.at_start.equal(expected.at_start)
    assert not batches.losses.isinf().any()


def test_the_loop_tells_batches_the_loss_of_each_row():
    told = {}

    class Told(ShuffledBatches):
        learns = True

        def learn(self, index: Tensor, values: Tensor) -> None:
            told.update(zip(index.tolist(), values.tolist(), strict=True))

    history = fit(objective(per_row=True), Told(PAIRS, 30, seed=0), settings(epochs=1), seed=0)
    assert sorted(told) == list(range(30))
    assert sum(told.values()) / 30 == pytest.approx(history.epochs[0].loss, rel=1e-5)


def test_an_objective_that_does_not_tell_rows():
    with pytest.raises(InputError, match="learn from the loss of each row, which the objective does not tell"):
        fit(objective(), HighLossBatches(PAIRS, 7, seed=0), settings(), seed=0)


def test_pairs_are_shuffled_batches():
    left, right = objective(), objective()
    fit(left, PAIRS, settings(), seed=5)
    fit(right, ShuffledBatches(PAIRS, 7, seed=5), settings(batch_size=1), seed=5)
    assert all(a.equal(b) for a, b in zip(weights_of(left), weights_of(right), strict=True))


def test_the_schedule_counts_the_steps_of_the_batches(monkeypatch):
    """An item in 12 rows: 12 batches, whatever the batch size, and the rate falls to 0 over all of them."""
    rates = []
    # The package gives the module's name to the function.
    loop = sys.modules["rankwell.training.fit"]
    monkeypatch.setattr(loop, "_carry_out", lambda *given: rates.append(given[-1]) or (0.0, None))
    pairs = torch.arange(20) % USERS, torch.cat([torch.zeros(12, dtype=torch.int64), torch.arange(8)])
    batches = NoDuplicatesBatches(pairs, 10, seed=0)
    fit(objective(), batches, settings(epochs=2, schedule="linear"), seed=0)
    steps = batches.steps(0)
    assert steps == 13 == len(rates) // 2  # item 0 is among the last eight as well
    assert rates == pytest.approx([0.05 * (1 - step / (2 * steps)) for step in range(2 * steps)])


def test_positives_are_drawn_with_the_model():
    asked = {}

    def draw(queries: Tensor, samples: Tensor, items: Tensor, **given: Any) -> Positives:
        asked.update(given, samples=samples)
        return Positives(items, None)

    made = objective(partial(bpr_loss), positives=draw)
    one(made)
    assert asked["scorer"] is made.model and asked["epoch"] == 0 and asked["samples"].equal(BATCH.index)
