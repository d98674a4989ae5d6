"""Encoders of examples."""

import pytest
import torch

from rankwell.errors import InputError, UnknownName
from rankwell.models import MODELS, Encoder, RawFeatures

IMAGES, CLASSES = torch.rand(6, 3, 9, 7, generator=torch.Generator().manual_seed(0)) * 255, torch.arange(6) % 2
SHAPES = {"images": (3, 9, 7), "vectors": (5,)}


def examples(kind):
    return IMAGES if kind == "images" else IMAGES.flatten(1)[:, :5]


def made(kind, **own):
    model = Encoder(SHAPES[kind], **{"dim": 4, "widths": (8, 8), **own})
    model.initialise(examples(kind), CLASSES, seed=1)
    return model.eval()


@pytest.fixture(params=list(SHAPES))
def kind(request):
    return request.param


def test_embeddings_have_length_one_under_the_cosine_alone(kind):
    torch.testing.assert_close(made(kind)(examples(kind)).norm(dim=-1), torch.ones(6))
    lengths = made(kind, similarity="dot")(examples(kind)).norm(dim=-1)
    assert lengths.std() > 0.01


def test_an_example_is_embedded_by_itself(kind):
    model, x = made(kind), examples(kind)
    torch.testing.assert_close(torch.cat([model(one[None]) for one in x]), model(x))


def test_scales_of_features_do_not_matter(kind):
    x = examples(kind)
    scaled = Encoder(SHAPES[kind], dim=4, widths=(8, 8))
    scaled.initialise(x * 50 - 3, CLASSES, seed=1)
    torch.testing.assert_close(scaled(x * 50 - 3), made(kind)(x), rtol=1e-4, atol=1e-5)


def test_the_same_seed_is_the_same_start_and_a_loaded_state_the_same_model(kind):
    x, fresh = examples(kind), Encoder(SHAPES[kind], dim=4, widths=(8, 8))
    assert made(kind)(x).equal(made(kind)(x))
    fresh.load_state_dict(made(kind).state_dict())
    assert fresh.eval()(x).equal(made(kind)(x))


def test_a_linear_model_is_linear():
    model = made("vectors", widths=(), similarity="dot", scaling="none")
    x = examples("vectors")
    torch.testing.assert_close(model(x[:1] + x[1:2]), model(x[:1]) + model(x[1:2]), rtol=1e-4, atol=1e-3)


def test_dropout_is_keyed_and_off_in_evaluation(kind):
    model, x = made(kind, dropout=0.5), examples(kind)
    model.train()
    one, again, other = (model(x, generator=torch.Generator().manual_seed(key)) for key in (1, 1, 2))
    assert one.equal(again) and not one.equal(other)
    assert model.eval()(x, generator=torch.Generator().manual_seed(1)).equal(model(x))


def test_small_images_are_not_pooled_away():
    model = Encoder((1, 2, 1), widths=(4, 4, 4))
    model.initialise(torch.rand(3, 1, 2, 1), torch.arange(3), seed=0)
    assert model(torch.rand(2, 1, 2, 1)).shape == (2, 64)


def test_faults():
    with pytest.raises(InputError, match=r"must be of shape \(3, 9, 7\): got \(3, 7, 9\)"):
        made("images")(IMAGES.mT)
    for own, said in (({"dropout": 1.0}, "dropout"), ({"dim": 0}, "dim"), ({"widths": (0,)}, "widths")):
        with pytest.raises(InputError, match=said):
            Encoder((5,), **own)
    with pytest.raises(InputError, match=r"\(features,\) or \(channels, height, width\): got \(8, 8\)"):
        Encoder((8, 8))
    for model in (Encoder, RawFeatures):
        with pytest.raises(UnknownName, match="unknown similarity 'cosin'"):
            model((5,), similarity="cosin")


def test_registered():
    assert {entry.name for entry in MODELS if entry.kind == "examples"} == {"encoder", "raw_features"}
    raw = RawFeatures((3, 9, 7))
    assert raw(IMAGES).equal(IMAGES.flatten(1)) and not raw.trainable
