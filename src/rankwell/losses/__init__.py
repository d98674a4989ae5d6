"""Losses: pure functions of scores and labels, lower is better. The contract is in :mod:`rankwell.losses.registry`."""

from rankwell.losses.adversarial import (
    adversarial_info_nce_loss,
    gan_discriminator_loss,
    gan_generator_loss,
    gradient_penalty,
    irgan_generator_loss,
)
from rankwell.losses.bucketed import reduced_cross_entropy_loss, scalable_cross_entropy_loss
from rankwell.losses.combine import Combined, combine, cosine_schedule, linear_schedule
from rankwell.losses.contrast import bpr_loss, bsl_loss, decoupled_softmax_loss, sampled_softmax_loss
from rankwell.losses.debiased import debiased_contrastive_loss, hard_contrastive_loss, multi_sample_contrastive_loss
from rankwell.losses.distillation import margin_mse_loss
from rankwell.losses.embedding import info_nce_loss, n_pair_loss, sigmoid_pairwise_loss, supervised_contrastive_loss
from rankwell.losses.graded import classification_loss, expected_grade, ordinal_loss
from rankwell.losses.grid import same_class
from rankwell.losses.gumbel import gumbel_approx_ndcg_loss, gumbel_neural_ndcg_loss
from rankwell.losses.head import linear_softmax_loss
from rankwell.losses.hierarchy import hierarchical, hierarchical_loss
from rankwell.losses.lambdas import lambda_loss, lambda_rank_loss, ndcg_loss1, ndcg_loss2, ndcg_loss2pp
from rankwell.losses.listmle import listmle_loss, p_listmle_loss
from rankwell.losses.loop import loop_loss
from rankwell.losses.margins import ccl_loss, mml_loss
from rankwell.losses.memory import CrossBatchMemoryLoss, EmbeddingMemory, momentum_update
from rankwell.losses.multi_similarity import circle_loss, multi_similarity_loss
from rankwell.losses.pairwise import (
    exponential_loss,
    hinge_loss,
    logistic_loss,
    pairwise_mse_loss,
    soft_zero_one_loss,
    squared_hinge_loss,
)
from rankwell.losses.partial_auc import LLPAUCVariables, MinMaxLLPAUCLoss, llpauc_loss, llpauc_value
from rankwell.losses.pointwise import (
    focal_loss,
    mae_loss,
    mse_loss,
    pointwise_hinge_loss,
    poly1_loss,
    sigmoid_loss,
    smooth_l1_loss,
)
from rankwell.losses.psl import psl_loss
from rankwell.losses.registry import (
    LOSSES,
    ContrastLoss,
    EmbeddingLoss,
    GradedLoss,
    HeadLoss,
    ListLoss,
    StatefulLoss,
    contrast_loss,
    embedding_loss,
    graded_loss,
    head_loss,
    list_loss,
    stateful_loss,
)
from rankwell.losses.running import SogCLRLoss
from rankwell.losses.sampled_pairs import contrast_hinge_loss, gbce_loss, simce_loss
from rankwell.losses.setwise import excessiveness_loss, soft_dice_loss, tversky_loss
from rankwell.losses.smooth_rank import approx_mrr_loss, approx_ndcg_loss, smooth_ap_loss
from rankwell.losses.soft_negatives import bpr_max_loss, top1_loss
from rankwell.losses.soft_sort import fast_soft_rank_loss, neural_ndcg_loss, pirank_loss, soft_rank_loss
from rankwell.losses.softmax import (
    kl_loss,
    listnet_loss,
    listwise_softmax_at_k_loss,
    poly1_softmax_loss,
    softmax_loss,
    unique_softmax_loss,
)
from rankwell.losses.softmax_contrast import scaled_cross_entropy_loss, soft_info_nce_loss, softmax_at_k_loss
from rankwell.losses.song import KSONGLoss, SONGLoss
from rankwell.losses.styles import as_contrast, contrast, in_batch
from rankwell.losses.temperature import LearnedTemperature
from rankwell.losses.triplet import contrastive_margin_loss, lifted_structure_loss, triplet_loss
from rankwell.losses.uniformity import direct_au_loss, mawu_loss
from rankwell.losses.variational import variational_bpr_loss
from rankwell.losses.warp import k_os_warp_loss, warp_loss
from rankwell.losses.weighting import class_weights, inverse_propensity_weights

__all__ = [
    "LOSSES",
    "Combined",
    "ContrastLoss",
    "CrossBatchMemoryLoss",
    "EmbeddingLoss",
    "EmbeddingMemory",
    "GradedLoss",
    "HeadLoss",
    "KSONGLoss",
    "LLPAUCVariables",
    "LearnedTemperature",
    "ListLoss",
    "MinMaxLLPAUCLoss",
    "SONGLoss",
    "SogCLRLoss",
    "StatefulLoss",
    "adversarial_info_nce_loss",
    "approx_mrr_loss",
    "approx_ndcg_loss",
    "as_contrast",
    "bpr_loss",
    "bpr_max_loss",
    "bsl_loss",
    "ccl_loss",
    "circle_loss",
    "class_weights",
    "classification_loss",
    "combine",
    "contrast",
    "contrast_hinge_loss",
    "contrast_loss",
    "contrastive_margin_loss",
    "cosine_schedule",
    "debiased_contrastive_loss",
    "decoupled_softmax_loss",
    "direct_au_loss",
    "embedding_loss",
    "excessiveness_loss",
    "expected_grade",
    "exponential_loss",
    "fast_soft_rank_loss",
    "focal_loss",
    "gan_discriminator_loss",
    "gan_generator_loss",
    "gbce_loss",
    "graded_loss",
    "gradient_penalty",
    "gumbel_approx_ndcg_loss",
    "gumbel_neural_ndcg_loss",
    "hard_contrastive_loss",
    "head_loss",
    "hierarchical",
    "hierarchical_loss",
    "hinge_loss",
    "in_batch",
    "info_nce_loss",
    "inverse_propensity_weights",
    "irgan_generator_loss",
    "k_os_warp_loss",
    "kl_loss",
    "lambda_loss",
    "lambda_rank_loss",
    "lifted_structure_loss",
    "linear_schedule",
    "linear_softmax_loss",
    "list_loss",
    "listmle_loss",
    "listnet_loss",
    "listwise_softmax_at_k_loss",
    "llpauc_loss",
    "llpauc_value",
    "logistic_loss",
    "loop_loss",
    "mae_loss",
    "margin_mse_loss",
    "mawu_loss",
    "mml_loss",
    "momentum_update",
    "mse_loss",
    "multi_sample_contrastive_loss",
    "multi_similarity_loss",
    "n_pair_loss",
    "ndcg_loss1",
    "ndcg_loss2",
    "ndcg_loss2pp",
    "neural_ndcg_loss",
    "ordinal_loss",
    "p_listmle_loss",
    "pairwise_mse_loss",
    "pirank_loss",
    "pointwise_hinge_loss",
    "poly1_loss",
    "poly1_softmax_loss",
    "psl_loss",
    "reduced_cross_entropy_loss",
    "same_class",
    "sampled_softmax_loss",
    "scalable_cross_entropy_loss",
    "scaled_cross_entropy_loss",
    "sigmoid_loss",
    "sigmoid_pairwise_loss",
    "simce_loss",
    "smooth_ap_loss",
    "smooth_l1_loss",
    "soft_dice_loss",
    "soft_info_nce_loss",
    "soft_rank_loss",
    "soft_zero_one_loss",
    "softmax_at_k_loss",
    "softmax_loss",
    "squared_hinge_loss",
    "stateful_loss",
    "supervised_contrastive_loss",
    "top1_loss",
    "triplet_loss",
    "tversky_loss",
    "unique_softmax_loss",
    "variational_bpr_loss",
    "warp_loss",
]
