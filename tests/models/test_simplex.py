import math

import pytest
import torch

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.lists import take_lists
from rankwell.losses import bpr_loss
from rankwell.models import MODELS, SimpleX
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Ragged

LISTS = [[0, 1, 4], [2], [], [3, 4, 5, 7]]
USERS, ITEMS, DIM = len(LISTS), 9, 3
KNOWN = Ragged(torch.tensor([0, *map(len, LISTS)]).cumsum(0), torch.tensor([item for own in LISTS for item in own]))
POOLINGS = ("mean", "user_attention", "self_attention")


def built(**own: object) -> SimpleX:
    model = SimpleX(USERS, ITEMS, **{"dim": DIM, "init": "normal", "init_std": 1.0, "own": 0.3, **own})  # type: ignore[arg-type]
    model.initialise(KNOWN, seed=4)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for weights in (model.mix, *((model.keys, model.bias) if model.pooling != "mean" else ())):
            weights.normal_(generator=generator)
    return model


def user_by_hand(model: SimpleX, own: list[float], history: list[int]) -> list[float]:
    """The paper's formula, a number at a time."""
    items, mix = model.items.tolist(), model.mix.tolist()
    if model.pooling == "mean":
        shares = [1.0] * len(history)
    else:
        asked = own if model.pooling == "user_attention" else model.asked.tolist()
        shares = []
        for item in history:
            key = [
                math.tanh(sum(w * x for w, x in zip(row, items[item], strict=True)) + bias)
                for row, bias in zip(model.keys.tolist(), model.bias.tolist(), strict=True)
            ]
            shares.append(math.exp(sum(a * b for a, b in zip(asked, key, strict=True))))
    total = sum(shares) or 1.0
    pool = [
        sum(share / total * items[item][d] for share, item in zip(shares, history, strict=True)) for d in range(DIM)
    ]
    mixed = [sum(w * x for w, x in zip(row, pool, strict=True)) for row in mix]
    vector = [model.own * mine + (1 - model.own) * other for mine, other in zip(own, mixed, strict=True)]
    length = math.hypot(*vector)
    return [x / length for x in vector] if length else vector


@pytest.mark.parametrize("pooling", POOLINGS)
def test_users_by_hand(pooling):
    model = built(pooling=pooling)
    expected = [user_by_hand(model, model.users[user].tolist(), LISTS[user]) for user in (3, 0, 2, 1)]
    vectors = model.query_vectors(torch.tensor([3, 0, 2, 1]))
    torch.testing.assert_close(vectors, torch.tensor(expected))
    items = model.items.detach() / model.items.detach().norm(dim=1, keepdim=True)
    torch.testing.assert_close(model.score_all(torch.tensor([3, 0, 2, 1])), vectors @ items.T)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_training_leaves_its_positives_out(pooling, shared, several):
    model = built(pooling=pooling, dropout=0.0)
    users, positives = torch.tensor([3, 0, 1, 3]), torch.tensor([[4, 3], [0, 1], [2, 2], [7, 7]])
    positives = positives if several else positives[:, 0]
    negatives = torch.tensor([8, 6]) if shared else torch.tensor([[8, 6], [2, 2], [0, 1], [0, 8]])
    left = [
        [item for item in LISTS[u] if item not in out]
        for u, out in zip(users.tolist(), positives.view(4, -1).tolist(), strict=True)
    ]
    vectors = torch.tensor(
        [user_by_hand(model, model.users[u].tolist(), own) for u, own in zip(users.tolist(), left, strict=True)]
    )
    whole = vectors @ model.item_vectors().T
    pos, neg = model.contrast_scores(users, positives, negatives)
    torch.testing.assert_close(pos.reshape(4, -1), whole.gather(1, positives.reshape(4, -1)))
    torch.testing.assert_close(neg, whole.gather(1, negatives.expand(4, -1)))
    keeping = built(pooling=pooling, dropout=0.0, leave_out=False)
    torch.testing.assert_close(
        keeping.contrast_scores(users, positives, negatives)[1],
        keeping.score_all(users).gather(1, negatives.expand(4, -1)),
    )
    torch.testing.assert_close(model.score(users, negatives), model.score_all(users).gather(1, negatives.expand(4, -1)))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_are_those_of_the_formula(pooling):
    model = built(pooling=pooling, dropout=0.0, leave_out=False)
    users, positives, negatives = torch.tensor([3, 0, 3]), torch.tensor([4, 0, 7]), torch.tensor([8, 4])
    pos, neg = model.contrast_scores(users, positives, negatives)
    (pos.square().sum() + neg.exp().sum()).backward()
    assert model.users.grad.is_sparse and model.items.grad.is_sparse
    assert set(model.items.grad._indices()[0].tolist()) <= {0, 1, 4, 3, 5, 7, 8}
    by_users, by_items = model.users.grad.to_dense(), model.items.grad.to_dense()
    step = 1e-3
    for table, grad, rows in ((model.users, by_users, (3, 0)), (model.items, by_items, (4, 1, 8))):
        for row in rows:
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    table[row, 1] += sign * step
                    pos, neg = model.contrast_scores(users, positives, negatives)
                    values.append(float(pos.square().sum() + neg.exp().sum()))
                    table[row, 1] -= sign * step
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(grad[row, 1]), abs=5e-3)


def test_new_users_have_no_vector_of_their_own():
    model = built(pooling="self_attention")
    scores = model.score_history(Ragged(torch.tensor([0, 2, 2]), torch.tensor([7, 1])))
    expected = torch.tensor(user_by_hand(model, [0.0] * DIM, [7, 1])) @ model.item_vectors().T
    torch.testing.assert_close(scores[0], expected)
    assert not scores[1].any()


def test_long_histories_keep_the_smallest_hashes():
    model = built(max_history=2)
    hashes = keyed.splitmix64(torch.arange(ITEMS)).tolist()
    kept = [sorted(own, key=hashes.__getitem__)[:2] for own in LISTS]
    expected = torch.tensor([user_by_hand(model, model.users[user].tolist(), kept[user]) for user in range(USERS)])
    torch.testing.assert_close(model.query_vectors(torch.arange(USERS)), expected)
    # Neither the order of a list nor its neighbours matter.
    turned = Ragged(torch.tensor([0, 4]), torch.tensor([7, 4, 3, 5]))
    whole = model.score_history(take_lists(model.history(), torch.arange(USERS)))
    torch.testing.assert_close(model.score_history(turned)[0], whole[3])


def test_dropout_is_keyed_and_of_training():
    model = built(dropout=0.5)
    users, items = torch.arange(USERS), torch.arange(ITEMS)

    def scores(seed: int | None) -> torch.Tensor:
        generator = None if seed is None else keyed.generator(seed)
        return model.contrast_scores(users, users, items, generator=generator)[1].detach()

    assert scores(1).equal(scores(1)) and not scores(1).equal(scores(2)) and not scores(1).equal(scores(None))
    model.eval()
    assert scores(1).equal(scores(None))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_interrupted_training_goes_on(pooling, tmp_path):
    def trained(**how: object) -> SimpleX:
        model = built(pooling=pooling)
        sampler = UniformSampler(KNOWN, ITEMS, seed=0, n=3, shared=False)
        users = torch.repeat_interleave(torch.arange(USERS), KNOWN.offsets.diff())
        settings = TrainingSettings(epochs=3, batch_size=3, learning_rate=0.05)
        fit(ContrastObjective(model, bpr_loss, sampler, seed=0), (users, KNOWN.values), settings, seed=0, **how)
        return model

    whole = trained()
    trained(stop_after=1, folder=tmp_path)
    parts = trained(folder=tmp_path)
    for name, value in whole.state_dict().items():
        assert value.equal(parts.state_dict()[name]), name


def test_bad_settings():
    for own, said in (
        ({"own": 1.5}, "own must be"),
        ({"dropout": 1.0}, "dropout"),
        ({"max_history": 0}, "max_history"),
    ):
        with pytest.raises(InputError, match=said):
            SimpleX(2, 2, **own)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="Did you mean 'mean'"):
        SimpleX(2, 2, pooling="means")  # type: ignore[arg-type]
    assert MODELS["simplex"].function is SimpleX
