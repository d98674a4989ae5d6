"""Every example runs, and does what it is an example of."""

import importlib.util
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"learning_to_rank", "own_loop"}


def test_own_loop_learns():
    figures = load("own_loop").main()
    assert figures["after"] > 0.9 > figures["before"]


def test_learning_to_rank_finds_what_no_feature_shows():
    figures = load("learning_to_rank").main()
    assert min(figures[name] for name in ("LambdaMART", "softmax", "LambdaRank")) > figures["best feature"] + 0.1
