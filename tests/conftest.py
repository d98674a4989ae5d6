"""Shapes in signatures are checked at run time, in tests only."""

import functools
import importlib.util
import inspect
from pathlib import Path

import jaxtyping
import pytest
import torch
from beartype import BeartypeConf, beartype

CHECKED = ["generators", "kernels", "lists", "losses", "metrics", "miners", "models", "samplers", "similarity", "text"]
typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
jaxtyped = jaxtyping.jaxtyped


def checked(function=None, **_):
    """What the import hook decorates with: ``jaxtyped``, for functions whose annotations name shapes (mypy has the rest).

    A call that breaks an annotation is made nevertheless, so that tests of bad input see our sentence; only where we have
    none does the checker speak. And what ``torch.compile`` traces is the functions themselves.
    """
    if function is None:
        return checked
    if torch.compiler.is_compiling():
        return function
    if isinstance(function, staticmethod | classmethod):
        return type(function)(checked(function.__func__))
    if not inspect.isfunction(function) or "jaxtyping" not in str(function.__annotations__):
        return function
    strict = jaxtyped(function, typechecker=typechecker)

    @functools.wraps(function)
    def call(*args, **kwargs):
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            return strict(*args, **kwargs)
        except jaxtyping.TypeCheckError:
            function(*args, **kwargs)
            raise

    return call


# The hook writes ``@jaxtyping.jaxtyped(…)`` above every function of these modules, in every process that loads this file.
jaxtyping.jaxtyped = checked
jaxtyping.install_import_hook([f"rankwell.{name}" for name in CHECKED], "beartype.beartype")


@pytest.fixture(scope="session")
def write_transformer():
    """Writes a tiny transformer into a folder; see ``tiny_transformer.py``."""
    place = Path(__file__).with_name("tiny_transformer.py")
    spec = importlib.util.spec_from_file_location("tiny_transformer", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_transformer


@pytest.fixture
def set_threads():
    """``torch.set_num_threads``, for the test alone."""
    threads = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(threads)
