import copy
import math

import pytest
import torch
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.losses import sampled_softmax_loss
from rankwell.models import MODELS, MatrixFactorisation, contrast_product, spectral_start
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Ragged

USERS, ITEMS, DIM = 6, 9, 5


def ragged(lists: list[list[int]]) -> Ragged:
    sizes = torch.tensor([0, *map(len, lists)])
    return Ragged(sizes.cumsum(0), torch.tensor([item for own in lists for item in own], dtype=torch.int64))


KNOWN = ragged([[0, 1], [2], [3, 4, 5], [0, 8], [6, 7], [1, 2]])


def built(users: int = USERS, items: int = ITEMS, **own: object) -> MatrixFactorisation:
    model = MatrixFactorisation(users, items, **{"dim": DIM, **own})  # type: ignore[arg-type]
    model.initialise(
        KNOWN if (users, items) == (USERS, ITEMS) else Ragged(torch.zeros(users + 1).long(), torch.zeros(0).long()),
        seed=4,
    )
    return model


def by_hand(model: MatrixFactorisation, user: int, item: int) -> float:
    p, q = model.users[user].tolist(), model.items[item].tolist()
    product = sum(a * b for a, b in zip(p, q, strict=True))
    return product / math.hypot(*p) / math.hypot(*q) if model.similarity == "cosine" else product


def table_by_hand(model: MatrixFactorisation, users: list[int], items: list[list[int]]) -> Tensor:
    return torch.tensor([[by_hand(model, user, item) for item in row] for user, row in zip(users, items, strict=True)])


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("several", [False, True])
def test_contrast_scores_equal_a_loop(similarity, shared, several):
    model = built(similarity=similarity)
    users = [2, 0, 2]
    positives = [[3, 4], [0, 1], [5, 3]] if several else [[3], [0], [5]]
    negatives = [[0, 8, 7, 7]] * 3 if shared else [[0, 8, 7, 7], [5, 2, 2, 3], [1, 0, 6, 8]]
    pos, neg = model.contrast_scores(
        torch.tensor(users),
        torch.tensor(positives) if several else torch.tensor(positives)[:, 0],
        torch.tensor(negatives[0] if shared else negatives),
    )
    assert pos.shape == ((3, 2) if several else (3,)) and neg.shape == (3, 4)
    torch.testing.assert_close(pos.reshape(3, -1), table_by_hand(model, users, positives))
    torch.testing.assert_close(neg, table_by_hand(model, users, negatives))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_are_sparse_and_equal_the_dense_ones(similarity, shared):
    model, dense = built(similarity=similarity), built(similarity=similarity)
    users, positives = torch.tensor([2, 0, 2]), torch.tensor([3, 0, 3])
    negatives = torch.tensor([0, 8, 7, 3]) if shared else torch.tensor([[0, 8], [3, 2], [1, 3]])
    pos, neg = model.contrast_scores(users, positives, negatives)
    (pos.square().sum() + neg.exp().sum()).backward()
    assert model.users.grad.is_sparse and model.items.grad.is_sparse
    assert set(model.items.grad._indices()[0].tolist()) == {*positives.tolist(), *negatives.flatten().tolist()}
    p, q = dense.users[users], dense.items
    if similarity == "cosine":
        p, q = p / p.norm(dim=1, keepdim=True), q / q.norm(dim=1, keepdim=True)
    all_scores = p @ q.T
    wanted = negatives.expand(3, -1)
    (all_scores.gather(1, positives[:, None]).square().sum() + all_scores.gather(1, wanted).exp().sum()).backward()
    torch.testing.assert_close(model.users.grad.to_dense(), dense.users.grad)
    torch.testing.assert_close(model.items.grad.to_dense(), dense.items.grad)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("numbers", "threads"), [(1, 1), (1 << 17, 2), (1 << 17, 3)])
def test_scores_of_a_step_are_those_of_its_vectors_one_by_one(
    similarity, dropout, shared, numbers, threads, monkeypatch, set_threads
):
    """Values and gradients of the functions that do it all at once, in chunks too; a vector of zeros among them."""
    monkeypatch.setattr(contrast_product, "CHUNK_NUMBERS", numbers)
    set_threads(threads)  # three rows: a block for each of three threads, but not of two
    own, wanted = (built(similarity=similarity, dropout=dropout).double() for _ in range(2))
    for model in (own, wanted):
        model.items.data[8] = 0
    users, positives = torch.tensor([2, 0, 2]), torch.tensor([3, 8, 3])
    negatives = torch.tensor([0, 8, 7, 3] if shared else [[0, 8, 7, 3], [5, 2, 2, 3], [1, 0, 8, 8]])
    pos, neg = own.contrast_scores(users, positives, negatives, generator=keyed.generator(1))
    looked = wanted.contrast_vectors(users, positives, negatives, generator=keyed.generator(1))
    of_negatives = looked.negatives.expand(3, 4, -1)
    expected = (looked.queries * looked.positives).sum(-1), (looked.queries[:, None] * of_negatives).sum(-1)
    for got, of in ((pos, expected[0]), (neg, expected[1])):
        torch.testing.assert_close(got, of, rtol=0, atol=1e-14)
    for a, b in ((pos, neg), expected):
        (a.square().sum() + (b + a[:, None]).exp().sum()).backward()
    for got, of in ((own.users, wanted.users), (own.items, wanted.items)):
        torch.testing.assert_close(got.grad.to_dense(), of.grad.to_dense(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_all_ways_to_score_agree(similarity):
    model = built(similarity=similarity)
    users = torch.tensor([5, 1, 1])
    whole = model.score_all(users)
    torch.testing.assert_close(whole, table_by_hand(model, users.tolist(), [list(range(ITEMS))] * 3))
    torch.testing.assert_close(model.query_vectors(users) @ model.item_vectors().T, whole)
    assert model.item_vectors(torch.tensor([4, 0])).equal(model.item_vectors()[[4, 0]])
    chosen = torch.tensor([[3, 0], [8, 8], [1, 2]])
    torch.testing.assert_close(model.score(users, chosen), whole.gather(1, chosen))
    torch.testing.assert_close(model.score(users, torch.tensor([7, 2])), whole[:, [7, 2]])
    buffer = torch.zeros(3, ITEMS + 4)
    model.score_all(users, out=buffer[:, :ITEMS])
    torch.testing.assert_close(buffer[:, :ITEMS], whole)
    assert not buffer[:, ITEMS:].any() and not whole.requires_grad


def scores(model: MatrixFactorisation, generator: torch.Generator | None) -> Tensor:
    users = torch.arange(model.num_users)
    pos, neg = model.contrast_scores(users, users % model.num_items, torch.arange(model.num_items), generator=generator)
    return torch.cat([pos[:, None], neg], 1).detach()


def test_dropout_needs_training_and_a_generator():
    plain, dropping = built(dropout=0.0), built(dropout=0.4)
    expected = scores(plain, None)
    assert scores(dropping, None).equal(expected)
    assert not scores(dropping, keyed.generator(1)).equal(expected)
    assert scores(plain, keyed.generator(1)).equal(expected)
    dropping.eval()
    assert scores(dropping, keyed.generator(1)).equal(expected)


def test_dropout_is_keyed():
    model = built(dropout=0.4)
    assert scores(model, keyed.generator(1)).equal(scores(model, keyed.generator(1)))
    assert not scores(model, keyed.generator(1)).equal(scores(model, keyed.generator(2)))


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.75])
def test_dropout_keeps_the_expectation(dropout):
    """With items e_1 … e_d and users of ones, the scores are the mask itself."""
    rows, dim = 4000, 8
    model = MatrixFactorisation(rows, dim, dim=dim, similarity="dot", dropout=dropout)
    with torch.no_grad():
        model.users.fill_(1)
        model.items.copy_(torch.eye(dim))
    users = torch.arange(rows)
    _, mask = model.contrast_scores(users, users % dim, torch.arange(dim), generator=keyed.generator(0))
    values = mask.detach().unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / (1 - dropout)]))
    kept = (mask.detach() > 0).double()
    deviation = math.sqrt(dropout * (1 - dropout))
    assert abs(float(kept.mean()) - (1 - dropout)) < 5 * deviation / math.sqrt(kept.numel())
    assert bool(((kept.mean(0) - (1 - dropout)).abs() < 5 * deviation / math.sqrt(rows)).all())
    # Neighbours are independent: the two draws agree as often as two coins.
    agree = float((kept[:, 1:] == kept[:, :-1]).double().mean())
    assert abs(agree - (1 - 2 * dropout * (1 - dropout))) < 5 * 0.5 / math.sqrt(rows * (dim - 1))


def test_normal_start():
    model = built(200, 300, dim=20, init="normal", init_std=0.3)
    for values in (model.users.detach(), model.items.detach()):
        n = values.numel()
        assert abs(float(values.std()) / 0.3 - 1) < 5 / math.sqrt(2 * n)
        assert abs(float(values.mean())) < 5 * 0.3 / math.sqrt(n)
    assert not model.users[:200].equal(model.items[:200])


def test_xavier_start():
    model = built(200, 300, dim=20, init="xavier")
    for values, rows in ((model.users.detach(), 200), (model.items.detach(), 300)):
        bound = math.sqrt(6 / (rows + 20))
        assert 0.99 * bound < float(values.abs().max()) <= bound
        assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_spectral_start(similarity):
    model = built(init="spectral", similarity=similarity)
    users, items = spectral_start(KNOWN, ITEMS, DIM, 4, similarity=similarity)
    assert model.users.equal(users) and model.items.equal(items)


@pytest.mark.parametrize("init", ["normal", "xavier", "spectral"])
def test_same_seed_same_bits(init):
    assert built(init=init).users.equal(built(init=init).users)
    other = MatrixFactorisation(USERS, ITEMS, dim=DIM, init=init)
    other.initialise(KNOWN, seed=5)
    assert init == "spectral" or not other.users.equal(built(init=init).users)


def chequerboard(users: int, items: int) -> tuple[list[list[int]], list[int]]:
    lists = [[i for i in range(items) if i % 2 == u % 2] for u in range(users)]
    held_out = [own.pop((u // 2) % len(own)) for u, own in enumerate(lists)]
    return lists, held_out


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("shared", [True, False])
def test_chequerboard_puts_the_held_out_item_first(similarity, shared):
    lists, held_out = chequerboard(16, 8)
    known = ragged(lists)
    model = MatrixFactorisation(16, 8, dim=4, similarity=similarity)
    model.initialise(known, seed=0)
    users = torch.tensor([user for user, own in enumerate(lists) for _ in own])
    sampler = UniformSampler(known, 8, seed=0, n=8, shared=shared)

    def loss(pos: Tensor, neg: Tensor, **contract: Tensor | None) -> Tensor:
        return sampled_softmax_loss(pos, neg, temperature=0.3, **contract)

    fit(
        ContrastObjective(model, loss, sampler, seed=0),
        (users, known.values),
        TrainingSettings(epochs=40, batch_size=16, learning_rate=0.05),
        seed=0,
    )
    ranked = model.score_all(torch.arange(16))
    for user, own in enumerate(lists):
        ranked[user, own] = -torch.inf
    assert ranked.argmax(1).tolist() == held_out


def test_save_and_load():
    model = built()
    fresh = MatrixFactorisation(USERS, ITEMS, dim=DIM)
    assert not fresh.score_all(torch.arange(USERS)).any()
    fresh.load_state_dict(model.state_dict())
    assert fresh.score_all(torch.arange(USERS)).equal(model.score_all(torch.arange(USERS)))
    assert copy.deepcopy(model).users.equal(model.users)
    with pytest.raises(RuntimeError, match="size mismatch for users"):
        MatrixFactorisation(USERS + 1, ITEMS, dim=DIM).load_state_dict(model.state_dict())


def test_bad_settings():
    with pytest.raises(InputError, match="dim must be at least 1, init_std at least 0: got dim 0"):
        MatrixFactorisation(2, 2, dim=0)
    with pytest.raises(InputError, match=r"dropout must be in \[0, 1\): got 1"):
        MatrixFactorisation(2, 2, dropout=1.0)
    with pytest.raises(InputError, match="codes from 0 to 8"):
        MatrixFactorisation(6, 9).initialise(KNOWN._replace(values=KNOWN.values + 1), seed=0)


def test_is_registered():
    entry = MODELS["mf"]
    assert entry.function is MatrixFactorisation
    assert list(entry.parameters) == ["dim", "similarity", "dropout", "init", "init_std"]


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'spectral'"):
        MatrixFactorisation(2, 3, init="spectrall")
    with pytest.raises(UnknownName, match="Did you mean 'cosine'"):
        MatrixFactorisation(2, 3, similarity="cosin")
    with pytest.raises(InputError, match="init_std"):
        MatrixFactorisation(2, 3, init_std=-1.0)


def test_a_subclass_with_vectors_of_its_own_is_heard():
    class Tripled(MatrixFactorisation):
        def contrast_vectors(self, *args, **own):
            vectors = super().contrast_vectors(*args, **own)
            return vectors._replace(queries=3 * vectors.queries)

    plain, tripled = (kind(2, 3, dim=4, init="normal", dropout=0.0) for kind in (MatrixFactorisation, Tripled))
    for model in (plain, tripled):
        model.initialise(Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 2])), seed=0)
    asked = torch.tensor([0, 1]), torch.tensor([0, 2]), torch.tensor([1])
    for got, wanted in zip(tripled.contrast_scores(*asked), plain.contrast_scores(*asked), strict=True):
        torch.testing.assert_close(got, 3 * wanted)
