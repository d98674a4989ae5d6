import pytest
import torch
from torch import Tensor

from rankwell import keyed
from rankwell.config import resolve
from rankwell.data import synthesise
from rankwell.errors import ConfigError, InputError
from rankwell.losses import bpr_loss
from rankwell.metrics import Measure
from rankwell.models import MODELS, NeuMF, neumf
from rankwell.samplers import SAMPLERS, UniformSampler
from rankwell.tasks import task_of
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Ragged, Scorer, VectorModel

USERS, ITEMS, DIM = 4, 7, 3
KNOWN = Ragged(torch.tensor([0, 2, 3, 4, 6]), torch.tensor([0, 1, 2, 3, 4, 5]))


def built(**own: object) -> NeuMF:
    model = NeuMF(USERS, ITEMS, **{"dim": DIM, "widths": (5, 4), "init_std": 1.0, **own})  # type: ignore[arg-type]
    model.initialise(KNOWN, seed=4)
    with torch.no_grad():  # so that nothing is left out by chance
        for layer in model.layers:
            layer.bias.uniform_(0.1, 0.5, generator=torch.Generator().manual_seed(1))
        model.gmf_out.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(2))
    return model


def by_hand(model: NeuMF, user: int, item: int) -> Tensor:
    """The paper's formula: both vectors one behind the other."""
    x = torch.cat([model.mlp_users[user], model.mlp_items[item]])
    for layer in model.layers:
        x = (layer.weight @ x + layer.bias).clamp(min=0)
    fused = torch.cat([model.gmf_users[user] * model.gmf_items[item], x])
    return fused @ torch.cat([model.gmf_out, model.mlp_out])


def table(model: NeuMF, users: Tensor, items: Tensor) -> Tensor:
    rows = items.expand(len(users), -1).tolist()
    return torch.stack(
        [torch.stack([by_hand(model, u, i) for i in row]) for u, row in zip(users.tolist(), rows, strict=True)]
    )


@pytest.mark.parametrize("widths", [(5, 4), (6,), (4, 4, 2)])
def test_every_way_to_score_equals_the_formula(widths, monkeypatch):
    model = built(widths=widths)
    users = torch.tensor([3, 0, 3])
    whole = table(model, users, torch.arange(ITEMS)).detach()
    torch.testing.assert_close(model.score_all(users), whole)
    own = torch.tensor([[6, 0], [3, 3], [1, 2]])
    torch.testing.assert_close(model.score(users, own), whole.gather(1, own))
    torch.testing.assert_close(model.score(users, torch.tensor([5, 2])), whole[:, [5, 2]])
    for most in (1, 13, 40):
        monkeypatch.setattr(neumf, "BLOCK_VALUES", most)
        out = torch.zeros(3, ITEMS + 2)
        model.score_all(users, out=out[:, :ITEMS])
        torch.testing.assert_close(out[:, :ITEMS], whole)
        assert not out[:, ITEMS:].any()
        torch.testing.assert_close(model.score(users, own), whole.gather(1, own))
    assert model.score_all(users[:0]).shape == (0, ITEMS)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_training_scores_and_gradients_equal_the_formula(shared, several):
    model, dense = built(), built()
    users, positives = torch.tensor([2, 0, 2]), torch.tensor([[3, 4], [0, 1], [3, 2]])
    negatives = torch.tensor([6, 5, 5]) if shared else torch.tensor([[6, 5], [5, 2], [1, 3]])
    positives = positives if several else positives[:, 0]
    pos, neg = model.contrast_scores(users, positives, negatives)
    right_pos, right_neg = table(dense, users, positives.view(3, -1)), table(dense, users, negatives)
    torch.testing.assert_close(pos, right_pos.view(positives.shape))
    torch.testing.assert_close(neg, right_neg)
    (pos.square().sum() + neg.exp().sum()).backward()
    (right_pos.square().sum() + right_neg.exp().sum()).backward()
    for (name, got), right in zip(model.named_parameters(), dense.parameters(), strict=True):
        assert got.grad.is_sparse == (name in NeuMF.row_parameters)
        torch.testing.assert_close(got.grad.to_dense(), right.grad, msg=name)


def test_dropout_is_keyed_and_of_training():
    model = built(dropout=0.5)
    users, items = torch.arange(USERS), torch.arange(ITEMS)

    def scores(seed: int | None) -> Tensor:
        generator = None if seed is None else keyed.generator(seed)
        return model.contrast_scores(users, users, items, generator=generator)[1].detach()

    assert scores(1).equal(scores(1)) and not scores(1).equal(scores(2)) and not scores(1).equal(scores(None))
    model.eval()
    assert scores(1).equal(scores(None))


def test_it_scores_but_has_no_vectors():
    model = built()
    assert isinstance(model, Scorer) and not isinstance(model, VectorModel)
    for ask in (lambda: model.query_vectors(torch.tensor([0])), model.item_vectors):
        with pytest.raises(ConfigError, match="neumf scores pairs and has no vectors"):
            ask()
    sampler = SAMPLERS["dns"].function(KNOWN, ITEMS, seed=0)
    users = torch.repeat_interleave(torch.arange(USERS), KNOWN.offsets.diff())
    drawn = sampler(users, users, epoch=0, step=0, positives=KNOWN.values, scorer=model)
    assert drawn.ids.shape[0] == len(users)


def test_an_interrupted_training_goes_on(tmp_path):
    def trained(**how: object) -> NeuMF:
        model = built(dropout=0.2)
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
        ({"dim": 0}, "dim"),
        ({"widths": ()}, "widths must be"),
        ({"widths": (4, 0)}, "widths must be"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"init_std": -1.0}, "init_std"),
    ):
        with pytest.raises(InputError, match=said):
            NeuMF(2, 2, **own)  # type: ignore[arg-type]
    assert MODELS["neumf"].function is NeuMF


def test_what_is_trained_by_default_learns(tmp_path):
    """Its scores are unbounded: the default loss of interactions fell to -128,415 and ranked below popularity."""
    synthesise(200, 100, seed=0).write(tmp_path)
    task, found = task_of("interactions"), {}
    for name in ("popularity", "neumf"):
        training = {"epochs": 8, "batch_size": 64, "patience": 0}
        config = resolve({"data": {"path": str(tmp_path)}, "model": {"name": name}, "training": training})
        data = task.read(config)
        model = task.model(config, data)
        task.initialise(model, data.fit, seed=0)
        if name == "neumf":
            assert config.loss["name"] == "sigmoid"
            objective = task.objective(config, model, data, data.fit, None)
            fit(objective, task.batches(config, data, data.fit), config.training, seed=0)
        judged = task.judge(config, model, [Measure.parse("ndcg@20")], data.fit, data.test)
        found[name] = judged.means()["ndcg@20"]
    assert found["neumf"] > found["popularity"]
