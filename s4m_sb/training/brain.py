"""Training and evaluation of separation networks with SpeechBrain's Brain.

One class for every recipe: the data sets and the YAMLs differ, this does not.
It keeps to `compute_forward(batch, stage)` and `compute_objectives`, so that
SpeechBrain's own loop does gradient accumulation, mixed precision,
checkpoints and distributed training.

Above this file: `experiment.py`. Below it:
`network/separate.py`, `keys.py`, `augment.py`, `objective.py`, `optimizer.py`,
`schedule.py`, `averaging.py`, `checkpoints.py`, `scores.py`, `evaluation.py`,
`summary.py`, `logs.py`.
"""

import logging
import math
import os
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from speechbrain.core import INTRA_EPOCH_CKPT_FLAG
from speechbrain.utils.distributed import get_rank, if_main_process
from speechbrain.utils.logger import get_logger

from s4m_sb import metrics
from s4m_sb.errors import InputError
from s4m_sb.network.separate import separate
from s4m_sb.training.augment import augment
from s4m_sb.training.averaging import TRAINING_WEIGHTS, WeightAverage
from s4m_sb.training.checkpoints import SCORE, recover, save_checkpoint
from s4m_sb.training.evaluation import Evaluation
from s4m_sb.training.keys import with_defaults
from s4m_sb.training.logs import Logs
from s4m_sb.training.objective import (
    Separated,
    item_losses,
    mean_of_kept,
    name_of,
)
from s4m_sb.training.optimizer import (
    make_optimizer,
    restore_settings,
    settings_of,
)
from s4m_sb.training.schedule import (
    after_epoch,
    after_resuming,
    after_update,
    at_epoch,
    limit_rates,
)
from s4m_sb.training.scores import ItemScores
from s4m_sb.training.summary import about_test

logger = get_logger(__name__)

# To whoever's training has left the finite numbers.
ADVICE = (
    "give a lower lr or clip_grad_norm; the checkpoints before this are whole"
)


class SeparationBrain(sb.Brain):
    """Trains and evaluates encoder, masknet and decoder.

    A batch holds ``id``, ``mix_sig`` and the targets ``s1_sig`` ...
    ``sS_sig``. Where the sources in the mixture are not the targets, as in a
    room, it holds them too, ``s1_image_sig`` ...; what they leave of the
    mixture is the noise. ``rt60_s``, if it is there, goes into the results.

    The keys of the YAML that it reads are in ``keys.py``.

    ``loss`` is called as SpeechBrain calls it, ``loss(targets, estimates)``,
    and gives one number a mixture. If it takes ``lengths`` or ``mixture``, it
    gets them. The best checkpoint is the one with the lowest mean loss of the
    validation set, so that a loss in which silent targets count also chooses
    by them. Items in which all targets are silent are in no average, and a
    target that is all there is in its mixture is in none of improvements.

    Arguments
    ---------
    modules, opt_class, hparams, run_opts, checkpointer
        See `speechbrain.core.Brain`. The modules are encoder, masknet and
        decoder.

    Raises
    ------
    InputError
        If one of the modules is missing, or a key cannot be used.

    Example
    -------
    See ``recipes/WSJ0Mix/separation/train.py``.
    """

    def __init__(
        self,
        modules: dict[str, torch.nn.Module],
        opt_class: Any = None,
        hparams: dict[str, Any] | None = None,
        run_opts: dict[str, Any] | None = None,
        checkpointer: Any = None,
    ):
        missing = {"encoder", "masknet", "decoder"} - set(modules)
        if missing:
            raise InputError(
                f"modules: {', '.join(sorted(missing))} missing; a separation "
                "network has encoder, masknet and decoder"
            )
        super().__init__(
            modules, opt_class, with_defaults(hparams), run_opts, checkpointer
        )
        if self.hparams.clip_grad_norm is not None:
            self.max_grad_norm = self.hparams.clip_grad_norm
        self._items = ""  # of the batch
        self._epoch = 1
        self._logs = Logs(self.hparams)
        self._train_set: Any = None
        self._average: WeightAverage | None = None
        if self.hparams.ema_decay is not None:
            self._average = WeightAverage(self.modules, self.hparams.ema_decay)
            if self.checkpointer is not None:
                self._average.save_in(self.checkpointer)

    # ------------------------------------------------------------ forward

    def compute_forward(self, batch: Any, stage: sb.Stage) -> Separated:
        """Separates a batch, augmented in training.

        Arguments
        ---------
        batch : PaddedBatch
            ``mix_sig`` and ``s1_sig`` ... as ``[B, T]`` with lengths.
        stage : sb.Stage
            TRAIN augments.

        Returns
        -------
        Separated
            Estimates, targets, mixture and relative lengths.
        """
        batch = batch.to(self.device)
        mixture, lengths = batch.mix_sig
        numbers = range(1, self.hparams.num_spks + 1)
        views = [[batch[f"s{number}_sig"].data for number in numbers]]
        if hasattr(batch, "s1_image_sig"):
            views += [[batch[f"s{n}_image_sig"].data for n in numbers]]
        # Targets and images, or the targets that are both.
        sources = torch.stack([torch.stack(v, dim=-1) for v in views])
        if stage == sb.Stage.TRAIN:
            mixture, sources, lengths = augment(
                self.hparams, mixture, sources, lengths
            )
        target, image = sources[0], sources[-1]  # [B, T, S]
        modules = self.modules
        if self._average is not None and stage != sb.Stage.TRAIN:
            modules = self._average.modules
        estimate = separate(
            mixture,
            None if bool((lengths == 1).all()) else lengths,
            modules.encoder,
            modules.masknet,
            modules.decoder,
        )
        return Separated(estimate, target, image, mixture, lengths)

    # --------------------------------------------------------------- loss

    def compute_objectives(
        self, predictions: Separated, batch: Any, stage: sb.Stage
    ) -> torch.Tensor:
        """Mean loss of the batch.

        In training, mixtures beyond ``threshold`` or ``loss_upper_lim`` are
        weighted with zero.

        Arguments
        ---------
        predictions : Separated
            From `compute_forward`.
        batch : PaddedBatch
            Not used; part of SpeechBrain's interface.
        stage : sb.Stage
            TRAIN applies the thresholds.

        Returns
        -------
        torch.Tensor
            Scalar, in dB for a SI-SNR loss.
        """
        hparams = self.hparams
        losses = item_losses(hparams.loss, predictions)  # [B]
        if stage != sb.Stage.TRAIN:
            return losses.mean()
        threshold = None
        if hparams.threshold_byloss:
            threshold = at_epoch(hparams.threshold, self._epoch)
        limit = at_epoch(hparams.loss_upper_lim, self._epoch)
        return mean_of_kept(losses, limit, threshold)

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Keeps the names of the items, for messages.

        Arguments
        ---------
        batch : PaddedBatch
            Has them as ``id``.
        should_step : bool
            Not used; part of SpeechBrain's interface.
        """
        self._items = ", ".join(str(name) for name in batch.id)

    def check_loss_isfinite(self, loss: torch.Tensor) -> None:
        """Counts losses that are not finite, and gives up in the end.

        Arguments
        ---------
        loss : torch.Tensor
            Of a batch.

        Raises
        ------
        InputError
            After more of them in an epoch than ``nonfinite_patience``, which
            is one of SpeechBrain's run options.
        """
        if torch.isfinite(loss):
            return
        self.nonfinite_count += 1
        found = (
            f"epoch {self._epoch}: the loss of {self._items} is "
            f"{loss.item():g}, the {self.nonfinite_count}. in this epoch"
        )
        if self.nonfinite_count > self.nonfinite_patience:
            raise InputError(f"{found}; {ADVICE}")
        logger.warning(found)

    # ---------------------------------------------------------- optimizer

    def init_optimizers(self) -> None:
        """Makes the optimizer, and has checkpoints hold it."""
        if self.opt_class is None:
            return
        self.optimizer = make_optimizer(
            self.opt_class, self.modules, self.remove_vector_weight_decay
        )
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def optimizers_step(self) -> None:
        """One update, with the norm of all gradients clipped together.

        SpeechBrain's own clips the first parameter group alone. An update
        whose gradients are not finite is left out, if
        ``skip_nonfinite_grads`` says so.

        Raises
        ------
        InputError
            If it does not: the weights would be lost.
        """
        self.scaler.unscale_(self.optimizer)
        largest = self.max_grad_norm if self.max_grad_norm >= 0 else math.inf
        norm = torch.nn.utils.clip_grad_norm_(
            self.modules.parameters(), largest
        )
        finite = self.scaler.is_enabled() or bool(norm.isfinite())
        if not finite:
            found = (
                f"epoch {self._epoch}: the gradients of {self._items} are not "
                "finite"
            )
            if not self.skip_nonfinite_grads:
                raise InputError(
                    f"{found}; skip_nonfinite_grads: True leaves such batches "
                    f"out. Or {ADVICE}"
                )
            logger.warning(f"{found}; the batch is left out")
            self.optimizer.zero_grad(set_to_none=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update()
        self.optimizer_step += 1
        if self.hparams.lr_scheduler is not None:
            after_update(
                self.hparams.lr_scheduler, self.optimizer, self.optimizer_step
            )
            limit_rates(self.optimizer)

    # --------------------------------------------------------- checkpoints

    def on_fit_start(self) -> None:
        """Prepares training, and goes on from the last whole checkpoint.

        As SpeechBrain does it, but that what is damaged is refused, and that
        the optimizer and the schedule are those of the YAML.
        """
        self._compile()
        self._wrap_distributed()
        self.init_optimizers()
        if self.checkpointer is None or self.opt_class is None:
            return
        settings = settings_of(self.optimizer)
        latest = recover(self.checkpointer)
        if latest is None:
            return
        restore_settings(self.optimizer, settings)
        hparams = self.hparams
        if hparams.lr_scheduler is not None and hparams.epoch_counter:
            after_resuming(
                hparams.lr_scheduler,
                self.optimizer,
                hparams.epoch_counter.current,
            )
        limit_rates(self.optimizer)
        if self._average is not None:
            if TRAINING_WEIGHTS not in latest.paramfiles:
                self._average.restart()

    def on_evaluate_start(
        self, max_key: str | None = None, min_key: str | None = None
    ) -> None:
        """Loads the best checkpoint.

        Arguments
        ---------
        max_key, min_key : str, optional
            The score by which it is the best.

        Raises
        ------
        InputError
            If there is none, so that nothing untrained is evaluated.
        """
        if self.checkpointer is None:
            return
        if recover(self.checkpointer, max_key, min_key) is None:
            raise InputError(
                f"{self.checkpointer.checkpoints_dir}: has no validated "
                "checkpoint to evaluate; train first, or name a "
                "pretrained_model"
            )

    def _save_intra_epoch_ckpt(self) -> None:
        save_checkpoint(
            self.checkpointer,
            end_of_epoch=False,
            num_to_keep=1,
            ckpt_predicate=lambda c: INTRA_EPOCH_CKPT_FLAG in c.meta,
            meta={INTRA_EPOCH_CKPT_FLAG: True},
            verbosity=logging.DEBUG,
        )

    # -------------------------------------------------------------- stages

    def make_dataloader(
        self,
        dataset: Any,
        stage: sb.Stage,
        ckpt_prefix: str | None = "dataloader-",
        **loader_kwargs: Any,
    ) -> Any:
        """SpeechBrain's loader; training data are shuffled.

        Arguments
        ---------
        dataset : torch.utils.data.Dataset
            If it draws its items anew in every epoch, it has ``set_epoch``.
        stage : sb.Stage
            TRAIN shuffles, unless ``loader_kwargs`` say otherwise.
        ckpt_prefix : str or None
            See SpeechBrain.
        **loader_kwargs : dict
            For the `DataLoader`.

        Returns
        -------
        torch.utils.data.DataLoader
            The loader.

        Raises
        ------
        InputError
            If an option is unknown or out of range.
        """
        if stage == sb.Stage.TRAIN:
            self._train_set = dataset
            if not {"sampler", "batch_sampler", "shuffle"} & set(loader_kwargs):
                loader_kwargs["shuffle"] = True
        try:
            return super().make_dataloader(
                dataset, stage, ckpt_prefix, **loader_kwargs
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"dataloader_opts: {error}") from error

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Prepares a stage; data that are drawn on the fly are drawn anew."""
        self._scores = ItemScores(with_improvement=stage == sb.Stage.VALID)
        if stage == sb.Stage.TRAIN:
            self._epoch = 1 if epoch is None else epoch
            if hasattr(self._train_set, "set_epoch"):
                self._train_set.set_epoch(epoch)
            if self.hparams.seed is not None:
                # Augmentation differs between ranks; that of an epoch is the
                # same whether or not training stopped before it.
                seeds = [self.hparams.seed, epoch or 0, get_rank() or 0]
                sequence = np.random.SeedSequence(seeds)
                torch.manual_seed(int(sequence.generate_state(1)[0]))
        if stage == sb.Stage.TEST and if_main_process():
            hparams, audio = self.hparams, None
            if hparams.save_audio:
                audio = os.path.join(hparams.save_folder, "audio_results")
            self._evaluation = Evaluation(
                hparams.output_folder,
                hparams.sample_rate,
                list(hparams.test_metrics),
                audio,
                hparams.n_audio_to_save,
            )

    def evaluate_batch(self, batch: Any, stage: sb.Stage) -> torch.Tensor:
        """Loss of a valid or test batch; test batches are also rated.

        Arguments
        ---------
        batch : PaddedBatch
            See `compute_forward`.
        stage : sb.Stage
            VALID or TEST.

        Returns
        -------
        torch.Tensor
            Scalar, on the CPU.
        """
        with torch.no_grad(), self.evaluation_ctx:
            separated = self.compute_forward(batch, stage)
            losses = item_losses(self.hparams.loss, separated)
        try:
            loss = self._scores.add(batch.id, separated, losses)
        except InputError as error:
            raise InputError(f"epoch {self._epoch}: {error}; {ADVICE}") from (
                error
            )
        if stage == sb.Stage.TEST and if_main_process():
            estimate, target, image, mixture, lengths = separated
            conditions = {}
            if self.hparams.mixture not in (None, "mix_clean"):
                conditions["input_snr_db"] = metrics.input_snr(
                    image=image, mixture=mixture, lengths=lengths
                )
            if hasattr(batch, "rt60_s"):
                conditions["rt60_s"] = batch.rt60_s
            self._evaluation.add(
                batch.id, estimate, target, mixture, lengths, conditions
            )
        return loss

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """Logs; after a valid stage, sets the rate and saves a checkpoint.

        Arguments
        ---------
        stage : sb.Stage
            What has ended.
        stage_loss : float
            Mean over the batches.
        epoch : int, optional
            The epoch; None for TEST.
        """
        if stage == sb.Stage.TRAIN:
            if self.nonfinite_count >= self.step > 0:
                raise InputError(
                    f"epoch {epoch}: no batch has a finite loss; {ADVICE}"
                )
            self._train_stats = {"loss": stage_loss}
            return
        stats = self._scores.means()
        if stage == sb.Stage.VALID and epoch is not None:
            self._logs.write(
                {"epoch": epoch, "lr": self.optimizer.param_groups[0]["lr"]},
                train_stats=self._train_stats,
                valid_stats=stats,
            )
            if self.hparams.lr_scheduler is not None:
                after_epoch(
                    self.hparams.lr_scheduler,
                    self.optimizer,
                    epoch,
                    stats["loss"],
                )
                limit_rates(self.optimizer)
            if self.checkpointer is not None:
                save_checkpoint(
                    self.checkpointer,
                    meta={
                        SCORE: stats["loss"],
                        "epoch": epoch,
                        "objective": name_of(self.hparams.loss),
                    },
                    min_keys=[SCORE],
                )
        elif stage == sb.Stage.TEST:
            self._finish_test(stats)

    def _finish_test(self, stats: dict[str, float]) -> None:
        counter = self.hparams.epoch_counter
        loaded = counter.current if counter is not None else 0
        if if_main_process():
            about = about_test(
                self.hparams,
                self.modules,
                epoch=loaded,
                device=str(self.device),
                precision=self.eval_precision,
            )
            stats |= self._evaluation.close(about)
        self._logs.write({"Epoch loaded": loaded}, test_stats=stats)
