"""A ranking loss in one's own training loop: a small scorer of items, lists of different lengths.

python examples/own_loop.py
"""

import torch

from rankwell import Measure
from rankwell.lists import offsets_from_sizes
from rankwell.losses import softmax_loss


def make_lists(lists: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items with three features, of which the first two decide what is relevant; 2 to 20 items a list."""
    sizes = torch.randint(2, 21, (lists,), generator=generator)
    features = torch.randn(int(sizes.sum()), 3, generator=generator)
    worth = features[:, 0] - features[:, 1] + 0.5 * torch.randn(len(features), generator=generator)
    return features, (worth > 1).float(), offsets_from_sizes(sizes)


def main() -> dict[str, float]:
    """Train on 400 lists, measure on 200 others before and after."""
    generator = torch.Generator().manual_seed(0)
    features, labels, offsets = make_lists(400, generator)
    test_features, test_labels, test_offsets = make_lists(200, generator)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    ndcg = Measure.parse("ndcg@10")

    def measured() -> float:
        with torch.no_grad():
            return float(ndcg(model(test_features).squeeze(1), test_labels, offsets=test_offsets))

    before = measured()
    for _ in range(100):
        loss = softmax_loss(model(features).squeeze(1), labels, offsets=offsets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {"before": before, "after": measured()}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"ndcg@10 {name} training: {value:.3f}")
