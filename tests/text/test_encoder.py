"""The packaged model, offline."""

import socket

import pytest
import torch

from rankwell.errors import ConfigError, InputError, MissingExtra
from rankwell.text import encoder as module
from rankwell.text.encoder import load_encoder

TEXTS = ["A red kettle.", "Kettle", "The chair by the window is older than the house, and still nobody sits in it.", ""]


def test_alike_texts_have_alike_vectors(minilm):
    kettle, pot, law = minilm.encode(["a red kettle", "a red teapot", "the law of large numbers"])
    assert kettle.dtype == torch.float32 and not kettle.requires_grad
    assert kettle @ pot > 0.5 > kettle @ law


def test_vectors_come_in_the_order_of_the_texts(minilm):
    seen = []
    together = minilm.encode(TEXTS, batch_size=3, progress=lambda done, of: seen.append((done, of)))
    apart = torch.cat([minilm.encode([text]) for text in TEXTS])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    assert seen == [(3, 4), (4, 4)] and together.shape == (4, minilm.dim)


def test_length_one_unless_told_otherwise(minilm):
    raw = minilm.encode(TEXTS[:3], normalise=False)
    unit = minilm.encode(TEXTS[:3])
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(raw / raw.norm(dim=1, keepdim=True), unit)


def test_no_texts(minilm):
    assert minilm.encode([]).shape == (0, minilm.dim)
    with pytest.raises(InputError, match="batch_size"):
        minilm.encode(["a"], batch_size=0)


def test_nothing_is_downloaded(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(ConfigError, match="'nobody/nothing' is no folder here and is not in the hub's cache"):
        load_encoder("nobody/nothing")
    with pytest.raises(ConfigError, match="the folder holds no model"):
        load_encoder(str(tmp_path))
    monkeypatch.setattr(module, "PACKAGED", "no_such_package")
    with pytest.raises(ConfigError, match="pip install no-such-package"):
        load_encoder("minilm")


def test_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"rankwell\[text\]"):
        load_encoder("minilm")
