"""Objectives of sequences: every event counts once, against what was drawn for it or the whole catalogue."""

import copy
import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from rankwell.data.batching.of_sequences import SequenceBatch, SequenceBatches
from rankwell.errors import ConfigError, InputError
from rankwell.evaluation.next_item import evaluate_next
from rankwell.losses import LOSSES, as_contrast, bpr_loss, gbce_loss, linear_softmax_loss, sampled_softmax_loss
from rankwell.metrics import Measure
from rankwell.models.gru4rec import GRU4Rec
from rankwell.models.item_mean import ItemMean
from rankwell.models.sasrec import SASRec
from rankwell.models.sequential import SequenceModel
from rankwell.registry import Input
from rankwell.samplers import DNSSampler, GenNiSampler, InBatchSampler, NearestSampler, UniformPositives, UniformSampler
from rankwell.training import TrainingSettings, fit
from rankwell.training.sequence_objective import EventScorer, SequenceHeadObjective, SequenceObjective
from rankwell.types import Negatives, Ragged

ITEMS = 11
DATA = Ragged(torch.tensor([0, 4, 5, 12, 12, 15]), torch.tensor([0, 1, 2, 3, 9, 5, 6, 7, 8, 5, 6, 10, 4, 3, 4]))
KNOWN = Ragged(torch.tensor([0, 4, 5, 10, 10, 12]), torch.tensor([0, 1, 2, 3, 9, 5, 6, 7, 8, 10, 3, 4]))


def model(**own: float) -> SASRec:
    made = SASRec(ITEMS, dim=8, max_length=4, **{"dropout": 0.0, **own})  # type: ignore[arg-type]
    made.initialise(seed=1)
    with torch.no_grad():
        made.items *= 20  # so that scores differ
    return made


def batch() -> SequenceBatch:
    (one,) = SequenceBatches(DATA, 8, seed=0, max_length=4).of_epoch(0)
    return one


def value(objective: SequenceObjective | SequenceHeadObjective, of: SequenceBatch) -> Tensor:
    (play,) = objective.plays(of, epoch=1, step=2)
    assert (play.group, play.maximise) == ("model", False)
    return play.value


def events(of: SequenceBatch) -> list[tuple[int, list[int], int, int]]:
    """Whose, behind which history, which item, at which place: for each event to foretell."""
    found, ends = [], of.history.offsets.tolist()
    for start, end in itertools.pairwise(ends):
        for at in range(start, end):
            history = of.history.values[start : at + 1].tolist()
            found.append((int(of.users[at]), history, int(of.items[at]), at))
    return found


def state(of: SequenceModel, history: list[int]) -> Tensor:
    return of.states(Ragged(torch.tensor([0, len(history)]), torch.tensor(history)))[-1]


# --------------------------------------------------------------------------------------------------------------- values


def test_the_batch_has_every_event_that_follows_another():
    assert sorted((user, item) for user, _, item, _ in events(batch())) == sorted(
        [(0, 1), (0, 2), (0, 3), (2, 6), (2, 7), (2, 8), (2, 5), (2, 6), (2, 10), (4, 3), (4, 4)]
    )


def test_full_cross_entropy_equals_a_loop_over_events():
    made = model()
    terms = []
    for _, history, item, _ in events(batch()):
        scores = made.items @ state(made, history)
        terms.append(torch.logsumexp(scores, 0) - scores[item])
    found = value(SequenceHeadObjective(made, linear_softmax_loss, seed=0), batch())
    torch.testing.assert_close(found, torch.stack(terms).mean())


@pytest.mark.parametrize("shared", [False, True])
def test_contrast_equals_a_loop_over_events(shared):
    made = model()
    sampler = UniformSampler(KNOWN, ITEMS, seed=3, n=5, shared=shared)
    of = batch()
    drawn = sampler(of.users, of.index, epoch=1, step=2)
    terms = []
    for user, history, item, at in events(of):
        scores = made.items @ state(made, history)
        known = KNOWN.values[KNOWN.offsets[user] : KNOWN.offsets[user + 1]].tolist()
        ids = drawn.ids if shared else drawn.ids[at]
        gaps = torch.stack([scores[item] - scores[j] for j in ids.tolist() if j not in known])
        terms.append(-torch.nn.functional.logsigmoid(gaps).mean())
    found = value(SequenceObjective(made, bpr_loss, sampler, seed=0), of)
    torch.testing.assert_close(found, torch.stack(terms).mean())


def test_binary_cross_entropy_with_one_negative_is_the_paper_s():
    """log σ of the next item and log (1 − σ) of another: the loss that SASRec was published with."""
    made, of = model(), batch()
    entry = as_contrast(LOSSES["sigmoid"])
    sampler = UniformSampler(KNOWN, ITEMS, seed=3, n=1, shared=False)
    ids = sampler(of.users, of.index, epoch=1, step=2).ids[:, 0].tolist()
    terms = []
    for _, history, item, at in events(of):
        scores = made.items @ state(made, history)
        terms.append(-(torch.sigmoid(scores[item]).log() + (1 - torch.sigmoid(scores[ids[at]])).log()) / 2)
    found = value(SequenceObjective(made, entry.function, sampler, seed=0), of)
    torch.testing.assert_close(found, torch.stack(terms).mean())


def test_the_catalogue_as_negatives_makes_sampled_softmax_the_full_one():
    """All items once, the target masked: its correction by log n q is nothing, and the sum is the full one."""
    made, of = model(), batch()

    class All:
        def __call__(self, *_: Tensor, positives: Tensor, **__: object) -> Negatives:
            ids = torch.arange(ITEMS)
            return Negatives(ids, torch.full((ITEMS,), -math.log(ITEMS)), ids == positives[:, None])

    sampled = SequenceObjective(made, sampled_softmax_loss, All(), seed=0, correct=True)
    full = SequenceHeadObjective(made, linear_softmax_loss, seed=0)
    torch.testing.assert_close(value(sampled, of), value(full, of))


def test_log_q_corrects_sampled_softmax():
    made, of = model(), batch()
    sampler = UniformSampler(KNOWN, ITEMS, seed=3, n=5, shared=False)
    drawn = sampler(of.users, of.index, epoch=1, step=2)
    terms = []
    for user, history, item, at in events(of):
        scores = made.items @ state(made, history)
        left = ITEMS - int(KNOWN.offsets[user + 1] - KNOWN.offsets[user])
        corrected = scores[drawn.ids[at]] - math.log(5 / left)
        terms.append(torch.logsumexp(torch.cat([scores[[item]], corrected]), 0) - scores[item])
    found = value(SequenceObjective(made, sampled_softmax_loss, sampler, seed=0, correct=True), of)
    torch.testing.assert_close(found, torch.stack(terms).mean())


def test_gbce_is_told_the_size_of_the_catalogue():
    made, of = model(), batch()
    entry = LOSSES["gbce"]
    sampler = UniformSampler(KNOWN, ITEMS, seed=3, n=3, shared=False)
    ids = sampler(of.users, of.index, epoch=1, step=2).ids
    states = torch.stack([state(made, history) for _, history, _, _ in events(of)])
    scores = states @ made.items.T
    wanted = gbce_loss(scores.gather(1, of.items[:, None])[:, 0], scores.gather(1, ids), num_items=ITEMS)
    found = value(SequenceObjective(made, entry.function, sampler, seed=0, inputs=entry.inputs), of)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["scalable_cross_entropy", "reduced_cross_entropy"])
def test_bucketed_losses_get_a_generator_of_the_step(name):
    made, of = model(), batch()
    entry = LOSSES[name]
    loss = partial(entry.function, **({"buckets": 1, "bucket_rows": 99} if name[0] == "s" else {"extra_chunks": 99}))
    full = value(SequenceHeadObjective(made, linear_softmax_loss, seed=0), of)
    whole = SequenceHeadObjective(made, loss, seed=0, inputs=entry.inputs)
    torch.testing.assert_close(value(whole, of), full)
    seen: list[int] = []

    def record(*_: object, generator: torch.Generator) -> Tensor:
        seen.append(generator.initial_seed())
        return full

    for seed, epoch, step in [(0, 0, 0), (0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]:
        next(SequenceHeadObjective(made, record, seed=seed, inputs=entry.inputs).plays(of, epoch=epoch, step=step))
    assert seen[0] == seen[1] and len(set(seen)) == 4


def test_several_positives_of_an_event():
    """The next item beside another of the user's, each against the negatives."""
    made, of = model(), batch()
    sampler = UniformSampler(KNOWN, ITEMS, seed=3, n=3)
    more = UniformPositives(KNOWN, ITEMS, seed=0, m=2)
    ids, there = more(of.users, of.index, of.items, epoch=1)
    states = torch.stack([state(made, history) for _, history, _, _ in events(of)])
    scores = states @ made.items.T
    drawn = sampler(of.users, of.index, epoch=1, step=2)
    wanted = bpr_loss(
        scores.gather(1, ids),
        scores[:, drawn.ids],
        pos_where=there,
        where=~drawn.collisions,  # type: ignore[operator]
    )
    torch.testing.assert_close(value(SequenceObjective(made, bpr_loss, sampler, seed=0, positives=more), of), wanted)


def test_the_gradient_reaches_all_weights():
    made, of = model(), batch()
    sampler = UniformSampler(KNOWN, ITEMS, seed=3, n=5, shared=False)
    value(SequenceObjective(made, bpr_loss, sampler, seed=0), of).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in made.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for name, p in made.named_parameters() if "norm" not in name)


# ------------------------------------------------------------------------------------------------------------- samplers


def test_the_split_of_the_batch_changes_no_negative():
    made = model()
    sampler = GenNiSampler(KNOWN, ITEMS, seed=3, n=4, candidates=0, temperature=1.0)
    found = {}
    for size in (1, 3, 8):
        drawn = {}
        for step, of in enumerate(SequenceBatches(DATA, size, seed=0, max_length=4).of_epoch(0)):
            asked = EventScorer(made.states(of.history).detach(), of.index, made.item_vectors().detach())
            got = sampler(of.users, of.index, epoch=0, step=step, positives=of.items, scorer=asked)
            drawn |= dict(zip(of.index.tolist(), got.ids.tolist(), strict=True))
        found[size] = drawn
    assert found[1] == found[3] == found[8] and len(found[1]) == 11


def test_genni_draws_from_the_softmax_of_the_event_s_own_state():
    made, of = model(), batch()
    sampler = GenNiSampler(KNOWN, ITEMS, seed=3, n=4, candidates=0, temperature=0.5)
    asked = EventScorer(made.states(of.history).detach(), of.index, made.item_vectors().detach())
    got = sampler(of.users, of.index, epoch=1, step=2, scorer=asked)
    for user, history, _, at in events(of):
        scores = (made.items @ state(made, history) / 0.5).detach()
        scores[KNOWN.values[KNOWN.offsets[user] : KNOWN.offsets[user + 1]]] = -math.inf
        torch.testing.assert_close(got.log_q[at], torch.log_softmax(scores, 0)[got.ids[at]], atol=1e-4, rtol=1e-4)


def test_genni_s_sampled_softmax_has_the_value_of_the_full_one_over_what_is_unknown():
    """Its draws state a log q that makes every estimate exact, whatever was drawn: each term is the whole sum over n."""
    made, of = model(), batch()
    sampler = GenNiSampler(KNOWN, ITEMS, seed=3, n=4, candidates=0, temperature=1.0)
    terms = []
    for user, history, item, _ in events(of):
        scores = made.items @ state(made, history)
        known = set(KNOWN.values[KNOWN.offsets[user] : KNOWN.offsets[user + 1]].tolist()) - {item}
        left = [j for j in range(ITEMS) if j not in known]
        terms.append(torch.logsumexp(scores[left], 0) - scores[item])
    found = value(SequenceObjective(made, sampled_softmax_loss, sampler, seed=0, correct=True), of)
    torch.testing.assert_close(found, torch.stack(terms).mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["dns", "genni", "in_batch"])
def test_other_samplers_fit(kind):
    sampler = {
        "dns": lambda: DNSSampler(KNOWN, ITEMS, seed=0, n=2, candidates=4),
        "genni": lambda: GenNiSampler(KNOWN, ITEMS, seed=0, n=2, candidates=4),
        "in_batch": lambda: InBatchSampler(KNOWN, ITEMS, seed=0),
    }[kind]()
    assert value(SequenceObjective(model(), bpr_loss, sampler, seed=0), batch()).isfinite()


def test_a_sampler_that_asks_about_users_is_refused():
    sampler = NearestSampler(KNOWN, ITEMS, seed=0, n=1, window=2, skip=0)
    with pytest.raises(InputError, match="Choose the sampler genni or dns, or one that does not ask"):
        value(SequenceObjective(model(), bpr_loss, sampler, seed=0), batch())


def test_inputs_that_nobody_offers():
    needed = {"teacher": Input("item", required=True)}
    with pytest.raises(ConfigError, match="the loss needs teacher, which sequences do not tell"):
        SequenceHeadObjective(model(), linear_softmax_loss, seed=0, inputs=needed)


# ------------------------------------------------------------------------------------------------------------- training

ROUND = 12


def roundabout() -> tuple[Ragged, Ragged, Tensor]:
    """Every user goes on from item i to item i + 1, round and round: what they did, and what follows their beginnings."""
    users = [(start, length) for start in range(ROUND) for length in (6, 9)]
    asked = [(start, length) for start in range(ROUND) for length in range(1, 8)]
    answers = torch.tensor([(start + length) % ROUND for start, length in asked])
    return _rounds(users), _rounds(asked), answers


def _rounds(of: list[tuple[int, int]]) -> Ragged:
    offsets = torch.tensor([0, *(length for _, length in of)]).cumsum(0)
    return Ragged(offsets, torch.cat([(torch.arange(length) + start) % ROUND for start, length in of]))


def objective(of: SequenceModel, how: str) -> SequenceObjective | SequenceHeadObjective:
    if how == "softmax":
        return SequenceHeadObjective(of, linear_softmax_loss, seed=0)
    nothing = Ragged(torch.zeros(25, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    if how == "bpr":
        return SequenceObjective(of, bpr_loss, UniformSampler(nothing, ROUND, seed=0, n=4, shared=False), seed=0)
    sampler = GenNiSampler(nothing, ROUND, seed=0, n=4, candidates=6, temperature=1.0)
    return SequenceObjective(of, sampled_softmax_loss, sampler, seed=0, correct=True)


@pytest.mark.parametrize(
    ("kind", "how"), [("sasrec", "softmax"), ("sasrec", "bpr"), ("sasrec", "genni"), ("gru4rec", "softmax")]
)
def test_what_comes_next_is_learned(kind, how):
    sequences, histories, answers = roundabout()
    made = {"sasrec": SASRec, "gru4rec": GRU4Rec}[kind](ROUND, dim=16, max_length=8, dropout=0.1, init_std=0.1)  # type: ignore[arg-type]
    made.initialise(seed=0)
    settings = TrainingSettings(epochs=40, batch_size=8, learning_rate=0.02)
    fit(objective(made, how), SequenceBatches(sequences, 8, seed=0, max_length=8), settings, seed=0)
    assert evaluate_next(made, [Measure.parse("recall@1")], histories, answers).means() == {"recall@1": 1.0}


def test_the_item_mean_learns_a_chequerboard():
    """Even users see even items, odd users odd ones: all of a user's kind stand before all others, in whatever order."""
    lists = [torch.randperm(6, generator=torch.Generator().manual_seed(user)) * 2 + user % 2 for user in range(24)]
    sequences = Ragged(torch.arange(25) * 6, torch.cat(lists))
    made = ItemMean(ROUND, dim=16, max_length=8)
    made.initialise(seed=0)
    settings = TrainingSettings(epochs=30, batch_size=8, learning_rate=0.05)
    fit(objective(made, "softmax"), SequenceBatches(sequences, 8, seed=0, max_length=8), settings, seed=0)
    first = made.score_next(Ragged(torch.arange(ROUND + 1), torch.arange(ROUND))).topk(6).indices
    assert (first % 2).equal((torch.arange(ROUND) % 2)[:, None].expand(ROUND, 6))


class Stopped(Exception):
    pass


@pytest.mark.parametrize("how", ["softmax", "genni"])
def test_an_interrupted_training_goes_on_bit_for_bit(how, tmp_path):
    sequences, _, _ = roundabout()
    settings = TrainingSettings(epochs=3, batch_size=16, learning_rate=0.01, checkpoint_seconds=0.0)

    def training(folder, watcher=None) -> dict[str, Tensor]:
        made = SASRec(ROUND, dim=8, max_length=4, dropout=0.3)
        made.initialise(seed=0)
        passes = SequenceBatches(sequences, 16, seed=0, max_length=4)
        fit(objective(made, how), passes, settings, seed=0, folder=folder, watcher=watcher)
        return copy.deepcopy(made.state_dict())

    class Break:
        def on_step(self, epoch: int, *_: object) -> None:
            if epoch == 2:
                raise Stopped

        def on_epoch(self, *_: object) -> None:
            pass

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = training(tmp_path / "whole")
    with pytest.raises(Stopped):
        training(tmp_path / "parts", Break())
    rest = training(tmp_path / "parts")
    assert all(rest[name].equal(tensor) for name, tensor in whole.items())
