import math
from collections.abc import Callable
from itertools import permutations

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


def test_blocks_parts_and_cut_offs_together_change_nothing(
    monkeypatch: pytest.MonkeyPatch, set_threads: Callable[[int], None]
) -> None:
    set_threads(1)  # several divide a tensor by its size, and the last bits then depend on the block's
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


CUT = ("recall@4", "precision@2", "hit_rate@4", "mrr@4", "ndcg@4", "ap@4", "err@3", "f1@4")


def test_ties_under_a_cut_off_are_the_mean_over_all_orders() -> None:
    """Against every order of six items: a tie within the list, and one of three items that the cut divides."""
    scores, held_out = torch.tensor([[2.0, 1.0, 3.0, 1.0, 3.0, 1.0]]), torch.tensor([[0, 1, 1, 0, 0, 1]])
    nothing = lists_of(torch.zeros(1, 6))
    measures = [Measure.parse(name) for name in CUT]
    got = evaluate(Fixed(scores), measures, known=nothing, held_out=lists_of(held_out), block=1)
    orders = [order for order in permutations(range(6)) if scores[0, list(order)].diff().max() <= 0]
    assert len(orders) == 2 * 6
    for measure in measures:
        places = torch.arange(6.0, 0, -1).expand(len(orders), 6)
        values = measure(places, held_out[0][torch.tensor(orders)].float(), reduction="none")
        assert got.values[str(measure)].item() == pytest.approx(values.mean().item(), abs=1e-6)


def test_ties_that_a_measure_orders_stand_by_code() -> None:
    nothing = Ragged(torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int64))
    for item, right in ((2, 1.0), (3, 0.0)):
        held_out = Ragged(torch.tensor([0, 1]), torch.tensor([item]))
        measures = [Measure.parse("recall(ties=order)@3"), Measure.parse("recall@3")]
        got = evaluate(Fixed(torch.zeros(1, 9)), measures, known=nothing, held_out=held_out)
        assert got.means() == pytest.approx({"recall(ties=order)@3": right, "recall@3": 1 / 3})


@pytest.mark.parametrize("decimals", [0, 1])
def test_the_order_of_the_catalogue_changes_nothing(decimals: int) -> None:
    known, held_out = (torch.zeros(40, 150) for _ in range(2))
    for matrix, lists in zip((known, held_out), split(40, 150), strict=True):
        matrix[torch.repeat_interleave(lists.offsets.diff()), lists.values] = 1
    scores = torch.randn(40, 150, generator=torch.Generator().manual_seed(0)).round(decimals=decimals)
    scores[:, 100:] = -torch.inf  # nor does what is not to be recommended
    scores[7, 3:] = -torch.inf
    measures = [Measure.parse(name) for name in (*CUT, "ndcg@20", "ndcg@120")]
    found = []
    for order in (
        torch.arange(150),
        torch.arange(150).flip(0),
        torch.randperm(150, generator=torch.Generator().manual_seed(1)),
    ):
        parts = (scores[:, order], lists_of(known[:, order]), lists_of(held_out[:, order]))
        got = evaluate(Fixed(parts[0]), measures, known=parts[1], held_out=parts[2], block=6)
        found.append(torch.stack(list(got.values.values())))
    assert (found[0] > 0).any(1).all()
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-6, rtol=0, equal_nan=True)


def test_a_constant_scorer_has_the_expectation() -> None:
    """Of n items k are shown: a relevant one stands there with the chance k / n, whatever the order of the file."""
    held_out = torch.zeros(3, 300)
    held_out[0, :2], held_out[1, 10:15], held_out[2, -1] = 1, 1, 1
    measures = [Measure.parse(name) for name in ("recall@20", "ndcg@20")]
    got = evaluate(
        Fixed(torch.ones(3, 300)), measures, known=lists_of(torch.zeros(3, 300)), held_out=lists_of(held_out)
    )
    discounts = [1 / math.log2(place + 2) for place in range(20)]
    assert got.values["recall@20"].tolist() == pytest.approx([20 / 300] * 3)
    right = [number / 300 * sum(discounts) / sum(discounts[:number]) for number in (2, 5, 1)]
    assert got.values["ndcg@20"].tolist() == pytest.approx(right)


def test_a_held_out_item_that_is_known_counts_as_missed() -> None:
    known, held_out = (Ragged(torch.tensor([0, n]), torch.arange(n)) for n in (1, 2))
    scores = torch.arange(5.0, 0, -1)[None]
    got = evaluate(Fixed(scores), [Measure.parse("recall@3")], known=known, held_out=held_out)
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


def test_what_is_not_ranked_is_missed_without_a_cut_off() -> None:
    """Items 2 and 3 alone are ranked; of the three relevant ones only item 3 is, and item 4 is known."""
    scores = torch.tensor([[-torch.inf, -torch.inf, 2.0, 1.0, 5.0, -torch.inf]])
    known, held_out = lists_of(torch.tensor([[0, 0, 0, 0, 1, 0]])), lists_of(torch.tensor([[1, 0, 0, 1, 0, 1]]))
    measures = [Measure.parse(name) for name in ("ap", "mrr", "ndcg", "recall", "bpref", "auc")]
    got = evaluate(Fixed(scores), measures, known=known, held_out=held_out).means()
    ideal = sum(1 / math.log2(1 + place) for place in (1, 2, 3))
    right = {"ap": 1 / 2 / 3, "mrr": 1 / 2, "ndcg": 1 / math.log2(3) / ideal, "recall": 1 / 3}
    # Of the two irrelevant ones, 1 and 2, one stands above item 3; among what is ranked it is above every relevant one.
    right |= {"bpref": (1 - 1 / 2) / 3, "auc": 0.0}
    assert got == pytest.approx(right)
