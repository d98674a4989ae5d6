"""Vectors that are made once: in memory, in a file, and files that are something else."""

import sqlite3

import pytest
import torch

from rankwell.errors import DataError
from rankwell.text import vector_store
from rankwell.text.vector_store import VectorStore


def rows(places):
    """A vector for each place, that tells it."""
    return torch.tensor([[float(place), 0.5] for place in places])


def refuse(places):
    raise AssertionError(f"made again: {places}")


def test_each_vector_is_made_once_and_in_the_order_of_the_keys():
    store = VectorStore(2)
    assert store.take([b"a", b"b", b"a"], rows).tolist() == [[2.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
    assert store.take([b"b", b"a"], refuse).tolist() == [[1.0, 0.5], [2.0, 0.5]]
    assert store.take([], refuse).shape == (0, 2)


def test_another_process_finds_them_in_the_file(tmp_path):
    file = tmp_path / "made" / "here.sqlite"
    before = torch.tensor([[1 / 3, -0.0], [torch.finfo().tiny, 1e30]])
    VectorStore(2, file).take([b"a", b"b"], lambda places: before[places])
    again = VectorStore(2, file)
    assert torch.equal(again.take([b"b", b"a"], refuse), before[[1, 0]])
    assert again.take([b"c", b"a"], lambda places: rows(places) + len(places)).tolist() == [
        [1.0, 1.5],
        before[0].tolist(),
    ]


def test_what_was_made_before_an_interruption_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_store, "TOGETHER", 2)
    keys = [bytes([number]) for number in range(5)]

    def interrupted(places):
        if 2 in places:
            raise KeyboardInterrupt
        return rows(places)

    with pytest.raises(KeyboardInterrupt):
        VectorStore(2, tmp_path / "here").take(keys, interrupted)
    made = []
    VectorStore(2, tmp_path / "here").take(keys, lambda places: made.append(places) or rows(places))
    assert made == [[2, 3], [4]]


def test_a_file_that_is_something_else_is_named(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("no table " * 100)
    with pytest.raises(DataError, match=r"notes\.txt must hold kept vectors: .* Delete it"):
        VectorStore(2, file).take([b"a"], rows)


def test_a_file_that_another_process_has_just_begun_is_filled(tmp_path):
    (tmp_path / "here").touch()
    assert VectorStore(2, tmp_path / "here").take([b"a"], rows).tolist() == [[0.0, 0.5]]
    assert VectorStore(2, tmp_path / "here").take([b"a"], refuse).tolist() == [[0.0, 0.5]]


def test_vectors_of_another_length_are_refused(tmp_path):
    VectorStore(2, tmp_path / "here").take([b"a"], rows)
    with pytest.raises(DataError, match="must have 3 entries: one has 2"):
        VectorStore(3, tmp_path / "here").take([b"a"], refuse)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"vectors cannot be kept: .* name another folder"):
        VectorStore(2, tmp_path / "file" / "here").take([b"a"], rows)


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    class Full:
        """A table that takes nothing."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def close(self):
            pass

        def execute(self, *_):
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(vector_store.sqlite3, "connect", lambda *_, **__: Full())
    with pytest.raises(DataError, match=r"disk is full\. Make room"):
        VectorStore(2, tmp_path / "here").take([b"a"], rows)
