import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.models import MODELS, GraphFilter, graph_filter
from rankwell.types import Ragged


def interactions(users: int, items: int, share: float = 0.2) -> tuple[Ragged, Tensor]:
    """Random interactions; the last user and the last item have none."""
    matrix = torch.rand(users, items, generator=torch.Generator().manual_seed(1)) < share
    matrix[-1], matrix[:, -1] = False, False
    return Ragged(torch.cat([torch.zeros(1), matrix.sum(1).cumsum(0)]).long(), matrix.nonzero()[:, 1]), matrix.double()


def fitted(known: Ragged, items: int, **own: float) -> GraphFilter:
    model = GraphFilter(known.offsets.numel() - 1, items, **own)  # type: ignore[arg-type]
    model.initialise(known, seed=0)
    return model


def dense_scores(rows: Tensor, matrix: Tensor, rank: int, alpha: float) -> Tensor:
    """The paper's formula in float64."""
    user_roots, item_roots = (degrees.clamp(min=1).sqrt() for degrees in (matrix.sum(1), matrix.sum(0)))
    normalised = matrix / user_roots[:, None] / item_roots
    right = torch.from_numpy(np.linalg.svd(normalised.numpy())[2][:rank].T)
    return rows @ normalised.T @ normalised + alpha * (rows / item_roots) @ right @ right.T * item_roots


@pytest.mark.parametrize(("users", "items", "rank", "alpha"), [(64, 32, 8, 0.3), (61, 37, 37, 1.5), (29, 70, 5, 0.0)])
def test_equals_the_dense_formula(users: int, items: int, rank: int, alpha: float) -> None:
    known, matrix = interactions(users, items)
    model = fitted(known, items, rank=rank, alpha=alpha)
    # The subspace is the whole space where rank + 16 columns fill the smaller side; else its convergence limits.
    right = dense_scores(matrix, matrix, rank, alpha)
    error = (model.score_all(torch.arange(users)).double() - right).abs().max() / right.abs().max()
    assert error < (1e-5 if rank + 16 >= min(users, items) or not alpha else 2e-2)


def test_blocks_and_order_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known, _ = interactions(61, 37)
    model = fitted(known, 37, rank=8)
    whole = model.score_all(torch.arange(61))
    monkeypatch.setattr(graph_filter, "BLOCK_VALUES", 1)  # blocks of eight
    queries = torch.tensor([60, 3, *range(20), 3])
    torch.testing.assert_close(model.score_all(queries), whole[queries])
    buffer = torch.zeros(queries.numel(), 64)
    model.score_all(queries, out=buffer[:, :37])
    torch.testing.assert_close(buffer[:, :37], whole[queries])
    assert not buffer[:, 37:].any()
    assert model.score_all(queries[:0]).shape == (0, 37)


def test_new_users_are_scored_by_their_history() -> None:
    known, matrix = interactions(61, 37)
    model = fitted(known, 37, rank=37)
    got = model.score_history(Ragged(torch.tensor([0, 2, 2, 3]), torch.tensor([4, 9, 0])))
    rows = torch.zeros(3, 37, dtype=torch.float64)
    rows[0, [4, 9]], rows[2, 0] = 1, 1
    torch.testing.assert_close(got.double(), dense_scores(rows, matrix, 37, 0.3), rtol=1e-4, atol=1e-5)
    assert not got[1].any()


@pytest.mark.parametrize(("users", "items"), [(16, 8), (21, 13)])
def test_chequerboard_puts_the_held_out_item_first(users: int, items: int) -> None:
    lists = [[i for i in range(items) if i % 2 == u % 2] for u in range(users)]
    held_out = [own.pop((u // 2) % len(own)) for u, own in enumerate(lists)]
    sizes = torch.tensor([0, *map(len, lists)])
    model = fitted(Ragged(sizes.cumsum(0), torch.tensor([item for own in lists for item in own])), items)
    scores = model.score_all(torch.arange(users))
    for user, own in enumerate(lists):
        scores[user, own] = -torch.inf
    assert scores.argmax(1).tolist() == held_out


def test_same_seed_same_bits() -> None:
    known, _ = interactions(61, 37)
    states = [fitted(known, 37, rank=8).state_dict() for _ in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("way", ["load", "assign", "copy", "pickle"])
def test_save_and_load(way: str) -> None:
    known, _ = interactions(61, 37)
    model = fitted(known, 37, rank=8)
    state = model.state_dict()
    assert set(state) == {"history_offsets", "history_items", "item_vectors"}
    assert all(value.layout == torch.strided and value.is_contiguous() for value in state.values())
    if way == "copy":
        fresh = copy.deepcopy(model)
    elif way == "pickle":
        fresh = pickle.loads(pickle.dumps(model))
    else:
        fresh = GraphFilter(61, 37, rank=8)
        fresh.load_state_dict(state, assign=way == "assign")
    assert torch.equal(fresh.score_all(torch.arange(61)), model.score_all(torch.arange(61)))
    again = GraphFilter(61, 37, rank=8)
    again.load_state_dict(fresh.state_dict())
    assert torch.equal(again.score_all(torch.arange(61)), model.score_all(torch.arange(61)))


def test_states_that_do_not_fit_are_errors() -> None:
    known, _ = interactions(61, 37)
    state = fitted(known, 37, rank=8).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch for history_offsets"):
        GraphFilter(60, 37, rank=8).load_state_dict(state)
    with pytest.raises(RuntimeError, match="Missing key"):
        GraphFilter(61, 37, rank=8).load_state_dict({"history_items": state["history_items"]})
    with pytest.raises(InputError, match="must be codes from 0 to 36"):
        GraphFilter(61, 37, rank=8).load_state_dict(state | {"history_items": state["history_items"] + 37})


def test_moves_to_another_dtype() -> None:
    known, _ = interactions(61, 37)
    model = fitted(known, 37, rank=8)
    single = model.score_all(torch.arange(61))
    torch.testing.assert_close(model.double().score_all(torch.arange(61)), single.double(), rtol=1e-4, atol=1e-5)


def test_before_the_fit_scores_are_zero() -> None:
    assert not GraphFilter(3, 4).score_all(torch.arange(3)).any()


def test_is_registered() -> None:
    entry = MODELS["graph_filter"]
    assert entry.function is GraphFilter
    assert {name: parameter.default for name, parameter in entry.parameters.items()} == {"rank": 256, "alpha": 0.3}
    with pytest.raises(InputError, match="rank must be at least 1"):
        GraphFilter(3, 4, rank=0)
