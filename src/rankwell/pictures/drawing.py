"""Drawing losses: values beside gradients, a row a loss."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankwell.atomic import write_atomically
from rankwell.errors import ConfigError, require
from rankwell.pictures.curves import Curve, curves_beside, loss_curve
from rankwell.registry import Entry

__all__ = ["COLOURS", "draw_curves", "draw_loss"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, told apart by all eyes."""

STROKES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
"""As many, told apart without colour."""

FILES = (".svg", ".png", ".pdf")

ONE = {"list": "one list", "graded": "one list", "contrast": "one row", "embedding": "one query", "head": "one row"}
"""What a loss has one value of."""


def draw_loss(path: Path, entry: Entry[Any], *settings: Mapping[str, Any]) -> None:
    """Draw a loss, under each of the settings of its own parameters, above well-known losses of its kind.

    Raises:
        ConfigError: for more settings than there are colours, a loss that needs what only data can tell, or another type of
            file than .svg, .png and .pdf.
        InputError: if the loss refuses a setting.
    """
    if path.suffix not in FILES:
        raise ConfigError(f"a picture is a file {', '.join(FILES)}: got {str(path)!r}.")
    if len(settings) > len(COLOURS):
        raise ConfigError(f"a picture tells at most {len(COLOURS)} settings apart: got {len(settings)}.")
    curves = [loss_curve(entry, **own) for own in settings or ({},)]
    draw_curves(path, [curves, *([other] for other in curves_beside(curves[0]))])


def draw_curves(path: Path, rows: Sequence[Sequence[Curve]]) -> None:
    """Draw values beside gradients into a file of the type that its name says: a row for each group of curves.

    Each row has scales of its own, since losses differ in size by orders of magnitude; its title holds all parameters, and a
    legend tells those that differ.
    """
    matplotlib = require("matplotlib.figure", "cli")
    figure = matplotlib.Figure(figsize=(7.2, 0.5 + 1.9 * len(rows)), layout="constrained")
    for axes, curves in zip(figure.subplots(len(rows), 2, sharex=True, squeeze=False), rows, strict=True):
        _draw_row(axes, curves)
    figure.supxlabel(_axis(rows[0][0]), fontsize="small")
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=130, format=path.suffix.removeprefix("."))


def _draw_row(axes: Any, curves: Sequence[Curve]) -> None:
    scene, differing = curves[0].scene, _differing(curves)
    for curve, colour, stroke in zip(curves, COLOURS, STROKES, strict=False):
        said = ", ".join(f"{name}={_said(curve.own[name])}" for name in differing)
        for each, y in zip(axes, (curve.value, curve.slope), strict=True):
            each.plot(curve.x, y, color=colour, linestyle=stroke, linewidth=1.4, label=said)
    axes[0].set_ylabel(f"value of {ONE[curves[0].kind]}", fontsize="x-small")
    axes[1].set_ylabel(f"gradient, per unit of {scene.what}", fontsize="x-small")
    axes[0].set_title(_title(curves), loc="left", fontsize="small")
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.axhline(0, color="0.85", linewidth=0.8, zorder=0)
        each.axvline(scene.pos, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
        each.tick_params(labelsize="x-small")
    if differing:
        axes[0].legend(frameon=False, fontsize="x-small")


def _title(curves: Sequence[Curve]) -> str:
    """The loss and the parameters that all curves share."""
    first, differing = curves[0], _differing(curves)
    own = {name: first.own.get(name, parameter.default) for name, parameter in first.entry.parameters.items()}
    said = ", ".join(f"{name}={_said(value)}" for name, value in own.items() if name not in differing)
    return textwrap.fill(f"{first.entry.name}({said})" if said else first.entry.name, 105, subsequent_indent="    ")


def _differing(curves: Sequence[Curve]) -> list[str]:
    own = [curve.own for curve in curves]
    return [name for name in own[0] if any(each[name] != own[0][name] for each in own)]


def _axis(curve: Curve) -> str:
    scene, pair = curve.scene, curve.kind in ("contrast", "embedding")
    moving, still = ("a negative", "the positive") if pair else ("an irrelevant item", "the relevant one")
    others = f", others {' and '.join(f'{other:g}' for other in scene.others)}" if scene.others else ""
    return f"{scene.what} of {moving} ({still} at {scene.pos:g}, dotted{others})"


def _said(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_said, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
