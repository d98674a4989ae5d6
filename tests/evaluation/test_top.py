import pytest
import torch
from torch import Tensor, nn

from rankwell.errors import InputError
from rankwell.evaluation import top, top_items
from rankwell.types import Ragged


class Fixed:
    """A model whose scores are given."""

    def __init__(self, scores: Tensor) -> None:
        self.scores, self.num_items = scores, scores.shape[1]

    def score_all(self, queries: Tensor, out: Tensor | None = None) -> Tensor:
        rows = self.scores[queries]
        return rows if out is None else out.copy_(rows)


def random_known(users: int, items: int, share: float = 0.2) -> Ragged:
    matrix = torch.rand(users, items, generator=torch.Generator().manual_seed(7)) < share
    return Ragged(torch.cat([torch.zeros(1), matrix.sum(1).cumsum(0)]).long(), matrix.nonzero()[:, 1])


def sorted_wholly(scores: Tensor, queries: Tensor, k: int, known: Ragged | None) -> tuple[Tensor, Tensor]:
    """The contract by one stable sort: higher scores first, then lower codes."""
    scores = scores.clone()
    if known is not None:
        for user in range(scores.shape[0]):
            scores[user, known.values[known.offsets[user] : known.offsets[user + 1]]] = -torch.inf
    scores = torch.cat([scores, scores.new_full((scores.shape[0], k), -torch.inf)], 1)[queries]
    values, ids = scores.sort(dim=1, descending=True, stable=True)
    return ids[:, :k].masked_fill(values[:, :k] == -torch.inf, -1), values[:, :k]


def made_scores(kind: str, users: int, items: int) -> Tensor:
    generator = torch.Generator().manual_seed(users + items)
    scores = torch.randn(users, items, generator=generator)
    if kind == "few levels":
        return scores.round()
    if kind == "one level":
        return torch.zeros(users, items)
    if kind == "one ahead":
        return torch.zeros(users, items).scatter_(1, torch.randint(items, (users, 1), generator=generator), 1.0)
    if kind == "some minus infinity":
        return torch.where(scores > 0.5, scores, -torch.inf)
    if kind == "plus infinity":
        return torch.where(scores > 2, torch.inf, scores)
    return scores


KINDS = ["random", "few levels", "one level", "one ahead", "some minus infinity", "plus infinity"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("users", "items", "k"),
    [(64, 2048, 10), (37, 3001, 20), (5, 4096, 1), (9, 63, 20), (9, 64, 64), (3, 7, 7), (4, 6, 9)],
)
def test_equals_a_stable_sort(kind: str, masked: bool, users: int, items: int, k: int) -> None:
    scores = made_scores(kind, users, items)
    known = random_known(users, items) if masked else None
    queries = torch.arange(users).flip(0)
    ids, values = sorted_wholly(scores, queries, k, known)
    got = top_items(Fixed(scores), queries, k, known=known, block=16)
    assert torch.equal(got.ids, ids)
    assert torch.equal(got.scores, values)


@pytest.mark.parametrize("k", [1, 20, 999, 1000])
@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_blocks_change_nothing(k: int, block: int) -> None:
    scores = made_scores("few levels", 33, 1000)
    known = random_known(33, 1000)
    queries = torch.tensor([32, 0, 5, 5, *range(33)])
    ids, values = sorted_wholly(scores, queries, k, known)
    got = top_items(Fixed(scores), queries, k, known=known, block=block)
    assert torch.equal(got.ids, ids)
    assert torch.equal(got.scores, values)


def test_many_blocks_and_ties_settled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "SETTLE_VALUES", 1)
    monkeypatch.setattr(top, "PLANNED_BLOCKS", 2)
    scores = made_scores("few levels", 33, 1500)
    known = random_known(33, 1500)
    ids, _ = sorted_wholly(scores, torch.arange(33), 10, known)
    assert torch.equal(top_items(Fixed(scores), torch.arange(33), 10, known=known, block=4).ids, ids)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_are_kept(dtype: torch.dtype) -> None:
    scores = made_scores("random", 8, 2000).to(dtype)
    got = top_items(Fixed(scores), torch.arange(8), 10, known=None)
    ids, values = sorted_wholly(scores, torch.arange(8), 10, None)
    assert got.scores.dtype == dtype
    assert got.ids.dtype == torch.int64
    assert torch.equal(got.ids, ids)
    assert torch.equal(got.scores, values)


@pytest.mark.parametrize("items", [10, 4000])
def test_nan_is_an_error_unless_masked(items: int) -> None:
    scores = made_scores("random", 4, items)
    scores[2, 3] = torch.nan
    with pytest.raises(InputError, match="must not be NaN"):
        top_items(Fixed(scores), torch.arange(4), 3, known=None)
    known = Ragged(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([3]))
    assert (top_items(Fixed(scores), torch.arange(4), 3, known=known).ids[2] != 3).all()


def test_a_model_that_ignores_out_is_copied() -> None:
    class Careless(Fixed):
        def score_all(self, queries: Tensor, out: Tensor | None = None) -> Tensor:  # noqa: ARG002
            return super().score_all(queries)

    scores = made_scores("random", 5, 100)
    careless, careful = (top_items(model(scores), torch.arange(5), 4, known=None) for model in (Careless, Fixed))
    assert torch.equal(careless.ids, careful.ids)


def test_models_are_put_in_evaluation_mode_and_back() -> None:
    class Watched(nn.Module):
        num_items = 3

        def score_all(self, queries: Tensor, out: Tensor | None = None) -> Tensor:  # noqa: ARG002
            assert not self.training
            return torch.zeros(queries.numel(), 3)

    model = Watched()
    top_items(model, torch.arange(2), 1, known=None)
    assert model.training


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    top_items(Fixed(torch.zeros(5, 3)), torch.arange(5), 1, known=None, block=2, progress=lambda *a: told.append(a))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_no_queries_give_no_lists() -> None:
    got = top_items(Fixed(torch.zeros(5, 3)), torch.arange(0), 2, known=None)
    assert got.ids.shape == got.scores.shape == (0, 2)


def test_inputs_are_checked() -> None:
    model, known = Fixed(torch.zeros(5, 3)), random_known(4, 3)
    with pytest.raises(InputError, match="k must be at least 1"):
        top_items(model, torch.arange(5), 0, known=None)
    with pytest.raises(InputError, match="block must be at least 1"):
        top_items(model, torch.arange(5), 1, known=None, block=0)
    with pytest.raises(InputError, match="have a list in known, which has 4: got 0 to 4"):
        top_items(model, torch.arange(5), 1, known=known)
    with pytest.raises(InputError, match="codes from 0 on: got -1 to 2"):
        top_items(model, torch.tensor([-1, 2]), 1, known=None)
    with pytest.raises(InputError, match="queries must be integer codes"):
        top_items(model, torch.rand(5), 1, known=None)
    model.num_items = 4
    with pytest.raises(InputError, match=r"\[queries, num_items = 4\]"):
        top_items(model, torch.arange(5), 1, known=None)
