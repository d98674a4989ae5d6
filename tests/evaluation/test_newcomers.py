import pytest
import torch

from rankwell.errors import InputError
from rankwell.evaluation import Among, NewUsers, VectorRanker, evaluate, top_items
from rankwell.metrics import Measure
from rankwell.types import Ragged


class Given(torch.nn.Module):
    """Scores that are given."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self.scores, self.num_items = scores, scores.shape[1]

    def score_all(self, queries, out=None):
        return self.scores[queries] if out is None else out.copy_(self.scores[queries])

    def score_history(self, history, out=None):
        scores = torch.zeros(len(history.offsets) - 1, self.num_items)
        rows = torch.repeat_interleave(history.offsets.diff())
        scores[rows, history.values] = 1
        return scores if out is None else out.copy_(scores)


SCORES = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]])


def test_what_moves_with_a_ranker():
    from rankwell.tasks.interactions import _Fixed
    from rankwell.tasks.labels import _Ideal

    for made in (Among(Given(SCORES), torch.ones(4, dtype=torch.bool)), _Fixed(SCORES), _Ideal(SCORES)):
        tensors = list(made.to("meta").buffers())
        assert len(tensors) == 1 and tensors[0].is_meta and not made.state_dict()


def test_among_some_items_others_are_not_there():
    among = Among(Given(SCORES), torch.tensor([False, True, False, True]))
    assert top_items(among, torch.arange(2), 4, known=None).ids.tolist() == [[1, 3, -1, -1], [3, 1, -1, -1]]
    nothing = Ragged(torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    held_out = Ragged(torch.tensor([0, 1, 2]), torch.tensor([1, 1]))
    found = evaluate(among, [Measure.parse("mrr@4")], known=nothing, held_out=held_out)
    assert found.values["mrr@4"].tolist() == [1.0, 0.5]
    # Without a cut-off, too: item 1 is before item 3 for the first user, behind it for the second, and no other competes.
    assert evaluate(among, [Measure.parse("auc")], known=nothing, held_out=held_out).values["auc"].tolist() == [
        1.0,
        0.0,
    ]
    assert Given(SCORES).scores.isfinite().all()  # the model's own scores are left alone
    for wrong in (torch.tensor([True, False]), torch.tensor([0, 1, 0, 1])):
        with pytest.raises(InputError, match=r"items must be booleans \[4\], one an item"):
            Among(Given(SCORES), wrong)


def test_new_users_are_asked_by_number():
    asked = NewUsers(Given(SCORES), Ragged(torch.tensor([0, 1, 3]), torch.tensor([2, 0, 1])))
    assert asked.score_all(torch.tensor([1, 0])).tolist() == [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]


def test_vectors_are_ranked_by_inner_products():
    ranker = VectorRanker(torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [3.0, 0.0], [0.0, 5.0]]))
    assert ranker.num_items == 3
    assert ranker.score_all(torch.tensor([0, 1])).tolist() == [[3.0, 3.0, 10.0], [1.0, 0.0, 5.0]]
    with pytest.raises(InputError, match="vectors of users and items must be as long"):
        VectorRanker(torch.ones(1, 2), torch.ones(1, 3))
