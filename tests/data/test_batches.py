import pytest
import torch

from rankwell.data import batches, num_batches
from rankwell.data.batching import passes
from rankwell.errors import ConfigError, InputError

PAIRS = torch.arange(10) + 100, torch.arange(10) + 200


def run(**options):
    return list(batches(PAIRS, **({"batch_size": 4, "seed": 1, "epoch": 0} | options)))


def test_a_pass_holds_every_row_once_with_its_index():
    passed = run()
    index = torch.cat([batch.index for batch in passed])
    assert sorted(index.tolist()) == list(range(10))
    assert [len(batch.index) for batch in passed] == [4, 4, 2]
    for users, items, rows, *_ in passed:
        assert users.tolist() == [100 + row for row in rows.tolist()]
        assert items.tolist() == [200 + row for row in rows.tolist()]
        assert users.dtype == items.dtype == rows.dtype == torch.int64


@pytest.mark.parametrize("ahead", [1, 4, 8, 100])
def test_the_first_of_some_batches_tells_the_users_of_all(ahead, monkeypatch):
    monkeypatch.setattr(passes, "AHEAD", ahead)
    passed, at_once = run(start=1, batch_size=3), max(1, ahead // 3)
    for step, batch in enumerate(passed):
        if step % at_once:
            assert batch.coming is None
        else:
            some = [one.users for one in passed[step : step + at_once]]
            assert batch.coming.values.equal(torch.cat(some))
            assert batch.coming.offsets.diff().tolist() == [len(users) for users in some]


def test_order_is_keyed_by_seed_and_epoch_only():
    order = [batch.index.tolist() for batch in run()]
    state = torch.random.get_rng_state()
    torch.rand(3)
    assert [batch.index.tolist() for batch in run()] == order
    torch.random.set_rng_state(state)
    flat = {tuple(torch.cat([b.index for b in run(seed=s, epoch=e)]).tolist()) for s in range(4) for e in range(4)}
    assert len(flat) == 16


def test_a_pass_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    run()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("start", range(4))
def test_a_later_start_continues_the_same_pass(start):
    assert [b.index.tolist() for b in run(start=start)] == [b.index.tolist() for b in run()][start:]


def test_num_batches_counts_the_partial_one():
    assert [num_batches(rows, 4) for rows in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_options_that_do_not_fit_are_refused_at_the_call():
    with pytest.raises(ConfigError, match="batch_size must be at least 1: got 0"):
        batches(PAIRS, batch_size=0, seed=0, epoch=0)
    with pytest.raises(ConfigError, match=r"start must be a step of the epoch, 0 … 3: got 4"):
        batches(PAIRS, batch_size=4, seed=0, epoch=0, start=4)
    with pytest.raises(InputError, match=r"same shape: got \(10,\) and \(9,\)"):
        batches((PAIRS[0], PAIRS[1][:9]), batch_size=4, seed=0, epoch=0)
