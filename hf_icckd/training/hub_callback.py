"""A trainer that publishes what it exports, and nothing else of its folder."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from huggingface_hub import CommitInfo
from transformers.trainer_utils import HubStrategy

from hf_icckd.hub.push import BackgroundPush, HubError, prepare_repo, push_to_hub
from hf_icckd.runs.layout import STAGING
from hf_icckd.training.resumable import ResumableTrainer
from hf_icckd.utils import distributed

logger = logging.getLogger(__name__)


class PublishingTrainer(ResumableTrainer):
    """The Trainer's ways to the Hub, each replaced: it would send checkpoints, options as a pickle and its own card.

    `save_model` of subclasses writes what is pushed. Only the first process talks to the Hub.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._push = BackgroundPush()
        # Processes that differ in these would wait for each other.
        distributed.check_equal({name: getattr(self.args, name) for name in ("push_to_hub", "hub_strategy")})
        if self.args.push_to_hub:
            distributed.on_first_rank(self._prepare_push)

    def _prepare_push(self) -> None:
        """Raise HubError if the Hub refuses; one that can't be reached now may be there when training has ended."""
        args = self.args
        try:
            prepare_repo(args.hub_repo_id, args.output_dir, private=args.hub_private_repo, token=args.hub_token)
        except HubError as error:
            if not error.passing:
                raise
            logger.warning("the Hub can't be used now: %s; training goes on", error.reason)

    def push_to_hub(
        self,
        commit_message: str | None = None,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
    ) -> CommitInfo | None:
        """Write the model to the output folder and push what of it belongs on the Hub; all processes must call this.

        Args:
            commit_message: As in `hf_icckd.push_to_hub`.
            token: Token; None for that of the arguments.
            revision: Branch; None for that of the arguments.
            private: Whether a new repository is private; None for what the arguments say.

        Returns:
            The commit; None on other processes than the first.

        Raises:
            HubError: If the Hub can't be reached or refuses.
        """
        self.save_model()
        self.wait_for_push()
        if not self.is_world_process_zero():
            return None
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        return self._push_folder(self.args.output_dir, commit_message, token, revision, private)

    def wait_for_push(self) -> None:
        """Wait for the push of an earlier save, if one is under way."""
        self._push.wait()

    def create_model_card(self, *args, **options) -> None:
        """Nothing: the card of a run holds its figures and is written with them."""

    def _save_checkpoint(self, model, trial) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.push_to_hub and self.args.hub_strategy == HubStrategy.EVERY_SAVE:
            self._push_what_was_saved()

    def _push_what_was_saved(self) -> None:
        """Export the model of this step and have it pushed while training goes on; a failure ends nothing."""
        step, args = self.state.global_step, self.args
        # Known to one process only, but writing takes all of them.
        if distributed.any_rank(self._push.running or self.stop_requested):
            logger.info("step %d is not pushed: training was asked to stop, or an earlier push is under way", step)
            return
        folder = Path(args.output_dir) / STAGING
        try:
            self.save_model(str(folder))
        except OSError as error:
            logger.warning("step %d is not pushed: %s; training goes on", step, error)
            return
        if self.is_world_process_zero():
            self.callback_handler.on_push_begin(args, self.state, self.control)
            push = functools.partial(self._push_folder, folder, commit_message=f"Step {step}")
            self._push.start(folder, push, f"step {step}")

    def _push_folder(
        self,
        folder: str | Path,
        commit_message: str | None,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
    ) -> CommitInfo:
        args = self.args
        return push_to_hub(
            folder,
            args.hub_repo_id,
            private=args.hub_private_repo if private is None else private,
            revision=revision or args.hub_revision,
            commit_message=commit_message,
            token=token or args.hub_token,
        )

    # The Trainer calls these when it is made, within the write of a checkpoint and at the end of training.
    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        pass

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        pass

    def _finish_current_push(self) -> None:
        pass
