"""Models: ``nn.Module``s that score the catalogue, one file a model."""

from rankwell.models.graph_filter import GraphFilter
from rankwell.models.mf import MatrixFactorisation
from rankwell.models.popularity import Popularity
from rankwell.models.registry import MODELS, Model
from rankwell.models.spectral import spectral_start, truncated_svd

__all__ = ["MODELS", "GraphFilter", "MatrixFactorisation", "Model", "Popularity", "spectral_start", "truncated_svd"]
