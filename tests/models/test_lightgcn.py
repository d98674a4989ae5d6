import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.generators import GENERATORS
from rankwell.losses import bpr_loss
from rankwell.models import MODELS, LightGCN, spectral_start
from rankwell.models.propagation import layers_of, propagated
from rankwell.models.spectral import normalised_interactions
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Contrast, Ragged

USERS, ITEMS, DIM = 7, 9, 5
LISTS = [[0, 1], [2], [3, 4, 5], [0, 7], [6, 7], [1, 2], []]  # one user and one item without interactions
KNOWN = Ragged(torch.tensor([0, *map(len, LISTS)]).cumsum(0), torch.tensor([item for own in LISTS for item in own]))


def built(**own: object) -> LightGCN:
    model = LightGCN(USERS, ITEMS, **{"dim": DIM, "init": "normal", "init_std": 1.0, **own})  # type: ignore[arg-type]
    model.initialise(KNOWN, seed=4)
    return model


def adjacency(known: Ragged = KNOWN, users: int = USERS, items: int = ITEMS) -> Tensor:
    """The whole graph, dense, in float64."""
    matrix = torch.zeros(users, items, dtype=torch.float64)
    matrix[torch.repeat_interleave(torch.arange(users), known.offsets.diff()), known.values] = 1
    matrix /= (matrix.sum(1, keepdim=True).clamp(min=1) * matrix.sum(0).clamp(min=1)).sqrt()
    return torch.cat(
        [
            torch.cat([torch.zeros(users, users, dtype=torch.float64), matrix], 1),
            torch.cat([matrix.T, torch.zeros(items, items, dtype=torch.float64)], 1),
        ]
    )


def series(table: Tensor, layers: int, graph: Tensor) -> Tensor:
    return sum(torch.linalg.matrix_power(graph, power) @ table for power in range(layers + 1)) / (layers + 1)


def both(model: LightGCN) -> Tensor:
    return torch.cat([model.users, model.items]).detach().double()


def seen(users: Tensor, positives: Tensor, ids: Tensor) -> Contrast:
    none = dict.fromkeys(("log_q", "collisions", "where", "pos_where"))
    return Contrast(users, positives, ids, pos=torch.zeros(()), neg=torch.zeros(()), epoch=0, step=0, **none)


def test_validation_judges_the_vectors_of_its_epoch():
    model = built()
    sampler = UniformSampler(KNOWN, ITEMS, seed=0, n=3, shared=False)
    pairs = torch.repeat_interleave(torch.arange(USERS), KNOWN.offsets.diff()), KNOWN.values
    judged = []

    def validate() -> dict[str, float]:
        judged.append((model.score_all(torch.arange(USERS)), fresh(model)))
        return {"x": 0.0}

    settings = TrainingSettings(epochs=3, batch_size=3, learning_rate=0.05)
    fit(ContrastObjective(model, bpr_loss, sampler, seed=0), pairs, settings, seed=0, validate=validate, monitor="x")
    assert len(judged) == 3 and all(seen.equal(anew) for seen, anew in judged)
    assert not judged[0][0].equal(judged[2][0])


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_equals_the_dense_power_series(layers):
    model = built(layers=layers, similarity="dot")
    expected = series(both(model), layers, adjacency()).float()
    torch.testing.assert_close(model.query_vectors(torch.arange(USERS)), expected[:USERS])
    torch.testing.assert_close(model.item_vectors(), expected[USERS:])
    torch.testing.assert_close(model.score_all(torch.tensor([3, 3])), (expected[[3, 3]] @ expected[USERS:].T))


def test_without_neighbours_only_the_own_vector_is_left():
    model = built(layers=3, similarity="dot")
    torch.testing.assert_close(model.query_vectors(torch.tensor([6]))[0], model.users[6].detach() / 4)
    torch.testing.assert_close(model.item_vectors(torch.tensor([8]))[0], model.items[8].detach() / 4)


def test_gradient_is_that_of_the_dense_form():
    graph = normalised_interactions(KNOWN, ITEMS)
    matrices = graph.rows.double(), graph.columns.double()
    start = torch.randn(USERS + ITEMS, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    users, items = (part.clone().requires_grad_() for part in (start[:USERS], start[USERS:]))

    def mean(users: Tensor, items: Tensor) -> Tensor:
        return torch.cat(propagated(users, items, *matrices, 3))

    def every_layer(users: Tensor, items: Tensor) -> Tensor:
        return torch.cat(
            [one * (at + 1) for at, two in enumerate(layers_of(users, items, *matrices, 3)) for one in two]
        )

    assert torch.autograd.gradcheck(mean, (users, items))
    assert torch.autograd.gradcheck(every_layer, (users, items))
    whole = start.clone().requires_grad_()
    wanted = torch.arange(1.0, USERS + ITEMS + 1, dtype=torch.float64)[:, None]
    (series(whole, 3, adjacency()) * wanted).square().sum().backward()
    (mean(users, items) * wanted).square().sum().backward()
    # The graph was divided in float32.
    torch.testing.assert_close(torch.cat([users.grad, items.grad]), whole.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_contrast_scores_are_the_scores(similarity, shared, several):
    model = built(similarity=similarity)
    users = torch.tensor([2, 0, 2])
    positives = torch.tensor([[3, 4], [0, 1], [5, 3]])
    positives = positives if several else positives[:, 0]
    negatives = torch.tensor([0, 8, 7, 7]) if shared else torch.tensor([[0, 8], [5, 2], [1, 0]])
    pos, neg = model.contrast_scores(users, positives, negatives)
    whole = model.score_all(users)
    torch.testing.assert_close(pos.reshape(3, -1), whole.gather(1, positives.reshape(3, -1)))
    torch.testing.assert_close(neg, whole.gather(1, negatives.expand(3, -1)))
    looked = model.contrast_vectors(users, positives, negatives)
    torch.testing.assert_close((looked.positives.view(3, -1, DIM) * looked.queries[:, None]).sum(-1), pos.view(3, -1))
    torch.testing.assert_close(looked.hops.pool(looked.hops.negatives), looked.negatives)
    torch.testing.assert_close(
        looked.hops.pool(looked.hops.positives), looked.positives[:, 0] if several else looked.positives
    )
    torch.testing.assert_close(looked.hops.negatives[..., 0, :], model.items[negatives])
    torch.testing.assert_close(model.score(users, negatives), neg)
    for table, neighbour in ((model.users, 3), (model.items, 1)):  # of item 0, of user 0
        (grad,) = torch.autograd.grad(pos.sum() + neg.exp().sum(), table, retain_graph=True)
        assert not grad.is_sparse and grad[neighbour].any()


def fresh(model: LightGCN) -> Tensor:
    other = LightGCN(USERS, ITEMS, dim=DIM)
    other.load_state_dict(model.state_dict())
    return other.score_all(torch.arange(USERS))


@pytest.mark.parametrize("fused", [False, True])  # torch does not count the change of a fused step
def test_what_is_kept_is_dropped_when_a_vector_changes(fused):
    model = built()
    users = torch.arange(USERS)
    first = model.score_all(users)
    kept = model._kept
    assert model.score_all(users).equal(first) and model._kept is kept
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    pos, neg = model.contrast_scores(users, users, users)
    bpr_loss(pos, neg).backward()
    optimiser.step()
    second = model.score_all(users)
    assert not second.equal(first) and second.equal(fresh(model))
    with torch.no_grad():
        model.items[0] += 1
    assert model.score_all(users).equal(fresh(model)) and not model.score_all(users).equal(second)
    model.load_state_dict(built().state_dict())
    assert model.score_all(users).equal(first)
    model.users.data = model.users.data + 1
    assert model.score_all(users).equal(fresh(model))
    model.initialise(Ragged(torch.tensor([0] * USERS + [3]), torch.tensor([0, 1, 2])), seed=4)
    assert model.score_all(users).equal(fresh(model)) and not model.score_all(users).equal(first)


def test_what_is_kept_is_not_copied_or_pickled():
    model = built()
    scores = model.score_all(torch.arange(USERS))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other._kept is None and other.score_all(torch.arange(USERS)).equal(scores)
    torch.testing.assert_close(model.double().score_all(torch.arange(USERS)).float(), scores)


def nt_xent(one: Tensor, other: Tensor, temperature: float) -> float:
    """InfoNCE over cosines, written out."""
    cosine = torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=-1) / temperature
    return float((cosine.exp().sum(1).log() - cosine.diag()).mean())


BATCH = seen(torch.tensor([2, 0, 2]), torch.tensor([3, 0, 4]), torch.tensor([1, 8]))


def of_batch(tables: Tensor, temperature: float, others: Tensor) -> float:
    ids = ([0, 2], [USERS + item for item in (0, 3, 4)])
    return sum(nt_xent(tables[each], others[each], temperature) for each in ids)


def test_edge_dropout_by_hand():
    model = built(augment="edge_dropout", share=0.4, augment_weight=0.7, augment_temperature=0.3, layers=2, l2=0.0)
    generator, views = keyed.generator(1), []
    for _ in range(2):
        kept = (torch.rand(len(KNOWN.values), generator=generator) >= 0.4).tolist()
        assert 0 < sum(kept) < len(kept)
        places = iter(kept)
        lists = [[item for item in own if next(places)] for own in LISTS]
        known = Ragged(
            torch.tensor([0, *map(len, lists)]).cumsum(0), torch.tensor([item for own in lists for item in own])
        )
        views.append(series(both(model), 2, adjacency(known)))
    value = model.auxiliary(BATCH, generator=keyed.generator(1)).item()
    assert value == pytest.approx(0.7 * of_batch(views[0], 0.3, views[1]), rel=1e-5)


def test_noise_by_hand():
    model = built(augment="noise", eps=0.5, augment_weight=2.0, augment_temperature=0.5, layers=2, l2=0.0)
    generator, views, graph = keyed.generator(1), [], adjacency()
    for _ in range(2):
        layer = total = both(model)
        for _ in range(2):
            layer = graph @ layer
            drawn = torch.cat([torch.rand(rows, DIM, generator=generator) for rows in (USERS, ITEMS)])
            noise = 0.5 * drawn / drawn.norm(dim=1, keepdim=True) * layer.sign()
            layer = layer + noise
            total = total + layer
        views.append(total / 3)
    value = model.auxiliary(BATCH, generator=keyed.generator(1)).item()
    assert value == pytest.approx(2.0 * of_batch(views[0], 0.5, views[1]), rel=1e-5)


def test_regularisation_by_hand():
    model = built(l2=0.3)
    p, q = model.users.detach(), model.items.detach()
    expected = sum(float(p[user].square().sum()) for user in (2, 0, 2))
    expected += sum(float(q[item].square().sum()) for item in (3, 0, 4, 1, 8))
    value = model.auxiliary(BATCH, generator=keyed.generator(1)).item()
    assert value == pytest.approx(0.3 * expected / 6, rel=1e-5)
    assert built(l2=0.0).auxiliary(BATCH, generator=keyed.generator(1)).item() == 0


@pytest.mark.parametrize("augment", ["edge_dropout", "noise"])
def test_views_are_keyed_and_have_a_gradient(augment):
    model = built(augment=augment, share=0.5, eps=0.5, l2=0.0)
    values = [model.auxiliary(BATCH, generator=keyed.generator(seed)) for seed in (1, 1, 2)]
    assert values[0].equal(values[1]) and not values[0].equal(values[2])
    values[0].backward()
    assert model.users.grad.any() and model.items.grad.any()
    assert not built(augment=augment, augment_weight=0.0, l2=0.0).auxiliary(BATCH, generator=keyed.generator(1)).any()


def test_new_users_are_scored_by_their_history():
    """A user whose own vector is zero, among those that the others' layers are made of."""
    model = built(layers=3, similarity="dot")
    table, graph = both(model), adjacency()
    below = [torch.linalg.matrix_power(graph, power) @ table for power in range(3)]
    degrees = torch.bincount(KNOWN.values, minlength=ITEMS).clamp(min=1)
    own = [1, 4, 8]
    vector = sum(layer[USERS + item] / math.sqrt(3 * int(degrees[item])) for layer in below for item in own) / 4
    scores = model.score_history(Ragged(torch.tensor([0, 3, 3]), torch.tensor(own)))
    expected = series(table, 3, graph)[USERS:] @ vector
    torch.testing.assert_close(scores[0], expected.float())
    assert not scores[1].any()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_start(similarity):
    model = LightGCN(USERS, ITEMS, dim=DIM, similarity=similarity)
    model.initialise(KNOWN, seed=3)
    users, items = spectral_start(KNOWN, ITEMS, DIM, 3, similarity=similarity)
    assert model.users.equal(users) and model.items.equal(items)


@pytest.mark.parametrize("augment", ["none", "edge_dropout", "noise"])
def test_an_interrupted_training_goes_on(augment, tmp_path):
    def trained(**how: object) -> LightGCN:
        model = built(augment=augment)
        sampler = UniformSampler(KNOWN, ITEMS, seed=0, n=3, shared=False)
        users = torch.repeat_interleave(torch.arange(USERS), KNOWN.offsets.diff())
        settings = TrainingSettings(epochs=3, batch_size=5, learning_rate=0.05)
        fit(ContrastObjective(model, bpr_loss, sampler, seed=0), (users, KNOWN.values), settings, seed=0, **how)
        return model

    whole = trained()
    trained(stop_after=1, folder=tmp_path)
    parts = trained(folder=tmp_path)
    assert whole.users.equal(parts.users) and whole.items.equal(parts.items)


def test_mixgcf_takes_its_layers():
    model = built()
    maker = GENERATORS["mixgcf"].function(KNOWN, ITEMS, DIM, seed=0)
    sampler = UniformSampler(KNOWN, ITEMS, seed=0, n=4, shared=False)
    users = torch.repeat_interleave(torch.arange(USERS), KNOWN.offsets.diff())
    before = model.users.detach().clone()
    objective = ContrastObjective(model, bpr_loss, sampler, seed=0, generator=maker)
    fit(objective, (users, KNOWN.values), TrainingSettings(epochs=1, batch_size=5), seed=0)
    assert not model.users.equal(before)


def test_bad_settings():
    for own, said in (
        ({"layers": 0}, "layers"),
        ({"share": 1.0}, "share must be in"),
        ({"eps": -1.0}, "eps"),
        ({"augment_temperature": 0.0}, "augment_temperature"),
        ({"l2": -1.0}, "l2"),
        ({"dim": 0}, "dim must be at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            LightGCN(2, 2, **own)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="Did you mean 'noise'"):
        LightGCN(2, 2, augment="noisy")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="codes from 0 to 8"):
        built().initialise(KNOWN._replace(values=KNOWN.values + 2), seed=0)
    assert MODELS["lightgcn"].function is LightGCN
