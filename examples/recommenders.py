"""Recommenders of the same interactions: closed forms, which trained ones have to beat, and five that losses train.

python examples/recommenders.py
"""

from functools import partial

import torch

from rankwell.data import synthesise
from rankwell.evaluation import evaluate, top_items
from rankwell.losses import LOSSES, as_contrast, bpr_loss, ccl_loss, sampled_softmax_loss
from rankwell.metrics import Measure
from rankwell.models import (
    EASE,
    GraphFilter,
    ItemKNN,
    LightGCN,
    MatrixFactorisation,
    NeuMF,
    Popularity,
    SimpleX,
    UltraGCN,
)
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit

NDCG = Measure.parse("ndcg@20")
DATA = synthesise(seed=1)
USERS, ITEMS, KNOWN = DATA.train.num_users, DATA.train.num_items, DATA.train.known()

SIGMOID = as_contrast(LOSSES["sigmoid"]).function  # a list loss, of a positive and its negatives
SOFTMAX = partial(sampled_softmax_loss, temperature=0.2)
CCL = partial(ccl_loss, margin=0.5)


def measured(model) -> float:
    """Mean NDCG@20 over the users; what they know is left out."""
    return evaluate(model, [NDCG], known=KNOWN, held_out=DATA.test.known()).means()["ndcg@20"]


def trained(model, loss, rate: float, *, n: int, shared: bool):
    """The model after twelve epochs."""
    model.initialise(KNOWN, seed=0)
    sampler = UniformSampler(KNOWN, ITEMS, seed=0, n=n, shared=shared)
    settings = TrainingSettings(epochs=12, batch_size=256, learning_rate=rate)
    fit(ContrastObjective(model, loss, sampler, seed=0), DATA.train.tensors(), settings, seed=0)
    return model.eval()


def main() -> dict[str, float]:
    """NDCG@20 of each."""
    sizes = USERS, ITEMS
    closed = {
        "popularity": Popularity(*sizes),
        "item kNN": ItemKNN(*sizes),
        "EASE": EASE(*sizes, regularisation=30.0),
        "graph filter": GraphFilter(*sizes, rank=8),
    }
    for model in closed.values():
        model.initialise(KNOWN, seed=0)
    models = {
        **closed,
        "factorisation, softmax": trained(MatrixFactorisation(*sizes, dim=8), SOFTMAX, 0.01, n=64, shared=True),
        "LightGCN, BPR": trained(LightGCN(*sizes, dim=8, similarity="dot"), bpr_loss, 0.003, n=1, shared=False),
        "SimpleX, CCL": trained(SimpleX(*sizes, dim=8), CCL, 0.01, n=64, shared=True),
        "UltraGCN, BPR": trained(UltraGCN(*sizes, dim=8), bpr_loss, 0.001, n=1, shared=False),
        "NeuMF, cross-entropy": trained(NeuMF(*sizes, dim=8, widths=(16, 8)), SIGMOID, 0.01, n=4, shared=False),
    }
    best = top_items(models["factorisation, softmax"], torch.tensor([0]), 3, known=KNOWN)
    print("for the first user:", [DATA.train.item_ids[code] for code in best.ids[0].tolist()])
    return {name: measured(model) for name, model in models.items()}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<23} ndcg@20 {value:.3f}")
