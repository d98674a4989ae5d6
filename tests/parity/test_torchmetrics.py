"""torchmetrics' retrieval metrics where they are right: on scores above 0 without ties.

Where it was wrong, ours is held to what is right in tests/metrics/test_binary.py.
"""

import pytest
import torch

from rankwell.metrics import ap, auc, hit_rate, kendall_tau, mrr, ndcg, precision, r_precision, recall, spearman

pytestmark = pytest.mark.filterwarnings("ignore")

K = 5


@pytest.fixture(scope="module")
def functional():
    module = "torchmetrics.functional"
    return pytest.importorskip(module, reason="torchmetrics is not installed (extra parity)", exc_type=ImportError)


def lists():
    generator = torch.Generator().manual_seed(0)
    for n in (5, 12, 60):
        for _ in range(5):
            scores = torch.rand(n, generator=generator)
            labels = torch.rand(n, generator=generator) < 0.4
            labels[0], labels[1] = True, False
            yield scores, labels


def test_where_it_is_right(functional) -> None:
    theirs = functional.retrieval
    for scores, labels in lists():
        for ours, other, k in (
            (ap, theirs.retrieval_average_precision, None),
            (mrr, theirs.retrieval_reciprocal_rank, None),
            (precision, theirs.retrieval_precision, K),
            (recall, theirs.retrieval_recall, K),
            (hit_rate, theirs.retrieval_hit_rate, K),
            (ndcg, theirs.retrieval_normalized_dcg, K),
            (r_precision, theirs.retrieval_r_precision, None),
            (auc, theirs.retrieval_auroc, None),
        ):
            expected = other(scores, labels, **({} if k is None else {"top_k": k})).item()
            whole = {} if k is None else {"k": k}
            assert ours(scores, labels, **whole).item() == pytest.approx(expected, abs=1e-6), ours.__name__


def test_correlations(functional) -> None:
    for scores, _ in lists():
        labels = scores.sort().values.roll(2)
        assert kendall_tau(scores, labels).item() == pytest.approx(
            functional.kendall_rank_corrcoef(scores, labels).item(), abs=1e-6
        )
        assert spearman(scores, labels).item() == pytest.approx(
            functional.spearman_corrcoef(scores, labels).item(), abs=1e-5
        )
