"""Models: ``nn.Module``s that score the catalogue, one file a model."""

from rankwell.models.adapter import Adapter
from rankwell.models.als import ALS
from rankwell.models.bag_of_words import BagOfWords
from rankwell.models.bi_encoder import BiEncoder
from rankwell.models.cross_encoder import CrossEncoder
from rankwell.models.ease import EASE
from rankwell.models.encoder import Encoder, RawFeatures
from rankwell.models.feature_knn import FeatureKNN
from rankwell.models.graph_filter import GraphFilter
from rankwell.models.gru4rec import GRU4Rec
from rankwell.models.item_knn import ItemKNN
from rankwell.models.item_mean import ItemMean
from rankwell.models.label_scorers import LabelMLP, LabelPopularity, LabelRidge, LabelVectors
from rankwell.models.lightgcn import LightGCN
from rankwell.models.list_baselines import BestFeature, LambdaMART
from rankwell.models.max_sim import MaxSim
from rankwell.models.mf import MatrixFactorisation
from rankwell.models.neumf import NeuMF
from rankwell.models.popularity import Popularity
from rankwell.models.rankers import MLPRanker, SetTransformer
from rankwell.models.registry import MODELS, Model
from rankwell.models.sasrec import SASRec
from rankwell.models.simplex import SimpleX
from rankwell.models.spectral import spectral_start, truncated_svd
from rankwell.models.two_tower import TwoTower
from rankwell.models.ultragcn import UltraGCN

__all__ = [
    "ALS",
    "EASE",
    "MODELS",
    "Adapter",
    "BagOfWords",
    "BestFeature",
    "BiEncoder",
    "CrossEncoder",
    "Encoder",
    "FeatureKNN",
    "GRU4Rec",
    "GraphFilter",
    "ItemKNN",
    "ItemMean",
    "LabelMLP",
    "LabelPopularity",
    "LabelRidge",
    "LabelVectors",
    "LambdaMART",
    "LightGCN",
    "MLPRanker",
    "MatrixFactorisation",
    "MaxSim",
    "Model",
    "NeuMF",
    "Popularity",
    "RawFeatures",
    "SASRec",
    "SetTransformer",
    "SimpleX",
    "TwoTower",
    "UltraGCN",
    "spectral_start",
    "truncated_svd",
]
