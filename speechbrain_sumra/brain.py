"""The training loop: SpeechBrain's ``Brain`` for an adapted Whisper."""

import json
import time
from pathlib import Path

import speechbrain as sb
from speechbrain.dataio.dataio import length_to_mask
from speechbrain.nnet.schedulers import update_learning_rate
from speechbrain.utils.distributed import if_main_process, run_on_main
from torch.nn import functional as F

from speechbrain_sumra.data import IGNORED
from speechbrain_sumra.files import write_text


class ASR(sb.Brain):
    """Trains and scores an adapted Whisper.

    The loss is the cross-entropy of text and end token, given the prompt.
    WER and CER are computed after Whisper's multilingual normaliser, on
    references and hypotheses alike.

    It needs, beside what every ``Brain`` does, these hparams: ``whisper``,
    ``searcher``, ``encoder_states``, ``lr_annealing``, ``history``,
    ``train_loggers``, ``wer_computer``, ``cer_computer``,
    ``validations_per_epoch`` and ``output_folder``.
    """

    @property
    def whisper(self):
        """The model itself, without the wrapper of distributed training."""
        return self.hparams.whisper

    def compute_forward(self, batch, stage):
        """Logits (batch, tokens, vocabulary) and, unless training, hypotheses."""
        batch = batch.to(self.device)
        wavs, wav_lens = batch.sig
        states = self.hparams.encoder_states(
            batch.wav, wavs, wav_lens, self.whisper.encode
        )
        tokens, _ = batch.tokens_bos
        _, logits, _ = self.modules.whisper(None, tokens, encoder_states=states)
        hypotheses = None
        if stage != sb.Stage.TRAIN:
            hypotheses, *_ = self.hparams.searcher(states, wav_lens)
        return logits, hypotheses

    def compute_objectives(self, predictions, batch, stage):
        """Mean cross-entropy over the target tokens of the batch."""
        logits, hypotheses = predictions
        targets, lengths = batch.tokens_eos
        number = (lengths * targets.shape[1]).round()
        padding = ~length_to_mask(number, targets.shape[1]).bool()
        loss = F.cross_entropy(
            logits.flatten(end_dim=1),
            targets.masked_fill(padding, IGNORED).flatten(),
            ignore_index=IGNORED,
        )
        if stage != sb.Stage.TRAIN:
            self._count_errors(batch, hypotheses)
        return loss

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
        self.stage_start = time.monotonic()
        if stage != sb.Stage.TRAIN:
            self.wer_metric = self.hparams.wer_computer()
            self.cer_metric = self.hparams.cer_computer()
            self.hypotheses = []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log; after a validation, anneal the learning rate and save."""
        seconds = time.monotonic() - self.stage_start
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            self.hparams.history.seconds["train"] += seconds
            return
        stats = {
            "loss": stage_loss,
            "WER": self.wer_metric.summarize("error_rate"),
            "CER": self.cer_metric.summarize("error_rate"),
        }
        if stage == sb.Stage.VALID:
            self.hparams.history.seconds["validate"] += seconds
            self._end_validation(stats, epoch)
        else:
            self.test_stats = stats

    def _end_validation(self, stats, epoch):
        old_lr, new_lr = self.hparams.lr_annealing(stats["loss"])
        update_learning_rate(self.optimizer, new_lr)
        history = self.hparams.history
        history.records.append(
            {
                "epoch": epoch / self.hparams.validations_per_epoch,
                "lr": old_lr,
                "train_loss": self.train_loss,
                "valid_loss": stats["loss"],
                "WER": stats["WER"],
                "CER": stats["CER"],
            }
        )
        for train_logger in self.hparams.train_loggers:
            train_logger.log_stats(
                stats_meta={"epoch": epoch, "lr": old_lr},
                train_stats={"loss": self.train_loss},
                valid_stats=stats,
            )
        plot = Path(self.hparams.output_folder) / "training.png"
        run_on_main(history.plot, args=[plot])
        self.checkpointer.save_and_keep_only(
            meta={"WER": stats["WER"]}, min_keys=["WER"]
        )

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Take the weights of the best checkpoint, and nothing else of it.

        Counters and history stay where the run ended.
        """
        best = self.checkpointer.find_checkpoint(max_key=max_key, min_key=min_key)
        if best is not None:
            self.whisper.loader(best.paramfiles["whisper"], end_of_epoch=True)

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
            Score the checkpoint with the lowest value of this; by default
            the latest one, if there is any.

        Returns
        -------
        dict
            "loss", "WER" and "CER", the latter two in percent.
        """
        self.evaluate(dataset, min_key=min_key, test_loader_kwargs=dict(loader_kwargs))
        if if_main_process():
            folder = Path(self.hparams.output_folder)
            with open(folder / f"wer_test{suffix}.txt", "w", encoding="utf-8") as file:
                self.wer_metric.write_stats(file)
            lines = [
                json.dumps(record, ensure_ascii=False) for record in self.hypotheses
            ]
            write_text(
                folder / f"test_hypotheses{suffix}.jsonl", "\n".join(lines) + "\n"
            )
        return self.test_stats
