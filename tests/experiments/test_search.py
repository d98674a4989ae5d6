"""Search spaces: what losses register, what a person adds, and the configurations of values."""

import pytest

from rankwell.config import resolve
from rankwell.errors import ConfigError
from rankwell.experiments.dimensions import applied, configured, settings
from rankwell.experiments.search import space_of


def names(search=(), keep=(), **raw):
    return list(space_of(resolve(raw), search, keep))


def test_the_loss_the_learning_rate_and_the_negatives():
    assert names(loss={"name": "bpr"}) == ["training.learning_rate", "sampler.n"]
    assert names(loss={"name": "info_nce"}) == [
        "loss.temperature",
        "training.learning_rate",
    ]  # the batch is the sampler
    assert names(task="ltr", loss={"name": "hinge"}) == ["loss.margin", "training.learning_rate"]
    assert names(model={"name": "ease"}) == []  # a closed form has no loss, and no training


def test_elements_of_a_list_are_searched_each():
    config = resolve({"loss": {"name": "mml"}})
    space = space_of(config, keep=["loss.margin_weights", "loss.pos_weight"])
    assert list(space)[:3] == ["loss.margins[0]", "loss.margins[1]", "loss.margins[2]"]
    assert settings(space, configured(config, space))["loss.margins"] == [0.7, 0.8, 0.9]
    values = {**configured(config, space), "loss.margins[0]": 0.9, "loss.margins[2]": 0.1}
    assert settings(space, values)["loss.margins"] == [0.1, 0.8, 0.9]  # in order: another says the same
    assert applied(config, settings(space, values)).loss["margins"] == (0.1, 0.8, 0.9)


def test_whole_numbers_and_choices():
    space = space_of(
        resolve({"loss": {"name": "psl"}}), ["model.dim=32,64", "model.similarity", "loss.temperature=0.1:2"]
    )
    assert space["sampler.n"].whole and not space["loss.temperature"].whole
    assert space["loss.activation"].choices == ("tanh", "relu", "atan")
    assert space["model.dim"].choices == (32, 64) and space["model.similarity"].choices == ("cosine", "dot")
    assert (space["loss.temperature"].low, space["loss.temperature"].high) == (0.1, 2.0)
    assert not space["loss.temperature"].log  # what was registered does not count any more


def test_a_section_alone_takes_all_that_it_registers():
    assert {"model.dim", "model.dropout"} <= set(names(["model"]))


def test_what_lies_outside_the_range_is_no_value_of_it():
    config = resolve({"loss": {"name": "bpr"}})
    space = space_of(config, ["training.weight_decay=1e-4:1:log"])
    assert space["training.weight_decay"].log
    assert "training.weight_decay" not in configured(config, space)


def test_some_are_left_out():
    assert names(keep=["sampler.n", "loss.ratio"]) == ["loss.temperature", "training.learning_rate"]


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ("loss.temprature=1:2", "there is no loss.temprature. Did you mean 'temperature'"),
        ("los.temperature=1:2", "there is no section 'los'. Did you mean 'loss'"),
        ("loss.temperature=2:1", "an empty range"),
        ("loss.temperature=1:1", "an empty range"),
        ("loss.temperature=1:inf", "an empty range"),
        ("loss.temperature=0:1:log", "must begin above 0"),
        ("loss.temperature=a:b", "ends of a range must be numbers"),
        ("model.dim=8:8.5", "takes whole numbers: got 8.5"),
        ("model.dim=8,x", "model.dim: Input should be a valid integer"),
        ("model.dim=8", "give a range, LOW:HIGH or LOW:HIGH:log, or two values"),
        ("model.similarity=1:2", "model.similarity is no number. Give values"),
        ("training.patience", "registers no range. Give one: training.patience=LOW:HIGH"),
        ("miner", "nothing in miner registers a range"),
        ("data.valid_fraction=0.1:0.2", "data decides what is measured, and cannot be searched"),
        ("seed=1,2", "seed decides what is measured"),
    ],
)
def test_searches_that_are_wrong(search, says):
    with pytest.raises(ConfigError, match=says) as raised:
        names([search])
    assert str(raised.value).startswith(f"--search {search}: ")


def test_what_is_not_searched_cannot_be_kept():
    with pytest.raises(
        ConfigError, match=r"--keep loss.temperatur: it is not searched. Did you mean 'loss.temperature'"
    ):
        names(keep=["loss.temperatur"])
