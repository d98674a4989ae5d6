"""The runs of ``bench/mml_claim.py``: contenders, parts, settings, and their order."""

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from encoders import COLUMNS

from rankwell.config import Config, resolve
from rankwell.losses import LOSSES

MEASURES = ("recall@20", "ndcg@20")
MONITOR = "ndcg@20"

Own = dict[str, Any]


def steepest(own: Mapping[str, Any]) -> float:
    """MML's slope above its last margin: CCL's ``neg_weight`` of the same slope.

    >>> steepest({"neg_weight": 400.0, "margin_weights": (0.05, 0.15, 0.2, 0.6)})
    400.0
    """
    return float(round(own["neg_weight"] * sum(own["margin_weights"]), 9))


def one_margin(own: Mapping[str, Any]) -> float:
    """The margin of the one hinge that equals MML's push above its last margin.

    >>> one_margin({"margins": (0.7, 0.8, 0.9), "margin_weights": (0.10, 0.15, 0.75)})
    0.865
    """
    weighted = sum(margin * weight for margin, weight in zip(own["margins"], own["margin_weights"], strict=True))
    return float(round(weighted / sum(own["margin_weights"]), 9))


CCL, MML = ({name: own.default for name, own in LOSSES[loss].parameters.items()} for loss in ("ccl", "mml"))
"""The published parameters, which are the losses' defaults."""

CONTENDERS: dict[str, tuple[str, Own]] = {
    "ccl": ("CCL, w 150", {"name": "ccl"}),
    "ccl_slope": ("CCL, w 700", {"name": "ccl", "neg_weight": steepest(MML)}),
    "mml_slope": ("MML, slope 150", {"name": "mml", "neg_weight": CCL["neg_weight"] * MML["neg_weight"] / steepest(MML)}),
    "mml_one": ("MML, one margin", {"name": "ccl", "neg_weight": steepest(MML), "margin": one_margin(MML)}),
    "mml": ("MML", {"name": "mml"}),
    "bsl": ("BSL", {"name": "bsl"}),
    "sampled_softmax": ("sampled softmax", {"name": "sampled_softmax"}),
}  # fmt: skip
TUNED = ("ccl", "mml", "bsl", "sampled_softmax")
TRIALS = 7


@dataclass(frozen=True)
class Part:
    """Runs that have the same recipe."""

    said: str
    negatives: int
    seconds: float
    """Of one core, estimated for a run."""
    shared: bool = False
    data: tuple[str, ...] = ("gowalla",)
    models: tuple[str, ...] = ("mf",)
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    batch: int = 1_024
    epochs: int = 8
    validate_every: int = 2


PARTS = {
    "few": Part("10 negatives a positive", 10, 200),
    "shared": Part("800 negatives shared by the batch", 800, 140, shared=True),
    "paper": Part(
        "10 a positive, the paper's recipe", 10, 3_400, contenders=("ccl", "mml"), batch=256, epochs=100, validate_every=5
    ),
    "tune": Part("10 a positive, settings of the tuning", 10, 200, contenders=TUNED),
    "tuned": Part("10 a positive, tuned", 10, 200, contenders=TUNED),
    "small": Part("10 a positive, small data", 10, 95, data=("ml", "beauty"), models=("simplex", "lightgcn")),
    "many": Part("100 a positive", 100, 1_080),
}  # fmt: skip
SMALL_EPOCHS = {("ml", "lightgcn"): 24}
SMALL_RATE = 0.01


@dataclass(frozen=True)
class Run:
    """One run; ``trial`` is the setting of a tuning."""

    part: str
    data: str
    model: str
    contender: str
    seed: int
    trial: int | None = None

    @property
    def name(self) -> str:
        """What it is stored as."""
        trial = "" if self.trial is None else f" trial {self.trial}"
        negatives = PARTS[self.part].negatives
        return f"{self.part} {self.data} {self.model} {self.contender} {negatives} seed {self.seed}{trial}"


def drawn(contender: str, trial: int) -> Own:
    """A setting of the tuning: the published one first, then random ones, the same at each call."""
    name = CONTENDERS[contender][1]["name"]
    if trial == 0:
        return {"name": name}
    numbers = random.Random(f"{contender} {trial}")

    def among(low: float, high: float, *, log: bool = False) -> float:
        value = low * (high / low) ** numbers.random() if log else numbers.uniform(low, high)
        return float(f"{value:.3g}")

    rate = among(0.003, 0.05, log=True)
    own: Own = {"name": name, "rate": rate}
    if contender == "mml":
        top, gap = among(0.5, 0.95), among(0.03, 0.2)
        own["margins"] = [round(top - 2 * gap, 4), round(top - gap, 4), top]
    if contender == "ccl":
        own["margin"] = among(0.5, 0.95)
    if contender in ("ccl", "mml"):
        own["neg_weight"] = among(30, 1_500, log=True)
    else:
        own["temperature"] = among(0.05, 0.3, log=True)
    if contender == "bsl":
        own["ratio"] = among(0.8, 1.6)
    return own


def trial_name(contender: str, data: str, model: str, trial: int) -> str:
    """What a setting's run is stored as; the published one has been run before."""
    if trial == 0:
        return Run("few", data, model, contender, 0).name
    return Run("tune", data, model, contender, 0, trial).name


def best_trial(runs: Mapping[str, Any], contender: str, data: str, model: str) -> int | None:
    """The setting with the best validation; None before all of them have run. The test figures are not looked at."""
    names = {trial: trial_name(contender, data, model, trial) for trial in range(TRIALS)}
    if any(name not in runs for name in names.values()):
        return None
    ended = [trial for trial, name in names.items() if "error" not in runs[name]]
    return max(ended, key=lambda trial: runs[names[trial]]["held_out"]["validation"], default=None)


def configuration(run: Run, path: str, trial: int | None = None) -> Config:
    part = PARTS[run.part]
    loss = dict(CONTENDERS[run.contender][1] if trial is None else drawn(run.contender, trial))
    training: Own = {
        "epochs": SMALL_EPOCHS.get((run.data, run.model), part.epochs),
        "batch_size": part.batch,
        "validate_every": part.validate_every,
        "patience": 0,
        "watch_every": 0,
    }
    if "rate" in loss:
        training["learning_rate"] = loss.pop("rate")
    given: Own = {
        "data": {"path": path, **COLUMNS[run.data]},
        "model": {"name": run.model, "dim": 64},
        "loss": loss,
        "sampler": {"name": "uniform", "n": part.negatives, "shared": part.shared},
        "training": training,
        "evaluation": {"measures": list(MEASURES), "monitor": MONITOR},
        "seed": run.seed,
    }
    if run.part == "small":
        training["learning_rate"] = SMALL_RATE
    if run.part == "paper":
        training |= {"learning_rate": 1e-4, "schedule": "constant"}
        given["model"] |= {"init": "normal", "init_std": 1e-4, "dropout": 0.1}
        given["sampler"]["collisions"] = "keep"
    return resolve(given)


def ordered(data: str | None, only: list[str], negatives: list[int], seeds: list[int]) -> Iterator[list[Run]]:
    """Runs in stages: those of one stage do not need each other."""
    first, others = [seed for seed in seeds if seed == 0], [seed for seed in seeds if seed != 0]
    stages: list[tuple[str, list[int]]] = [
        ("few", first),
        ("shared", first),
        ("paper", first),
        ("few", others),
        ("shared", others),
        ("tune", first),
        ("tuned", others),
        ("small", first),
        ("small", others),
        ("many", first),
        ("many", others),
    ]
    for name, of in stages:
        part = PARTS[name]
        if (only and name not in only) or (negatives and part.negatives not in negatives):
            continue
        places = [each for each in part.data if data in (None, each)]
        trials = range(1, TRIALS) if name == "tune" else (None,)
        runs = itertools.product(of, places, part.models, part.contenders, trials)
        stage = [Run(name, at, model, contender, seed, trial) for seed, at, model, contender, trial in runs]
        if stage:
            yield stage
