import math

import pytest
import torch

from rankwell import keyed
from rankwell.config import resolve
from rankwell.data import synthesise
from rankwell.errors import ConfigError, InputError
from rankwell.losses import sigmoid_loss
from rankwell.losses.styles import contrast
from rankwell.metrics import Measure
from rankwell.models import MODELS, MatrixFactorisation, UltraGCN, history
from rankwell.samplers import UniformSampler
from rankwell.tasks import task_of
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Auxiliary, Contrast, Ragged

LISTS = [[0, 1, 2], [1, 2], [], [0, 3], [1, 2, 3, 5]]
USERS, ITEMS = len(LISTS), 7
KNOWN = Ragged(torch.tensor([0, *map(len, LISTS)]).cumsum(0), torch.tensor([item for own in LISTS for item in own]))


def built(**own: object) -> UltraGCN:
    model = UltraGCN(USERS, ITEMS, **{"dim": 3, "init": "normal", "init_std": 1.0, "neighbours": 2, **own})  # type: ignore[arg-type]
    model.initialise(KNOWN, seed=4)
    return model


def beta(user: int, item: int) -> float:
    du, di = len(LISTS[user]), sum(item in own for own in LISTS)
    return math.sqrt((du + 1) / (di + 1)) / du


def omega(item: int, other: int) -> float:
    counts = [[sum(i in own and k in own for own in LISTS) for k in range(ITEMS)] for i in range(ITEMS)]
    g, apart = [sum(row) for row in counts], sum(counts[item]) - counts[item][item]
    return counts[item][other] / apart * math.sqrt(g[item] / g[other]) if counts[item][other] else 0.0


@pytest.mark.parametrize("block", [1, 20, 1 << 24])
def test_neighbours_and_their_weights(block, monkeypatch):
    monkeypatch.setattr(history, "BLOCK_VALUES", block)
    model = built()
    for item in range(ITEMS):
        weights = sorted((omega(item, other) for other in range(ITEMS) if other != item), reverse=True)[:2]
        assert model.omega[item].tolist() == pytest.approx(weights)
        for other, weight in zip(model.neighbours[item].tolist(), weights, strict=True):
            assert weight == 0 or (other != item and omega(item, other) == pytest.approx(weight))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_terms_by_hand(similarity, shared, several, masked):
    model = built(similarity=similarity, constraint=0.7, neg_weight=3.0, item_weight=0.4)
    users, positives = torch.tensor([3, 0, 4]), torch.tensor([[0, 3], [1, 2], [5, 1]])
    positives = positives if several else positives[:, 0]
    ids = torch.tensor([4, 6]) if shared else torch.tensor([[4, 6], [3, 5], [0, 4]])
    where = torch.tensor([[True, False], [True, True], [False, False]]) if masked else None
    pos_where = torch.tensor([[True, True], [False, True], [True, False]]) if masked and several else None
    pos, neg = model.contrast_scores(users, positives, ids)
    scores = model.score_all(torch.arange(USERS)).tolist()
    expected = 0.0
    for row, user in enumerate(users.tolist()):
        right = positives.view(3, -1)[row].tolist()
        right = (
            right if pos_where is None else [item for item, there in zip(right, pos_where[row], strict=True) if there]
        )
        wrong = ids.expand(3, -1)[row].tolist()
        wrong = wrong if where is None else [item for item, there in zip(wrong, where[row], strict=True) if there]
        pull = sum(beta(user, i) * softplus(-scores[user][i]) for i in right) / len(right)
        push = sum(beta(user, j) * softplus(scores[user][j]) for j in wrong) / max(1, len(wrong))
        near = sum(omega(i, k) * softplus(-scores[user][k]) for i in right for k in model.neighbours[i].tolist())
        expected += (0.7 * (pull + 3.0 * push) + 0.4 * near / len(right)) / 3
    seen = Contrast(users, positives, ids, None, None, pos, neg, where, pos_where, 0, 0)
    value = model.auxiliary(seen, generator=keyed.generator(0))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.backward()
    assert model.users.grad.is_sparse and model.items.grad.is_sparse


def test_without_weights_it_is_matrix_factorisation():
    assert isinstance(built(), Auxiliary) and not isinstance(MatrixFactorisation(2, 2), Auxiliary)

    def trained(model: MatrixFactorisation) -> torch.Tensor:
        model.initialise(KNOWN, seed=4)
        sampler = UniformSampler(KNOWN, ITEMS, seed=0, n=3, shared=False)
        users = torch.repeat_interleave(torch.arange(USERS), KNOWN.offsets.diff())
        settings = TrainingSettings(epochs=2, batch_size=4, learning_rate=0.05)
        fit(ContrastObjective(model, contrast(sigmoid_loss), sampler, seed=0), (users, KNOWN.values), settings, seed=0)
        return model.users.detach()

    own = {"dim": 3, "similarity": "dot", "dropout": 0.0, "init": "normal"}
    plain = trained(MatrixFactorisation(USERS, ITEMS, **own))
    assert trained(UltraGCN(USERS, ITEMS, **own, init_std=0.1, constraint=0.0, item_weight=0.0)).equal(plain)
    assert not trained(UltraGCN(USERS, ITEMS, **own, init_std=0.1, constraint=1.0, item_weight=0.0)).equal(plain)
    assert not trained(UltraGCN(USERS, ITEMS, **own, init_std=0.1, constraint=0.0, item_weight=1.0)).equal(plain)


def test_made_negatives_have_no_degree():
    model = built()
    seen = Contrast(
        torch.tensor([0]), torch.tensor([0]), None, None, None, torch.ones(1), torch.ones(1, 2), None, None, 0, 0
    )
    with pytest.raises(ConfigError, match=r"set model\.constraint to 0"):
        model.auxiliary(seen, generator=keyed.generator(0))


def test_one_item_has_no_neighbours():
    model = UltraGCN(2, 1, dim=2)
    model.initialise(Ragged(torch.tensor([0, 1, 1]), torch.tensor([0])), seed=0)
    one = torch.tensor([0])
    seen = Contrast(one, one, one, None, None, torch.zeros(1), torch.zeros(1, 1), None, None, 0, 0)
    # d is 1 on both sides, beta is 1, and log 2 is what the positive and ten times the negative cost.
    assert model.auxiliary(seen, generator=keyed.generator(0)).item() == pytest.approx(11 * math.log(2))


def test_bad_settings():
    for own, said in (
        ({"neighbours": 0}, "neighbours"),
        ({"constraint": -1.0}, "constraint"),
        ({"dim": 0}, "dim must"),
    ):
        with pytest.raises(InputError, match=said):
            UltraGCN(2, 2, **own)  # type: ignore[arg-type]
    assert MODELS["ultragcn"].function is UltraGCN


def test_what_is_trained_by_default_learns(tmp_path):
    """Compared by inner products, the default loss would lead away from a start that knows better."""
    synthesise(80, 60, seed=0).write(tmp_path)
    raw = {"data": {"path": str(tmp_path)}, "model": {"name": "ultragcn", "dim": 16}, "training": {"epochs": 6}}
    config, task = resolve(raw), task_of("interactions")
    assert config.model["similarity"] == "cosine" and config.loss["name"] == "bsl"
    data = task.read(config)
    model = task.model(config, data)
    task.initialise(model, data.fit, seed=0)

    def judged() -> float:
        return task.judge(config, model, [Measure.parse("ndcg@20")], data.fit, data.test).means()["ndcg@20"]

    before = judged()
    fit(
        task.objective(config, model, data, data.fit, None),
        task.batches(config, data, data.fit),
        config.training,
        seed=0,
    )
    assert judged() > before
    assert resolve({**raw, "loss": {"name": "bpr"}}).model["similarity"] == "dot"
