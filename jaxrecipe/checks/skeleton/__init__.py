"""Stage 2, the end-to-end skeleton and dumb baselines: the checks in the order in which they run."""

from jaxrecipe.checks.skeleton.chart_dependencies import chart_dependencies
from jaxrecipe.checks.skeleton.chart_input_dependencies import chart_input_dependencies
from jaxrecipe.checks.skeleton.chart_time_dependencies import chart_time_dependencies
from jaxrecipe.checks.skeleton.checkpoint_round_trip import checkpoint_round_trip
from jaxrecipe.checks.skeleton.exact_eval import exact_eval
from jaxrecipe.checks.skeleton.fix_random_seed import fix_random_seed
from jaxrecipe.checks.skeleton.generalize_a_special_case import generalize_a_special_case
from jaxrecipe.checks.skeleton.human_baseline import human_baseline
from jaxrecipe.checks.skeleton.init_well import init_well
from jaxrecipe.checks.skeleton.input_independent_baseline import input_independent_baseline
from jaxrecipe.checks.skeleton.loss_at_init import loss_at_init
from jaxrecipe.checks.skeleton.mode_consistency import mode_consistency
from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.checks.skeleton.reference_step import reference_step
from jaxrecipe.checks.skeleton.simplify import simplify
from jaxrecipe.checks.skeleton.updates import updates
from jaxrecipe.checks.skeleton.verify_decreasing_training_loss import verify_decreasing_training_loss
from jaxrecipe.checks.skeleton.visualize_just_before_the_net import visualize_just_before_the_net
from jaxrecipe.checks.skeleton.visualize_prediction_dynamics import visualize_prediction_dynamics

CHECKS = (
    fix_random_seed,
    simplify,
    exact_eval,
    loss_at_init,
    init_well,
    human_baseline,
    input_independent_baseline,
    overfit_one_batch,
    verify_decreasing_training_loss,
    visualize_just_before_the_net,
    visualize_prediction_dynamics,
    chart_dependencies,
    chart_time_dependencies,
    chart_input_dependencies,
    generalize_a_special_case,
    updates,
    mode_consistency,
    reference_step,
    checkpoint_round_trip,
)
