import copy

import torch

from rankwell.lists import take_lists
from rankwell.models import FeatureKNN
from rankwell.types import Features, Ragged

USERS, ITEMS = 3, 5
KNOWN = Ragged(torch.tensor([0, 2, 2, 4]), torch.tensor([0, 2, 1, 3]))  # item 4 is new
CATEGORIES = [[0, 1], [1], [], [0, 2, 3], [3]]
NAN = float("nan")
NUMBERS = torch.tensor([[1.0, 2.0], [3.0, NAN], [2.0, 5.0], [2.0, 4.0], [9.0, 1.0]])
FEATURES = Features(
    NUMBERS,
    Ragged(torch.tensor([0, 2, 3, 3, 6, 7]), torch.tensor([one for own in CATEGORIES for one in own])),
    4,
)


def fitted(features: Features | None = FEATURES) -> FeatureKNN:
    model = FeatureKNN(USERS, ITEMS, item_features=features)
    model.initialise(KNOWN, seed=0)
    return model


def likeness(first: int, second: int) -> float:
    """By hand: the cosine of sets, and the cosine of scaled numbers."""
    a, b = set(CATEGORIES[first]), set(CATEGORIES[second])
    shared = len(a & b) / (len(a) * len(b)) ** 0.5 if a and b else 0.0
    columns = []
    for column in NUMBERS[:4].T:
        there = column[~column.isnan()]
        deviation = (there - there.mean()).square().mean().sqrt()
        columns.append(((NUMBERS[:, len(columns)] - there.mean()) / deviation).nan_to_num(0.0))
    x, y = torch.stack(columns, 1)[[first, second]]
    return shared + float(torch.dot(x, y) / (x.norm() * y.norm()))


def test_by_hand():
    model = fitted()
    for user in range(USERS):
        known = take_lists(KNOWN, torch.tensor([user])).values.tolist()
        expected = [sum(likeness(i, j) for i in known) for j in range(ITEMS)]
        torch.testing.assert_close(model.score_all(torch.tensor([user]))[0], torch.tensor(expected).float())


def test_any_history_and_an_empty_one():
    model, out = fitted(), torch.full((2, ITEMS), NAN)
    scores = model.score_history(Ragged(torch.tensor([0, 0, 1]), torch.tensor([4])), out)
    assert scores.data_ptr() == out.data_ptr() and out[0].tolist() == [0.0] * ITEMS
    assert int(out[1].argmax()) == 4 and out[1, 3] > 0
    assert model.score_history(Ragged(torch.tensor([0]), torch.zeros(0, dtype=torch.int64))).shape == (0, ITEMS)


def test_categories_alone_on_several_threads(set_threads):
    set_threads(2)
    users = 200
    model = FeatureKNN(users, ITEMS, item_features=FEATURES._replace(numbers=torch.zeros(ITEMS, 0)))
    known = Ragged(torch.arange(users + 1) * 2, torch.tensor([0, 3]).repeat(users))
    scores = model.score_history(known)
    assert (scores == scores[:1]).all()
    torch.testing.assert_close(scores[0], torch.tensor([1 + 6**-0.5, 2**-0.5, 0.0, 1 + 6**-0.5, 3**-0.5]))


def test_state_copies_and_no_features():
    model, users = fitted(), torch.arange(USERS)
    fresh = FeatureKNN(USERS, ITEMS)
    fresh.load_state_dict(model.state_dict())
    for other in (fresh, copy.deepcopy(model)):
        assert other.score_all(users).equal(model.score_all(users))
    assert fitted(None).score_all(users).equal(torch.zeros(USERS, ITEMS))
    numbers_alone = fitted(Features(NUMBERS, Ragged(torch.zeros(6, dtype=torch.int64), KNOWN.values[:0]), 0))
    assert numbers_alone.score_all(users).abs().sum() > 0
