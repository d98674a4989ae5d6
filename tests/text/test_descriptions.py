"""From attributes to training: offline descriptions, their vectors, and a model that learns with them."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch

from rankwell.data import Interactions
from rankwell.errors import ConfigError, DataError, InputError
from rankwell.generators import SemanticNegatives, SyntheticMix
from rankwell.losses import bpr_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import UniformSampler
from rankwell.text.descriptions import DescribeSettings, describe
from rankwell.text.offline import OfflineWriter
from rankwell.text.prompts import load_template
from rankwell.text.table import Table
from rankwell.training import ContrastObjective, TrainingSettings, fit

USERS = 8


@pytest.fixture
def data():
    """Each user has three of the twelve items; the last has none."""
    users = np.repeat(np.arange(USERS - 1), 3)
    items = (users * 2 + np.tile([0, 3, 7], USERS - 1)) % 12
    ids = pl.Series([f"u{user}" for user in range(USERS)]), pl.Series([f"i{item}" for item in range(12)])
    return Interactions(users, items.astype(np.int64), *ids)


class Recorder:
    """Writes what a prompt is about, and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def write(self, prompts, **_):
        self.asked += prompts
        return [f"written for {prompt.id}" for prompt in prompts]


class Lengths:
    """A text's vector is its length and its number of blanks."""

    def __init__(self):
        self.texts = []

    def encode(self, texts, **_):
        self.texts += texts
        return torch.tensor([[float(len(text)), float(text.count(" "))] for text in texts])


def made(data, pots, writer=None, encoder=None, **own):
    parts = {"writer": writer or Recorder(), "encoder": encoder or Lengths(), "template": load_template("hnlmrec")}
    return describe(
        data.user_ids.to_list(), data.item_ids.to_list(), data.known(), pots, settings=DescribeSettings(**own), **parts
    )


def test_a_users_negatives_are_about_items_of_the_users(data, pots):
    writer = Recorder()
    table = made(data, pots, writer, k=4, history=2, seed=1)
    assert table.users == [f"u{user}" for user in range(USERS - 1)] and table.items is None  # not the one without items
    assert len(writer.asked) == (USERS - 1) * 4 and len({prompt.id for prompt in writer.asked}) == len(writer.asked)
    known = data.known()
    for user in range(USERS - 1):
        own = {f"i{item}" for item in known.values[known.offsets[user] : known.offsets[user + 1]].tolist()}
        prompts = writer.asked[4 * user : 4 * user + 4]
        assert sorted(Counter(prompt.about for prompt in prompts).values()) == [1, 1, 2]
        assert {prompt.about for prompt in prompts} == own
        for prompt in prompts:
            assert pots.text(prompt.about) in prompt.user
            taste = prompt.user[prompt.user.index("The user:") : prompt.user.index("The chosen item:")]
            assert sum(pots.text(item) in taste for item in own) == 2 == taste.count("title:")


def test_vectors_are_those_of_the_texts(data, pots):
    writer = Recorder()
    table = made(data, pots, writer, k=2)
    lengths = [len(f"written for {prompt.id}") for prompt in writer.asked]
    assert table.vectors[..., 0].flatten().tolist() == lengths
    assert table.item_vectors[:, 0].tolist() == [len(pots.text(name)) for name in data.item_ids]


def test_pairs(data, pots):
    writer = Recorder()
    table = made(data, pots, writer, per="pair", k=3)
    assert table.vectors.shape == (21, 3, 2)
    described = table.aligned(data.user_ids.to_list(), data.item_ids.to_list(), *data.tensors())
    assert sorted(described.rows.tolist()) == list(range(21))
    for row, (user, item) in enumerate(zip(*data.tensors(), strict=True)):
        place = described.rows[row].item()
        assert (table.users[place], table.items[place]) == (f"u{user}", f"i{item}")
        assert {prompt.about for prompt in writer.asked[3 * place : 3 * place + 3]} == {f"i{item}"}


def test_profiles_come_first(data, pots):
    writer = Recorder()
    made(data, pots, writer, profiles=True, k=1)
    whose = [prompt.id.partition("/")[0] for prompt in writer.asked]
    assert whose[:12] == ["item_profile"] * 12 and whose[12:19] == ["user_profile"] * 7
    assert "profile: written for item_profile/" in writer.asked[12].user
    last = writer.asked[-1].user
    assert "The user: written for user_profile/u6" in last and "profile: written for item_profile/" in last


def test_a_text_is_encoded_once(data, pots):
    class Same(Recorder):
        def write(self, prompts, **_):
            return [pots.text("i0")] * len(prompts)

    encoder = Lengths()
    table = made(data, pots, Same(), encoder)
    assert len(encoder.texts) == 12 and table.vectors[6, 1].equal(table.item_vectors[0])


def test_what_is_missing(data, pots):
    with pytest.raises(DataError, match="no attributes of item 'i0'"):
        made(data, type(pots)({"other": {"title": "x"}}))
    with pytest.raises(InputError, match="a user with an item"):
        made(data.take(np.zeros(len(data), dtype=bool)), pots)
    with pytest.raises(ConfigError, match="per must be"):
        DescribeSettings(per="item")
    with pytest.raises(ConfigError, match="k 0"):
        DescribeSettings(k=0)


@pytest.mark.parametrize("generator", [SemanticNegatives, SyntheticMix], ids=["semantic", "synthetic_mix"])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_model_learns_with_described_negatives(data, pots, minilm, tmp_path, generator, similarity):
    table = made(data, pots, OfflineWriter(pots, seed=0), minilm, k=2)
    table.save(tmp_path / "negatives.safetensors")
    described = Table.load(tmp_path / "negatives.safetensors").aligned(
        data.user_ids.to_list(), data.item_ids.to_list(), *data.tensors()
    )
    assert described.vectors.shape == (7, 2, 384) and (described.rows >= 0).all()

    def trained():
        model = MatrixFactorisation(data.num_users, data.num_items, dim=6, similarity=similarity, init="normal")
        model.initialise(data.known(), seed=0)
        objective = ContrastObjective(
            model,
            bpr_loss,
            UniformSampler(data.known(), data.num_items, seed=0, n=4, shared=False),
            seed=0,
            generator=generator(data.known(), data.num_items, 6, seed=0, k=3, described=described),
        )
        settings = TrainingSettings(epochs=1, batch_size=5, learning_rate=0.05)
        before = {name: value.clone() for name, value in objective.groups["generator"].named_parameters()}
        history = fit(objective, data.tensors(), settings, seed=0, folder=tmp_path / str(len(list(tmp_path.iterdir()))))
        moved = {
            name: not before[name].equal(value) for name, value in objective.groups["generator"].named_parameters()
        }
        return history.epochs[0].loss, moved, model.items.detach().clone()

    first, again = trained(), trained()
    assert first[0] == again[0] and first[2].equal(again[2])
    assert 0 < first[0] < 5 and all(first[1].values())
