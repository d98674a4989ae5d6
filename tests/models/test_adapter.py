"""A linear map of frozen vectors: starts as the encoder, trains nothing else, encodes each text once."""

import pytest
import torch

from rankwell.errors import ConfigError
from rankwell.models import Adapter, BiEncoder
from rankwell.models.text_model import encode_tokens

TEXTS = ["red pots", "green pans and pots", "a lid"]


@pytest.fixture(scope="module")
def folder(write_transformer, tmp_path_factory):
    return str(write_transformer(tmp_path_factory.mktemp("tiny"), ["red", "green", "pots", "pans", "and", "a", "lid"]))


def vectors(model, texts, side="document"):
    return encode_tokens(model, model.tokens(texts, side).lists, side)


@pytest.fixture
def changed(folder):
    model = Adapter(encoder=folder, max_length=16, sides="query")
    with torch.no_grad():
        model.weight.normal_(generator=torch.Generator().manual_seed(0))
    return model


def test_it_starts_as_the_encoder(folder):
    model = Adapter(encoder=folder, max_length=16)
    frozen = BiEncoder(encoder=folder, max_length=16).eval()
    torch.testing.assert_close(vectors(model, TEXTS), vectors(frozen, TEXTS))


def test_the_map_is_the_formula(folder, changed):
    given = vectors(Adapter(encoder=folder, max_length=16), TEXTS)
    mapped = torch.stack([vector + changed.weight.detach() @ vector for vector in given])
    expected = mapped / mapped.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(vectors(changed, TEXTS, "query"), expected)
    assert torch.equal(vectors(changed, TEXTS, "document"), given)  # sides="query"
    changed.initialise(seed=0)
    torch.testing.assert_close(vectors(changed, TEXTS, "query"), given)


def test_only_the_map_is_trained_and_saved(folder):
    model = Adapter(encoder=folder, max_length=16).train()
    assert list(model.state_dict()) == ["weight"]
    pairs = model(model.tokens(TEXTS, "query").lists, "query")
    (pairs @ pairs.T).sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is not None] == ["weight"]
    assert float(model.weight.grad.abs().max()) > 0


def test_a_vector_does_not_depend_on_its_company(folder):
    together = vectors(Adapter(encoder=folder, max_length=16), TEXTS)
    alone = torch.cat([vectors(Adapter(encoder=folder, max_length=16), [text]) for text in TEXTS])
    assert torch.equal(together, alone)


def test_the_cache_spares_the_encoder(folder, tmp_path, monkeypatch):
    given = {"encoder": folder, "max_length": 16, "cache": str(tmp_path / "kept")}
    first = vectors(Adapter(**given), TEXTS)
    monkeypatch.setattr(BiEncoder, "forward", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(vectors(Adapter(**given), TEXTS[::-1]), first.flip(0))


def test_other_prompts_and_lengths_are_other_texts(folder, tmp_path):
    given = {"encoder": folder, "cache": str(tmp_path)}
    plain = vectors(Adapter(max_length=16, **given), TEXTS)
    prompted = vectors(Adapter(max_length=16, document_prompt="a ", **given), TEXTS)
    cut = vectors(Adapter(max_length=3, **given), TEXTS)
    products = vectors(Adapter(max_length=16, similarity="dot", **given), TEXTS)
    assert not any(torch.allclose(plain, other, atol=1e-3) for other in (prompted, cut, products))


def test_what_is_refused(folder):
    with pytest.raises(ConfigError, match=r"dropout must be in \[0, 1\): got 1.0"):
        Adapter(encoder=folder, dropout=1.0)
