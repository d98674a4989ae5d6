import copy

import pytest
import torch
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.losses import bpr_loss, sampled_softmax_loss
from rankwell.models import MODELS, MatrixFactorisation, TwoTower
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Features, Ragged

USERS, ITEMS, DIM = 4, 6, 3
KNOWN = Ragged(torch.tensor([0, 2, 3, 4, 6]), torch.tensor([0, 1, 2, 3, 0, 4]))  # item 5 does not occur
CATEGORIES = [[0], [0, 2], [], [1], [2], [1, 2]]
NAN = float("nan")
NUMBERS = torch.tensor([[1.0, 5.0], [3.0, 5.0], [NAN, 5.0], [4.0, 5.0], [0.0, 5.0], [1000.0, 9.0]])


def ragged(lists: list[list[int]]) -> Ragged:
    return Ragged(
        torch.tensor([0, *map(len, lists)]).cumsum(0), torch.tensor([one for own in lists for one in own]).long()
    )


FEATURES = Features(NUMBERS, ragged(CATEGORIES), 3)


def built(**own: object) -> TwoTower:
    given = {"dim": DIM, "init": "normal", "init_std": 1.0, "item_features": FEATURES, **own}
    model = TwoTower(USERS, ITEMS, **given)  # type: ignore[arg-type]
    model.initialise(KNOWN, seed=4)
    with torch.no_grad():
        for weights in (*model.users.layers.parameters(), *model.items.layers.parameters()):
            weights.normal_(generator=torch.Generator().manual_seed(weights.numel()))
    return model


def item_by_hand(model: TwoTower, item: int | None, categories: list[int], numbers: list[float]) -> Tensor:
    tower = model.items
    seen = NUMBERS[:5, 0][[0, 1, 3, 4]]  # of items that occur, but for the missing one
    deviation = float((seen - seen.mean()).square().mean().sqrt())
    first = 0.0 if numbers[0] != numbers[0] else (numbers[0] - float(seen.mean())) / deviation
    scaled = torch.tensor([first, numbers[1] - 5.0])  # the second is constant in training: its scale is 1
    parts = [
        torch.zeros(DIM) if item in (None, 5) else tower.ids[item],  # item 5 does not occur: it has no id
        tower.categories[categories].mean(0) if categories else torch.zeros(DIM),
        scaled @ tower.projection,
    ]
    if tower.fusion == "concat":
        x = torch.cat(parts)
    elif tower.fusion == "add":
        x = parts[0] + parts[1] + parts[2]
    else:
        x = (1 + parts[0]) * (1 + parts[1]) * (1 + parts[2]) - 1
    for layer in tower.layers[:-1]:
        x = (layer.weight @ x + layer.bias).clamp(min=0)
    x = tower.layers[-1].weight @ x
    return x / x.norm().clamp(min=1e-8) if model.similarity == "cosine" else x


@pytest.mark.parametrize("fusion", ["concat", "add", "multiply"])
@pytest.mark.parametrize("widths", [(), (5,), (DIM, 4)])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_items_by_hand(fusion, widths, similarity):
    model = built(fusion=fusion, widths=widths, similarity=similarity)
    expected = torch.stack([item_by_hand(model, i, CATEGORIES[i], NUMBERS[i].tolist()) for i in range(ITEMS)]).detach()
    torch.testing.assert_close(model.item_vectors(), expected)
    new = Features(torch.tensor([[2.0, 5.5], [NAN, NAN]]), ragged([[1], []]), 3)
    users = torch.tensor([3, 0])
    vector = item_by_hand(model, None, [1], [2.0, 5.5]).detach()
    torch.testing.assert_close(
        model.score_new_items(users, new)[:, 0], model.query_vectors(users) @ vector, rtol=1e-5, atol=1e-4
    )
    torch.testing.assert_close(model.score_all(users), model.query_vectors(users) @ expected.T, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_training_scores_are_the_scores_and_gradients_sparse(shared, several):
    model = built(widths=(4,))
    users, positives = torch.tensor([2, 0, 2]), torch.tensor([[3, 4], [0, 1], [5, 3]])
    positives = positives if several else positives[:, 0]
    negatives = torch.tensor([0, 5, 4, 4]) if shared else torch.tensor([[0, 5], [5, 2], [1, 0]])
    pos, neg = model.contrast_scores(users, positives, negatives)
    whole = model.score_all(users)
    torch.testing.assert_close(pos.reshape(3, -1), whole.gather(1, positives.reshape(3, -1)))
    torch.testing.assert_close(neg, whole.gather(1, negatives.expand(3, -1)))
    torch.testing.assert_close(model.score(users, negatives), neg)
    (pos.sum() + neg.exp().sum()).backward()
    for name, weights in model.named_parameters():
        if weights.numel():
            assert weights.grad.is_sparse == (name in TwoTower.row_parameters), name


def test_without_features_and_widths_it_starts_as_matrix_factorisation():
    model = TwoTower(USERS, ITEMS, dim=DIM)
    plain = MatrixFactorisation(USERS, ITEMS, dim=DIM)
    for each in (model, plain):
        each.initialise(KNOWN, seed=1)
    torch.testing.assert_close(model.score_all(torch.arange(USERS)), plain.score_all(torch.arange(USERS)))


@pytest.mark.parametrize("fusion", ["concat", "add"])
def test_both_start_as_the_sum_of_their_parts(fusion):
    model = TwoTower(USERS, ITEMS, dim=DIM, fusion=fusion, similarity="dot", item_features=FEATURES)
    model.initialise(KNOWN, seed=1)
    tower = model.items
    expected = tower.ids[0] + tower.categories[0] + ((NUMBERS[0] - tower.mean) / tower.scale) @ tower.projection
    torch.testing.assert_close(model.item_vectors(torch.tensor([0]))[0], expected.detach())


def test_dropped_ids_are_new_items():
    model = built(id_dropout=0.5)
    ids = torch.arange(ITEMS)
    generator = keyed.generator(3)
    kept = torch.rand(USERS + ITEMS, generator=keyed.generator(3)) >= 0.5  # of items alone: users have no features
    vectors = model.contrast_vectors(torch.arange(USERS), ids[:USERS], ids, generator=generator)
    whole, new = model.item_vectors(), model._compared(model.items.of_features(FEATURES))
    assert kept.any() and not kept.all()
    torch.testing.assert_close(vectors.negatives, torch.where(kept[USERS:, None], whole, new))
    torch.testing.assert_close(vectors.queries, model.query_vectors(torch.arange(USERS)))
    model.eval()
    torch.testing.assert_close(model.contrast_vectors(ids[:1], ids[:1], ids, generator=generator).negatives, whole)


def test_new_users_are_scored_by_features():
    of_users = Features(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), ragged([[]] * USERS), 0)
    model = built(user_features=of_users)
    tower = model.users
    new = ((10.0 - tower.mean) / tower.scale) @ tower.projection
    vector = tower.layers[-1].weight @ torch.cat([torch.zeros(DIM), new])
    scores = model.score_new_users(Features(torch.tensor([[10.0]]), ragged([[]]), 0))
    torch.testing.assert_close(scores[0], (model.item_vectors() @ (vector / vector.norm())).detach())


def test_a_model_built_without_features_takes_them_from_the_state():
    model = built(widths=(5,))
    fresh = TwoTower(USERS, ITEMS, dim=DIM, widths=(5,))
    fresh.load_state_dict(model.state_dict())
    users = torch.arange(USERS)
    assert fresh.score_all(users).equal(model.score_all(users))
    assert copy.deepcopy(model).score_all(users).equal(model.score_all(users))
    state = model.state_dict()
    with pytest.raises(InputError, match="codes from 0 to 2"):
        TwoTower(USERS, ITEMS, dim=DIM, widths=(5,)).load_state_dict({**state, "items.codes": state["items.codes"] + 1})
    other = Features(NUMBERS[:, :1], FEATURES.categories, 3)
    with pytest.raises(RuntimeError, match="size mismatch"):
        built(widths=(5,), item_features=other).load_state_dict(state)
    with pytest.raises(RuntimeError, match="size mismatch"):
        TwoTower(USERS, ITEMS + 1, dim=DIM, widths=(5,)).load_state_dict(state)


def test_kept_vectors_follow_the_weights():
    model = built()
    first = model.item_vectors()
    assert model.item_vectors() is first
    with torch.no_grad():
        model.items.projection.mul_(2)
    second = model.item_vectors()
    assert not second.equal(first)
    model.load_state_dict(built().state_dict())
    assert model.item_vectors().equal(first)
    optimiser = torch.optim.AdamW([model.items.projection], lr=0.1, fused=True)  # whose steps torch does not count
    users = torch.arange(USERS)
    bpr_loss(*model.contrast_scores(users, users, users)).backward()
    optimiser.step()
    assert not model.item_vectors().equal(first)


def test_an_interrupted_training_goes_on(tmp_path):
    def trained(**how: object) -> TwoTower:
        model = built(widths=(4,), id_dropout=0.3)
        sampler = UniformSampler(KNOWN, ITEMS, seed=0, n=3, shared=False)
        users = torch.repeat_interleave(torch.arange(USERS), KNOWN.offsets.diff())
        settings = TrainingSettings(epochs=3, batch_size=3, learning_rate=0.05)
        fit(ContrastObjective(model, bpr_loss, sampler, seed=0), (users, KNOWN.values), settings, seed=0, **how)
        return model

    whole = trained()
    trained(stop_after=1, folder=tmp_path)
    parts = trained(folder=tmp_path)
    for name, value in whole.state_dict().items():
        assert value.allclose(parts.state_dict()[name], rtol=0, atol=0, equal_nan=True), name


@pytest.mark.parametrize("fusion", ["concat", "add", "multiply"])
def test_new_items_find_those_who_like_their_category(fusion):
    """Even users know items of category 0, odd ones of category 1; two new items have nothing but a category."""
    users, items = 12, 16
    lists = [[item for item in range(user % 2, items, 2) if item % 6 != user % 6] for user in range(users)]
    features = Features(torch.zeros(items, 0), ragged([[item % 2] for item in range(items)]), 2)
    known = ragged(lists)
    model = TwoTower(users, items, dim=4, fusion=fusion, item_features=features, id_dropout=0.5)
    model.initialise(known, seed=0)
    sampler = UniformSampler(known, items, seed=0, n=4, shared=False)

    def loss(pos: Tensor, neg: Tensor, **contract: Tensor | None) -> Tensor:
        return sampled_softmax_loss(pos, neg, temperature=0.3, **contract)

    pairs = torch.repeat_interleave(torch.arange(users), known.offsets.diff()), known.values
    fit(
        ContrastObjective(model, loss, sampler, seed=0),
        pairs,
        TrainingSettings(epochs=20, batch_size=16, learning_rate=0.05),
        seed=0,
    )
    new = Features(torch.zeros(2, 0), ragged([[0], [1]]), 2)
    scores = model.eval().score_new_items(torch.arange(users), new)
    assert scores.argmax(1).tolist() == [user % 2 for user in range(users)]


def test_bad_settings():
    for own, said in (
        ({"widths": (0,)}, "widths must be"),
        ({"id_dropout": 1.0}, "id_dropout must be"),
        ({"item_features": FEATURES._replace(numbers=NUMBERS[:4])}, r"numbers of features must be \[6, f\]"),
        ({"item_features": FEATURES._replace(num_categories=2)}, "codes from 0 to 1"),
    ):
        with pytest.raises(InputError, match=said):
            TwoTower(USERS, ITEMS, **own)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="Did you mean 'concat'"):
        TwoTower(2, 2, fusion="concatenate")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="features must have 2 numbers and 3 categories, as in training: got 1 and 3"):
        built().score_new_items(torch.tensor([0]), FEATURES._replace(numbers=NUMBERS[:, :1]))
    assert MODELS["two_tower"].function is TwoTower
    assert not {"user_features", "item_features"} & set(MODELS["two_tower"].parameters)


def test_rows_that_training_did_not_see_have_no_id_on_sides_with_features():
    model = built()
    with torch.no_grad():
        model.items.ids.normal_(0, 10, generator=torch.Generator().manual_seed(1))
    new = Features(NUMBERS[5:], ragged([CATEGORIES[5]]), 3)
    torch.testing.assert_close(model.item_vectors(torch.tensor([5])), model.encode_items(new))
    assert not model.item_vectors(torch.tensor([4])).allclose(model.encode_items(FEATURES)[4])
    # A side without features has nothing but ids: they stay.
    plain = TwoTower(USERS, ITEMS, dim=DIM, init="normal")
    plain.initialise(KNOWN, seed=0)
    assert plain.item_vectors(torch.tensor([5])).norm() > 0.9


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_new_users_are_told_by_their_items(similarity):
    model = built(similarity=similarity)
    history = Ragged(torch.tensor([0, 2, 2]), torch.tensor([1, 4]))
    items = model.item_vectors()
    mean = (items[1] + items[4]) / 2
    mean = mean / mean.norm() if similarity == "cosine" else mean
    torch.testing.assert_close(model.encode_users(history=history)[0], mean)
    torch.testing.assert_close(model.score_history(history)[0], items @ mean)
    assert model.encode_users(history=history)[1].tolist() == [0.0] * DIM
    with pytest.raises(InputError, match="items of known must be codes from 0 to 5: got 1 to 6"):
        model.encode_users(history=Ragged(torch.tensor([0, 2]), torch.tensor([1, 6])))
    for given in ({}, {"features": FEATURES, "history": history}):
        with pytest.raises(InputError, match="need features or a history, not both"):
            model.encode_users(**given)


def test_many_numbers_start_no_larger_than_few():
    """The start of what 400 standard numbers add up to has about the deviation of a category's vector."""
    numbers = torch.randn(ITEMS, 400, generator=torch.Generator().manual_seed(0))
    model = TwoTower(USERS, ITEMS, dim=64, item_features=FEATURES._replace(numbers=numbers), init_std=0.1)
    model.initialise(KNOWN, seed=0)
    assert 0.07 < float((numbers @ model.items.projection.detach()).std()) < 0.14
