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
from rankwell.miners import distance_weighted, easy_positive, false_negative_filter, hardest
from rankwell.models import MatrixFactorisation
from rankwell.registry import Input
from rankwell.samplers import SAMPLERS, InBatchSampler, MixedSampler, UniformSampler
from rankwell.training import ContrastObjective
from rankwell.training.smoothing import Smoothing
from rankwell.types import Contrast, Negatives, Overwrite, Ragged

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


class Several(Given):
    """The same, for several positives."""

    def contrast_scores(self, queries: Tensor, positives: Tensor, negatives: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        return self.table[queries[:, None], positives], self.table[queries][:, negatives]


class Chosen:
    """A sampler that gives what it is told, and notes what it is asked."""

    def __init__(self, negatives: Negatives) -> None:
        self.negatives, self.asked = negatives, []  # type: ignore[var-annotated]

    def __call__(
        self, queries: Tensor, samples: Tensor, *, epoch: int, step: int, positives: Any, scorer: Any
    ) -> Negatives:
        assert scorer is None  # the model here is no Scorer
        self.asked.append((queries.tolist(), samples.tolist(), epoch, step, positives.tolist()))
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
    assert sampler.asked == [([2, 0, 1], [2, 0, 1], 3, 6, [11, 5, 0])]
    assert record.pos.equal(model.table.detach()[BATCH.users, BATCH.items])
    assert record.neg.equal(model.table.detach()[BATCH.users][:, [3, 5, 9]])
    assert POOL.collisions is not None and record.given["where"].equal(~POOL.collisions)
    assert record.given["weights"] is None
    assert model.generators == play()[1].generators != [keyed.mix(8, 3, 6)]  # keyed, and apart from others of this step


class WithTerm(Given):
    """A model with a term of its own: the sum of what it sees, and a random number."""

    def auxiliary(self, seen: Contrast, *, generator: torch.Generator) -> Tensor:
        self.seen = seen
        return 2 * seen.neg.sum() + torch.rand((), generator=generator)


def test_a_models_own_term_is_added_before_the_correction_and_keyed():
    def value(model: nn.Module, step: int = 6, **own: Any) -> Tensor:
        objective = ContrastObjective(model, bpr_loss, Chosen(POOL), seed=8, **own)
        return next(objective.plays(BATCH, epoch=3, step=step)).value

    model = WithTerm()
    drawn = value(model) - value(Given()) - 2 * model.seen.neg.sum()
    assert 0 <= drawn.item() < 1 and value(model).equal(value(model)) and not value(model, step=7).equal(value(model))
    seen = model.seen
    assert seen.neg.equal(model.table[BATCH.users][:, POOL.ids]) and seen.neg.requires_grad
    assert seen.ids is POOL.ids and seen.where is not None and seen.where.equal(~POOL.collisions)
    corrected = value(model, correct=True) - value(Given(), correct=True)
    torch.testing.assert_close(corrected, value(model) - value(Given()))
    weighted = value(model, weights=torch.full((4,), 3.0)) - 3 * value(Given())  # the term has no weights of rows
    torch.testing.assert_close(weighted, value(model) - value(Given()))


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
    pool = Negatives(POOL.ids, POOL.log_q, None)
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


def test_the_miner_narrows_what_the_sampler_left():
    plain, _, _ = play()
    record, _, _ = play(miner=hardest(1))
    assert record.neg.equal(plain.neg) and record.given["weights"] is None
    left = plain.neg.masked_fill(~plain.given["where"], -math.inf)
    assert record.given["where"].equal(torch.nn.functional.one_hot(left.argmax(-1), 3).bool())
    assert set(record.given) == {"where", "weights"}  # one positive a row: there is nothing to narrow


def test_the_miner_looks_at_the_model_s_own_scores():
    """The correction by log q would make another negative the hardest of some row."""
    plain, _, _ = play(miner=hardest(1))
    rare = Negatives(POOL.ids, torch.tensor([-1.0, -9.0, -30.0]), POOL.collisions)
    record = Record()
    objective = ContrastObjective(Given(), record, Chosen(rare), seed=8, correct=True, miner=hardest(1))
    next(objective.plays(BATCH, epoch=3, step=6))
    assert record.given["where"].equal(plain.given["where"])
    assert record.neg.masked_fill(POOL.collisions, -math.inf).argmax(-1).tolist() == [2, 2, 2]  # type: ignore[arg-type]


def test_a_miner_s_draws_are_keyed():
    pool = Negatives(torch.arange(12), torch.zeros(1), None)

    def drawn(seed: int, step: int) -> Tensor:
        record = Record()
        miner = distance_weighted(3, dim=3, far=2.0)
        objective = ContrastObjective(Given(), record, Chosen(pool), seed=seed, miner=miner)
        next(objective.plays(BATCH, epoch=0, step=step))
        assert (record.given["where"].sum(-1) <= 3).all()
        return record.given["where"]

    assert drawn(0, 0).equal(drawn(0, 0))
    assert not drawn(0, 0).equal(drawn(0, 1)) and not drawn(0, 0).equal(drawn(1, 0))


def test_a_miner_of_positives_narrows_them():
    batch = SimpleNamespace(
        users=torch.tensor([2, 0]), items=torch.tensor([[11, 4], [5, 6]]), index=torch.tensor([0, 1])
    )
    record, model = Record(), Several()
    pool = Negatives(POOL.ids, POOL.log_q, None)
    next(ContrastObjective(model, record, Chosen(pool), seed=0, miner=easy_positive()).plays(batch, epoch=0, step=0))
    assert record.given["pos_where"].equal(torch.nn.functional.one_hot(record.pos.argmax(-1), 2).bool())
    assert record.given["where"].all()


def test_a_miner_s_input_that_nobody_offers():
    with pytest.raises(ConfigError, match=r"the miner needs teacher, teacher_pos, which interactions do not tell"):
        ContrastObjective(Given(), Record(), Chosen(POOL), seed=0, miner=false_negative_filter(by="teacher"))


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


def test_a_sampler_that_states_no_log_q_is_not_corrected():
    plain, record = Record(), Record()
    for loss, pool, correct in ((plain, POOL, False), (record, Negatives(POOL.ids, None, POOL.collisions), True)):
        next(ContrastObjective(Given(), loss, Chosen(pool), seed=8, correct=correct).plays(BATCH, epoch=3, step=6))
    assert record.neg.equal(plain.neg)


class Known(Given):
    """A model that samplers may ask."""

    score = query_vectors = item_vectors = Given.contrast_scores


def test_samplers_get_the_model_if_it_is_a_scorer():
    asked: dict[str, Any] = {}

    def sampler(*_: Any, **given: Any) -> Negatives:
        asked.update(given)
        return POOL

    model = Known()
    next(ContrastObjective(model, Record(), sampler, seed=0).plays(BATCH, epoch=0, step=0))
    assert asked["scorer"] is model and asked["positives"].equal(BATCH.items)


@pytest.mark.parametrize("kind", [InBatchSampler, MixedSampler])
def test_log_q_of_a_pool_of_positives_meets_its_own_columns(kind):
    own = {} if kind is InBatchSampler else {"n": 20}
    sampler, model, record = kind(KNOWN, ITEMS, seed=0, **own), Given(), Record()
    ids, log_q, found, *_ = sampler(BATCH.users, BATCH.index, epoch=3, step=6, positives=BATCH.items)
    next(ContrastObjective(model, record, sampler, seed=8, correct=True, temperature=0.5).plays(BATCH, epoch=3, step=6))
    scores = model.table.detach()
    for row, user in enumerate(BATCH.users.tolist()):
        for column, item in enumerate(ids.tolist()):
            expected = scores[user, item] - 0.5 * (math.log(len(ids)) + log_q[column])
            assert record.neg[row, column].item() == pytest.approx(expected.item(), rel=1e-5)
    assert record.given["where"].equal(~found)
    assert not record.given["where"][ids == BATCH.items[:, None]].any()


def test_what_a_sampler_has_seen_is_kept_with_the_model():
    """In the objective's groups, which checkpoints save; they have nothing to be optimised."""
    sampler = MixedSampler(KNOWN, ITEMS, seed=0, n=4, frequencies="streaming")
    objective = ContrastObjective(Given(), Record(), sampler, seed=0)
    assert objective.groups["sampler"] is sampler and not list(sampler.parameters())
    before = sampler.frequencies.rows.clone()
    next(objective.plays(BATCH, epoch=0, step=0))
    assert int(sampler.state_dict()["frequencies.rows"] - before) == len(BATCH.items)
    assert set(ContrastObjective(Given(), Record(), InBatchSampler(KNOWN, ITEMS, seed=0), seed=0).groups) == {"model"}


NAMES = ("bpr", "sampled_softmax", "bsl", "ccl")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sampler", ["uniform", "popularity", "in_batch"])
def test_a_loss_that_writes_over_scores_trains_alike(name, sampler):
    """As the same loss that is not told that it may, whatever the sampler knows of its collisions."""
    entry, grads = as_contrast(LOSSES[name]), []
    for inputs in (entry.inputs, {one: at for one, at in entry.inputs.items() if one != "overwrite"}):
        model = MatrixFactorisation(USERS, ITEMS, dim=4, init="normal").double()
        model.initialise(KNOWN, seed=0)
        own = {} if sampler == "in_batch" else {"n": 64}
        objective = ContrastObjective(
            model,
            entry.function,
            SAMPLERS[sampler].function(KNOWN, ITEMS, seed=0, **own),
            3,
            entry.softmax,
            inputs=inputs,
        )
        (only,) = objective.plays(BATCH, epoch=0, step=1)
        only.value.backward()
        grads.append((only.value.detach(), model.users.grad.to_dense(), model.items.grad.to_dense()))
    for got, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_scores_are_handed_over_only_where_nobody_needs_them_later():
    entry = as_contrast(LOSSES["sampled_softmax"])
    handed = []

    def loss(pos: Tensor, neg: Tensor, *, overwrite: Overwrite | None = None, **given: Any) -> Tensor:
        handed.append(overwrite is not None)
        return entry.function(pos, neg, overwrite=overwrite, **given)

    def played(model: nn.Module, inputs: Any = entry.inputs, smoothing: float = 0.0, **own: Any) -> bool:
        objective = ContrastObjective(model, loss, UniformSampler(KNOWN, ITEMS, n=8, seed=0), 0, inputs=inputs, **own)
        objective.smoothing = Smoothing(smoothing)
        list(objective.plays(BATCH, epoch=0, step=0))
        return any(handed[-2:])

    def factors() -> MatrixFactorisation:
        model = MatrixFactorisation(USERS, ITEMS, dim=4, init="normal")
        model.initialise(KNOWN, seed=0)
        return model

    assert played(factors()) and played(factors(), miner=hardest(3))
    handed.clear()
    assert not played(factors(), inputs={})
    assert not played(factors(), smoothing=0.1)
    assert not played(factors(), fills={"threshold": lambda _: None})
    assert not played(Given())  # whose scores may be anybody's
