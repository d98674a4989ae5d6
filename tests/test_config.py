import math
import tomllib
from typing import Annotated

import pytest
import tomli_w

from rankwell.config import Config, listed, load_toml, resolve, with_option
from rankwell.errors import ConfigError, UnknownName
from rankwell.losses import LOSSES
from rankwell.tasks import Recommendation


def from_text(tmp_path, text):
    file = tmp_path / "train.toml"
    file.write_text(text)
    return resolve(load_toml(file), "train.toml")


def from_options(*options):
    raw = {}
    for path, value in options:
        with_option(raw, path, value)
    return resolve(raw, "options")


def test_everything_has_a_default():
    config = resolve({})
    assert config.loss["name"] == "bsl" and config.model["name"] == "mf" and config.sampler["name"] == "uniform"
    assert config.data.path == "synthetic" and config.evaluation.monitor in config.evaluation.measures
    assert config.parameters("model").keys() == {"dim", "similarity", "dropout", "init", "init_std"}


def test_layers(tmp_path, monkeypatch):
    """Each layer sets one more than the layer below, and changes one of what that set."""
    recipe = {"model": {"dim": 3, "dropout": 0.5}, "training": {"epochs": 7, "patience": 9}}
    monkeypatch.setattr(Recommendation, "recipes", {"hinge": recipe})
    file = tmp_path / "train.toml"
    file.write_text('loss = "hinge"\n[model]\ndropout = 0.25\n[training]\nbatch_size = 5\nepochs = 8\n')
    raw = load_toml(file)
    with_option(raw, "training.batch_size", "6")
    with_option(raw, "loss.margin", "2")
    config = resolve(raw)
    assert (config.model["dim"], config.model["dropout"]) == (3, 0.25)  # recipe; TOML over recipe
    assert (config.training.epochs, config.training.patience, config.training.batch_size) == (8, 9, 6)
    assert config.loss == {"name": "hinge", "margin": 2.0, "temperature": 1.0}
    assert config.training.learning_rate == resolve({}).training.learning_rate


def test_the_recipe_of_another_loss_does_not_count(monkeypatch):
    monkeypatch.setattr(Recommendation, "recipes", {"hinge": {"training": {"epochs": 7}}})
    assert from_options(("loss", "bpr")).training.epochs == Config().training.epochs
    assert from_options(("loss", "hinge")).training.epochs == 7
    assert from_options(("loss", "hinge"), ("training.epochs", "4")).training.epochs == 4


def test_a_recipe_for_one_model_leaves_another_alone(monkeypatch):
    monkeypatch.setattr(Recommendation, "recipes", {"bpr": {"model": {"similarity": "dot"}, "training": {"epochs": 3}}})
    config = from_options(("loss", "bpr"), ("model", "graph_filter"))
    assert config.model == {"name": "graph_filter", "rank": 256, "alpha": 0.3} and config.training.epochs == 3


def test_a_recipe_of_no_model_in_particular_is_for_those_that_have_its_parameters(monkeypatch):
    recipe = {"model": {"similarity": "dot", "layers": 1}}
    monkeypatch.setattr(Recommendation, "recipes", {"bpr": recipe, "hinge": {"model": {"name": "mf", "dim": 3}}})
    of = {name: from_options(("loss", "bpr"), ("model", name)).model for name in ("mf", "lightgcn", "graph_filter")}
    assert (of["mf"]["similarity"], of["lightgcn"]["similarity"], of["lightgcn"]["layers"]) == ("dot", "dot", 1)
    assert "layers" not in of["mf"] and "similarity" not in of["graph_filter"]
    assert from_options(("loss", "bpr"), ("model.similarity", "cosine")).model["similarity"] == "cosine"
    assert from_options(("loss", "hinge"), ("model", "lightgcn")).model["dim"] == 64
    with pytest.raises(UnknownName, match="Did you mean 'lightgcn'"):
        from_options(("loss", "bpr"), ("model", "lightgnc"))


def test_a_recipe_of_a_model_chooses_the_loss_unless_one_is_given(monkeypatch):
    recipe = {"loss": {"name": "sampled_softmax", "temperature": 2.0}, "sampler": {"name": "uniform", "n": 7}}
    monkeypatch.setattr(Recommendation, "recipes", {"neumf": recipe})
    config = from_options(("model", "neumf"))
    assert config.loss == {"name": "sampled_softmax", "temperature": 2.0} and config.sampler["n"] == 7
    config = from_options(("model", "neumf"), ("loss", "ccl"))
    assert config.loss["name"] == "ccl" and config.sampler["n"] == 7
    assert from_options(("model", "mf")).loss["name"] == Recommendation.defaults["loss"]["name"]


def test_recipes_resolve():
    for name in Recommendation.recipes:
        section = "loss" if name in LOSSES else "model"
        assert from_options((section, name)).as_dict()[section]["name"] == name


def test_dotted_options():
    raw = {"loss": {"name": "mml"}}
    for path, value in [("loss.neg_weight", "4"), ("seed", "3"), ("model", "mf"), ("model.dim", "8")]:
        with_option(raw, path, value)
    assert raw == {"loss": {"name": "mml", "neg_weight": "4"}, "seed": "3", "model": {"name": "mf", "dim": "8"}}
    config = resolve(raw)
    assert config.loss["neg_weight"] == 4.0 and config.seed == 3 and config.model["dim"] == 8
    with pytest.raises(ConfigError, match="seed is not a section"):
        with_option(raw, "seed.x", "1")


def test_a_miner_and_its_parameters(tmp_path):
    assert from_options().miner == {"name": "none"}
    assert from_options(("miner", "hardest"), ("miner.k", "3")).miner == {"name": "hardest", "k": 3}
    config = from_text(tmp_path, 'miner = "false_negative_filter"\n')
    assert config.miner == {"name": "false_negative_filter", "fraction": 0.95, "margin": 0.0, "by": "scores"}
    several = from_options(("miner", "false_negative_filter(0.9) & hardest(k=3)"))
    assert several.miner == {"name": "false_negative_filter(0.9, margin=0.0, by='scores') & hardest(3)"}
    assert resolve(several.as_dict()) == several
    assert resolve(config.as_dict()) == config and set(config.parameters("miner")) == {"fraction", "margin", "by"}


def test_a_later_loss_keeps_no_parameters_of_its_own_accord():
    raw = {"loss": {"name": "hinge", "margin": 2}}
    with_option(raw, "loss", "bpr")
    with pytest.raises(ConfigError, match=r"loss.margin: bpr has no such parameter"):
        resolve(raw)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([("trainin.epochs", "3")], r"^options: unknown key trainin. Did you mean 'training'\?$"),
        ([("training.epoch", "3")], r"^options: unknown key training.epoch. Did you mean 'epochs'\?$"),
        ([("data.pth", "x")], r"^options: unknown key data.pth. Did you mean 'path'\?$"),
        ([("evaluation.measure", "x")], r"unknown key evaluation.measure. Did you mean 'measures'\?$"),
        (
            [("loss", "hinge"), ("loss.margn", "2")],
            r"^options: loss.margn: hinge has no such parameter. Did you mean 'margin'\?$",
        ),
        ([("model.dimm", "2")], r"model.dimm: mf has no such parameter. Did you mean 'dim'\?$"),
        ([("sampler.m", "2")], r"sampler.m: uniform has no such parameter. Known: collisions, n, shared.$"),
        ([("miner.k", "2")], r"miner.k: none has no such parameter. There are none.$"),
        ([("miner", "hardest(2)"), ("miner.k", "3")], r"miner.k: the parameters of 'hardest\(2\)' belong in its par"),
        ([("miner", "hardest"), ("miner.k", "few")], "miner.k: .*integer.*: got 'few'"),
        ([("loss", "ordinal")], "'ordinal' is of kind 'graded'"),
        ([("loss", "info_nce"), ("sampler", "uniform")], "whose negatives are the batch's other items"),
        ([("training.epochs", "many")], r"^options: training.epochs: .*integer.*: got 'many'\.$"),
        ([("training.epochs", "0")], r"^options: training: epochs must be at least 1: got 0\.$"),
        ([("training.learning_rate", "nan")], r"^options: training.learning_rate: .*finite.*nan.*\.$"),
        (
            [("training.schedule", "cosin")],
            r"training.schedule: Input should be 'constant', 'cosine' or 'linear': got 'cosin'\.$",
        ),
        ([("training.refit", "perhaps")], "training.refit: .*boolean.*: got 'perhaps'"),
        ([("data.valid_fraction", "1")], "data.valid_fraction: Input should be less than 1: got '1'"),
        ([("data.unseen", "dropp")], "data.unseen: Input should be 'error', 'drop' or 'keep': got 'dropp'"),
        ([("evaluation.block", "0")], "evaluation.block: .*greater than or equal to 1: got '0'"),
        (
            [("evaluation.measures", "recall(rel=4)@20")],
            r"recall\(rel=4\)@20: held-out .* rel must be at most 1, got 4",
        ),
        ([("evaluation.monitor", "P(rel=0)@3")], "precision: rel must be above 0"),
        ([("seed", "-1")], "seed: Input should be greater than or equal to 0: got '-1'"),
        ([("data", "x")], "data: Input should be a valid dictionary"),
        ([("loss.temperature", "hot")], "loss.temperature: .*number.*: got 'hot'"),
        ([("loss.temperature", "inf")], "loss.temperature: .*finite.*: got 'inf'"),
        ([("loss.form", "cod")], "loss.form: Input should be 'code' or 'paper': got 'cod'"),
        ([("model.dim", "2.5")], "model.dim: .*integer.*: got '2.5'"),
        ([("sampler.shared", "3")], "sampler.shared: .*boolean.*: got '3'"),
        ([("loss", "mml"), ("loss.margins", "0.1,x")], r"loss.margins: .*number.*: got \['0.1', 'x'\]"),
    ],
)
def test_what_is_wrong_is_said(options, says):
    with pytest.raises(ConfigError, match=says):
        from_options(*options)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("loss", "mmll", "unknown loss 'mmll'. Did you mean 'mml'?"),
        ("model", "graph_filtre", "unknown model 'graph_filtre'. Did you mean 'graph_filter'?"),
        ("sampler", "unifrom", "unknown sampler 'unifrom'. Did you mean 'uniform'?"),
        ("miner", "hardets", "unknown miner 'hardets'. Did you mean 'hardest'?"),
        ("evaluation.measures", "recall@20,ndgc@10", "unknown metric 'ndgc'. Did you mean 'ndcg'?"),
        ("evaluation.monitor", "recal@5", "unknown metric 'recal'. Did you mean 'recall'?"),
    ],
)
def test_unknown_names(path, value, says):
    with pytest.raises(UnknownName) as caught:
        from_options((path, value))
    assert str(caught.value) == says


def test_names_that_are_no_text():
    with pytest.raises(UnknownName, match="unknown model '3'"):
        resolve({"model": {"name": 3}})


def test_lists_from_text():
    config = from_options(("loss", "mml"), ("loss.margins", "0.7,0.8"), ("loss.margin_weights", "[0.5, 1]"))
    assert config.loss["margins"] == (0.7, 0.8) and config.loss["margin_weights"] == (0.5, 1.0)
    assert from_options(("loss", "mml"), ("loss.margins", "(0.7)")).loss["margins"] == (0.7,)
    assert listed(" a, b(c=1,d=2)@3 ,e") == ["a", "b(c=1,d=2)@3", "e"]
    assert listed([1, 2]) == [1, 2]


def test_measures():
    config = from_options(("evaluation.measures", "nDCG@10,Recall@5,ndcg@10,ndcg(gain=linear,ties=order)@10,auc"))
    expected = ["ndcg@10", "recall@5", "ndcg(gain=linear,ties=order)@10", "auc"]
    assert config.evaluation.measures == [*expected, "ndcg@20"]  # the monitor is measured too, duplicates once
    config = from_options(("evaluation.measures", "recall@5,mrr@3"), ("evaluation.monitor", "RR@3"))
    assert (config.evaluation.measures, config.evaluation.monitor) == (["recall@5", "mrr@3"], "mrr@3")


@pytest.mark.parametrize(
    "options",
    [
        [],
        [("loss", "mml"), ("loss.margins", "0.5,0.6,0.75"), ("loss.neg_weight", "4")],
        [("loss", "hinge"), ("data.path", 'a "quoted" \\ path'), ("data.timestamp", "t"), ("threads", "2")],
        [("model", "graph_filter"), ("model.rank", "4"), ("evaluation.measures", "ndcg(gain=linear,ties=order)@10")],
        [("loss", "bpr"), ("sampler.shared", "false"), ("training.refit", "no"), ("training.weight_decay", "1e-7")],
    ],
)
def test_round_trip_through_toml(options, tmp_path):
    config = from_options(*options)
    text = tomli_w.dumps(config.as_dict())
    again = from_text(tmp_path, text)
    assert again == config
    assert tomllib.loads(text) == tomllib.loads(tomli_w.dumps(again.as_dict()))


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no configuration file .*none.toml"):
        load_toml(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"train.toml is not TOML: .*line 1"):
        from_text(tmp_path, "loss = \n")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bytes.toml is not TOML"):
        load_toml(tmp_path / "bytes.toml")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load_toml(tmp_path)


def test_the_file_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^train.toml: loss.margn: hinge has no such parameter. Did you mean 'margin'\?$"
    ):
        from_text(tmp_path, '[loss]\nname = "hinge"\nmargn = 2\n')
    with pytest.raises(ConfigError, match=r"^train.toml: unknown key training.epoch. Did you mean 'epochs'\?$"):
        from_text(tmp_path, "[training]\nepoch = 2\n")


def test_values_do_not_change():
    config = resolve({})
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


def test_annotated_and_plain_parameters_are_typed():
    from rankwell import config as module
    from rankwell.registry import Parameter

    assert module._typed(Parameter("a", Annotated[int, "x"], 1), "7", "a") == 7
    with pytest.raises(ConfigError, match=r"^a: .*finite"):
        module._typed(Parameter("a", float, 1.0), math.nan, "a")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seed = true", "train.toml: seed: "),
        ("[training]\nepochs = true", "train.toml: training.epochs: "),
        ("[evaluation]\nblock = true", "train.toml: evaluation.block: "),
        ("[model]\ndim = true", "train.toml: model.dim: "),
        ("[loss]\ntemperature = true", "train.toml: loss.temperature: "),
    ],
)
def test_true_is_no_number(tmp_path, text, says):
    with pytest.raises(ConfigError) as caught:
        from_text(tmp_path, text)
    assert str(caught.value) == f"{says}Input should be a number: got True."


def test_true_is_true(tmp_path):
    config = from_text(tmp_path, "[training]\nrefit = false\n[sampler]\nshared = true")
    assert config.training.refit is False and config.sampler["shared"] is True


def test_a_tab_as_a_shell_passes_it_on():
    assert from_options(("data.delimiter", r"\t")).data.delimiter == "\t"
