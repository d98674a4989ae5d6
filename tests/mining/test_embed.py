"""Embeddings: encoded once, gone on with after an interruption, or read."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rankwell.errors import DataError
from rankwell.mining import embed
from rankwell.mining.embed import TextVectors, read_vectors
from rankwell.similarity import normalise


class Lengths:
    """Encodes a text by its length and its vowels."""

    def __init__(self, *, fails_after=None):
        self.seen, self.fails_after = [], fails_after

    def encode(self, texts, *, batch_size, normalise=True, progress=None):
        if self.fails_after is not None and len(self.seen) >= self.fails_after:
            raise KeyboardInterrupt
        assert batch_size >= 1
        self.seen += texts
        if progress is not None:
            progress(len(texts), len(texts))
        made = torch.tensor([[float(len(text)), float(sum(map(text.count, "aeiou")))] for text in texts])
        return made / made.norm(dim=1, keepdim=True) if normalise else made


TEXTS = [f"text {number}" + "o" * (number % 5) for number in range(10)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(embed, "CHUNK", 4)


def test_vectors_in_the_order_of_the_texts(tmp_path):
    encoder = Lengths()
    parts = TextVectors("x", lambda: encoder, False, tmp_path).encode(TEXTS, "to: ")
    assert [len(part) for part in parts] == [4, 4, 2] and encoder.seen == [f"to: {text}" for text in TEXTS]
    assert torch.cat(parts).equal(Lengths().encode(encoder.seen, batch_size=1, normalise=False))
    unit = TextVectors("x", Lengths, True, tmp_path).encode(TEXTS, "to: ")  # not what the cache has for other settings
    torch.testing.assert_close(torch.cat(unit), normalise(torch.cat(parts)))


def test_the_second_time_nothing_is_encoded(tmp_path):
    first = TextVectors("x", Lengths, cache=tmp_path).encode(TEXTS)

    def never():
        raise AssertionError("the model was loaded")

    again = TextVectors("x", never, cache=tmp_path)
    assert again.missing(TEXTS) == 0 and torch.cat(again.encode(TEXTS)).equal(torch.cat(first))
    assert again.missing(TEXTS, "to: ") == 10
    assert TextVectors("y", never, cache=tmp_path).missing(TEXTS) == 10
    assert again.missing([*TEXTS[:5], "new", *TEXTS[6:]]) == 4  # the chunk it is in
    TextVectors("x", Lengths, cache=tmp_path).encode(["a", "bc"])
    assert again.missing(["a", "bc"]) == 0 and again.missing(["ab", "c"]) == 2
    assert TextVectors("x", never).missing(TEXTS) == 10  # without a cache


def test_an_interrupted_run_goes_on(tmp_path):
    stopped = Lengths(fails_after=4)
    with pytest.raises(KeyboardInterrupt):
        TextVectors("x", lambda: stopped, cache=tmp_path).encode(TEXTS)
    assert [file.suffix for file in tmp_path.iterdir()] == [".npy"]
    encoder, seen = Lengths(), []
    found = TextVectors("x", lambda: encoder, cache=tmp_path).encode(TEXTS, progress=lambda *at: seen.append(at))
    assert encoder.seen == TEXTS[4:] and seen[0] == (4, 10) and seen[-1] == (10, 10)
    assert torch.cat(found).equal(Lengths().encode(TEXTS, batch_size=1))


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda _: b"", lambda data: b"x" * len(data)], ids=range(3))
def test_a_damaged_file_of_the_cache_is_made_again(tmp_path, damage):
    vectors = TextVectors("x", Lengths, cache=tmp_path)
    first = torch.cat(vectors.encode(TEXTS)).clone()
    for file in tmp_path.iterdir():
        file.write_bytes(damage(file.read_bytes()))
    assert torch.cat(vectors.encode(TEXTS)).equal(first)


def test_a_model_folder_that_changed_is_another_model(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    vectors = TextVectors(str(tmp_path / "model"), Lengths, cache=tmp_path / "cache")
    vectors.encode(TEXTS)
    assert vectors.missing(TEXTS) == 0
    (tmp_path / "model" / "weights").write_text("22")
    assert vectors.missing(TEXTS) == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_vectors_made_elsewhere(tmp_path, dtype):
    made = torch.randn(3, 2).to(dtype)
    np.save(tmp_path / "a.npy", made.numpy())
    save_file({"any": made}, tmp_path / "a.safetensors")
    for suffix in ("npy", "safetensors"):
        assert read_vectors(tmp_path / f"a.{suffix}", 3, "queries").equal(made)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npy", np.zeros((2, 2), np.float32), "a row for each of the 3 queries of the file"),
        ("a.npy", np.zeros(3, np.float32), r"the shape is \(3,\)"),
        ("a.npy", np.zeros((3, 2), np.int64), "embeddings must be floating-point numbers: got torch.int64"),
        ("a.npy", np.array([[{}]] * 3, object), "the file must be an array of numpy"),
        ("a.npy", b"", "the file must be an array of numpy"),
        ("a.safetensors", b"no", "the file must be readable as safetensors"),
        ("a.safetensors", {"a": torch.ones(3, 2), "b": torch.ones(1)}, "there must be one tensor: there are a, b"),
        ("a.bin", b"", r"embeddings must be in a .npy or a .safetensors file: got '.bin'"),
    ],
    ids=["rows", "shape", "integers", "objects", "empty", "damaged", "two", "suffix"],
)
def test_files_of_vectors_that_are_wrong(tmp_path, name, content, says):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif isinstance(content, dict):
        save_file(content, tmp_path / name)
    else:
        np.save(tmp_path / name, content, allow_pickle=True)
    with pytest.raises(DataError, match=says):
        read_vectors(tmp_path / name, 3, "queries")


def test_a_file_of_vectors_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_vectors(tmp_path / "a.npy", 3, "queries")
