"""Models: ``nn.Module``s that score the catalogue, one file a model."""

from rankwell.models.als import ALS
from rankwell.models.ease import EASE
from rankwell.models.graph_filter import GraphFilter
from rankwell.models.item_knn import ItemKNN
from rankwell.models.lightgcn import LightGCN
from rankwell.models.mf import MatrixFactorisation
from rankwell.models.popularity import Popularity
from rankwell.models.registry import MODELS, Model
from rankwell.models.spectral import spectral_start, truncated_svd

__all__ = [
    "ALS",
    "EASE",
    "MODELS",
    "GraphFilter",
    "ItemKNN",
    "LightGCN",
    "MatrixFactorisation",
    "Model",
    "Popularity",
    "spectral_start",
    "truncated_svd",
]
