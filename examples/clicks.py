"""Learning to rank from clicks: what users saw decides what they clicked; inverse propensities undo it.

python examples/clicks.py
"""

from rankwell.data.batching import ListBatches
from rankwell.data.clicks import PositionModel
from rankwell.data.judged import JudgedLists, synthesise_judged
from rankwell.evaluation import evaluate_lists
from rankwell.experiments.clicks import ClickLog, production_ranker
from rankwell.losses import softmax_loss
from rankwell.metrics import Measure
from rankwell.models import MLPRanker
from rankwell.training import ListObjective, TrainingSettings, fit

NDCG = Measure.parse("ndcg@10")


def measured(model, lists: JudgedLists) -> float:
    """Mean NDCG@10 over the queries, by their judgements."""
    return evaluate_lists(model, [NDCG], *lists.tensors()).means()["ndcg@10"]


def trained(lists: JudgedLists) -> MLPRanker:
    """A network on these labels; weights of documents, where there are any, reach the loss."""
    model = MLPRanker(lists.features.shape[1], widths=(32,), dropout=0.0)
    model.initialise(*lists.tensors(), seed=0)
    batches = ListBatches(*lists.tensors(), batch_size=8, seed=0, weights=lists.weight_tensor())
    fit(ListObjective(model, softmax_loss, seed=0), batches, TrainingSettings(epochs=12, learning_rate=0.01), seed=0)
    return model


def main() -> dict[str, float]:
    """NDCG@10 on the judgements of test lists, by what the ranker was trained on."""
    train, _, test = synthesise_judged(num_queries=200, num_features=6, noise=0.2)

    # A ranker in production has seen the judgements of one query in fifty. Users examine position k with probability k^-1.5.
    production = production_ranker(train, 0.02, seed=0)
    log = ClickLog(train, production, PositionModel(eta=1.5), sessions=60_000, seed=0, shuffled=0.1)

    models = {
        "production": production,
        "naive clicks": trained(log.judged("none")),
        "propensities known": trained(log.judged("known", clip=0.02)),
        # From the sessions whose lists were shown in random order.
        "propensities estimated": trained(log.judged("estimated", clip=0.02)),
        "judgements": trained(train),
    }
    return {name: measured(model, test) for name, model in models.items()}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<24} ndcg@10 {value:.3f}")
