"""Whole lists of texts, and students that learn to rank as a teacher does."""

from functools import partial

import pytest
import torch

from rankwell.data.batching import Batches
from rankwell.errors import ConfigError
from rankwell.losses import LOSSES, kl_loss, margin_mse_loss, softmax_loss
from rankwell.metrics import kendall_tau
from rankwell.models import BagOfWords, CrossEncoder
from rankwell.registry import Input
from rankwell.training import TrainingSettings, fit
from rankwell.training.encoded_texts import EncodedTexts
from rankwell.training.paired_texts import PairedTexts
from rankwell.training.text_lists import TextListBatches, TextListObjective, TextLists

WORDS = [f"w{number}" for number in range(12)]


def texts(count, words, seed):
    draw = torch.Generator().manual_seed(seed)
    return [
        " ".join(WORDS[at] for at in torch.randperm(len(WORDS), generator=draw)[:words].tolist()) for _ in range(count)
    ]


QUERIES, DOCUMENTS = texts(60, 1, 0), texts(40, 3, 1)


def encoded(model):
    return EncodedTexts(model, model.tokens(QUERIES, "query").lists, model.tokens(DOCUMENTS, "document").lists)


def student(dim=16, seed=1):
    model = BagOfWords(dim=dim, buckets=512)
    model.initialise(seed=seed)
    return model


def taught(adapter, size=6, seed=2, lists=60):
    """Lists of random documents, which the adapter's model has scored; each one's best is labelled 1."""
    draw = torch.Generator().manual_seed(seed)
    documents = torch.cat([torch.randperm(len(DOCUMENTS), generator=draw)[:size] for _ in range(lists)])
    queries = torch.arange(lists).repeat_interleave(size)
    with torch.no_grad():
        teacher = adapter.pair_scores(queries, documents)
    rows = teacher.view(lists, size)
    labels = (rows == rows.amax(1, keepdim=True)).float().flatten()
    return TextLists(queries, documents, labels, teacher, torch.arange(0, lists * size + 1, size), torch.arange(lists))


def agreement(adapter, lists):
    """Kendall's tau with the teacher, the mean over lists."""
    with torch.no_grad():
        scores = adapter.pair_scores(lists.queries, lists.documents)
    return float(kendall_tau(scores, lists.teacher, offsets=lists.offsets))


def trained(adapter, loss, lists, rate, epochs, name=None):
    inputs = LOSSES[name].inputs if name else {}
    objective = TextListObjective(adapter, loss, 0, inputs, taught=True)
    settings = TrainingSettings(epochs=epochs, learning_rate=rate, patience=0)
    fit(objective, TextListBatches(lists, 12, seed=0), settings, seed=0)
    adapter.eval()


@pytest.mark.parametrize("name", ["margin_mse", "kl"])
def test_an_encoder_reaches_the_ranking_of_its_teacher(name):
    teacher = encoded(student(seed=9))
    lists, others = taught(teacher), taught(teacher, seed=3)
    adapter = encoded(student())
    assert agreement(adapter, lists) < 0.7
    if name == "margin_mse":
        trained(adapter, margin_mse_loss, lists, 0.05, 40, name)
    else:
        loss = partial(kl_loss, temperature=0.1, label_temperature=0.1)
        trained(adapter, loss, lists._replace(labels=lists.teacher), 0.05, 40)
    assert agreement(adapter, lists) > 0.93 and agreement(adapter, others) > 0.9


@pytest.mark.parametrize("name", ["margin_mse", "kl"])
def test_a_cross_encoder_reaches_the_ranking_of_its_teacher(name, write_transformer, tmp_path):
    lists = taught(encoded(student(seed=9)), lists=12, size=4)
    model = CrossEncoder(encoder=write_transformer(tmp_path, WORDS, hidden=32), max_length=12, dropout="none")
    model.initialise(seed=0)
    adapter = PairedTexts(model, QUERIES, DOCUMENTS)
    assert agreement(adapter, lists) < 0.5
    if name == "margin_mse":
        lists = lists._replace(teacher=5 * lists.teacher)  # a new head begins with small gaps
        trained(adapter, margin_mse_loss, lists, 0.003, 150, name)
    else:
        loss = partial(kl_loss, label_temperature=0.1)
        trained(adapter, loss, lists._replace(labels=lists.teacher), 0.003, 150)
    assert agreement(adapter, lists) > 0.9


def one_list():
    adapter = encoded(student())
    lists = taught(adapter, lists=1, size=4)
    return adapter, lists._replace(labels=torch.tensor([2.0, 0.0, 1.0, 0.0]))


def test_the_loss_sees_scores_over_the_temperature():
    adapter, lists = one_list()
    with torch.no_grad():
        scores = adapter.pair_scores(lists.queries, lists.documents)
    (play,) = TextListObjective(adapter, softmax_loss, 0, temperature=0.2).plays(lists, epoch=0, step=0)
    expected = -(lists.labels * (scores / 0.2).log_softmax(0)).sum()
    torch.testing.assert_close(play.value.detach(), expected, atol=1e-5, rtol=1e-5)


def test_declared_inputs_are_filled():
    adapter, lists = one_list()
    told = {}

    def loss(scores, labels, *, offsets, **extra):
        told.update(extra)
        return scores.sum()

    inputs = {"teacher": Input("item", required=True), "query_ids": Input("list", "id"), "key": Input("scalar")}
    next(TextListObjective(adapter, loss, 0, inputs, taught=True).plays(lists, epoch=0, step=0))
    assert (
        told["teacher"].equal(lists.teacher) and told["query_ids"].equal(lists.index) and isinstance(told["key"], int)
    )


@pytest.mark.parametrize(("name", "said"), [("teacher", "needs a teacher's scores"), ("threshold", "needs threshold")])
def test_what_nobody_tells_is_refused(name, said):
    with pytest.raises(ConfigError, match=said):
        TextListObjective(encoded(student()), softmax_loss, 0, {name: Input("item", required=True)})


def test_batches_have_whole_lists_each_once():
    teacher = encoded(student())
    lists = taught(teacher, lists=7, size=3)
    batches = TextListBatches(lists, 3, seed=5)
    assert isinstance(batches, Batches) and len(batches) == 7 and batches.steps(0) == 3
    seen = []
    for batch in batches.of_epoch(1):
        for place, number in enumerate(batch.index.tolist()):
            at, own = slice(*batch.offsets[place : place + 2].tolist()), slice(3 * number, 3 * number + 3)
            for name in ("queries", "documents", "labels", "teacher"):
                assert getattr(batch, name)[at].equal(getattr(lists, name)[own])
            seen.append(number)
    assert sorted(seen) == list(range(7)) and seen != list(range(7))
