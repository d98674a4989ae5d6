import pytest
import torch
from torch.testing import assert_close

from rankwell.losses import LOSSES
from rankwell.losses.cases import cases
from rankwell.losses.laws import gradients


@pytest.fixture
def by_rows():
    """Checks a contrast loss against a formula of one row's valid positives, negatives and weights, gradients included."""

    def check(loss, formula):
        for case in cases(LOSSES["bpr"], dtype=torch.double):

            def expected(pos, neg, pos_where, where, weights, reduction):
                values = []
                for row in range(len(pos)):
                    there = pos_where[row].reshape(-1)
                    values.append(
                        formula(pos[row].reshape(-1)[there], neg[row][where[row]], weights[row].reshape(-1)[there])
                    )
                return torch.stack(values)

            for ours, other in zip(gradients(loss, case, case.args), gradients(expected, case, case.args), strict=True):
                assert_close(ours, other)

    return check
