"""An exponential moving average of the trained weights, timm's, which is what is then measured and exported.

Reference:
    Polyak, Juditsky: Acceleration of Stochastic Approximation by Averaging. SIAM Journal on Control and Optimization
    1992. As in Tan, Le: EfficientNet, arXiv 1905.11946.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from timm.utils import ModelEmaV3
from transformers.trainer_callback import TrainerCallback

from hf_icckd.models.classifier import ImageClassifier
from hf_icckd.options.training import DistillationTrainingArguments

logger = logging.getLogger(__name__)

_LATE = 0.1  # share of the first weights in the average at the end, from which on the log says so


class WeightAverage(ModelEmaV3):
    """Moving average of a classifier's weights and of the statistics in its buffers, as timm's train.py keeps it.

    The first update copies the weights; the average has no bias that would have to be corrected.

    Args:
        classifier: The classifier that is trained, on its device.
        decay: Share of the average that stays at an update.
        warmup: Whether the share starts small: `1 - (1 + n) ** (-2 / 3)` after n further updates.

    Attributes:
        module: The classifier with the averaged weights, in evaluation mode.

    Raises:
        ValueError: If weights have half precision, in which small changes would round to nothing.

    Example:
        >>> from hf_icckd import create_classifier
        >>> classifier = create_classifier("cifar_resnet8", ["cat", "dog"], image_size=8)
        >>> average = WeightAverage(classifier, decay=0.9, warmup=False)
        >>> average.update(classifier, step=1)
        >>> average.module.spec.architecture
        'cifar_resnet8'
    """

    module: ImageClassifier

    def __init__(self, classifier: ImageClassifier, decay: float, warmup: bool):
        for name, weight in classifier.named_parameters():
            if weight.dtype in (torch.float16, torch.bfloat16):
                raise ValueError(
                    f"model_ema is true but {name} is {weight.dtype}, expected float32: such an average would stand "
                    "still; train float32 weights, with bf16=True for the products"
                )
        super().__init__(classifier, decay=decay, use_warmup=warmup)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: If a checkpoint without an average is resumed.
        """
        if not state_dict:
            raise ValueError(
                "model_ema is true but the checkpoint has no average of the weights; resume with the options that it "
                "was written with"
            )
        return super().load_state_dict(state_dict, *args, **options)


class UpdateAverage(TrainerCallback):
    """Updates an average after every optimiser step.

    Args:
        average: The average.
        classifier: What it is the average of.
    """

    def __init__(self, average: WeightAverage, classifier: ImageClassifier):
        self.average, self.classifier = average, classifier

    def on_train_begin(self, args, state, control, **kwargs):
        """Say so if the run is too short for the decay."""
        share = 1.0
        for step in range(2, state.max_steps + 1):
            share *= self.average.get_decay(step)
            if share < _LATE:
                return
        logger.warning(
            "at the end of %d steps %.0f %% of the average are still the weights of the first one; add "
            "--model_ema_warmup true, or lower model_ema_decay (%g)",
            state.max_steps, 100 * share, self.average.decay,
        )  # fmt: skip

    def on_optimizer_step(self, args, state, control, **kwargs):
        """Update the average."""
        self.average.update(self.classifier, step=state.global_step + 1)


def average_of(classifier: ImageClassifier, args: DistillationTrainingArguments) -> WeightAverage | None:
    """The average that the options ask for; None for none."""
    return WeightAverage(classifier, args.model_ema_decay, args.model_ema_warmup) if args.model_ema else None
