"""Learning to rank in Python: judged lists, two losses and LightGBM's LambdaMART beside them, new lists ranked.

python examples/learning_to_rank.py
"""

import torch

from rankwell.data.batching import ListBatches
from rankwell.data.judged import JudgedLists, synthesise_judged
from rankwell.evaluation import evaluate_lists, score_lists
from rankwell.losses import lambda_rank_loss, softmax_loss
from rankwell.metrics import Measure
from rankwell.models import BestFeature, LambdaMART, MLPRanker
from rankwell.training import ListObjective, TrainingSettings, fit

NDCG = Measure.parse("ndcg@10")


def measured(model, lists: JudgedLists) -> float:
    """Mean NDCG@10 over the queries."""
    return evaluate_lists(model, [NDCG], *lists.tensors()).means()["ndcg@10"]


def trained(loss, train: JudgedLists, valid: JudgedLists) -> MLPRanker:
    """A network, from the epoch that ranks the validation lists best."""
    model = MLPRanker(train.features.shape[1], widths=(32,), dropout=0.0)
    model.initialise(*train.tensors(), seed=0)  # takes the features' scale from the training lists
    fit(
        ListObjective(model, loss, seed=0),
        ListBatches(*train.tensors(), batch_size=8, seed=0),
        TrainingSettings(epochs=12, learning_rate=0.01),
        seed=0,
        validate=lambda: {"ndcg@10": measured(model, valid)},
        monitor="ndcg@10",
    )
    return model


def main() -> dict[str, float]:
    """NDCG@10 on test lists; the product of two features, which decides much, no single feature shows."""
    train, valid, test = synthesise_judged(num_queries=120, num_features=6, noise=0.2)
    models = {
        "best feature": BestFeature(6),
        "LambdaMART": LambdaMART(6, trees=60, min_documents=10),
        "softmax": trained(softmax_loss, train, valid),
        "LambdaRank": trained(lambda_rank_loss, train, valid),
    }
    for name in ("best feature", "LambdaMART"):
        models[name].initialise(*train.tensors(), seed=0)  # the whole fit

    new = test.take(torch.tensor([0]).numpy())
    features, _, offsets = new.tensors()
    order = score_lists(models["softmax"], features, offsets).argsort(descending=True)
    print(f"query {new.query_ids[0]}: documents {order[:5].tolist()} first")
    return {name: measured(model, test) for name, model in models.items()}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<12} ndcg@10 {value:.3f}")
