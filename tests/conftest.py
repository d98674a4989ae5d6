"""Shapes in signatures are checked at run time, in tests only."""

import functools
import inspect

import jaxtyping
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
