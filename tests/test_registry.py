import math
from typing import Annotated, get_args, get_origin

import pytest

from rankwell.errors import ConfigError, UnknownName
from rankwell.losses import LOSSES
from rankwell.models import MODELS
from rankwell.registry import Input, Registry, Search


@pytest.fixture
def registry():
    return Registry("loss", {"list": ("scores", "labels")}, suffix="_loss")


def test_entry_states_the_facts(registry):
    @registry.register("list", paper="a2000", complexity="n", inputs={"ids": Input("list", "id")})
    def some_loss(scores, labels, *, ids=None, margin: Annotated[float, Search(0.1, 1.0, log=True)] = 0.5):
        """First line."""

    entry = registry["some"]
    assert (entry.name, entry.function, entry.kind, entry.paper) == ("some", some_loss, "list", "a2000")
    assert entry.summary == "First line."
    assert dict(entry.inputs) == {"ids": Input("list", "id")}
    assert list(entry.parameters) == ["margin"]
    assert entry.parameters["margin"].default == 0.5
    assert entry.parameters["margin"].search == Search(0.1, 1.0, log=True)
    assert registry.of(some_loss) is entry
    assert registry.names("list") == ["some"]
    assert "some" in registry and len(registry) == 1


def test_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown loss 'sofmax'\. Did you mean 'softmax'"):
        LOSSES["sofmax"]


def test_a_name_from_elsewhere_is_told():
    for name in ("ranknet", "RankNet", "ranknet_loss"):
        with pytest.raises(UnknownName, match=rf"unknown loss '{name}': it is called 'logistic' here\.$"):
            LOSSES[name]


def test_names_from_elsewhere_are_no_names():
    assert set(LOSSES.elsewhere.values()) <= set(LOSSES.names())
    assert not set(LOSSES.elsewhere) & set(LOSSES.names())
    assert list(LOSSES.elsewhere) == sorted(LOSSES.elsewhere)


def test_name_is_unique(registry):
    def some_loss(scores, labels): ...

    def other(scores, labels): ...

    registry.register("list")(some_loss)
    with pytest.raises(ConfigError, match="'some' is registered already"):
        registry.register("list", name="some")(other)
    registry.register("list", paper="b2001")(some_loss)  # a cell of a notebook that is run again
    assert registry["some"].paper == "b2001" and len(registry) == 1


def test_contract_parameters_must_be_there(registry):
    def some_loss(scores): ...

    with pytest.raises(ConfigError, match="it lacks labels"):
        registry.register("list")(some_loss)


def test_own_parameters_are_keyword_only_typed_with_default(registry):
    def positional_loss(scores, labels, margin: float = 1.0): ...

    def untyped_loss(scores, labels, *, margin=1.0): ...

    def without_default_loss(scores, labels, *, margin: float): ...

    for function in (positional_loss, untyped_loss, without_default_loss):
        with pytest.raises(ConfigError, match="'margin' must be keyword-only, typed and have a default"):
            registry.register("list")(function)


FILE = """
from rankwell.losses import {name}

@{name}(paper=None)
def mine_{tag}_loss(scores, labels, *, where=None, weights=None, offsets=None, reduction="mean", slope: float = 2.0):
    return slope * scores.sum()
"""


def test_loads_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(name="list_loss", tag=tmp_path.name))
    entry = LOSSES[f"{path}:mine_{tmp_path.name}_loss"]
    try:
        assert entry.parameters["slope"].default == 2.0
        assert LOSSES[f"{path}:mine_{tmp_path.name}_loss"] is entry, "the same file is not run twice"
        with pytest.raises(UnknownName, match="unknown function in"):
            LOSSES[f"{path}:other_loss"]
    finally:
        LOSSES._entries.pop(entry.name)


def test_file_that_is_not_there():
    with pytest.raises(ConfigError, match=r"there is no file 'nowhere.py'"):
        LOSSES["nowhere.py:some_loss"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def x(:\n", "SyntaxError: "),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'. Correct the file."),
        ("raise ValueError('two\\nlines.')\n", "ValueError: two lines. Correct the file."),
        (FILE.format(name="list_loss", tag="") + "1 / 0\n", "ZeroDivisionError: division by zero. Correct the file."),
        ("from rankwell.losses import list_loss\n@list_loss()\ndef x_loss(scores): ...\n", "loss 'x' must take"),
    ],
)
def test_a_file_that_does_not_run(tmp_path, text, says):
    (tmp_path / "bad.py").write_text(text)
    before = LOSSES.names()
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            LOSSES[f"{tmp_path / 'bad.py'}:x"]
        assert str(caught.value).startswith(f"{tmp_path / 'bad.py'}: {says}") and "\n" not in str(caught.value)
    assert LOSSES.names() == before


def test_a_function_that_is_not_registered(tmp_path):
    (tmp_path / "plain.py").write_text("def gap(scores, labels): ...\n")
    with pytest.raises(
        ConfigError, match="gap is not registered: decorate it with @list_loss or @contrast_loss or @em"
    ):
        LOSSES[f"{tmp_path / 'plain.py'}:gap"]
    with pytest.raises(ConfigError, match=r"decorate it with @MODELS.register\(\"interactions\"\) or @MODELS"):
        MODELS[f"{tmp_path / 'plain.py'}:gap"]


class Point:
    """An entry point of an installed package."""

    name, value = "far", "package.module"

    def __init__(self, load):
        self.load = load


def test_entry_points_are_loaded_once_to_be_listed(registry, monkeypatch):
    def some_loss(scores, labels): ...

    groups = []
    point = Point(lambda: registry.register("list")(some_loss))
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: groups.append(group) or [point])
    assert registry.names() == ["some"] and [entry.name for entry in registry] == ["some"]
    with pytest.raises(UnknownName):
        registry["other"]
    assert groups == ["rankwell.losses"]


def test_an_entry_point_that_does_not_load(registry, monkeypatch):
    point = Point(lambda: 1 / 0)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [point])
    with pytest.raises(
        ConfigError, match=r"^loss 'far' of an installed package .*: ZeroDivisionError: .*package.module"
    ):
        registry.names()


NOT_SEARCHED = {
    "approx_mrr.rel": "what counts as relevant is a fact of the labels",
    "smooth_ap.rel": "the same",
    "cross_batch_memory.hard_above": "off unless it is given",
    "cross_batch_memory.size": "memory and time decide",
    "cross_batch_memory.warm_up": "steps, of a training whose length it does not know",
    "gumbel_approx_ndcg.samples": "more samples are less noise, for time",
    "gumbel_neural_ndcg.samples": "the same",
    "gumbel_neural_ndcg.iterations": "more iterations are a closer approximation, for time",
    "neural_ndcg.iterations": "the same",
    "k_song.curvature_gamma": "of one form only, that is not the default",
    "k_song.pull": "keeps thresholds from drifting, and changes little",
    "learned_temperature.least": "a bound of what is learned",
    "reduced_cross_entropy.buckets": "how closely the full cross-entropy is met, for time and memory",
    "reduced_cross_entropy.buckets_per_chunk": "the same",
    "reduced_cross_entropy.extra_chunks": "the same",
    "reduced_cross_entropy.rounds": "the same",
    "scalable_cross_entropy.bucket_items": "the same",
    "scalable_cross_entropy.bucket_rows": "the same",
    "scalable_cross_entropy.buckets": "the same",
}
"""Numbers of losses that tuning leaves alone unless asked, and why."""


def test_every_number_of_a_loss_says_where_to_search():
    numbers = {}
    for entry in LOSSES:
        for parameter in entry.parameters.values():
            hint = parameter.annotation
            hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
            kinds = {hint, *get_args(hint)} - {bool}
            if kinds & {int, float} and entry.function.__module__.startswith("rankwell."):
                numbers[f"{entry.name}.{parameter.name}"] = parameter
    assert {name for name, parameter in numbers.items() if parameter.search is None} == set(NOT_SEARCHED)
    for name, parameter in numbers.items():
        search = parameter.search
        if search is not None:
            assert search.low < search.high and (search.low > 0 or not search.log), name
            values = parameter.default if isinstance(parameter.default, tuple) else (parameter.default,)
            assert all(search.low <= value <= search.high for value in values if value not in (None, math.inf)), name


def test_choices_search_all_their_values():
    assert str(LOSSES["psl"].parameters["activation"].search) == "all values"
    assert str(LOSSES["mml"].parameters["margins"].search) == "0.0 … 0.99, ascending"
