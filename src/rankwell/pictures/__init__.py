"""Pictures of losses: value and gradient as one score moves past another."""

from rankwell.pictures.curves import Curve, curves_beside, loss_curve
from rankwell.pictures.drawing import COLOURS, draw_curves, draw_loss

__all__ = ["COLOURS", "Curve", "curves_beside", "draw_curves", "draw_loss", "loss_curve"]
