"""Cached gradients are the plain ones: with dropout, for any loss, with several encoders, in the memory of a chunk."""

import pytest
import torch
from torch import nn

from rankwell.losses import contrast, direct_au_loss, info_nce_loss, mml_loss, softmax_loss
from rankwell.models import BagOfWords
from rankwell.training.cached_gradients import in_chunks, seeded
from rankwell.training.encoded_texts import EncodedTexts

ROWS, WIDTH, DIM = 12, 6, 5


def encoder(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Dropout(0.4), nn.Tanh(), nn.Linear(8, DIM), nn.Dropout(0.2)).double()


def in_batch_contrast(loss):
    def made(queries, items):
        scores = queries @ items.T
        others = ~torch.eye(len(scores), dtype=torch.bool)
        return loss(scores.diagonal(), scores, where=others)

    return made


LOSSES = {
    "info_nce": lambda q, d: info_nce_loss(q, d, temperature=0.1),
    "direct_au": direct_au_loss,  # a term that all rows share
    "mml": in_batch_contrast(mml_loss),
    "softmax": in_batch_contrast(contrast(softmax_loss)),
}


def gradients(loss, *, cached, size, shared=False):
    """Of two encoders, or of one for both sides."""
    first = encoder(1)
    second = first if shared else encoder(2)
    torch.manual_seed(3)
    sides = [(first, torch.randn(ROWS, WIDTH).double()), (second, torch.randn(ROWS, WIDTH).double())]
    vectors = [
        in_chunks(
            lambda chunk, net=net, rows=rows: net(rows.split(size)[chunk]), -(-ROWS // size), key=key, cached=cached
        )
        for key, (net, rows) in enumerate(sides)
    ]
    value = loss(*vectors)
    value.backward()
    return value, [weight.grad for net in dict.fromkeys([first, second]) for weight in net.parameters()]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1, 5, 12, 100])
@pytest.mark.parametrize("shared", [False, True], ids=["two encoders", "one for both"])
def test_gradients_are_those_of_the_graph_with_dropout(name, size, shared):
    plain, expected = gradients(LOSSES[name], cached=False, size=size, shared=shared)
    value, got = gradients(LOSSES[name], cached=True, size=size, shared=shared)
    assert value == plain
    assert all(one is not None and one.abs().max() > 0 for one in expected)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_other_dropout_would_show():
    run = encoder(1)
    rows = torch.randn(ROWS, WIDTH).double()
    one, other = (in_chunks(lambda chunk: run(rows[4 * chunk : 4 * chunk + 4]), 3, key=key) for key in (0, 1))
    assert not torch.equal(one, other)
    assert torch.equal(one, in_chunks(lambda chunk: run(rows[4 * chunk : 4 * chunk + 4]), 3, key=0))
    assert not torch.equal(one[:4], in_chunks(lambda _: run(rows[:4]), 2, key=0)[4:])  # each chunk has its own


def test_at_most_one_chunk_has_a_graph():
    def most_at_once(cached):
        weight, alive, most = torch.ones(3, requires_grad=True), set(), []

        def run(chunk):
            made = weight[None] * 1
            if made.requires_grad:
                alive.add(chunk)
                most.append(len(alive))
                made.register_hook(lambda _: alive.discard(chunk))
            return made

        in_chunks(run, 7, key=0, cached=cached).sum().backward()
        assert weight.grad.tolist() == [7.0] * 3
        return max(most)

    assert (most_at_once(cached=False), most_at_once(cached=True)) == (7, 1)


def test_random_state_is_left_alone_and_nothing_is_needed_of_it():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run = encoder(1)
    torch.set_rng_state(before)
    vectors = in_chunks(lambda _: run(torch.ones(2, WIDTH).double()), 2, key=9)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    vectors.sum().backward()
    with seeded(1):
        first = torch.rand(2)
    with seeded(1):
        assert torch.equal(torch.rand(2), first)


def test_without_gradient_and_with_frozen_parts():
    run = encoder(1)
    with torch.no_grad():
        assert not in_chunks(lambda _: run(torch.ones(2, WIDTH).double()), 2, key=0).requires_grad
    for weight in run.parameters():
        weight.requires_grad_(False)
    in_chunks(lambda _: run(torch.ones(2, WIDTH).double()), 2, key=0).sum().backward()
    assert all(weight.grad is None for weight in run.parameters())


@pytest.mark.parametrize("micro_batch", [1, 3, 50])
def test_texts_of_a_step_in_parts_give_the_gradient_of_the_whole(micro_batch):
    model = BagOfWords(dim=8, buckets=64)
    model.initialise(seed=0)
    texts = [" ".join(f"word{n * k % 17}" for k in range(1, 2 + n % 5)) for n in range(9)]
    tokens = model.tokens(texts, "document").lists
    queries, positives, negatives = torch.tensor([0, 1, 2, 0]), torch.tensor([3, 4, 5, 6]), torch.tensor([3, 7, 8])

    def gradient(size):
        model.zero_grad()
        encoded = EncodedTexts(model, tokens, tokens, micro_batch=size)
        pos, neg = encoded.contrast_scores(queries, positives, negatives, generator=torch.Generator().manual_seed(1))
        mml_loss(pos, neg).backward()
        return pos.detach(), neg.detach(), model.table.grad.clone()

    for one, other in zip(gradient(micro_batch), gradient(0), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
