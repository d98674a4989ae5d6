"""A transformer as an encoder of queries and documents: the same vectors as its own library's, tokens cut and counted."""

import pytest
import torch

from rankwell.errors import ConfigError
from rankwell.lists import take_lists
from rankwell.losses import info_nce_loss
from rankwell.models import BiEncoder
from rankwell.models.text_model import encode_tokens
from rankwell.text.encoder import load_encoder
from rankwell.training.cached_gradients import in_chunks
from rankwell.types import Ragged

TEXTS = ["a short text", "another one that is somewhat longer than the first", "word " * 300]


@pytest.fixture(scope="module")
def model():
    return BiEncoder(max_length=64).eval()


def test_vectors_are_those_of_sentence_transformers(model):
    theirs = load_encoder(device="cpu")
    theirs.model.max_seq_length = 64
    tokens = model.tokens(TEXTS, "document")
    assert tokens.cut == 1 and int(tokens.lists.offsets.diff().max()) == 64
    torch.testing.assert_close(
        encode_tokens(model, tokens.lists, "document"), theirs.encode(TEXTS), rtol=1e-4, atol=1e-5
    )


def test_prompts_precede_texts(model):
    prompted = BiEncoder(max_length=64, query_prompt="query: ")
    assert prompted.tokens(["x"], "query").lists.values.equal(model.tokens(["query: x"], "query").lists.values)
    assert prompted.tokens(["x"], "document").lists.values.equal(model.tokens(["x"], "document").lists.values)


def test_training_changes_weights_and_initialise_takes_them_back(model):
    tokens = model.tokens(TEXTS[:2], "query").lists
    before = encode_tokens(model, tokens, "query")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01)
    assert not torch.allclose(encode_tokens(model, tokens, "query"), before, atol=1e-3)
    model.initialise(seed=0)
    assert torch.equal(encode_tokens(model, tokens, "query"), before)


def test_dropout_can_be_left_out():
    model = BiEncoder(max_length=16, dropout="none").train()
    tokens = Ragged(torch.tensor([0, 3]), torch.tensor([101, 2000, 102]))
    assert torch.equal(model(tokens, "query"), model(tokens, "query"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"encoder": "no/such/model"}, "is no folder here"),
        ({"max_length": 2}, "at least 3 tokens"),
        ({"max_length": 513}, "at most the model's 512 tokens: got 513"),
    ],
    ids=["encoder", "short", "long"],
)
def test_what_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        BiEncoder(**given)


def test_cached_gradients_are_those_of_the_graph_with_the_transformers_own_dropout():
    model = BiEncoder(max_length=16).train()
    tokens = model.tokens(["one text", "another text of more words", "a third", "and the last one"], "document").lists
    chunks = torch.arange(4).split(2)

    def gradients(cached):
        model.zero_grad()
        vectors = in_chunks(lambda chunk: model(take_lists(tokens, chunks[chunk]), "document"), 2, key=3, cached=cached)
        info_nce_loss(vectors[:2], vectors[2:], temperature=0.05).backward()
        return vectors.detach(), [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    (plain, expected), (vectors, got) = gradients(cached=False), gradients(cached=True)
    assert torch.equal(vectors, plain) and not torch.allclose(
        plain, encode_tokens(model.eval(), tokens, "document"), atol=1e-3
    )
    assert len(got) == len(expected) > 90
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
