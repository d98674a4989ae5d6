"""IRGAN in Python: a supervised generator, then the game against its critic, on data whose best ranking is known.

python examples/irgan.py
"""

from functools import partial

import torch

from rankwell.data import synthesise
from rankwell.evaluation import evaluate
from rankwell.losses import LOSSES, as_contrast
from rankwell.metrics import Measure
from rankwell.models import MatrixFactorisation
from rankwell.samplers import UniformSampler
from rankwell.training import TrainingSettings, fit
from rankwell.training.adversarial_objective import AdversarialObjective, Critic

NDCG, EPOCHS, TEMPERATURE = Measure.parse("ndcg@20"), 10, 0.2
IRGAN = as_contrast(LOSSES["irgan_generator"])  # the list loss, of a positive and its negatives
DATA = synthesise(200, 60, interactions_per_user=12, clusters=4, affinity=3.5, noise=0.2, seed=3)
USERS, ITEMS, KNOWN = DATA.train.num_users, DATA.train.num_items, DATA.train.known()


def measured(model) -> float:
    """Mean NDCG@20 over the users."""
    return evaluate(model, [NDCG], known=KNOWN, held_out=DATA.test.known()).means()["ndcg@20"]


def trained(warm_epochs: int, **critic) -> list[float]:
    """NDCG@20 at the start and after each epoch."""
    model = MatrixFactorisation(USERS, ITEMS, dim=4)
    model.initialise(KNOWN, seed=0)
    start = measured(model)
    game = AdversarialObjective(
        model,
        partial(IRGAN.function, temperature=TEMPERATURE),
        UniformSampler(KNOWN, ITEMS, seed=0, n=30, shared=False),
        seed=0,
        inputs=IRGAN.inputs,
        rival=Critic(model, KNOWN, seed=0, temperature=TEMPERATURE, warm_epochs=warm_epochs, **critic),
    )
    history = fit(  # each player has its own optimiser; a step of one is not a step of the other
        game,
        DATA.train.tensors(),
        TrainingSettings(epochs=EPOCHS, batch_size=256, learning_rate=0.01, patience=0),
        seed=0,
        validate=lambda: {"ndcg@20": measured(model)},
        monitor="ndcg@20",
    )
    return [start, *(record.validation["ndcg@20"] for record in history.epochs)]


def main() -> dict[str, list[float]]:
    """Curves of one start: supervised throughout, and three games from the third epoch on."""
    return {
        "supervised": trained(EPOCHS),
        "bounded reward": trained(3),
        "log reward": trained(3, reward="log"),
        "Wasserstein": trained(3, reward="score", form="wasserstein"),
    }


class Ideal:
    """The distribution that the data were drawn from."""

    num_items = ITEMS

    def score_all(self, queries, out=None):
        """Scores of every item for each user."""
        scores = torch.as_tensor(DATA.ideal)[queries]
        return scores if out is None else out.copy_(scores)


if __name__ == "__main__":
    for name, curve in main().items():
        print(f"{name:<15} " + " ".join(f"{value:.3f}" for value in curve))
    print(f"ideal           {measured(Ideal()):.3f}")
