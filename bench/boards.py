"""The boards of ``bench/leaderboard.py``: which data, model, budget and losses."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankwell.config import Config, resolve
from rankwell.losses import LOSSES

WORK = Path(__file__).parent.parent / "runs" / "leaderboard"
RATES = "training.learning_rate=0.001:0.03:log"
SIMILARITY = "model.similarity"
PARTS_OF_GAMES = {"gan_discriminator", "gan_generator"}
OFFERED = {"num_items"}
"""Inputs that a loss may require, since objectives of interactions know them."""


@dataclass(frozen=True)
class Board:
    """One data set and one model, with the losses that are compared on them."""

    said: str
    kind: str
    """Of losses."""
    seconds: float
    """Of one core, estimated for a run."""
    given: Mapping[str, Any]
    """The configuration; the path is told by ``--root``."""
    measures: tuple[str, ...]
    splits: int = 3
    trials: int = 6
    search: tuple[str, ...] = (RATES, SIMILARITY)
    preset: str | None = None
    files: str = ""
    """Name of the data's file or folder."""

    def losses(self) -> list[str]:
        """Those that need nothing which the data do not tell."""
        return [name for name in LOSSES.names(self.kind) if not why_not(name)]

    def configuration(self, loss: str, split: int, root: Path) -> Config:
        """With the loss's defaults."""
        given = json.loads(json.dumps(self.given))
        given.setdefault("data", {})["path"] = str(root / self.files)
        given["training"] |= {"watch_every": 0, "refit": False}
        return resolve({**given, "loss": {"name": loss}, "seed": split, **self.of_split(given, split)})

    def of_split(self, given: Mapping[str, Any], split: int) -> Mapping[str, Any]:  # noqa: ARG002
        """What differs by split, besides the seed."""
        return {}


@dataclass(frozen=True)
class Folds(Board):
    """Files S1 to S5, round and round: three to train on, one to choose on, one for the test."""

    def of_split(self, given: Mapping[str, Any], split: int) -> Mapping[str, Any]:
        """A fold, with the same seed as others."""
        files = [f"S{(split + place) % 5 + 1}.txt" for place in range(5)]
        return {"seed": 0, "data": {**given["data"], "train": files[:3], "valid": files[3:4], "test": files[4:]}}


def interactions(said: str, files: str, model: str, seconds: float, epochs: int, every: int, **more: Any) -> Board:
    names = {"user": "userId", "item": "movieId"} if files.endswith("ratings.csv") else {}
    training = {"epochs": epochs, "batch_size": 2_048, "validate_every": every, "patience": 3}
    given = {
        "data": names,
        "model": {"name": model, "dim": 64},
        "sampler": {"name": "uniform", "n": 256, "shared": True},
        "training": training,
        "evaluation": {"measures": ["recall@20", "ndcg@20"], "monitor": "ndcg@20"},
    }
    return Board(said, "contrast", seconds, given, ("ndcg@20", "recall@20"), files=files, **more)


ML, BEAUTY = "ml-latest-small/ratings.csv", "beauty/Beauty.txt"
BOARDS: dict[tuple[str, str], Board] = {
    ("gowalla", "mf"): interactions("Gowalla, factorisation, 4 epochs, a seed", "gowalla", "mf", 45, 4, 2, splits=1, trials=4),
    ("ml", "mf"): interactions("ml-latest-small, matrix factorisation, 20 epochs", ML, "mf", 15, 20, 2),
    ("beauty", "mf"): interactions("Beauty, matrix factorisation, 20 epochs", BEAUTY, "mf", 32, 20, 2),
    ("ml", "lightgcn"): interactions("ml-latest-small, LightGCN, 20 epochs", ML, "lightgcn", 25, 20, 2, trials=4),
    ("beauty", "lightgcn"): interactions("Beauty, LightGCN, 10 epochs", BEAUTY, "lightgcn", 45, 10, 2, trials=4),
    ("mq2008", "mlp"): Folds(
        "MQ2008, five folds, network of 46 features, 12 epochs",
        "list",
        3,
        {
            "task": "ltr",
            "data": {},
            "model": {"name": "mlp", "widths": [64, 32], "dropout": 0.1},
            "training": {"epochs": 12, "batch_size": 64, "patience": 0},
            "evaluation": {"measures": ["ndcg@10", "ap"], "monitor": "ndcg@10"},
        },
        ("ndcg@10", "ap"),
        splits=5,
        search=(RATES,),
        preset="letor",
        files="mq2008",
    ),
    ("scifact", "adapter"): Board(
        "SciFact, a linear map of frozen MiniLM vectors, 20 epochs",
        "embedding",
        4,
        {
            "task": "retrieval",
            "data": {},
            "model": {"name": "adapter", "cache": str(WORK / "vectors")},
            "training": {"patience": 0},
            "evaluation": {"measures": ["ndcg@10", "recall@100"], "monitor": "ndcg@10"},
        },
        ("ndcg@10", "recall@100"),
        search=("training.learning_rate=0.0001:0.01:log",),
        files="scifact",
    ),
}  # fmt: skip


def why_not(loss: str) -> str:
    """Why a loss is on no board; empty where it is on one."""
    if loss in PARTS_OF_GAMES:
        return "one side of a game"
    needed = [name for name, given in LOSSES[loss].inputs.items() if given.required and name not in OFFERED]
    return f"needs {', '.join(needed)}" if needed else ""
