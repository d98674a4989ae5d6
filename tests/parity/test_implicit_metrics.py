"""implicit's ranking_metrics_at_k of given recommendations, under the preset of its name."""

import numpy as np
import pytest
import torch

from rankwell.metrics import Measure, precision

pytestmark = pytest.mark.filterwarnings("ignore")

K = 10


class Given:
    """A model whose recommendations are given."""

    def __init__(self, scores):
        self.scores = scores

    def recommend(self, users, _, N):
        best = self.scores[np.asarray(users)].topk(N)
        return best.indices.int().numpy(), best.values.numpy()


def test_ranking_metrics_at_k() -> None:
    evaluation = pytest.importorskip("implicit.evaluation", reason="implicit is not installed (extra parity)")
    sparse = pytest.importorskip("scipy.sparse")
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, 80, generator=generator, dtype=torch.float64)
    # From users with nothing to users with more than k.
    labels = (torch.rand(50, 80, generator=generator) < torch.linspace(0, 0.4, 50)[:, None]).double()
    liked = sparse.csr_matrix(labels.numpy())
    model = Given(scores)
    theirs = evaluation.ranking_metrics_at_k(model, sparse.csr_matrix((50, 80)), liked, K=K, show_progress=False)
    for name, text in (("map", f"map@{K}"), ("ndcg", f"ndcg@{K}")):
        assert Measure.parse(text, preset="implicit")(scores, labels).item() == pytest.approx(theirs[name], abs=1e-12)
    assert Measure.parse(f"auc(top={K})", preset="implicit")(scores, labels).item() == pytest.approx(
        theirs["auc"], abs=1e-12
    )
    # Its precision is of all users' recommendations together.
    each = Measure.parse(f"precision@{K}", preset="implicit")(scores, labels, reduction="none")
    reachable = labels.sum(-1).clamp(max=K)
    assert ((each * reachable).sum() / reachable.sum()).item() == pytest.approx(theirs["precision"], abs=1e-12)
    assert (precision(scores, labels, k=K, reduction="sum") * K / reachable.sum()).item() == pytest.approx(
        theirs["precision"]
    )
