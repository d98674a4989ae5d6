"""Rankers of judged lists: by hand, and against a plain padded attention."""

import pytest
import torch
from torch.nn import functional

from rankwell import keyed
from rankwell.errors import InputError, UnknownName
from rankwell.models import MLPRanker, SetTransformer
from rankwell.models.rankers import WASTE, FeatureScaling, _groups

SIZES = torch.tensor([3, 1, 17, 4, 3, 40])
OFFSETS = torch.cat([torch.zeros(1, dtype=torch.int64), SIZES.cumsum(0)])
FEATURES = torch.randn(int(OFFSETS[-1]), 5, generator=torch.Generator().manual_seed(0))


def made(kind, **own):
    model = kind(5, **own)
    model.initialise(FEATURES, torch.zeros(len(FEATURES)), OFFSETS, seed=3)
    return model.eval()


class TestScaling:
    """Of features."""

    def test_standard_is_mean_and_deviation_of_what_was_learned(self):
        scaling = FeatureScaling(5, "standard")
        scaling.learn(FEATURES)
        scaled = scaling(FEATURES)
        assert torch.allclose(scaled.mean(0), torch.zeros(5), atol=1e-6)
        assert torch.allclose(scaled.std(0, correction=0), torch.ones(5), atol=1e-6)
        assert torch.allclose(
            scaling(FEATURES[:1] + 1), (FEATURES[:1] + 1 - FEATURES.mean(0)) / FEATURES.std(0, correction=0)
        )

    def test_log_keeps_signs(self):
        scaling = FeatureScaling(1, "log")
        scaling.learn(torch.tensor([[0.0], [torch.e - 1]]))  # which become 0 and 1
        assert scaling(torch.tensor([[1 - torch.e]])).item() == pytest.approx((-1 - 0.5) / 0.5)

    def test_what_was_constant_is_zero_whatever_comes(self):
        scaling = FeatureScaling(1, "standard")
        scaling.learn(torch.full((4, 1), 0.1))
        assert scaling(torch.tensor([[7.0]])).item() == 0

    def test_none_leaves_features(self):
        scaling = FeatureScaling(5, "none")
        scaling.learn(FEATURES)
        assert scaling(FEATURES) is FEATURES


def test_the_mlp_is_a_product_of_matrices():
    model = made(MLPRanker, widths=(4,), scaling="none")
    hidden = (FEATURES @ model.hidden[0].weight.T + model.hidden[0].bias).clamp(min=0)
    expected = hidden @ model.out.weight[0] + model.out.bias
    assert torch.allclose(model(FEATURES, OFFSETS), expected, atol=1e-6)


def test_without_hidden_layers_it_is_linear():
    model = made(MLPRanker, widths=(), scaling="none")
    assert torch.allclose(model(2 * FEATURES, OFFSETS), 2 * model(FEATURES, OFFSETS), atol=1e-5)


def plain(model, features):
    """One list, by matrices: softmax of products, no padding, no fused attention."""
    x = model.enter(model.scaling(features))
    for layer in model.layers:
        parts = layer.parts(layer.before(x)).view(len(x), 3, model.heads, -1)
        queries, keys, values = parts.permute(1, 2, 0, 3)
        attention = (queries @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5).softmax(-1)
        x = x + layer.join((attention @ values).transpose(0, 1).reshape(len(x), -1))
        x = x + layer.narrow(functional.gelu(layer.widen(layer.between(x))))
    return model.out(model.norm(x)).squeeze(1)


def test_the_set_transformer_is_attention_within_each_list():
    model = made(SetTransformer, dim=16, heads=4)
    expected = torch.cat([plain(model, part) for part in FEATURES.split(SIZES.tolist())])
    assert torch.allclose(model(FEATURES, OFFSETS), expected, atol=1e-5)


def test_gradients_are_those_of_plain_attention():
    model = made(SetTransformer, dim=8, heads=2, layers=1)
    weights = torch.linspace(-1, 1, len(FEATURES))
    given = torch.autograd.grad((model(FEATURES, OFFSETS) * weights).sum(), list(model.parameters()))
    by_list = torch.cat([plain(model, part) for part in FEATURES.split(SIZES.tolist())])
    for mine, theirs in zip(
        given, torch.autograd.grad((by_list * weights).sum(), list(model.parameters())), strict=True
    ):
        assert torch.allclose(mine, theirs, atol=1e-4)


def test_padding_is_bounded_and_every_document_stands_once():
    seen, padded = [], 0
    for rows, where in _groups(OFFSETS):
        lengths = where.sum(1)
        assert lengths.max() <= WASTE * lengths.min()
        assert rows.shape[1] == lengths.max()
        seen += rows[where].tolist()
        padded += rows.numel()
    assert sorted(seen) == list(range(len(FEATURES)))
    assert padded <= WASTE * len(FEATURES)


def test_one_long_list_does_not_pad_the_others():
    offsets = torch.cat([torch.arange(0, 400, 4), torch.tensor([396 + 1000])])
    assert sum(rows.numel() for rows, _ in _groups(offsets)) == 1396


def test_no_list():
    empty = torch.zeros(0, 5)
    for kind in (MLPRanker, SetTransformer):
        assert made(kind)(empty, torch.tensor([0])).shape == (0,)


@pytest.mark.parametrize("kind", [MLPRanker, SetTransformer])
def test_dropout_is_keyed_and_off_in_evaluation(kind):
    model = made(kind, dropout=0.5)
    assert model(FEATURES, OFFSETS, generator=keyed.generator(0)).equal(model(FEATURES, OFFSETS))
    model.train()
    drawn = [model(FEATURES, OFFSETS, generator=keyed.generator(seed)) for seed in (0, 0, 1)]
    assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2])
    assert model(FEATURES, OFFSETS).equal(model.eval()(FEATURES, OFFSETS))


def test_dropout_keeps_the_mean():
    model = MLPRanker(5, dropout=0.25).train()
    dropped = model._dropped(torch.ones(200, 200), keyed.generator(0))
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


def test_arguments():
    with pytest.raises(InputError, match="dim must be a multiple of heads: got 10 and 4"):
        SetTransformer(5, dim=10, heads=4)
    with pytest.raises(InputError, match="dropout"):
        MLPRanker(5, dropout=1.0)
    with pytest.raises(InputError, match="widths"):
        MLPRanker(5, widths=(0,))
    with pytest.raises(InputError, match="num_features"):
        MLPRanker(0)
    with pytest.raises(UnknownName, match=r"scaling 'standrd'. Did you mean 'standard'"):
        MLPRanker(5, scaling="standrd")
