"""Training and evaluation of separation networks with SpeechBrain's Brain.

One class for every recipe: the data sets and the YAMLs differ, this does not.
It keeps to `compute_forward(batch, stage)` and `compute_objectives`, so that
SpeechBrain's own loop does gradient accumulation, mixed precision,
checkpoints and distributed training.

Above this file: `experiment.py`. Below it:
`network/separate.py`, `keys.py`, `augment.py`, `optimizer.py`, `schedule.py`,
`averaging.py`, `checkpoints.py`, `evaluation.py`, `summary.py`.
"""

import inspect
import os
from typing import Any, NamedTuple

import numpy as np
import speechbrain as sb
import torch
from speechbrain.utils.distributed import get_rank, if_main_process, run_on_main
from speechbrain.utils.train_logger import FileTrainLogger

from s4m_sb import metrics
from s4m_sb.errors import InputError
from s4m_sb.network.lengths import num_samples
from s4m_sb.network.separate import separate
from s4m_sb.training.augment import augment
from s4m_sb.training.averaging import TRAINING_WEIGHTS, WeightAverage
from s4m_sb.training.checkpoints import set_aside_interrupted
from s4m_sb.training.evaluation import Evaluation
from s4m_sb.training.keys import with_defaults
from s4m_sb.training.optimizer import make_optimizer
from s4m_sb.training.schedule import (
    after_epoch,
    after_update,
    at_epoch,
    limit_rates,
)
from s4m_sb.training.summary import about_test, task


class Separated(NamedTuple):
    """What `SeparationBrain.compute_forward` gives."""

    estimate: torch.Tensor  # [B, T, S]
    target: torch.Tensor  # [B, T, S]
    image: torch.Tensor  # [B, T, S], the sources as they are in the mixture
    mixture: torch.Tensor  # [B, T]
    lengths: torch.Tensor  # [B], relative


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
        self._epoch = 1
        self._loggers = [self.hparams.train_logger]
        if self.hparams.use_tensorboard:
            self._loggers.append(self._tensorboard())
        self._train_set: Any = None
        self._average: WeightAverage | None = None
        if self.hparams.ema_decay is not None:
            self._average = WeightAverage(self.modules, self.hparams.ema_decay)
            if self.checkpointer is not None:
                self._average.save_in(self.checkpointer)

    def _tensorboard(self) -> Any:
        from speechbrain.utils.train_logger import TensorboardLogger

        folder = os.path.join(self.hparams.output_folder, "tensorboard")
        try:
            return TensorboardLogger(folder)
        except ImportError as error:
            raise InputError(
                "use_tensorboard: needs the package tensorboard; install it "
                "or leave the key out"
            ) from error

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
        weighted with zero. The loss stays part of the graph even if that
        leaves none, so that no rank of a distributed training waits for the
        gradients of another.

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
        losses = self._losses(predictions)  # [B]
        if stage != sb.Stage.TRAIN:
            return losses.mean()
        # NaN stays in: SpeechBrain counts and reports it.
        limit = at_epoch(self.hparams.loss_upper_lim, self._epoch)
        left_out = losses >= limit
        if self.hparams.threshold_byloss:
            left_out |= losses <= at_epoch(self.hparams.threshold, self._epoch)
        kept = (~left_out).sum().clamp(min=1)
        return losses.masked_fill(left_out, 0.0).sum() / kept

    def _losses(self, predictions: Separated) -> torch.Tensor:
        """The loss of each mixture, ``[B]``, without its padding."""
        estimate, target, mixture, lengths = (
            predictions.estimate,
            predictions.target,
            predictions.mixture,
            predictions.lengths,
        )
        loss = self.hparams.loss
        taken = inspect.signature(loss).parameters
        context = {"mixture": mixture} if "mixture" in taken else {}
        if bool((lengths == 1).all()):
            return loss(target, estimate, **context).flatten()
        if "lengths" in taken:
            return loss(target, estimate, lengths=lengths, **context).flatten()
        samples = num_samples(lengths, target.shape[1]).tolist()
        return torch.stack(
            [
                loss(
                    target[i : i + 1, :n],
                    estimate[i : i + 1, :n],
                    **{key: x[i : i + 1, :n] for key, x in context.items()},
                ).squeeze()
                for i, n in enumerate(samples)
            ]
        )

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

        SpeechBrain's own clips the first parameter group alone.
        """
        self.scaler.unscale_(self.optimizer)
        if self.max_grad_norm >= 0:
            torch.nn.utils.clip_grad_norm_(
                self.modules.parameters(), self.max_grad_norm
            )
        if not self.scaler.is_enabled() and self.skip_nonfinite_grads:
            self.check_gradients()
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

    # -------------------------------------------------------------- stages

    def on_fit_start(self) -> None:
        """Prepares training, and goes on from the last whole checkpoint."""
        self._set_aside_interrupted()
        latest = None
        if self.checkpointer is not None:
            latest = self.checkpointer.find_checkpoint()
        super().on_fit_start()
        if self._average is not None and latest is not None:
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
        if self.checkpointer is not None:
            self._set_aside_interrupted()
            found = self.checkpointer.find_checkpoint(
                max_key=max_key, min_key=min_key
            )
            if found is None:
                raise InputError(
                    f"{self.checkpointer.checkpoints_dir}: has no validated "
                    "checkpoint to evaluate; train first, or name a "
                    "pretrained_model"
                )
        super().on_evaluate_start(max_key, min_key)

    def _set_aside_interrupted(self) -> None:
        if self.checkpointer is not None:
            run_on_main(
                set_aside_interrupted,
                # The optimizer is what is saved last.
                args=[self.checkpointer.checkpoints_dir, "optimizer.ckpt"],
            )

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
        self._losses_of_items: list[torch.Tensor] = []
        self._improvements: list[torch.Tensor] = []
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
            losses = self._losses(separated).detach().cpu()
        estimate, target, image, mixture, lengths = separated
        same = mixture.unsqueeze(-1).expand_as(target)
        silent = metrics.si_snr(
            estimate=same, target=target, lengths=lengths
        ).isnan()  # [B, S]
        losses = losses.masked_fill(silent.all(1).cpu(), torch.nan)
        self._losses_of_items.append(losses)
        if stage == sb.Stage.VALID:
            order = metrics.assign(estimate, target, lengths)
            improvement = metrics.si_snr_i(
                estimate=metrics.reorder(estimate, order),
                target=target,
                mixture=mixture,
                lengths=lengths,
            )  # [B, S]
            self._improvements.append(improvement.nanmean(1).cpu())
        elif if_main_process():
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
        return losses.nanmean()

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
            self._train_stats = {"loss": stage_loss}
            return
        # Means over the items that are not silent, whatever the batches.
        stats = {"loss": float(torch.cat(self._losses_of_items).nanmean())}
        if stage == sb.Stage.VALID and epoch is not None:
            improvement = torch.cat(self._improvements).nanmean()
            stats["si-snr_i"] = float(improvement)
            self._log(
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
                self.checkpointer.save_and_keep_only(
                    # SpeechBrain's recipes call the loss so.
                    meta={
                        "si-snr": stats["loss"],
                        "epoch": epoch,
                        "objective": _name(self.hparams.loss),
                    },
                    min_keys=["si-snr"],
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
        self._log({"Epoch loaded": loaded}, test_stats=stats)

    def _log(self, stats_meta: dict[str, Any], **stats: Any) -> None:
        # On every rank: log_stats itself writes on the first one alone, and
        # then waits for the others.
        for train_logger in self._loggers:
            meta = stats_meta
            if isinstance(train_logger, FileTrainLogger):  # others plot numbers
                meta = {**stats_meta, **task(self.hparams)}
            train_logger.log_stats(stats_meta=meta, **stats)


def _name(loss: Any) -> str:
    function = getattr(loss, "func", loss)  # YAMLs make partial functions
    return getattr(function, "__name__", type(function).__name__)
