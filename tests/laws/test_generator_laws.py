"""Laws of generators, over their registry."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rankwell.generators import GENERATORS, Embedded, Made, Updated

sys.path.insert(0, str(Path(__file__).parents[1] / "generators"))
from scenes import CATALOGUE, DIM, FEW, build, rows, scene

NAMES = GENERATORS.names()
OF_THE_BATCH = {"loop_negatives": "a row's negatives are points of the other rows' curves"}
GRADIENTS = {
    "mixgcf": {"positives", "negatives"},
    "hard_mixing": {"negatives"},
    "esans": {"positives", "negatives"},
    "loop_negatives": {"queries", "positives"},
    "memory": set(),
}
"""What a row's negatives carry gradient to; a generator that is not here has a test of its own."""
RANDOM = ("mixgcf", "hard_mixing", "esans")

each = pytest.mark.parametrize("name", NAMES)
either = pytest.mark.parametrize("pool", [False, True], ids=["rows", "pool"])
alike = pytest.mark.parametrize("unit", [False, True], ids=["dot", "cosine"])


def there(made: Made, b: int) -> Tensor:
    n = made.vectors.shape[-2]
    return torch.ones(b, n, dtype=torch.bool) if made.where is None else made.where.expand(b, n)


def gradients(made: Made, seen: Embedded) -> dict[str, Tensor]:
    """Of a weighted sum of what is valid, by what was looked up; zeros where there is none."""
    vectors = made.vectors if made.vectors.ndim == 3 else made.vectors.expand(len(seen.queries), -1, -1)
    weights = torch.linspace(0.5, 1.5, vectors[0].numel()).view(vectors.shape[1:])
    value = (vectors * weights * there(made, len(vectors))[..., None]).sum()
    leaves = {name: getattr(seen, name) for name in ("queries", "positives", "negatives")}
    value = value + 0 * sum(torch.where(x.isfinite(), x, 0).sum() for x in leaves.values())
    return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))


@each
@either
def test_shapes(name, pool):
    seen = scene(pool=pool)
    maker = build(name)
    made = maker(seen)
    assert made.vectors.shape[-1] == DIM and made.vectors.dtype == torch.float32
    assert made.vectors.shape[:-2] in ((), (6,))
    assert there(made, 6).shape == (6, made.vectors.shape[-2])
    if made.log_q is not None:
        assert made.log_q.expand(there(made, 6).shape).isfinite().all()
    if hasattr(maker, "size"):
        own = {key: parameter.default for key, parameter in GENERATORS[name].parameters.items()} | FEW.get(name, {})
        per_row, shared = type(maker).size(**own)
        assert made.vectors.shape == ((6, per_row, DIM) if per_row else (shared, DIM))


@each
@either
@alike
def test_a_row_gets_the_same_in_every_batch(name, pool, unit):
    if name in OF_THE_BATCH:
        pytest.skip(OF_THE_BATCH[name])
    maker, seen = build(name), scene(pool=pool, unit=unit)
    seen = seen._replace(where=torch.rand(6, 8, generator=torch.Generator().manual_seed(1)) > 0.3)
    whole = maker(seen)
    for some in (slice(0, 2), slice(2, 6)):
        part = maker(rows(seen, some))
        if whole.vectors.ndim == 3:
            assert torch.allclose(part.vectors, whole.vectors[some], atol=1e-6)
        else:
            assert part.vectors.equal(whole.vectors)
        assert there(part, len(range(6)[some])).equal(there(whole, 6)[some])


@each
def test_draws_are_keyed(name):
    maker, seen = build(name), scene()
    assert maker(seen).vectors.equal(build(name)(seen).vectors)
    if name in RANDOM:
        for other in (seen._replace(epoch=3), seen._replace(samples=seen.samples + 50)):
            assert not maker(other).vectors.equal(maker(seen).vectors)
        assert not build(name, seed=4)(seen).vectors.equal(maker(seen).vectors)


@each
@either
@alike
def test_masked_negatives_never_contribute(name, pool, unit):
    seen = scene(pool=pool, unit=unit)
    where = torch.ones(6, 8, dtype=torch.bool)
    where[:, [1, 5]] = False
    if not pool:
        where[2] = False
        where[3, 1:] = False
    masked = ~where.all(0) if pool else ~where
    results = []
    for filling in (0.0, torch.nan, torch.inf, 1e30):
        negatives = seen.negatives.detach().clone()
        negatives[masked] = filling
        one = seen._replace(negatives=negatives.requires_grad_(), where=where)
        made = build(name)(one)
        assert made.vectors.isfinite().all()
        results.append((made.vectors.detach(), there(made, 6), gradients(made, one)))
    for vectors, valid, slopes in results:
        assert vectors.equal(results[0][0]) and valid.equal(results[0][1])
        assert all(slope.equal(results[0][2][key]) for key, slope in slopes.items())
        assert not slopes["negatives"][masked].any()


@each
@either
@alike
def test_gradients_flow_where_they_should_and_are_finite(name, pool, unit):
    if name not in GRADIENTS:
        pytest.skip("it has a test of its own")
    seen = scene(pool=pool, unit=unit)
    slopes = gradients(build(name)(seen), seen)
    assert all(slope.isfinite().all() for slope in slopes.values())
    assert {key for key, slope in slopes.items() if slope.any()} == GRADIENTS[name]


@each
@alike
def test_equal_vectors_are_finite(name, unit):
    one = torch.full((6, DIM), 0.5)
    seen = scene(unit=unit)._replace(
        queries=one.clone().requires_grad_(),
        positives=one.clone().requires_grad_(),
        negatives=one[:, None].repeat(1, 8, 1).requires_grad_(),
    )
    made = build(name)(seen)
    assert made.vectors.isfinite().all()
    assert all(slope.isfinite().all() for slope in gradients(made, seen).values())


@each
@either
def test_a_batch_of_one_and_one_negative(name, pool):
    for b, n in ((1, 8), (6, 1), (1, 1)):
        seen = scene(b, n, pool=pool)
        made = build(name)(seen)
        assert made.vectors.isfinite().all() and there(made, b).shape == (b, made.vectors.shape[-2])
        assert all(slope.isfinite().all() for slope in gradients(made, seen).values())


@each
def test_the_call_changes_nothing(name):
    maker, seen = build(name), scene(where=torch.rand(6, 8) > 0.3)
    before = [x.detach().clone() if isinstance(x, Tensor) else x for x in seen]
    state = {key: x.clone() for key, x in maker.state_dict().items()} if isinstance(maker, nn.Module) else {}
    first, second = maker(seen), maker(seen)
    assert first.vectors.equal(second.vectors)
    for x, old in zip(seen, before, strict=True):
        assert not isinstance(x, Tensor) or x.equal(old)
    if state:
        assert all(x.equal(state[key]) for key, x in maker.state_dict().items())


@each
def test_state_goes_on_where_it_was_saved(name):
    maker = build(name)
    if not isinstance(maker, nn.Module):
        pytest.skip("it has no state")
    fresh = build(name)
    for step in range(2):
        if isinstance(maker, Updated):
            maker.update(scene(seed=step + 1, step=step, scorer=CATALOGUE))
    fresh.load_state_dict(maker.state_dict())
    for step in (2, 3):
        seen = scene(seed=10 + step, step=step, scorer=CATALOGUE)
        assert maker(seen).vectors.equal(fresh(seen).vectors)
        assert there(maker(seen), 6).equal(there(fresh(seen), 6))
        if isinstance(maker, Updated):
            maker.update(seen)
            fresh.update(seen)


@pytest.mark.parametrize("entry", list(GENERATORS), ids=lambda entry: entry.name)
def test_sources_and_parameters_are_documented(entry):
    bibliography = (Path(__file__).parents[2] / "references.bib").read_text()
    if entry.paper:
        assert re.search(rf"^@\w+\{{{entry.paper},", bibliography, re.MULTILINE)
        assert f":cite:`{entry.paper}`" in entry.function.__doc__
    for name in (*entry.parameters, *entry.inputs):
        assert re.search(rf"^\s+{name}: ", entry.function.__doc__, re.MULTILINE), name
