"""New items and new users without retraining: a two-tower model that learns from features, and what dropping ids is for.

python examples/cold_start.py
"""

import polars as pl
import torch

from rankwell.data import FeatureEncoder, split_cold_items, synthesise_features
from rankwell.evaluation import Among, evaluate
from rankwell.losses import sampled_softmax_loss
from rankwell.metrics import Measure
from rankwell.models import FeatureKNN, MatrixFactorisation, Popularity, TwoTower
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.types import Ragged

NDCG = Measure.parse("ndcg@10")


def trained(model, known, pairs, items: int):
    """The model, its negatives drawn among the items that exist so far."""
    model.initialise(known, seed=0)
    sampler = UniformSampler(known, items, seed=0, n=64)

    def loss(pos, neg, **contract):
        return sampled_softmax_loss(pos, neg, temperature=0.2, **contract)

    settings = TrainingSettings(epochs=6, batch_size=256, learning_rate=0.02)
    fit(ContrastObjective(model, loss, sampler, seed=0), pairs, settings, seed=0)
    return model.eval()


def main() -> dict[str, float]:
    """NDCG@10 of a fifth of the items, new to training, among themselves; preferences follow from genres alone."""
    made = synthesise_features()
    split = split_cold_items(made.interactions, 0.2, seed=0)
    # Items of training first: negatives are drawn from the first codes on.
    order = (split.train.popularity() == 0).argsort(kind="stable")
    train, test = split.train.with_items(order), split.held_out.with_items(order)
    known, pairs, old = train.known(), train.tensors(), int(train.items.max()) + 1

    table = made.items[order]
    encode = FeatureEncoder.fit(table[:old], ["genres", "year"])
    sides = {"item_features": encode(table), "dim": 16}
    sizes = train.num_users, train.num_items
    models = {
        "popularity": Popularity(*sizes),
        "feature neighbours": FeatureKNN(*sizes, item_features=encode(table)),
    }
    for model in models.values():
        model.initialise(known, seed=0)
    models["ids alone"] = trained(MatrixFactorisation(*sizes, dim=16), known, pairs, old)
    models["ids and features"] = trained(TwoTower(*sizes, id_dropout=0.0, **sides), known, pairs, old)
    models["ids dropped half of the time"] = towers = trained(
        TwoTower(*sizes, id_dropout=0.5, **sides), known, pairs, old
    )

    # An item that is in no table so far, and a user who has done two things: no training for either.
    arrival = encode(pl.DataFrame({"genres": ["g0|g1"], "year": [2024]}))
    print("a new item for three users:", towers.score_new_items(torch.arange(3), arrival)[:, 0].tolist())
    history = Ragged(torch.tensor([0, 2]), known.values[:2])
    print("for a new user:", table["genres"][towers.score_history(history)[0].topk(3).indices.tolist()].to_list())

    new = torch.from_numpy(test.popularity() > 0)
    return {
        name: evaluate(Among(model, new), [NDCG], known=known, held_out=test.known()).means()["ndcg@10"]
        for name, model in models.items()
    }


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<29} ndcg@10 {value:.3f}")
