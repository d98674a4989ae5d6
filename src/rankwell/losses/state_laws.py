"""What every loss with state keeps to, as in ``losses/laws.py``: laws of its memory, and those of the kind it is called as.

A loss is built from its registration, and called new and after steps of training (its own parameters move, too), with its
defaults and with other choices. So a loss is under these laws as soon as it is registered. An exception to a law stands here,
with its reason.
"""

# mypy: allow-untyped-calls

import copy
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from rankwell.errors import ConfigError
from rankwell.laws import Law, Laws, agree
from rankwell.losses.cases import cases, scalars
from rankwell.losses.laws import LAWS as LOSS_LAWS
from rankwell.losses.laws import gradients
from rankwell.registry import Entry, Parameter

__all__ = ["LAWS", "laws_of"]

LAWS = Laws("stateful")
law = LAWS.law

close = partial(agree, rtol=2e-5, atol=2e-5)
same = partial(agree, rtol=0, atol=0)

_SMALL = {"warm_up": 0, "size": 30}
"""Such that the memory counts at once, and overflows after some steps."""

_ALSO: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "cross_batch_memory": ({"loss": "info_nce", "joined": True}, {"loss": "triplet", "hard_above": 0.0}),
    "learned_temperature": ({"loss": "softmax"}, {"loss": "sampled_softmax"}),
    "k_song": ({"k": 3, "form": "theoretical", "temperature": 0.3},),
}
"""Choices that no annotation tells."""

STEPS = 2
"""How often each case is trained on before a loss counts as trained."""

_PAST = "past steps are constants in the gradient"
_STATE = "it is, at some eight times the bytes: ids and the state's part of each item come on top"

EXCEPTIONS: Mapping[str, Mapping[str, str]] = {
    "gradient_is_numerical": {
        "k_song": "what it takes for the share of an item in the top k is a constant in the gradient"
    },
    "ragged_memory_is_linear": {
        "song": _STATE,
        "k_song": _STATE,
        "learned_temperature": "one more copy of the scores",
    },
}
"""Losses, with reasons, that a law of their kind does not hold for."""

LATER: Mapping[str, Mapping[str, str]] = {
    "gradient_is_numerical": {"sog_clr": _PAST, "song": _PAST},
    "second_derivative_is_numerical_or_an_error": {"sog_clr": _PAST},
}
"""Those that it holds for at their first step, and at no later one."""

SLOW = ("compiles_to_the_same", "vmap_is_a_loop")
"""Laws of the kind that take long, and are tried on one choice, after steps."""


@dataclass(frozen=True)
class Built:
    """A loss with state as one is called that was built so."""

    module: nn.Module
    view: Entry[Any]
    """The module as an entry of the kind that it is called as."""
    how: str
    trained: bool


def choices(entry: Entry[Any]) -> list[dict[str, Any]]:
    """The defaults, other values of own parameters that say what else they may be, and those that only names tell."""
    found = ((name, _other(each)) for name, each in entry.parameters.items())
    return [{}, *({name: value} for name, value in found if value is not None), *map(dict, _ALSO.get(entry.name, ()))]


def _other(parameter: Parameter) -> Any:
    kind = parameter.annotation
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    if typing.get_origin(kind) is Literal:
        return next((value for value in typing.get_args(kind) if value != parameter.default), None)
    return not parameter.default if isinstance(parameter.default, bool) else None


def new(entry: Entry[Any], own: Mapping[str, Any]) -> nn.Module:
    """A loss that has seen nothing."""
    small = {name: value for name, value in _SMALL.items() if name in entry.parameters}
    module: nn.Module = entry(**scalars(entry), **{**small, **own})
    if lacking := [name for name in ("call", "update") if not hasattr(module, name)]:
        raise ConfigError(
            f"a loss with state has call, the kind that it is called as, and update, called once a step: {entry.name} lacks"
            f" {', '.join(lacking)}."
        )
    return module


def viewed(entry: Entry[Any], module: Any) -> Entry[Any]:
    """The module as an entry of the kind that it is called as."""
    kind = "classes" if module.call == "embedding" and "ids" in _takes(module.forward) else module.call
    return replace(entry, function=module, kind=kind, inputs=dict(getattr(module, "inputs", {})))


def _takes(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def built(entry: Entry[Any], *, some: bool = False) -> Iterator[Built]:
    """The loss with each choice, new and trained; with ``some``, trained with the defaults."""
    for own in choices(entry)[: 1 if some else None]:
        for trained in (True,) if some else (False, True):
            module = new(entry, own)
            view = viewed(entry, module)
            if trained:
                for args in steps(view):
                    step(module, args)
            how = ", ".join([*(f"{name}={value!r}" for name, value in own.items()), "later" if trained else "new"])
            yield Built(module, view, how, trained)


def steps(view: Entry[Any], seed: int = 100) -> Iterator[dict[str, Tensor]]:
    """Arguments of some steps of training."""
    for each in range(seed, seed + STEPS):
        for case in cases(view, seed=each, inputs=True):
            yield case.args


def step(module: nn.Module, args: Mapping[str, Tensor]) -> Tensor:
    """A step of training: the values before it. Own parameters go downhill; who remembers, remembers."""
    values: Tensor = module(**args, reduction="none")
    own = [x for x in module.parameters() if x.requires_grad]
    if own:
        slopes = torch.autograd.grad(values.sum(), own)
        with torch.no_grad():
            for x, slope in zip(own, slopes, strict=True):
                x.sub_(0.05 * slope.clamp(-1, 1))
    remember(module, args)
    return values.detach()


def remember(module: Any, args: Mapping[str, Tensor]) -> None:
    """The update, given what it takes of the call."""
    takes = _takes(module.update)
    items = {"ids": args["item_ids"], "vectors": args["items"]} if "vectors" in takes else {}
    module.update(**{name: value for name, value in {**args, **items}.items() if name in takes})


def state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the state."""
    return {name: x.detach().clone() for name, x in module.state_dict().items()}


def same_state(module: nn.Module, before: Mapping[str, Tensor], what: str) -> None:
    """Raise AssertionError unless the state is this, bit for bit; NaN is like NaN."""
    now = module.state_dict()
    assert list(now) == list(before), f"{what}: the state has {list(now)}, expected {list(before)}"
    for name, x in now.items():
        assert torch.allclose(x, before[name], rtol=0, atol=0, equal_nan=True), f"{what} changed {name}"


def values_of(module: nn.Module, view: Entry[Any], seed: int = 0) -> Tensor:
    """What the loss is for some arguments that it was not trained on."""
    view = replace(view, function=module)
    found: list[Tensor] = [view(**case.args, reduction="none").detach() for case in cases(view, seed=seed, inputs=True)]
    return torch.cat(found)


# ------------------------------------------------------------------------------------------------------- what is remembered


@law()
def calls_change_nothing(entry: Entry[Any]) -> None:
    """Calls, in training or not, with their backward pass or without, leave the state as it is, and give the same value."""
    for each in built(entry):
        for case in cases(each.view, inputs=True):
            before, expected = state(each.module), gradients(each.view, case, case.args)
            for training in (True, False):
                each.module.train(training)
                for again, first in zip(gradients(each.view, case, case.args), expected, strict=True):
                    same(again, first)
                with torch.no_grad():
                    same(each.view(**case.args, reduction="none"), expected[0])
            same_state(each.module, before, "a call")


@law()
def training_resumes_from_the_state(entry: Entry[Any]) -> None:
    """A new loss that is given the ``state_dict`` goes on as the old one does, bit for bit."""
    for own in choices(entry):
        module, other = new(entry, own), new(entry, own)
        view = viewed(entry, module)
        for args in steps(view):
            step(module, args)
        other.load_state_dict(state(module))
        for args in steps(view, seed=200):
            same(step(other, args), step(module, args))
        same_state(other, state(module), "resuming")


@law()
def what_is_remembered_counts(entry: Entry[Any]) -> None:
    """After steps of training, its value is another than before them."""
    for own in choices(entry):
        module = new(entry, own)
        view = viewed(entry, module)
        fresh = values_of(module, view)
        for args in steps(view):
            step(module, args)
        change = float((values_of(module, view) - fresh).abs().max())
        assert change > 1e-6, f"got the values of a new loss, within {change:.2g}, after steps of training"


@law()
def past_steps_have_no_gradient(entry: Entry[Any]) -> None:
    """What is remembered of a step is a constant later on: no graph is kept, and no gradient gets there."""
    for each in built(entry):
        for case in cases(each.view, seed=5, inputs=True):
            leaves = {name: case.args[name].clone().requires_grad_() for name in case.scores}
            step(each.module, {**case.args, **leaves})
            kept = [name for name, x in each.module.named_buffers() if x.requires_grad or x.grad_fn is not None]
            assert not kept, f"{', '.join(kept)} keeps the graph of a step"
            later: dict[str, Tensor] = next(steps(each.view, seed=6))
            now = {name: later[name].clone().requires_grad_() for name in case.scores}
            value = each.module(**{**later, **now}, reduction="sum")
            slopes = torch.autograd.grad(value, [*leaves.values(), *now.values()], allow_unused=True)
            assert all(slope is None for slope in slopes[: len(leaves)]), "a step before gets a gradient"
            assert any(slope is not None for slope in slopes[len(leaves) :]), "the step itself gets no gradient"


@law()
def copies_are_apart(entry: Entry[Any]) -> None:
    """What a copy, or another loss, remembers is nothing to this one."""
    for each in built(entry):
        before = state(each.module)
        for other in (copy.deepcopy(each.module), new(entry, {})):
            step(other, next(steps(viewed(entry, other), seed=7)))
        same_state(each.module, before, "another loss")


@law()
def unmet_ids_have_their_first_value(entry: Entry[Any]) -> None:
    """An id that was never met has the value that it has in a new loss, whatever ids were met."""
    for own in choices(entry):
        module = new(entry, own)
        view = viewed(entry, module)
        ids = [name for name, given in view.inputs.items() if given.holds == "id"]
        fresh = values_of(module, view)
        for args in steps(view):
            step(module, {**args, **{name: args[name] + 500 for name in ids}})
        close(values_of(module, view), fresh)


# ---------------------------------------------------------------------------------------------------------------- masks


@law()
def masked_is_not_remembered(entry: Entry[Any]) -> None:
    """NaN, infinities and huge numbers behind a mask do not reach the state."""
    for each in built(entry):
        for case in cases(each.view, seed=8, inputs=True):
            clean = copy.deepcopy(each.module)
            step(clean, case.args)
            for junk in (torch.nan, torch.inf, -torch.inf, 1e30):
                dirty = copy.deepcopy(each.module)
                absent = {
                    name: x.masked_fill(case.absent[name], junk) for name, x in case.args.items() if name in case.absent
                }
                step(dirty, {**case.args, **absent})
                agree_later(dirty, clean, each.view, f"{junk} behind the mask")


@law()
def row_with_nothing_valid_is_not_remembered(entry: Entry[Any]) -> None:
    """A step with a row that has nothing valid leaves what the step without that row leaves."""
    for each in built(entry):
        for case in cases(each.view, seed=9, inputs=True):
            mask = case.args[case.valid].clone()
            mask[0] = False
            empty, without = copy.deepcopy(each.module), copy.deepcopy(each.module)
            step(empty, {**case.args, case.valid: mask})
            step(without, case.take(torch.arange(1, case.rows)))
            agree_later(empty, without, each.view, "an empty row")


@law()
def order_of_rows_is_not_remembered(entry: Entry[Any]) -> None:
    """A step with its rows in another order leaves the same."""
    for each in built(entry):
        for case in cases(each.view, seed=10, inputs=True):
            order = torch.randperm(case.rows, generator=torch.Generator().manual_seed(1))
            one, other = copy.deepcopy(each.module), copy.deepcopy(each.module)
            step(one, case.args)
            step(other, case.take(order))
            agree_later(other, one, each.view, "another order")


def agree_later(module: nn.Module, other: nn.Module, view: Entry[Any], what: str) -> None:
    """Raise AssertionError unless both say the same from now on."""
    try:
        close(values_of(module, view), values_of(other, view))
    except AssertionError as error:
        raise AssertionError(f"{what} is remembered: {error}") from error


# ------------------------------------------------------------------------------------------------------------- precision


@law()
def extreme_steps_leave_finite_values(entry: Entry[Any]) -> None:
    """After steps with scores by ten thousand and gaps of sixty, state, values and gradients are finite."""
    for change in (lambda x: x * 1e4, lambda x: 60 * x.sign() + x, lambda x: x * 1e-9):
        for each in built(entry):
            for case in cases(each.view, seed=11, inputs=True):
                step(each.module, {name: change(x) if name in case.scores else x for name, x in case.args.items()})
                for name, x in each.module.state_dict().items():
                    assert x.isfinite().all(), f"{name} is not finite"
                for later in cases(each.view, inputs=True):
                    finite = all(x.isfinite().all() for x in gradients(each.view, later, later.args))
                    assert finite, "values or gradients of a later step are not finite"


@law()
def state_has_any_precision(entry: Entry[Any]) -> None:
    """With its state in float64 it has the values that it has in float32; in bfloat16 it is near them, and of their type."""
    for own in choices(entry):
        single = new(entry, own)
        view = viewed(entry, single)
        others = {dtype: new(entry, own).to(dtype) for dtype in (torch.double, torch.bfloat16)}
        for args in steps(view):
            for module in (single, *others.values()):
                step(module, args)
        expected = values_of(single, view)
        for dtype, module in others.items():
            far = 1e-4 if dtype == torch.double else 5e-2
            got = values_of(module, view)
            assert got.dtype == expected.dtype, f"a state of {dtype} gave values of {got.dtype} for {expected.dtype}"
            agree(got, expected, rtol=far, atol=far * float(expected.abs().max()))


@law()
def state_moves_with_the_loss(entry: Entry[Any]) -> None:
    """On another device everything is there: calls, their gradients and updates bring nothing from this one."""
    for each in built(entry):
        module = copy.deepcopy(each.module).to("meta")
        view = replace(each.view, function=module)
        for case in cases(view, inputs=True):
            away = {name: x.to("meta") for name, x in case.args.items()}
            for x, leaf in zip(gradients(view, case, away), ("values", *case.scores), strict=True):
                shape = away[leaf].shape if leaf in away else (case.rows,)
                assert x.device.type == "meta" and x.shape == shape, f"{leaf}: {tuple(x.shape)} on {x.device}"
            remember(module, away)
        here = [name for name, x in module.state_dict().items() if x.device.type != "meta"]
        assert not here, f"{', '.join(here)} stayed where it was"


@law()
def gradient_of_parameters_is_numerical(entry: Entry[Any]) -> None:
    """In float64 the gradient by each of its own parameters is that of finite differences."""
    for each in built(entry):
        module = each.module.double()
        for case in cases(each.view, dtype=torch.double):
            for name, x in module.named_parameters():
                (slope,) = torch.autograd.grad(module(**case.args, reduction="sum"), x)
                draw = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
                ends = []
                for by in (1e-6, -1e-6):
                    with torch.no_grad():
                        moved = {name: x + by * draw}
                        ends.append(torch.func.functional_call(module, moved, (), {**case.args, "reduction": "sum"}))
                try:
                    agree((slope * draw).sum(), (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-6)
                except AssertionError as error:
                    raise AssertionError(f"by {name}: {error}") from error


# --------------------------------------------------------------------------------------------------- the laws of the kind


class _OfKind(Law):
    """A law that gives reasons for losses which it holds for at their first step."""

    def binds(self, entry: Entry[Any]) -> bool:
        return entry.kind in self.kinds and (super().binds(entry) or entry.name in LATER.get(self.name, {}))


def _of_kind(of_loss: Law) -> Law:
    """The law of the kind that a loss with state is called as, held by it new and trained."""

    def check(entry: Entry[Any]) -> None:
        later = LATER.get(of_loss.name, {})
        for each in built(entry, some=of_loss.name in SLOW):
            if each.view.kind not in of_loss.kinds and each.module.call not in of_loss.kinds:
                continue
            if each.trained and entry.name in later:
                continue
            try:
                of_loss.check(each.view)
            except AssertionError as error:
                raise AssertionError(f"{error} ({each.how})") from error

    check.__doc__ = of_loss.sentence
    never, later = (table.get(of_loss.name, {}) for table in (EXCEPTIONS, LATER))
    known = {**of_loss.exceptions, **never, **later}
    return _OfKind(of_loss.name, check, ("stateful",), known, of_loss.strict and not never and not later)


OF_KINDS = {name: _of_kind(of_loss) for name, of_loss in LOSS_LAWS.items()}
"""The laws of lists, contrasts and embeddings, for losses with state."""


def laws_of(entry: Entry[Any]) -> list[Law]:
    """The laws that bind this loss with state: of what it remembers, and of what it is called as."""
    modules = [new(entry, own) for own in choices(entry)]
    calls = {each.call for each in modules}
    of_kinds = [held for name, held in OF_KINDS.items() if calls & set(LOSS_LAWS[name].kinds)]
    without = set()
    if not any(given.holds == "id" for each in modules for given in viewed(entry, each).inputs.values()):
        without.add("unmet_ids_have_their_first_value")
    if not any(True for _ in modules[0].parameters()):
        without.add("gradient_of_parameters_is_numerical")
    own = [each for each in LAWS.values() if each.name not in without]
    return [each for each in (*own, *of_kinds) if each.binds(entry)]
