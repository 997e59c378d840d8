"""Training and evaluation of separation networks with SpeechBrain's Brain.

One class for every recipe: the data sets and the YAMLs differ, this does not.
It keeps to `compute_forward(batch, stage)` and `compute_objectives`, so that
SpeechBrain's own loop does gradient accumulation, mixed precision,
checkpoints and distributed training.

Above this file: `experiment.py`. Below it:
`network/separate.py`, `evaluation.py`, `augment.py`, `schedule.py`,
`checkpoints.py`, `averaging.py`.
"""

import inspect
import os
import sys
from typing import Any, NamedTuple

import numpy as np
import speechbrain as sb
import torch
from speechbrain.core import rm_vector_weight_decay
from speechbrain.utils.distributed import get_rank, if_main_process, run_on_main
from speechbrain.utils.logger import get_logger
from speechbrain.utils.train_logger import FileTrainLogger

import s4m_sb
from s4m_sb import metrics
from s4m_sb.errors import InputError
from s4m_sb.network.kernel import SSMKernel
from s4m_sb.network.lengths import num_samples
from s4m_sb.network.separate import separate
from s4m_sb.training.augment import (
    change_speed,
    fit_noise,
    random_segment,
    random_shift,
)
from s4m_sb.training.averaging import TRAINING_WEIGHTS, WeightAverage
from s4m_sb.training.checkpoints import set_aside_interrupted
from s4m_sb.training.evaluation import Evaluation
from s4m_sb.training.schedule import (
    after_epoch,
    after_update,
    at_epoch,
    check_epochs,
    check_scheduler,
    limit_rates,
)

logger = get_logger(__name__)

DEFAULT_METRICS = ("sdr", "si-snr")
SSM_LR_LIMIT = 1e-3  # A, B and the step diverge at larger rates


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

    Of the YAML it reads the keys of SpeechBrain's WSJ0Mix recipes; these may be
    left out:

    - ``threshold_byloss``, ``threshold``: mixtures that are separated better
      than this loss (in dB) weigh nothing in training.
    - ``loss_upper_lim``: nor do those with a loss above this. Both may change
      over the epochs: ``[[1, -30], [50, -15]]``.
    - ``use_speedperturb``, ``use_rand_shift``, ``use_wavedrop``,
      ``limit_training_signal_len`` and what belongs to them.
    - ``clip_grad_norm``: norm of all gradients; below 0, no clipping.
    - ``ema_decay``: validate, test and keep as the model an exponential moving
      average of the weights, see ``averaging.py``; null for none.
    - ``test_metrics``: columns of the results, by default si-snr and sdr.
    - ``use_tensorboard``: also log to ``<output_folder>/tensorboard``.

    ``loss`` is called as SpeechBrain calls it, ``loss(targets, estimates)``,
    and gives one number a mixture. If it takes ``lengths`` or ``mixture``, it
    gets them. The best checkpoint is the one with the lowest mean loss of the
    validation set, so that a loss in which silent targets count also chooses
    by them. Items in which all targets are silent are in no average, and a
    target that is all there is in its mixture is in none of improvements.

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
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        if hasattr(self.hparams, "clip_grad_norm"):
            self.max_grad_norm = self.hparams.clip_grad_norm
        self._test_metrics = list(
            getattr(self.hparams, "test_metrics", DEFAULT_METRICS)
        )
        metrics.check_metrics(
            self._test_metrics
        )  # now, not when training has ended
        if getattr(self.hparams, "seed", 0) < 0:
            raise InputError(
                f"seed must be at least 0, got {self.hparams.seed}"
            )
        if self._scheduler is not None:
            check_scheduler(self._scheduler)
        for key in ("threshold", "loss_upper_lim"):
            if hasattr(self.hparams, key):
                check_epochs(key, getattr(self.hparams, key))
        self._epoch = 1
        self._loggers = [self.hparams.train_logger]
        if getattr(self.hparams, "use_tensorboard", False):
            self._loggers.append(self._tensorboard())
        self._train_set: Any = None
        self._average: WeightAverage | None = None
        ema_decay = getattr(self.hparams, "ema_decay", None)
        if ema_decay is not None:
            self._average = WeightAverage(self.modules, ema_decay)
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
            mixture, sources, lengths = self.augment(mixture, sources, lengths)
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

    @torch.no_grad()
    def augment(
        self,
        mixture: torch.Tensor,
        sources: torch.Tensor,
        lengths: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Changes speed, shifts, drops and cuts, as the YAML says.

        Before anything is dropped the mixture is the sum of the images and
        the noise, which is cut or repeated to their length.

        Arguments
        ---------
        mixture : torch.Tensor
            ``[B, T]``.
        sources : torch.Tensor
            ``[V, B, T, S]``: the first view are the targets, the last one
            the images.
        lengths : torch.Tensor
            Relative, ``[B]``.

        Returns
        -------
        torch.Tensor
            Mixture, ``[B, T']``.
        torch.Tensor
            Sources, ``[V, B, T', S]``.
        torch.Tensor
            Relative lengths, ``[B]``.
        """
        hparams = self.hparams
        noise = mixture - sources[-1].sum(-1)  # [B, T]
        samples = num_samples(lengths, noise.shape[1])
        changed = False
        if getattr(hparams, "use_speedperturb", False):
            sources = change_speed(sources, hparams.speed_perturb)
            changed = True
        if getattr(hparams, "use_rand_shift", False):
            sources = random_shift(
                sources,
                num_samples(lengths, sources.shape[2]),
                hparams.min_shift,
                hparams.max_shift,
            )
            changed = True
        if changed:
            noise = fit_noise(noise, samples, sources.shape[2])
            mixture = sources[-1].sum(-1) + noise
        if getattr(hparams, "use_wavedrop", False):
            mixture = hparams.drop_chunk(mixture, lengths)
            mixture = hparams.drop_freq(mixture)
        if getattr(hparams, "limit_training_signal_len", False):
            V, _, T, S = sources.shape
            signals = torch.cat([mixture.unsqueeze(-1), *sources], dim=-1)
            signals, samples = random_segment(
                signals,
                num_samples(lengths, T),
                hparams.training_signal_len,
            )  # [B, T', 1 + V * S]
            lengths = samples / signals.shape[1]
            mixture = signals[..., 0]
            sources = signals[..., 1:].unflatten(-1, (V, S)).movedim(-2, 0)
        return mixture, sources, lengths

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
        limit = getattr(self.hparams, "loss_upper_lim", float("inf"))
        left_out = losses >= at_epoch(limit, self._epoch)
        if getattr(self.hparams, "threshold_byloss", False):
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
        """Makes the optimizer, with a group of its own for A, B and steps.

        Those parameters of the state-space layers get no weight decay and a
        learning rate of at most 1e-3.

        Raises
        ------
        InputError
            If the optimizer refuses a value.
        """
        if self.opt_class is None:
            return
        groups: list[dict[str, Any]] = (
            rm_vector_weight_decay(self.modules)
            if self.remove_vector_weight_decay
            else [{"params": list(self.modules.parameters())}]
        )
        dynamics = [
            parameter
            for module in self.modules.modules()
            if isinstance(module, SSMKernel)
            for parameter in module.dynamics()
        ]
        if dynamics:
            slow = {id(parameter) for parameter in dynamics}
            for group in groups:
                group["params"] = [
                    p for p in group["params"] if id(p) not in slow
                ]
            groups.append(
                {
                    "params": dynamics,
                    "weight_decay": 0.0,
                    "lr_limit": SSM_LR_LIMIT,
                }
            )
        try:
            self.optimizer = self.opt_class(groups)
        except ValueError as error:
            raise InputError(f"optimizer: {error}") from error
        limit_rates(self.optimizer)
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
        if self._scheduler is not None:
            after_update(self._scheduler, self.optimizer, self.optimizer_step)
            limit_rates(self.optimizer)

    @property
    def _scheduler(self) -> Any:
        return getattr(self.hparams, "lr_scheduler", None)

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
            if hasattr(self.hparams, "seed"):
                # Augmentation differs between ranks; that of an epoch is the
                # same whether or not training stopped before it.
                seeds = [self.hparams.seed, epoch or 0, get_rank() or 0]
                sequence = np.random.SeedSequence(seeds)
                torch.manual_seed(int(sequence.generate_state(1)[0]))
        if stage == sb.Stage.TEST and if_main_process():
            hparams = self.hparams
            save_audio = getattr(self.hparams, "save_audio", False)
            self._evaluation = Evaluation(
                hparams.output_folder,
                hparams.sample_rate,
                self._test_metrics,
                os.path.join(hparams.save_folder, "audio_results")
                if save_audio
                else None,
                getattr(self.hparams, "n_audio_to_save", -1),
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
            _, order = metrics.pit_si_snr(
                estimate=estimate, target=target, lengths=lengths
            )
            improvement = metrics.si_snr_i(
                estimate=metrics.reorder(estimate, order),
                target=target,
                mixture=mixture,
                lengths=lengths,
            )  # [B, S]
            self._improvements.append(improvement.nanmean(1).cpu())
        elif if_main_process():
            conditions = {}
            if getattr(self.hparams, "mixture", "mix_clean") != "mix_clean":
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
            if self._scheduler is not None:
                after_epoch(
                    self._scheduler, self.optimizer, epoch, stats["loss"]
                )
                limit_rates(self.optimizer)
            if self.checkpointer is not None:
                self.checkpointer.save_and_keep_only(
                    # SpeechBrain's recipes call the loss so.
                    meta={"si-snr": stats["loss"], "epoch": epoch},
                    min_keys=["si-snr"],
                )
        elif stage == sb.Stage.TEST:
            self._finish_test(stats)

    def _finish_test(self, stats: dict[str, float]) -> None:
        counter = getattr(self.hparams, "epoch_counter", None)
        loaded = counter.current if counter is not None else 0
        if if_main_process():
            stats |= self._evaluation.close(self._about(loaded))
        self._log({"Epoch loaded": loaded}, test_stats=stats)

    def _about(self, loaded: int) -> dict[str, Any]:
        """What the summary of a test says of its making."""
        return {
            "num_spks": self.hparams.num_spks,
            "epoch": loaded,
            **{
                key: getattr(self.hparams, key, None)
                for key in ("seed", "data_folder", "dynamic_mixing")
            },
            **self._task(),
            **self._averaging(),
            "command": " ".join(sys.argv),
            "device": str(self.device),
            "precision": self.eval_precision,
            "num_parameters": sum(p.numel() for p in self.modules.parameters()),
            "s4m_sb": s4m_sb.__version__,
            "torch": torch.__version__,
            "speechbrain": sb.__version__,
        }

    def _task(self) -> dict[str, Any]:
        """What stands beside every number: the same data give many tasks."""
        return {
            key: getattr(self.hparams, key)
            for key in ("dataset", "mixture", "target", "version")
            if hasattr(self.hparams, key)
        }

    def _averaging(self) -> dict[str, float]:
        if self._average is None:
            return {}
        return {"ema_decay": self._average.decay}

    def _log(self, stats_meta: dict[str, Any], **stats: Any) -> None:
        # On every rank: log_stats itself writes on the first one alone, and
        # then waits for the others.
        for train_logger in self._loggers:
            meta = stats_meta
            if isinstance(train_logger, FileTrainLogger):  # others plot numbers
                meta = {**stats_meta, **self._task()}
            train_logger.log_stats(stats_meta=meta, **stats)
