"""Running normalisers, against a dictionary of averages."""

import math
from itertools import combinations

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import ConfigError, InputError
from rankwell.losses import LOSSES, SogCLRLoss, as_contrast, bpr_loss, combine, decoupled_softmax_loss
from rankwell.losses.running import RunningMean, mean_by_id, without_absent


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------------------------------------- average


def test_running_mean_by_a_dictionary():
    """Ids that repeat in a step enter by their mean; what is masked or not finite not at all."""
    mean, known, gamma = RunningMean(6, gamma=0.3), {}, 0.3
    for step in range(8):
        draw = torch.Generator().manual_seed(step)
        ids = torch.randint(6, (5,), generator=draw)
        values = torch.rand(5, generator=draw) * 3 + 0.1
        where = torch.rand(5, generator=draw) < 0.7
        values[0] = [1.0, math.inf, math.nan][step % 3]
        ids = torch.where(where, ids, [-1, -100][step % 2])
        mean.update(ids, values.log(), where)
        for i in set(ids[where].tolist()):
            new = [v for v, j, w in zip(values.tolist(), ids.tolist(), where.tolist(), strict=True) if j == i and w]
            new = [v for v in new if math.isfinite(v)]
            if new:
                new = sum(new) / len(new)
                known[i] = (1 - gamma) * known[i] + gamma * new if i in known else new
        assert mean.seen.tolist() == [i in known for i in range(6)]
        for i, value in known.items():
            assert float(mean.logs[i].exp()) == pytest.approx(value, rel=1e-5)


def test_logarithms_far_beyond_the_exponential():
    mean = RunningMean(1, gamma=0.5)
    mean.update(tensor([0, 0]), tensor([900.0, 900.0 + math.log(3.0)]))
    assert_close(mean.logs, tensor([900.0 + math.log(2.0)]))
    mean.update(tensor([0]), tensor([-900.0]))
    assert_close(mean.logs, tensor([900.0]))


def test_nothing_to_enter():
    mean = RunningMean(2, gamma=0.5)
    mean.update(tensor([], dtype=torch.int64), tensor([]))
    mean.update(tensor([1, 1]), tensor([1.0, 2.0]), torch.zeros(2, dtype=torch.bool))
    assert not mean.seen.any()


def test_absent_rows_stand_under_an_id_that_is_written_anyway():
    ids, x, where = without_absent(tensor([-1, 4, 2]), tensor([torch.nan, 1.0, 2.0]), tensor([False, True, True]))
    assert (ids.tolist(), x.tolist()) == ([4, 4, 2], [0.0, 1.0, 2.0])
    means, found = mean_by_id(ids, x, where)
    assert (means.tolist(), found.tolist()) == ([1.0, 1.0, 2.0], [True, True, True])


def test_nothing_waits_for_the_device():
    """A tensor on ``meta`` has no numbers to wait for: an index without dimensions asks for one."""
    ids, x, where = (each.to("meta") for each in (tensor([-1, 4]), tensor([1.0, 2.0]), tensor([False, True])))
    assert [each.shape for each in without_absent(ids, x, where)] == [(2,)] * 3
    mean = RunningMean(5, gamma=0.5).to("meta")
    mean.update(ids, x, where)


def test_an_average_of_large_numbers_keeps_the_digits_of_its_excess():
    """(1 - γ) e^(x - 1) + γ e^x over e^x, whatever x is; the difference of the two logarithms is a multiple of 1/128 there."""
    mean, x = RunningMean(1, gamma=0.3), 123_456.0
    mean.update(tensor([0]), tensor([x - 1]))
    excess = mean.excess(tensor([0]), tensor([x]))
    assert_close(excess, tensor([math.log(0.7 / math.e + 0.3)]))
    assert_close(mean.blend(tensor([0]), tensor([x])), x + excess)
    assert RunningMean(1, gamma=0.3).excess(tensor([0]), tensor([x])) == 0


@pytest.mark.parametrize("gamma", [0.0, 1.5, math.nan])
def test_bad_averages(gamma):
    with pytest.raises(InputError, match=r"gamma in \(0, 1\]"):
        RunningMean(2, gamma=gamma)
    with pytest.raises(InputError, match="num_ids must be at least 1"):
        RunningMean(0, gamma=0.5)
    with pytest.raises(InputError, match="ids must be integers, one a value"):
        RunningMean(2, gamma=0.5).blend(tensor([0]), tensor([1.0, 2.0]))


# ---------------------------------------------------------------------------------------------------------------- SogCLR


def test_sog_clr_by_hand_over_several_steps():
    t, gamma, known = 0.5, 0.4, {}
    loss = SogCLRLoss(4, gamma=gamma, temperature=t)
    for step in range(4):
        ids = tensor([step % 2, 3, 3])
        pos, neg = drawn(3, seed=step).double().requires_grad_(), drawn(3, 5, seed=10 + step).double().requires_grad_()
        where = torch.rand(3, 5, generator=torch.Generator().manual_seed(step)) < 0.7
        values = loss(pos, neg, ids=ids, where=where, reduction="none")
        slopes = torch.autograd.grad(values.sum(), (pos, neg))
        means = []
        for row, i in enumerate(ids.tolist()):
            terms = [math.exp(s / t) if w else 0.0 for s, w in zip(neg[row].tolist(), where[row], strict=True)]
            n = int(where[row].sum())
            means.append(sum(terms) / n)
            u = (1 - gamma) * known[i] + gamma * means[-1] if i in known else means[-1]
            assert values[row].item() == pytest.approx(-pos[row].item() / t + math.log(u), rel=1e-5)
            assert_close(slopes[1][row], tensor(terms).double() / (n * u * t), rtol=1e-5, atol=1e-6)
        assert_close(slopes[0], torch.full_like(pos, -1 / t))
        loss.update(ids, pos, neg, where=where)
        for i, new in ((step % 2, means[0]), (3, (means[1] + means[2]) / 2)):
            known[i] = (1 - gamma) * known[i] + gamma * new if i in known else new


def test_a_new_id_and_gamma_one_are_the_decoupled_softmax_less_log_n():
    pos, neg, ids = drawn(4, 2), drawn(4, 6, seed=1), torch.arange(4)
    expected = decoupled_softmax_loss(pos[:, :1], neg, temperature=0.3, reduction="none") - math.log(6)
    for gamma in (0.2, 1.0):
        loss = SogCLRLoss(4, gamma=gamma, temperature=0.3)
        if gamma == 1.0:
            loss.update(ids, pos, neg + 5)
        assert_close(loss(pos[:, :1], neg, ids=ids, reduction="none"), expected)


def test_its_gradient_converges_to_that_of_all_negatives():
    """Six embeddings, batches of three: over all batches, the mean gradient is that of the softmax over the other five once
    the normalisers have come to rest. The batches' own normalisers give another one."""
    items, t = torch.nn.functional.normalize(drawn(6, 2).double(), dim=-1), 0.2
    views = torch.nn.functional.normalize(items + 0.3 * drawn(6, 2, seed=1), dim=-1)
    x = torch.cat([items, views]).requires_grad_()

    def scores(rows):
        a, b = x[:6][rows], x[6:][rows]
        return {"pos": (a * b).sum(-1), "neg": a @ b.T, "where": ~torch.eye(len(rows), dtype=torch.bool)}

    def mean_gradient(loss):
        values = [loss(rows) for rows in batches]
        return torch.autograd.grad(sum(values) / len(values), x)[0]

    batches = [torch.tensor(rows) for rows in combinations(range(6), 3)]
    everything = torch.arange(6)
    full = torch.autograd.grad(decoupled_softmax_loss(**scores(everything), temperature=t), x)[0]
    errors = {}
    for gamma, cycles in ((0.08, 6), (0.01, 30)):
        sog = SogCLRLoss(6, gamma=gamma, temperature=t)
        with torch.no_grad():
            for _ in range(cycles):
                for rows in batches:
                    sog.update(rows, **scores(rows))
        ours = mean_gradient(lambda rows, sog=sog: sog(**scores(rows), ids=rows))
        errors[gamma] = float((ours - full).norm() / full.norm())
    biased = mean_gradient(lambda rows: decoupled_softmax_loss(**scores(rows), temperature=t))
    assert errors[0.01] < 0.05 and errors[0.01] < 0.3 * errors[0.08]
    assert (biased - full).norm() > 0.2 * full.norm()


def test_calls_change_nothing_and_the_state_dict_resumes():
    """LibAUC's running state is an ordinary attribute: it is lost when training is resumed."""

    def step(loss, number):
        ids, pos, neg = tensor([0, number % 3]), drawn(2, seed=number), drawn(2, 4, seed=100 + number)
        values = loss(pos, neg, ids=ids, reduction="none")
        assert torch.equal(loss(pos, neg, ids=ids, reduction="none"), values)
        loss.update(ids, pos, neg)
        return values

    loss, resumed = (SogCLRLoss(3, gamma=0.5) for _ in range(2))
    for number in range(4):
        step(loss, number)
    assert set(loss.state_dict()) == {"normaliser.logs", "normaliser.seen"}
    resumed.load_state_dict(loss.state_dict())
    for number in range(4, 8):
        assert torch.equal(step(loss, number), step(resumed, number))
    assert not torch.equal(step(loss, 9), step(SogCLRLoss(3, gamma=0.5), 9))


def test_extreme_scores_stay_finite():
    loss = SogCLRLoss(2, gamma=0.1, temperature=0.01)
    ids, neg = torch.arange(2), tensor([[60.0, -60.0], [-60.0, -60.0]]).requires_grad_()
    loss.update(ids, torch.zeros(2), -neg)
    value = loss(torch.zeros(2), neg, ids=ids)
    value.backward()
    assert value.isfinite() and neg.grad.isfinite().all()


def test_a_running_gradient_of_large_scores_is_that_of_float64():
    """One negative: the share of g / u, 1 / (0.7 e^-1 + 0.3), over the temperature. The numbers are exact in float32."""
    loss = SogCLRLoss(1, gamma=0.3, temperature=0.125)
    loss.normaliser.update(tensor([0]), tensor([98_759.0]))
    neg = tensor([[12_345.0]]).requires_grad_()  # 98,760 over the temperature
    loss(torch.zeros(1), neg, ids=tensor([0])).backward()
    assert neg.grad.item() == pytest.approx(8 / (0.7 / math.e + 0.3), rel=1e-6)


def test_rows_that_are_absent_enter_nothing():
    loss = SogCLRLoss(3)
    neg = tensor([[1.0, torch.nan], [torch.nan, torch.nan], [2.0, 3.0]])
    where = tensor([[True, False], [False, False], [True, True]])
    loss.update(
        tensor([0, 1, -1]), tensor([0.0, 0.0, torch.nan]), neg, pos_where=tensor([True, True, False]), where=where
    )
    assert loss.normaliser.seen.tolist() == [True, False, False]
    assert_close(loss.normaliser.logs[0], tensor(10.0))


def test_bad_arguments():
    with pytest.raises(InputError, match="temperature must be above 0"):
        SogCLRLoss(2, temperature=0.0)
    with pytest.raises(InputError, match=r"one a value, \(2,\): got \(3,\)"):
        SogCLRLoss(4)(torch.zeros(2), torch.zeros(2, 3), ids=torch.arange(3))
    assert "temperature=0.1" in repr(SogCLRLoss(2))


@pytest.mark.parametrize("bad", [-1, 4])
def test_an_id_of_nobody_is_an_error_and_writes_nothing(bad):
    loss, pos, neg = SogCLRLoss(4), torch.zeros(2), torch.ones(2, 3)
    for call in (lambda ids: loss(pos, neg, ids=ids), lambda ids: loss.update(ids, pos, neg)):
        with pytest.raises(InputError, match=f"ids must be 0 to 3: got {bad}. Number them from 0, or build"):
            call(tensor([0, bad]))
    assert not loss.normaliser.seen.any()


def test_an_id_of_a_masked_row_is_not_looked_at():
    loss, pos, neg, where = SogCLRLoss(4), torch.zeros(2), torch.ones(2, 3), tensor([[True], [False]])
    expected = loss(pos, neg, ids=tensor([1, 0]), where=where)
    for bad in (-1, 400):
        assert loss(pos, neg, ids=tensor([1, bad]), where=where) == expected
        loss.update(tensor([bad, bad]), pos, neg, where=torch.zeros_like(where))
    assert not loss.normaliser.seen.any()


def test_losses_with_state_are_registered_by_what_may_be_set():
    assert {"cross_batch_memory", "k_song", "learned_temperature", "sog_clr", "song"} <= set(LOSSES.names("stateful"))
    entry = LOSSES["sog_clr"]
    assert list(entry.parameters) == ["gamma", "temperature"]
    assert list(entry.inputs) == ["num_ids"]
    assert isinstance(entry(5, gamma=0.5), SogCLRLoss)
    with pytest.raises(ConfigError, match="'sog_clr' is of kind 'stateful'"):
        as_contrast(entry)


def test_in_a_combination_it_is_a_module():
    with pytest.raises(ConfigError, match="built first: give its module"):
        combine({"sog_clr": 1.0})
    part, ids, pos, neg = SogCLRLoss(4), torch.arange(2), drawn(2), drawn(2, 3, seed=1)
    loss = combine({part: 1.0, "bpr": 2.0})
    assert_close(loss(pos, neg, ids=ids), part(pos, neg, ids=ids) + 2 * bpr_loss(pos, neg))
    part.update(ids, pos, neg)
    assert sum(x.sum() for name, x in loss.state_dict().items() if name.endswith("seen")) == 2
