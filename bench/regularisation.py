"""Regularisation at work: each option by itself against none, on recommendation by factors, on generated interactions.

    OMP_NUM_THREADS=1 python bench/regularisation.py run [--seeds 0,1,2]
    python bench/regularisation.py table

A seed generates 600 users with 20 pairs each (``rankwell train synthetic``). A fifth of their pairs is for the test, a tenth
of the rest for validation, at random. Factors of 64 numbers, dot scores, normal start, sampled softmax over a pool of 128
negatives, batches of 512, Adam at .01, a constant rate, 30 epochs: enough to overfit. Each option has three or four strengths;
strength and epoch (every second is looked at) are chosen by NDCG@20 on the validation pairs, each seed by itself; the test
pairs are looked at once a run. ``last`` is the validation figure behind the last epoch: what training without early stopping
ends with. ``bench/results/regularisation.json`` keeps each run as it ends: those that are there are not repeated. One thread.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from store import Store, timed

from rankwell.atomic import write_text
from rankwell.evaluation import evaluate
from rankwell.losses import sampled_softmax_loss
from rankwell.metrics import Measure
from rankwell.models import MatrixFactorisation
from rankwell.samplers import UniformSampler
from rankwell.tasks import Data
from rankwell.tasks.interaction_data import InteractionData, read
from rankwell.training import ContrastObjective, TrainingSettings, fit

RESULTS = Path(__file__).parent / "results" / "regularisation.json"
NDCG = Measure.parse("ndcg@20")
STRENGTHS: dict[str, tuple[float, ...]] = {
    "none": (0.0,),
    "weight_decay": (0.3, 1.0, 3.0, 10.0),
    "dropout": (0.3, 0.6, 0.8),
    "max_norm": (1.0, 1.5, 2.0),
    "label_smoothing": (0.03, 0.1, 0.3),
}
EPOCHS, EVERY, BATCH, RATE = 30, 2, 512, 0.01


def judged(model: MatrixFactorisation, known: Any, held_out: Any) -> float:
    return evaluate(model, [NDCG], known=known.known(), held_out=held_out.known()).means()[str(NDCG)]


def trained(option: str, strength: float, data: Data[Any], seed: int) -> dict[str, Any]:
    part, valid = data.fit, data.valid
    dropout = strength if option == "dropout" else 0.0
    own = {} if option in ("none", "dropout") else {option: strength}
    model = MatrixFactorisation(part.num_users, part.num_items, similarity="dot", dropout=dropout, init="normal")
    model.initialise(part.known(), seed=seed)
    sampler = UniformSampler(part.known(), part.num_items, seed=seed, n=128)
    history = fit(
        ContrastObjective(model, sampled_softmax_loss, sampler, seed=seed),
        part.tensors(),
        TrainingSettings(
            epochs=EPOCHS,
            batch_size=BATCH,
            learning_rate=RATE,
            schedule="constant",
            patience=0,
            validate_every=EVERY,
            **own,
        ),
        seed=seed,
        validate=lambda: {"ndcg@20": judged(model, part, valid)},
        monitor="ndcg@20",
    )
    curve = [record.validation["ndcg@20"] for record in history.epochs if record.validation]
    return {
        "best": history.best_value,
        "epoch": history.best_epoch,
        "last": curve[-1],
        "curve": curve,
        "norm": float(model.items.detach().norm(dim=1).max()),
        "test": judged(model, data.train, data.test),
    }


def run(seeds: list[int]) -> None:
    torch.set_num_threads(1)
    store = Store(RESULTS)
    for seed in seeds:
        data = read(InteractionData(), seed)
        for option, strengths in STRENGTHS.items():
            for strength in strengths:
                make = timed(partial(trained, option, strength, data, seed))
                store.get(f"{option} {strength:g} {seed}", make)


def table() -> str:
    """Means over seeds and standard errors; the strength by validation, each seed by itself; differences seed by seed."""
    runs = Store(RESULTS).runs
    by: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, result in runs.items():
        option, strength, seed = name.split()
        by.setdefault(option, {}).setdefault(seed, []).append({**result, "strength": strength})
    whole = [
        seed for seed in by["none"] if all(len(by.get(o, {}).get(seed, [])) == len(s) for o, s in STRENGTHS.items())
    ]
    best = {option: [max(of[seed], key=lambda one: one["best"]) for seed in whole] for option, of in by.items()}
    lines = [
        f"ndcg@20, {len(whole)} seeds; ± is the standard error",
        "",
        f"{'':<17}{'chosen':>16}{'epochs':>12}{'validation':>18}{'last epoch':>18}{'test':>18}{'test - none':>19}",
    ]
    for option, of in best.items():
        cells = [said([one[key] for one in of]) for key in ("best", "last", "test")]
        paired = [mine["test"] - none["test"] for mine, none in zip(of, best["none"], strict=True)]
        strengths = " ".join(one["strength"] for one in of) if option != "none" else ""
        epochs = " ".join(str(one["epoch"]) for one in of)
        lines.append(
            f"{option:<17}{strengths:>16}{epochs:>12}{cells[0]:>18}{cells[1]:>18}{cells[2]:>18}"
            f"{said(paired, '+') if option != 'none' else '':>19}"
        )
    seconds = sum(result["cpu_seconds"] for result in runs.values())
    return "\n".join([*lines, "", f"{len(runs)} runs, {seconds / 60:.1f} core-minutes"]) + "\n"


def said(values: list[float], sign: str = "") -> str:
    spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.4f} ± {spread:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    if options.what == "run":
        run([int(seed) for seed in options.seeds.split(",")])
    write_text(RESULTS.with_suffix(".txt"), table())
    print(table())


if __name__ == "__main__":
    main()
