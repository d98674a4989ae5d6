"""Tables of described negatives, on disk and along data."""

import pytest
import torch

from rankwell.errors import DataError, InputError
from rankwell.text.table import Table

VECTORS = torch.arange(12.0).view(3, 2, 2)


def pairs(*of):
    users, items = zip(*of, strict=True)
    return torch.tensor(users), torch.tensor(items)


def test_rows_of_users(tmp_path):
    table = Table(VECTORS, ["ann", "7", "eve"], facts={"writer": "offline"})
    table.save(tmp_path / "t.safetensors")
    again = Table.load(tmp_path / "t.safetensors")
    assert (again.users, again.items, again.facts) == (["ann", "7", "eve"], None, {"writer": "offline"})
    described = again.aligned(["eve", "bob", "ann"], ["x"], *pairs((0, 0), (1, 0), (2, 0), (0, 0)))
    assert described.rows.tolist() == [2, -1, 0, 2] and described.items is None
    assert described.vectors.equal(VECTORS)
    assert again.aligned([7, 8], [0], *pairs((0, 0))).rows.tolist() == [1]  # ids of integers are their digits


def test_rows_of_pairs():
    table = Table(VECTORS, ["ann", "ann", "bob"], ["x", "y", "x"])
    described = table.aligned(["bob", "ann"], ["y", "x", "z"], *pairs((0, 1), (0, 0), (1, 0), (1, 1), (1, 2)))
    assert described.rows.tolist() == [2, -1, 1, 0, -1]


def test_vectors_of_items_in_the_order_of_the_data():
    table = Table(VECTORS[:1], ["ann"], catalogue=["x", "y"], item_vectors=torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    assert table.aligned(["ann"], ["y", "x"], *pairs((0, 0))).items.tolist() == [[2, 2], [1, 1]]
    assert table.aligned(["ann"], ["y", "z"], *pairs((0, 0))).items is None


def test_bad_tables(tmp_path):
    with pytest.raises(InputError, match="an id for each vector"):
        Table(VECTORS, ["ann"])
    with pytest.raises(InputError, match="2 item vectors of 0 items"):
        Table(VECTORS[:1], ["ann"], item_vectors=torch.zeros(2, 2))
    with pytest.raises(DataError, match="describes no row"):
        Table(VECTORS[:1], ["ann"]).aligned(["bob"], ["x"], *pairs((0, 0)))
    with pytest.raises(DataError, match=r"no table .*rankwell describe"):
        Table.load(tmp_path / "none")
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(DataError, match="is no table of described negatives"):
        Table.load(tmp_path / "junk")
    from safetensors.torch import save_file

    save_file({"vectors": VECTORS}, tmp_path / "other")
    with pytest.raises(DataError, match="is no table of described negatives"):
        Table.load(tmp_path / "other")
