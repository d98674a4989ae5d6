"""Laws of samplers, over their registry."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rankwell.errors import InputError
from rankwell.losses import sampled_softmax_loss
from rankwell.samplers import SAMPLERS
from rankwell.transforms import correct_log_q
from rankwell.types import Negatives, Ragged

ITEMS = 20
LISTS = [[], [3], [0, 1, 2, 5, 19], list(range(2, 20)), [i for i in range(ITEMS) if i != 7], [4, 8]]
"""Nothing, a little, both ends, 90 % of the catalogue, all but one item, and two."""
POSITIVES = [6, 3, 5, 11, 4, 8]
INPUTS = {
    "weighted": {"item_weights": [i % 7 or 0.25 if i != 14 else 0.0 for i in range(ITEMS)]},  # 14 is never drawn
    "by_group": {"item_groups": [i % 3 for i in range(ITEMS)]},
}
STATIC = [entry for entry in SAMPLERS if entry.kind == "static"]
ROWS = [entry.name for entry in STATIC if "shared" in entry.parameters]
POOLS = [entry.name for entry in STATIC if entry.name != "by_group"]
OF_THE_BATCH = ["in_batch", "mixed"]
"""Pools of the batch's positives."""
WRONG = [[3, 1], [3, 3], [-1, 2], [3, 20]]
"""Lists of known items that are none: out of order, twice, and codes beyond both ends."""


def ragged(lists: list[list[int]]) -> Ragged:
    sizes = torch.tensor([0, *map(len, lists)])
    return Ragged(sizes.cumsum(0), torch.tensor([item for own in lists for item in own], dtype=torch.int64))


def build(name: str, *, known: Ragged | None = None, num_items: int = ITEMS, seed: int = 3, **own: Any) -> Any:
    entry = SAMPLERS[name]
    inputs = {key: torch.tensor(value[:num_items]) for key, value in INPUTS.get(name, {}).items()}
    taken = {key: value for key, value in own.items() if key in entry.parameters}
    return entry.function(ragged(LISTS) if known is None else known, num_items, seed=seed, **inputs, **taken)


def ask(
    draw: Any, users: list[int], samples: Tensor | None = None, *, epoch: int = 0, step: int = 0, scorer: Any = None
) -> Negatives:
    samples = torch.arange(len(users)) if samples is None else samples
    positives = torch.tensor([POSITIVES[user] for user in users])
    return draw(torch.tensor(users), samples, epoch=epoch, step=step, positives=positives, scorer=scorer)


def chi_square_bound(cells: int) -> float:
    """A value that the statistic passes about once in 10^5 (Wilson and Hilferty's normal approximation)."""
    free = max(cells - 1, 1)
    return free * (1 - 2 / (9 * free) + 4.27 * math.sqrt(2 / (9 * free))) ** 3


def check_frequencies(ids: Tensor, log_q: Tensor) -> None:
    """Each item has one log q, they are the logarithms of a distribution over what was drawn, and the counts follow it."""
    log_q = log_q.expand_as(ids).flatten().double()
    ids = ids.flatten()
    items, of_item, counts = ids.unique(return_inverse=True, return_counts=True)
    q = torch.zeros(len(items), dtype=torch.float64).index_put((of_item,), log_q.exp())
    torch.testing.assert_close(q[of_item], log_q.exp(), rtol=1e-5, atol=0)
    assert float(q.sum()) == pytest.approx(1, abs=1e-5)
    expected = len(ids) * q
    assert float(((counts - expected) ** 2 / expected).sum()) < chi_square_bound(len(items))


@pytest.mark.parametrize("user", range(len(LISTS)))
@pytest.mark.parametrize("collisions", ["redraw", "mask", "keep"])
@pytest.mark.parametrize("name", ROWS)
def test_frequencies_of_rows_match_log_q(name, collisions, user):
    rows = 400
    got = ask(build(name, n=50, shared=False, collisions=collisions), [user] * rows)
    assert got.ids.shape == (rows, 50)
    check_frequencies(got.ids, got.log_q)


@pytest.mark.parametrize("name", POOLS)
def test_frequencies_of_pools_match_log_q(name):
    known = ragged(LISTS)
    draw, generator = build(name, n=64), torch.Generator().manual_seed(0)
    got = []
    for step in range(200):
        rows = torch.randint(len(known.values), (64,), generator=generator)
        users = torch.bucketize(rows, known.offsets, right=True) - 1
        got.append(draw(users, rows, epoch=step % 2, step=step, positives=known.values[rows]))
    assert all(one.ids.ndim == 1 and one.ids.equal(one.ids.sort().values) for one in got)
    check_frequencies(torch.cat([one.ids for one in got]), torch.cat([one.log_q.expand(len(one.ids)) for one in got]))


@pytest.mark.parametrize("name", ROWS)
def test_redraw_never_gives_a_known_positive(name):
    users = list(range(len(LISTS))) * 50
    got = ask(build(name, n=16, shared=False, collisions="redraw"), users, epoch=2)
    assert got.collisions is None
    for user, ids in zip(users, got.ids.tolist(), strict=True):
        assert not set(ids) & set(LISTS[user])
    assert set(got.ids[torch.tensor(users) == 4].flatten().tolist()) == {7}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", [entry.name for entry in STATIC])
def test_the_mask_is_what_a_loop_finds(name, shared):
    if name not in (POOLS if shared else ROWS):
        pytest.skip("it has no such draws")
    draw, users = build(name, n=50, shared=shared, collisions="mask"), [3, 0, 4, 1, 3, 2, 5]
    for step in range(5):  # a pool's mask does not remember earlier pools
        got = ask(draw, users, step=step)
        known = [{*LISTS[user], *([POSITIVES[user]] if name in OF_THE_BATCH else [])} for user in users]
        ids = got.ids.expand(len(users), -1).tolist()
        assert got.collisions.tolist() == [[item in own for item in row] for own, row in zip(known, ids, strict=True)]


@pytest.mark.parametrize("collisions", ["redraw", "mask", "keep"])
@pytest.mark.parametrize("name", ROWS)
def test_rows_do_not_depend_on_batch_order_or_workers(name, collisions):
    draw = build(name, n=6, shared=False, collisions=collisions)
    users, samples = [user % 6 for user in range(24)], torch.arange(24) * 7 + 5
    whole = ask(draw, users, samples, epoch=1)
    for workers in (1, 4, 24):  # each takes every so-many-th row, at steps of its own
        for worker in range(workers):
            mine = ask(draw, users[worker::workers], samples[worker::workers], epoch=1, step=worker + 9)
            assert mine.ids.equal(whole.ids[worker::workers])
            assert mine.log_q.expand_as(mine.ids).equal(whole.log_q.expand_as(whole.ids)[worker::workers])
            if collisions == "mask":
                assert mine.collisions.equal(whole.collisions[worker::workers])
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert ask(draw, [users[i] for i in order], samples[order], epoch=1).ids.equal(whole.ids[order])
    assert not ask(draw, users, samples, epoch=2).ids.equal(whole.ids)
    assert not ask(build(name, n=6, shared=False, seed=4), users, samples, epoch=1).ids.equal(whole.ids)


@pytest.mark.parametrize("name", POOLS)
def test_pools_depend_on_seed_epoch_and_step_alone(name):
    def pool(key: tuple[int, int, int], users: list[int]) -> tuple[int, ...]:
        seed, epoch, step = key
        return tuple(ask(build(name, n=30, seed=seed), users, epoch=epoch, step=step).ids.tolist())

    assert pool((0, 1, 2), [0, 1, 4]) == pool((0, 1, 2), [4, 0, 1])
    if name not in OF_THE_BATCH:
        assert pool((0, 1, 2), [0, 1]) == pool((0, 1, 2), [5, 3, 4])
    if name != "in_batch":
        assert len({pool(key, [0]) for key in ((0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3), (0, 2, 1))}) == 5


@pytest.mark.parametrize("name", ROWS)
def test_a_user_who_knows_everything(name):
    known = ragged([[1], list(range(ITEMS))])
    with pytest.raises(InputError, match=r"nothing is left to draw for 1 users who know .*\(first: row 1\)"):
        build(name, known=known, shared=False)
    got = ask(build(name, known=known, n=4, shared=False, collisions="mask"), [1, 1])
    assert got.collisions.all()
    assert ask(build(name, known=known, n=4, shared=False, collisions="keep"), [1]).collisions is None


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_masks_all_of_what_knows_everything(name):
    got = ask(build(name, known=ragged([[1], list(range(ITEMS))]), n=4), [0, 1])
    assert got.collisions[1].all()


@pytest.mark.parametrize("name", [entry.name for entry in STATIC])
def test_a_catalogue_and_a_batch_of_one(name):
    entry = SAMPLERS[name]
    inputs = {key: torch.ones(1, dtype=torch.int64 if key == "item_groups" else None) for key in entry.inputs}
    own = {"n": 3} if "n" in entry.parameters else {}
    draw = entry.function(ragged([[]]), 1, seed=0, **own, **inputs)
    got = draw(torch.tensor([0]), torch.tensor([5]), epoch=0, step=0, positives=torch.tensor([0]))
    assert set(got.ids.flatten().tolist()) == {0}
    if name not in OF_THE_BATCH:
        assert not got.log_q.any()
        assert got.collisions is None or not got.collisions.any()
    assert got.log_q.isfinite().all()


@pytest.mark.parametrize("name", ROWS)
def test_nobody_knows_anything(name):
    draw = build(name, known=ragged([[], []]), n=3, shared=False)
    assert ask(draw, [1, 0]).ids.shape == (2, 3)


@pytest.mark.parametrize("own", WRONG)
@pytest.mark.parametrize("name", [entry.name for entry in STATIC])
def test_what_is_known_must_ascend_and_be_codes(name, own):
    with pytest.raises(InputError, match="in ascending order, as codes from 0 to 19"):
        build(name, known=ragged([own]))


# ------------------------------------------------------------------------------------------------------------ unbiased

TASTES = torch.tensor([0.3, -0.8, 1.1, 0.2, -1.5, 3.2, 0.9, -0.2, 0.5, -0.6, 1.4, 0.0])
"""One user's scores; the positive is item 5, with about half of the softmax."""
POPULAR = ragged([[5], *([i for i in range(12) if user % (i + 1) == 0] for user in range(1, 60))])
"""User 0 knows the positive alone; item i is known to a share 1 / (i + 1) of the others."""
HALF = {"in_batch": 1.0, "mixed": 0.5}
"""The share of the pool that is made of the batch's positives."""
UNBIASED = [
    *((name, {"shared": shared}) for name in ROWS if name != "by_group" for shared in (True, False)),
    *(("popularity", {"shared": False, "collisions": way, "exponent": 1.0}) for way in ("mask", "redraw")),
    ("in_batch", {}),
    ("in_batch", {"repeats": "mask"}),
    ("mixed", {}),
    ("aobpr", {"ratio": 0.5}),
    ("genni", {"candidates": 0, "temperature": 1.0}),
]
"""All that state log q but ``by_group``: its draws never reach the rest of the catalogue."""


def gradients(name: str, n: int, trial: int, **own: Any) -> dict[str, Tensor]:
    """The gradient of the scores under each way to correct, from n negatives."""
    of_batch = max(int(HALF.get(name, 0) * n), 1)
    draw = build(name, known=POPULAR, num_items=12, n=n - of_batch if name == "mixed" else n, **own)
    generator = torch.Generator().manual_seed(trial)
    others = POPULAR.values[torch.randint(len(POPULAR.values), (of_batch - 1,), generator=generator)]
    positives = torch.cat([torch.tensor([5]), others])
    users, samples = torch.zeros(of_batch, dtype=torch.int64), torch.arange(of_batch) + 10**6 * trial
    model = Toy(users=len(POPULAR.offsets) - 1, items=12)
    ids, log_q, found, *_ = draw(users, samples, epoch=0, step=trial, positives=positives, scorer=model)
    ids = (ids if ids.ndim == 1 else ids[0])[None]
    log_q = log_q if log_q.ndim == 1 else log_q[:1]
    result = {}
    for way in ("log(n q)", "log q", "none"):
        scores = TASTES.clone().requires_grad_()
        neg = scores[ids]
        if way != "none":
            neg = correct_log_q(neg, log_q, n if way == "log(n q)" else 1)
        where = None if found is None else ~found[:1]
        sampled_softmax_loss(scores[5:6], neg, where=where).backward()
        result[way] = scores.grad
    return result


@pytest.mark.parametrize(("name", "own"), UNBIASED, ids=lambda value: value if isinstance(value, str) else repr(value))
def test_only_log_nq_gives_the_gradient_of_the_full_softmax(name, own):
    full = TASTES.softmax(0) - torch.nn.functional.one_hot(torch.tensor(5), 12)
    few, many = ([gradients(name, n, trial, **own) for trial in range(30)] for n in (20, 1500))

    def error(got: list[dict[str, Tensor]], way: str) -> float:
        return float(torch.stack([(one[way] - full).abs().max() for one in got]).mean())

    assert error(many, "log(n q)") < 0.03
    assert error(many, "log(n q)") < error(few, "log(n q)") / 4  # √75 ≈ 8.7 for n of 75 times the size
    # Where each item counts once a batch and all are there in the end, nothing is left to correct.
    for way in ("log q",) if own.get("repeats") == "mask" else ("log q", "none"):
        assert error(many, way) > 0.3


# -------------------------------------------------------------------------------------------------- asking the model


class Toy:
    """A model of fixed vectors, whose inner products are its scores."""

    def __init__(self, users: int = len(LISTS), items: int = ITEMS) -> None:
        generator = torch.Generator().manual_seed(0)
        self.users, self.items = (torch.randn(rows, 3, generator=generator) * 0.7 for rows in (users, items))

    def score(self, queries: Tensor, items: Tensor) -> Tensor:
        return (self.users[queries][:, None] * self.items[items]).sum(-1)

    def query_vectors(self, queries: Tensor) -> Tensor:
        return self.users[queries]

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        return self.items if items is None else self.items[items]


MODEL = [entry.name for entry in SAMPLERS if entry.kind == "model"]
OTHERWISE = {
    "dns": [{"form": "softmax"}],
    "cached": [{"pick": "softmax", "size": 8}],
    "genni": [{"candidates": 0, "temperature": 1.0}],
    "aobpr": [{"spread": "variance", "ratio": 0.3}],
    "srns": [{"size": 6, "warm_up": 1}],
    "nearest": [{"index": "flat", "window": 6}, {"index": "hnsw", "choice": "top", "skip": 2}],
}
"""Other options that the laws also hold for."""
FLAT = {"aobpr": {"ratio": 0.5}}
"""Options under which so many draws reach every item."""
ASKED = [(name, own) for name in MODEL for own in ({}, *OTHERWISE.get(name, []))]
each_asked = pytest.mark.parametrize(
    ("name", "own"), ASKED, ids=[f"{name}-{'-'.join(own) or 'default'}" for name, own in ASKED]
)


@pytest.mark.parametrize("name", MODEL)
def test_without_a_model_there_is_nothing_to_ask(name):
    with pytest.raises(InputError, match=f"{name} .*pass scorer"):
        ask(build(name, n=4), [0, 1])


@each_asked
def test_what_asks_the_model_never_gives_a_known_positive(name, own):
    users, draw = list(range(len(LISTS))) * 20, build(name, n=6, **own)
    for epoch in range(3):
        got = ask(draw, users, epoch=epoch, scorer=Toy())
        assert got.collisions is None and got.ids.shape == (len(users), 6)
        for user, ids in zip(users, got.ids.tolist(), strict=True):
            assert set(ids) <= set(range(ITEMS)) - set(LISTS[user])
        assert set(got.ids[torch.tensor(users) == 4].flatten().tolist()) == {7}


@each_asked
def test_what_asks_the_model_depends_on_keys_and_on_its_state(name, own):
    """Any split of the batch, where there is no state; and with one, any order of its rows, and a state that is loaded."""
    users, samples = [user % 6 for user in range(24)], torch.arange(24) * 7 + 5
    draw, again, later = (build(name, n=6, **own) for _ in range(3))
    first = ask(draw, users, samples, epoch=1, scorer=Toy())
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert ask(again, [users[i] for i in order], samples[order], epoch=1, scorer=Toy()).ids.equal(first.ids[order])
    if isinstance(draw, torch.nn.Module):
        state = {key: value.clone() for key, value in draw.state_dict().items()}
        later.load_state_dict(state)
    second = ask(draw, users, samples, epoch=2, step=1, scorer=Toy())
    assert ask(later, users, samples, epoch=2, step=1, scorer=Toy()).ids.equal(second.ids)
    if not isinstance(draw, torch.nn.Module):
        for workers in (2, 5, 24):
            for worker in range(workers):
                mine = ask(draw, users[worker::workers], samples[worker::workers], epoch=1, step=worker, scorer=Toy())
                assert mine.ids.equal(first.ids[worker::workers])


@each_asked
def test_frequencies_of_what_asks_the_model_match_log_q_where_it_is_stated(name, own):
    for user in (0, 2, 4):
        got = ask(build(name, n=6, **{**FLAT.get(name, {}), **own}), [user] * 3_000, scorer=Toy())
        if got.log_q is not None:
            check_frequencies(got.ids, got.log_q)
            assert name in dict(UNBIASED)  # who states it is held to it


@each_asked
def test_what_asks_the_model_for_a_user_who_knows_everything(name, own):
    with pytest.raises(InputError, match=r"nothing is left to draw for 1 users who know .*\(first: row 1\)"):
        build(name, known=ragged([[1], list(range(ITEMS))]), n=4, **own)


@each_asked
def test_what_asks_the_model_with_a_catalogue_and_a_batch_of_one(name, own):
    draw = build(name, known=ragged([[]]), num_items=1, n=3, **own)
    got = draw(
        torch.tensor([0]), torch.tensor([5]), epoch=0, step=0, positives=torch.tensor([0]), scorer=Toy(users=1, items=1)
    )
    assert got.ids.tolist() == [[0, 0, 0]]
    assert got.log_q is None or not got.log_q.any()


@pytest.mark.parametrize("wrong", WRONG)
@each_asked
def test_what_is_known_must_ascend_and_be_codes_where_the_model_is_asked(name, own, wrong):
    with pytest.raises(InputError, match="in ascending order, as codes from 0 to 19"):
        build(name, known=ragged([wrong]), n=4, **own)


IN_ANOTHER_PROCESS = """
import json, sys, torch
from rankwell.samplers import SAMPLERS
from rankwell.types import Ragged
asked = json.load(sys.stdin)

class Model:
    users, items = (torch.tensor(asked[name]) for name in ("user_vectors", "item_vectors"))
    def score(self, queries, items):
        return (self.users[queries][:, None] * self.items[items]).sum(-1)
    def query_vectors(self, queries):
        return self.users[queries]
    def item_vectors(self, items=None):
        return self.items if items is None else self.items[items]

known, (users, samples, positives) = Ragged(*map(torch.tensor, asked["known"])), map(torch.tensor, asked["batch"])
drawn = []
for name, own, inputs in asked["draws"]:
    inputs = {key: torch.tensor(value) for key, value in inputs.items()}
    draw = SAMPLERS[name].function(known, len(asked["item_vectors"]), seed=3, n=6, **own, **inputs)
    for epoch, step in asked["steps"]:
        got = draw(users, samples, epoch=epoch, step=step, positives=positives, scorer=Model())
        drawn.append(got.ids.tolist())
print(json.dumps(drawn))
"""


def test_two_processes_draw_what_one_draws():
    """Each has every second row, and so its own users: what is kept of a user is kept where its rows are."""
    users, samples, steps = [row % 6 for row in range(8)], list(range(8)), [(1, 0), (2, 1)]
    draws = [(name, {"shared": False}) for name in ROWS] + ASKED
    asked = {"known": [part.tolist() for part in ragged(LISTS)], "steps": steps}
    asked["draws"] = [(name, own, INPUTS.get(name, {})) for name, own in draws]
    asked |= {"user_vectors": Toy().users.tolist(), "item_vectors": Toy().items.tolist()}
    halves = []
    for rank in range(2):
        batch = [users[rank::2], samples[rank::2], [POSITIVES[user] for user in users[rank::2]]]
        code = [sys.executable, "-c", IN_ANOTHER_PROCESS]
        halves.append(subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        halves[-1].stdin.write(json.dumps({**asked, "batch": batch}))
        halves[-1].stdin.close()
    drawn = [json.loads(half.stdout.read()) for half in halves]
    for half in halves:
        half.stdout.close()
        assert half.wait() == 0
    of_halves = zip(*drawn, strict=True)
    for name, own in draws:
        draw = build(name, n=6, **own)
        for epoch, step in steps:
            whole = ask(draw, users, torch.tensor(samples), epoch=epoch, step=step, scorer=Toy()).ids
            assert [whole[rank::2].tolist() for rank in range(2)] == list(next(of_halves)), (name, own, epoch)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@each_asked
def test_a_model_that_has_diverged_is_for_the_loss_to_say(name, own, value):
    for broken in ("users", "items"):
        model = Toy()
        getattr(model, broken)[3:] = value
        got = ask(build(name, n=4, **own), [0, 3, 5], scorer=model)
        assert got.ids.shape == (3, 4)
        assert set(got.ids.flatten().tolist()) <= set(range(ITEMS))


# ------------------------------------------------------------------------------------------------------- documentation


@pytest.mark.parametrize("entry", SAMPLERS, ids=lambda entry: entry.name)
def test_sources_and_parameters_are_documented(entry):
    bibliography = (Path(__file__).parents[2] / "references.bib").read_text()
    if entry.paper:
        assert re.search(rf"^@\w+\{{{entry.paper},", bibliography, re.MULTILINE)
        assert f":cite:`{entry.paper}`" in entry.function.__doc__
    for name in (*entry.parameters, *entry.inputs):
        assert re.search(rf"^\s+{name}: ", entry.function.__doc__, re.MULTILINE), name
