import math

import pytest
import torch
from torch import Tensor

from rankwell.errors import ConfigError, InputError
from rankwell.evaluation import evaluate, full
from rankwell.metrics import Measure
from rankwell.models import GraphFilter, Popularity
from rankwell.types import Ragged


class Fixed:
    """A model whose scores are given."""

    def __init__(self, scores: Tensor) -> None:
        self.scores, self.num_items = scores, scores.shape[1]

    def score_all(self, queries: Tensor, out: Tensor | None = None) -> Tensor:
        rows = self.scores[queries]
        return rows if out is None else out.copy_(rows)


def lists_of(matrix: Tensor) -> Ragged:
    return Ragged(torch.cat([torch.zeros(1), matrix.sum(1).cumsum(0)]).long(), matrix.nonzero()[:, 1])


def split(users: int, items: int) -> tuple[Ragged, Ragged]:
    """Known and held-out items without overlap; every fifth user has nothing held out."""
    draw = torch.rand(users, items, generator=torch.Generator().manual_seed(3))
    held_out = (draw > 0.2) & (draw < 0.3)
    held_out[::5] = False
    return lists_of(draw < 0.2), lists_of(held_out)


def own(lists: Ragged, user: int) -> list[int]:
    return lists.values[lists.offsets[user] : lists.offsets[user + 1]].tolist()


def by_hand(scores: Tensor, user: int, known: Ragged, held_out: Ragged, k: int) -> dict[str, float]:
    """The measures by loops over Python lists."""
    seen, relevant = set(own(known, user)), set(own(held_out, user))
    row = scores[user].tolist()
    ranking = sorted((i for i in range(len(row)) if i not in seen), key=lambda i: (-row[i], i))
    hits = [int(item in relevant) for item in ranking]
    discounts = [1 / math.log2(place + 2) for place in range(len(row))]
    gained = sum(hit * discount for hit, discount in zip(hits[:k], discounts, strict=False))
    pairs = [(row[a] > row[b]) + (row[a] == row[b]) / 2 for a in relevant for b in ranking if b not in relevant]
    whole = sum(hit * discount for hit, discount in zip(hits, discounts, strict=False))
    return {
        f"recall@{k}": sum(hits[:k]) / len(relevant),
        f"precision@{k}": sum(hits[:k]) / k,
        f"hit_rate@{k}": float(any(hits[:k])),
        f"mrr@{k}": next((1 / (place + 1) for place, hit in enumerate(hits[:k]) if hit), 0.0),
        f"ndcg@{k}": gained / sum(discounts[: min(k, len(relevant))]),
        "auc": sum(pairs) / len(pairs),
        "ndcg": whole / sum(discounts[: len(relevant)]),
    }


@pytest.mark.parametrize(("users", "items", "k"), [(32, 64, 10), (23, 201, 7), (11, 30, 30)])
def test_equals_a_plain_loop(users: int, items: int, k: int) -> None:
    known, held_out = split(users, items)
    scores = torch.randn(users, items, generator=torch.Generator().manual_seed(0))
    names = list(by_hand(scores, 1, known, held_out, k))
    got = evaluate(Fixed(scores), [Measure.parse(name) for name in names], known=known, held_out=held_out, block=8)
    assert got.users.tolist() == [user for user in range(users) if own(held_out, user)]
    assert got.without_held_out == users - len(got.users)
    assert list(got.values) == names
    for place, user in enumerate(got.users.tolist()):
        right = by_hand(scores, user, known, held_out, k)
        assert {name: values[place].item() for name, values in got.values.items()} == pytest.approx(right, abs=1e-6)
    for name, mean in got.means().items():
        assert mean == pytest.approx(got.values[name].double().mean().item())


def test_blocks_parts_and_cut_offs_together_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known, held_out = split(40, 150)
    scores = torch.randn(40, 150, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    measures = [Measure.parse(name) for name in ("ndcg@5", "recall@20", "auc", "ap", "ndcg@100")]
    whole = evaluate(Fixed(scores), measures, known=known, held_out=held_out)
    monkeypatch.setattr(full, "LIST_VALUES", 300)
    parts = evaluate(Fixed(scores), measures, known=known, held_out=held_out, block=3)
    for measure in measures:
        alone = evaluate(Fixed(scores), [measure], known=known, held_out=held_out, block=7)
        assert torch.equal(whole.values[str(measure)], parts.values[str(measure)])
        assert torch.equal(whole.values[str(measure)], alone.values[str(measure)])


def test_ties_at_a_cut_off_are_in_the_order_of_codes() -> None:
    nothing = Ragged(torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int64))
    for item, right in ((2, 1.0), (3, 0.0)):
        held_out = Ragged(torch.tensor([0, 1]), torch.tensor([item]))
        got = evaluate(Fixed(torch.zeros(1, 9)), [Measure.parse("recall@3")], known=nothing, held_out=held_out)
        assert got.means() == {"recall@3": right}


def test_a_held_out_item_that_is_known_counts_as_missed() -> None:
    known, held_out = (Ragged(torch.tensor([0, n]), torch.arange(n)) for n in (1, 2))
    got = evaluate(Fixed(torch.zeros(1, 5)), [Measure.parse("recall@3")], known=known, held_out=held_out)
    assert got.means() == {"recall@3": 0.5}


def test_users_choose_and_order() -> None:
    known, held_out = split(40, 150)
    scores = torch.randn(40, 150, generator=torch.Generator().manual_seed(0))
    measure = Measure.parse("recall@20")
    everybody = evaluate(Fixed(scores), [measure], known=known, held_out=held_out)
    some = evaluate(Fixed(scores), [measure], known=known, held_out=held_out, users=torch.tensor([7, 0, 3]))
    assert some.users.tolist() == [7, 3]
    assert some.without_held_out == 1
    place = {user: place for place, user in enumerate(everybody.users.tolist())}
    assert some.values["recall@20"].tolist() == [everybody.values["recall@20"][place[user]].item() for user in (7, 3)]


@pytest.mark.parametrize("users", [16, 21])
def test_chequerboard_is_solved_by_a_personal_model_only(users: int) -> None:
    items = 12
    board = (torch.arange(users)[:, None] + torch.arange(items)) % 2 == 0
    held_out = torch.zeros_like(board)
    for user in range(users):
        liked = board[user].nonzero()[:, 0]
        held_out[user, liked[user // 2 % len(liked)]] = True
    known = lists_of(board & ~held_out)
    found = {}
    for model in (GraphFilter(users, items), Popularity(users, items)):
        model.initialise(known, seed=0)
        got = evaluate(model, [Measure.parse("recall@1")], known=known, held_out=lists_of(held_out))
        found[type(model)] = got.means()["recall@1"]
    assert found[GraphFilter] == 1
    assert found[Popularity] < 1


def test_inputs_are_checked() -> None:
    known, held_out = split(10, 20)
    model, measure = Fixed(torch.zeros(10, 20)), Measure.parse("recall@5")
    with pytest.raises(InputError, match="measures must be at least one, each once"):
        evaluate(model, [], known=known, held_out=held_out)
    with pytest.raises(InputError, match="each once"):
        evaluate(model, [measure, measure], known=known, held_out=held_out)
    with pytest.raises(InputError, match="at least one user must have held-out items: none of 2 has"):
        evaluate(model, [measure], known=known, held_out=held_out, users=torch.tensor([0, 5]))
    with pytest.raises(InputError, match="must be codes from 0 to 18"):
        evaluate(Fixed(torch.zeros(10, 19)), [measure], known=known, held_out=held_out)
    nan = Fixed(torch.full((10, 20), torch.nan))
    for name in ("recall@5", "auc"):
        with pytest.raises(InputError, match="must not be NaN"):
            evaluate(nan, [Measure.parse(name)], known=known, held_out=held_out)


def test_users_who_do_not_count_for_a_measure_are_in_no_mean() -> None:
    """User 0 counts; user 1 has no irrelevant candidate, so no auc; all that user 2 would be given is known."""
    known = lists_of(torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0]]))
    held_out = lists_of(torch.tensor([[1, 0, 0], [0, 1, 1], [0, 1, 0]]))
    scores = torch.tensor([[1.0, 3.0, 0.0]] * 3)
    measures = [Measure.parse(name) for name in ("auc", "ap", "auc(empty=zero)", "ap(empty=one)", "recall@1")]
    got = evaluate(Fixed(scores), measures, known=known, held_out=held_out)
    nan = pytest.approx(math.nan, nan_ok=True)
    assert got.values["auc"].tolist() == [0.5, nan, nan]
    assert got.values["ap"].tolist() == [0.5, 1, nan]
    assert got.values["auc(empty=zero)"].tolist() == [0.5, 0, 0]
    assert got.values["ap(empty=one)"].tolist() == [0.5, 1, 1]
    assert got.values["recall@1"].tolist() == [0, 0.5, 0]
    right = {"auc": 0.5, "ap": 0.75, "auc(empty=zero)": 0.5 / 3, "ap(empty=one)": 2.5 / 3, "recall@1": 0.5 / 3}
    assert got.means() == pytest.approx(right)


def test_held_out_items_have_no_grades() -> None:
    known, held_out = split(10, 20)
    with pytest.raises(ConfigError, match=r"^recall\(rel=4\)@5: held-out items .* rel must be at most 1, got 4\.$"):
        evaluate(Fixed(torch.zeros(10, 20)), [Measure.parse("recall(rel=4)@5")], known=known, held_out=held_out)
