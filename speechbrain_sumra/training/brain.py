"""The training loop: SpeechBrain's ``Brain`` for an adapted Whisper."""

import json
import math
import time
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.dataio.dataio import length_to_mask
from speechbrain.utils.checkpoints import average_checkpoints
from speechbrain.utils.distributed import (
    if_main_process,
    infer_device,
    is_distributed_initialized,
    run_on_main,
)
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from speechbrain_sumra.adapted import trained_tensors
from speechbrain_sumra.data import IGNORED
from speechbrain_sumra.files import replacing, write_text
from speechbrain_sumra.precision import (
    choose_precision,
    keep_frozen_linears_in,
    precision_dtype,
)
from speechbrain_sumra.training.checkpoint import verify
from speechbrain_sumra.training.optimizer import parameter_groups, set_learning_rate
from speechbrain_sumra.training.stop_request import stop_request

logger = get_logger(__name__)

# Drawing takes a tenth of a second, as long as a small validation.
SECONDS_BETWEEN_PLOTS = 10

DIVERGED = (
    "Loss is not finite in {}: training has diverged. Start again in another "
    "--output_folder with a lower --lr."
)


def _whole(hparams: dict) -> dict:
    """Numbers that YAML's arithmetic gives as fractions, checked to be whole."""
    names = ("number_of_validations", "avg_checkpoints")
    values = {name: hparams[name] for name in names if name in hparams}
    for name, value in values.items():
        if value != int(value):
            raise ValueError(
                f"Expected a whole {name}, found {value:g}: number_of_epochs * "
                "validations_per_epoch must be whole."
            )
    return {name: int(value) for name, value in values.items()}


class ASR(sb.Brain):
    """Trains and scores an adapted Whisper.

    The loss is the cross-entropy of text and end token, given the prompt, and
    in training what the method of adaptation adds to it.
    WER and CER are computed after Whisper's multilingual normaliser, on
    references and hypotheses alike.

    It needs, beside what every ``Brain`` does, these hparams: ``whisper``,
    ``searcher``, ``decode``, ``encoder_states``, ``augmentation``,
    ``label_smoothing``, ``lr_annealing``, ``history``, ``train_loggers``,
    ``wer_computer``, ``cer_computer``,
    ``validations_per_epoch``, ``number_of_validations``, ``avg_checkpoints``, ``lr``,
    ``lora_plus_ratio`` and ``output_folder``.
    """

    def __init__(
        self,
        modules=None,
        opt_class=None,
        hparams=None,
        run_opts=None,
        checkpointer=None,
    ):
        # SpeechBrain does not know "auto".
        device = (run_opts or {}).get("device") or infer_device()
        chosen = {
            name: choose_precision(hparams[name], device)
            for name in ("precision", "eval_precision")
            if name in hparams
        }
        hparams = {**hparams, **chosen, **_whole(hparams)}
        super().__init__(modules, opt_class, hparams, run_opts, checkpointer)
        self.drawn = -math.inf

    @property
    def whisper(self):
        """The model itself, without the wrapper of distributed training."""
        return self.hparams.whisper

    def compute_forward(self, batch, stage):
        """Mean cross-entropy of the targets; unless training, hypotheses."""
        batch = batch.to(self.device)
        training = stage == sb.Stage.TRAIN
        augment = self.hparams.augmentation if training else None
        states, lengths = self.hparams.encoder_states(batch.wav, self.whisper, augment)
        tokens, _ = batch.tokens_bos
        targets, _ = batch.tokens_eos
        positions = _target_positions(batch)
        _, loss, _ = self.modules.whisper(
            None,
            tokens,
            encoder_states=states,
            state_lengths=lengths,
            positions=positions,
            targets=targets[positions],
            label_smoothing=self.hparams.label_smoothing if training else 0.0,
        )
        hypotheses = None
        if not training and self.hparams.decode:
            hypotheses = self.hparams.searcher(states, lengths, _prompts(batch))
        return loss, hypotheses

    def compute_objectives(self, predictions, batch, stage):
        """The loss, in training with what the method adds to it."""
        loss, hypotheses = predictions
        if stage != sb.Stage.TRAIN:
            if stage == sb.Stage.VALID and not torch.isfinite(loss):
                # The parent's average would leave it out.
                raise ValueError(DIVERGED.format("a validation"))
            if hypotheses is not None:
                self._count_errors(batch, hypotheses)
            return loss
        regularizer = self.whisper.regularizer()
        return loss if regularizer is None else loss + regularizer

    def check_loss_isfinite(self, loss):
        """As the parent, with advice when its patience is at an end."""
        try:
            super().check_loss_isfinite(loss)
        except ValueError as error:
            raise ValueError(DIVERGED.format("several batches")) from error

    def _count_errors(self, batch, hypotheses):
        tokenizer = self.whisper.tokenizer
        normalize = tokenizer.basic_normalize
        decoded = tokenizer.batch_decode(hypotheses, skip_special_tokens=True)
        predicted = [normalize(text).split() for text in decoded]
        target = [normalize(text).split() for text in batch.wrd]
        self.wer_metric.append(batch.id, predicted, target)
        self.cer_metric.append(batch.id, predicted, target)
        self.hypotheses += [
            {"id": name, "reference": " ".join(ref), "hypothesis": " ".join(hyp)}
            for name, ref, hyp in zip(batch.id, target, predicted, strict=True)
        ]

    def on_stage_start(self, stage, epoch=None):
        """Start the clock and, unless training, the error counts."""
        # Several processes could not agree on a step to stop after.
        alone = not is_distributed_initialized()
        stop_request.deferred = stage == sb.Stage.TRAIN and alone
        if not stop_request.deferred:
            stop_request.meet()
        self.stage_start = time.monotonic()
        if stage != sb.Stage.TRAIN:
            self.wer_metric = self.hparams.wer_computer()
            self.cer_metric = self.hparams.cer_computer()
            self.hypotheses = []

    def on_fit_batch_start(self, batch, should_step):
        """Before a step, exit if asked to: all before it is saved."""
        if self.ckpt_interval_steps == 1:
            stop_request.meet()

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """After an update, have the parent save a checkpoint if asked to stop."""
        if stop_request.received and should_step:
            self.ckpt_interval_steps = 1

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log; after a validation, anneal the learning rate and save."""
        seconds = time.monotonic() - self.stage_start
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            self.hparams.history.seconds["train"] += seconds
            return
        stats = {"loss": stage_loss}
        if self.hparams.decode:
            stats["WER"] = self.wer_metric.summarize("error_rate")
            stats["CER"] = self.cer_metric.summarize("error_rate")
        if stage == sb.Stage.VALID:
            self.hparams.history.seconds["validate"] += seconds
            self._end_validation(stats, epoch)
        else:
            self.test_stats = stats

    def _end_validation(self, stats, epoch):
        old_lr, new_lr = self.hparams.lr_annealing(stats["loss"])
        set_learning_rate(self.optimizer, new_lr)
        history = self.hparams.history
        history.records.append(
            {
                "epoch": epoch / self.hparams.validations_per_epoch,
                "lr": old_lr,
                "train_loss": self.train_loss,
                "valid_loss": stats["loss"],
                **{key: stats[key] for key in ("WER", "CER") if key in stats},
            }
        )
        for train_logger in self.hparams.train_loggers:
            train_logger.log_stats(
                stats_meta={"epoch": epoch, "lr": old_lr},
                train_stats={"loss": self.train_loss},
                valid_stats=stats,
            )
        run_on_main(self._plot, args=[epoch == self.hparams.number_of_validations])
        key = "WER" if self.hparams.decode else "loss"
        self.checkpointer.save_and_keep_only(
            meta={key: stats[key]},
            min_keys=[key],
            num_to_keep=self.hparams.avg_checkpoints,
            importance_keys=[],  # the parent's own list grows with each call
        )

    def _plot(self, last: bool) -> None:
        """Draw the history, unless it was drawn a moment ago and is not all yet."""
        if last or time.monotonic() - self.drawn > SECONDS_BETWEEN_PLOTS:
            folder = Path(self.hparams.output_folder)
            self.hparams.history.plot(folder / "training.png")
            self.drawn = time.monotonic()

    def calibrate(self, dataset, utterances: int, seed: int, loader_kwargs) -> None:
        """Initialise adapters from data, once, if the method does that.

        Writes ``initialization.safetensors`` into the output folder; a resumed
        run reads it.

        Arguments
        ---------
        dataset : DynamicItemDataset
            The training set.
        utterances : int
            How many of its utterances to use, drawn at random.
        seed : int
            Seed of the draw.
        loader_kwargs : dict
            Arguments of the data loader; the batch size is 1, as PEFT's
            calibrations need it.
        """
        if not self.whisper.awaits_data:
            return
        path = Path(self.hparams.output_folder) / "initialization.safetensors"
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(dataset), generator=generator).tolist()
        chosen = order[:utterances]
        loader = self.make_dataloader(
            dataset,
            sb.Stage.TEST,
            **{**loader_kwargs, "batch_size": 1, "sampler": chosen},
        )

        def run():
            logger.info(
                "%s: initialisation from %d utterances, seed %d",
                self.whisper.adapters.name,
                len(chosen),
                seed,
            )
            for batch in tqdm(loader, desc="Calibration", disable=self.noprogressbar):
                predictions = self.compute_forward(batch, sb.Stage.TRAIN)
                loss = self.compute_objectives(predictions, batch, sb.Stage.TRAIN)
                if torch.is_grad_enabled():
                    loss.backward()

        self.modules.eval()
        self.whisper.calibrate(path, run)
        logger.info("Initialisation: %s", path)

    def on_fit_start(self):
        """As the parent, and tell the method how long training will be.

        Raises
        ------
        ValueError
            If there are too few batches for a single step.
        """
        # As the parent counts them: a rest of a part makes no step.
        batches, factor = self.batches_per_part, self.grad_accumulation_factor
        steps = batches // factor
        if steps == 0:
            raise ValueError(
                f"Nothing would be trained: a step takes {factor} batches "
                f"(--grad_accumulation_factor), and there are only {batches} from one "
                "validation to the next. Lower it, --batch_size or "
                "--validations_per_epoch."
            )
        method = self.whisper.adapters
        if method is not None:
            method.start_training(steps * self.hparams.number_of_validations)
            if method.has_state:
                self.checkpointer.add_recoverable("method", method)
        self._keep_frozen_weights_in_one_precision()
        super().on_fit_start()

    def _keep_frozen_weights_in_one_precision(self):
        """Spare autocast the conversion of frozen weights at each step."""
        if self.precision == self.eval_precision != "fp32":
            dtype = precision_dtype(self.precision)
            keep_frozen_linears_in(self.whisper.model, dtype)

    def make_dataloader(self, dataset, stage, ckpt_prefix="dataloader-", **kwargs):
        """As the parent, and note how many batches a part of an epoch has."""
        loader = super().make_dataloader(dataset, stage, ckpt_prefix, **kwargs)
        if stage == sb.Stage.TRAIN:
            self.batches_per_part = len(loader)
        return loader

    def init_optimizers(self):
        """One optimizer of what is trained, with LoRA+'s groups if asked for."""
        parameters = trained_tensors(self.whisper)
        groups = parameter_groups(parameters, self.hparams.lora_plus_ratio)
        self.optimizer = self.opt_class(groups)
        set_learning_rate(self.optimizer, self.hparams.lr)
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)
        if len(groups) > 1:
            self._clip_all_groups(list(parameters.values()))
        method = self.whisper.adapters
        if method is not None:
            # Before the parent sets the gradients to None.
            self.optimizer.register_step_post_hook(self._after_step)

    def _after_step(self, *_):
        """Tell the method of a step, unless fp16 overflowed and nothing has changed."""
        overflowed = getattr(self.optimizer, "found_inf", None)  # of GradScaler
        if overflowed is None or not overflowed.item():
            self.whisper.adapters.after_step(self.optimizer_step + 1)

    def _clip_all_groups(self, parameters):
        """Clip gradients together; the parent clips those of the first group."""
        limit, self.max_grad_norm = self.max_grad_norm, math.inf

        def clip(*_):
            torch.nn.utils.clip_grad_norm_(parameters, limit)

        self.optimizer.register_step_pre_hook(clip)

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Take the average weights of the best checkpoints, and nothing else of them.

        Without a key the weights stay as they are. Counters and history stay where
        the run ended.
        """
        if max_key is None and min_key is None:
            return
        best = self.checkpointer.find_checkpoints(
            max_key=max_key,
            min_key=min_key,
            max_num_checkpoints=self.hparams.avg_checkpoints,
        )
        for checkpoint in best:
            verify(checkpoint)
        if best:
            weights = average_checkpoints(best, "whisper")
            self.whisper.load_state_dict(weights, strict=False)

    def score(self, dataset, loader_kwargs, suffix="", min_key=None) -> dict:
        """Score a test set and write what was recognised.

        Writes ``wer_test<suffix>.txt`` (alignments of each utterance) and
        ``test_hypotheses<suffix>.jsonl`` (id, reference and hypothesis as
        scored) into the output folder.

        Arguments
        ---------
        dataset : DynamicItemDataset
            The test set.
        loader_kwargs : dict
            Arguments of its data loader.
        suffix : str
            Tells the files of several scorings apart.
        min_key : str
            Score the average of the ``avg_checkpoints`` checkpoints with the lowest
            values of this; by default the model as it is.

        Returns
        -------
        dict
            "loss", "WER" and "CER", the latter two in percent; "errors" and "words":
            word edits and words of the reference of each utterance, by id.
        """
        self.evaluate(dataset, min_key=min_key, test_loader_kwargs=dict(loader_kwargs))
        scores = sorted(self.wer_metric.scores, key=lambda score: score["key"])
        self.test_stats["errors"] = {s["key"]: s["num_edits"] for s in scores}
        self.test_stats["words"] = {s["key"]: s["num_ref_tokens"] for s in scores}
        if if_main_process():
            folder = Path(self.hparams.output_folder)
            with (
                replacing(folder / f"wer_test{suffix}.txt") as partial,
                open(partial, "w", encoding="utf-8") as file,
            ):
                self.wer_metric.write_stats(file)
            lines = [
                json.dumps(record, ensure_ascii=False) for record in self.hypotheses
            ]
            write_text(
                folder / f"test_hypotheses{suffix}.jsonl", "\n".join(lines) + "\n"
            )
        return self.test_stats


def _prompts(batch) -> list[list[int]]:
    """What each decoder input starts with: targets are ignored within it."""
    tokens, _ = batch.tokens_bos
    targets, _ = batch.tokens_eos
    lengths = (targets == IGNORED).sum(dim=1) + 1
    return [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)]


def _target_positions(batch) -> torch.Tensor:
    """Where the loss is computed: neither on the prompt nor on padding."""
    targets, lengths = batch.tokens_eos
    number = (lengths * targets.shape[1]).round()
    inside = length_to_mask(number, targets.shape[1]).bool()
    return inside & (targets != IGNORED)
