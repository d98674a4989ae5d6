"""What is public is listed, there, and documented."""

import importlib
import inspect
import pkgutil

import pytest

import rankwell

MODULES = [info.name for info in pkgutil.walk_packages(rankwell.__path__, "rankwell.")]
each = pytest.mark.parametrize("name", MODULES)

REACHED_OTHERWISE = dict.fromkeys(
    (
        "rankwell.losses.head_laws",
        "rankwell.losses.laws",
        "rankwell.losses.state_laws",
        "rankwell.metrics.laws",
        "rankwell.metrics.recommended_laws",
    ),
    "each law is in LAWS, by its name",
)
"""Modules whose ``__all__`` leaves public functions out, and why."""


def public(module):
    """Public functions and classes that a module defines."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and value.__name__ == name
    }


def sorting(name):
    """Constants, then classes, then the rest, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


@each
def test_all_is_sorted_and_resolves(name):
    module = importlib.import_module(name)
    listed = module.__all__
    assert listed == sorted(listed, key=sorting)
    assert len(set(listed)) == len(listed)
    assert not [one for one in listed if not hasattr(module, one)]


@each
def test_all_is_complete(name):
    if name in REACHED_OTHERWISE:
        pytest.skip(REACHED_OTHERWISE[name])
    module = importlib.import_module(name)
    assert sorted(public(module) - set(module.__all__)) == []


@each
def test_what_is_public_has_a_docstring(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for one in public(module):
        value = getattr(module, one)
        assert value.__doc__, f"{name}.{one}"
        if inspect.isclass(value):
            methods = {key: part for key, part in vars(value).items() if key[0] != "_" and inspect.isfunction(part)}
            for key, method in methods.items():
                # An override may leave it to what it overrides.
                assert inspect.getdoc(getattr(value, key)), f"{name}.{one}.{method.__name__}"


def test_top_level_names():
    assert rankwell.__all__ == [
        "Measure", "__version__", "errors", "generators", "losses", "metrics", "miners", "nn", "samplers", "similarity",
        "transforms", "types",
    ]  # fmt: skip
