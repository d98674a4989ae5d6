"""Miners from their text, as a command line or a configuration gives it."""

import ast
import inspect

from rankwell.errors import ConfigError, InputError
from rankwell.miners.miner import MINERS, Miner

__all__ = ["is_one", "parse"]


def parse(text: str) -> Miner:
    """The miner of its text: names from the registry, called with numbers and words, and joined by ``&``.

    >>> parse("false_negative_filter(fraction=0.9) & hardest")
    false_negative_filter(0.9, margin=0.0, by='scores') & hardest(10)

    Raises:
        ConfigError: if the text is anything else, or a parameter is unknown or of another type.
        UnknownName: if a name is not registered.
        InputError: if a parameter is out of its range.
    """
    try:
        return _read(ast.parse(text.strip(), mode="eval").body, text)
    except (SyntaxError, ValueError) as error:
        if isinstance(error, (ConfigError, InputError)):
            raise
        raise _refused(text) from error


def is_one(text: str) -> bool:
    """Whether the text is one bare name (or ``FILE.py:function``), whose parameters stand elsewhere.

    >>> is_one("hardest"), is_one("hardest(3)"), is_one("hard & hardest")
    (True, False, False)
    """
    return ".py:" in text or text.isidentifier()


def _read(node: ast.expr, text: str) -> Miner:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        return _read(node.left, text) & _read(node.right, text)
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise _refused(text)
    make = MINERS[call.func.id].function
    values = [ast.literal_eval(value) for value in call.args]
    own = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    try:
        inspect.signature(make).bind(*values, **own)
        return make(*values, **own)
    except TypeError as error:
        raise ConfigError(f"miner {ast.unparse(call)}: {error}. See the parameters of {call.func.id}.") from error


def _refused(text: str) -> ConfigError:
    return ConfigError(
        f"miner {text!r} must be names with parameters, joined by &, as 'hardest(10) & false_negative_filter(0.95)'."
    )
