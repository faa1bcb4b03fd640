"""Adapt Whisper the stock SpeechBrain way: Brain, AdaptedModel and its LoRA.

Wired as SpeechBrain's own recipes for Whisper: audio is read and encoded whenever
it is needed, padded to 30 s; validation computes the loss and decodes greedily.
What differs from those recipes:

- LoRA is on the ten linears of each decoder layer only, with alpha equal to the
  rank. No gradient goes through the encoder: the least work for stock parts.
- All is float32, on the CPU.
- Validations are so many, evenly spread, each followed by new-bob annealing; the
  test is that of the checkpoint of the lowest validation WER, decoded greedily.
- WER is computed after the multilingual normaliser of Whisper's tokenizer.
"""

import time
from functools import partial
from pathlib import Path

import speechbrain as sb
import torch
from job import Job, read_job, read_manifest, write_result
from speechbrain.dataio import audio_io
from speechbrain.dataio.dataio import length_to_mask
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.preprocess import AudioNormalizer
from speechbrain.decoders.seq2seq import S2SWhisperGreedySearcher
from speechbrain.integrations.huggingface.whisper import Whisper
from speechbrain.nnet.adapters import AdaptedModel, LoRA
from speechbrain.nnet.losses import nll_loss
from speechbrain.nnet.schedulers import NewBobScheduler, update_learning_rate
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.data_pipeline import provides, takes
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.metric_stats import ErrorRateStats
from speechbrain.utils.train_logger import FileTrainLogger

from speechbrain_sumra.data import EpochPartSampler
from speechbrain_sumra.training.history import History

LINEARS = ["model.decoder.layers.*_attn.*_proj", "model.decoder.layers.*.fc[12]"]
ENCODER_STATES = 1500  # of 30 s, to which all audio is padded
PHASES = {sb.Stage.TRAIN: "train", sb.Stage.VALID: "validate", sb.Stage.TEST: "test"}


class ASR(sb.Brain):
    """Trains and scores Whisper.

    It needs, beside what every ``Brain`` does, these hparams: ``tokenizer``,
    ``searcher``, ``lr_annealing``, ``train_logger`` and ``history``.
    """

    def compute_forward(self, batch, stage):
        """Log probabilities of all tokens; unless training, hypotheses."""
        batch = batch.to(self.device)
        wavs, wav_lens = batch.sig
        tokens, lens = batch.tokens_bos
        number = (lens * tokens.shape[1]).round()
        inside = length_to_mask(number, tokens.shape[1]).bool()
        tokens = tokens.masked_fill(~inside, self.hparams.tokenizer.pad_token_id)
        states, logits, _ = self.modules.whisper(wavs, tokens)
        hypotheses = None
        if stage != sb.Stage.TRAIN:
            hypotheses, *_ = self.hparams.searcher(states.detach(), wav_lens)
        return logits.log_softmax(dim=-1), hypotheses

    def compute_objectives(self, predictions, batch, stage):
        """Negative log likelihood, of the prompt too; unless training, errors."""
        log_probs, hypotheses = predictions
        tokens, lens = batch.tokens_eos
        if stage != sb.Stage.TRAIN:
            self._count_errors(batch, hypotheses)
        return nll_loss(log_probs, tokens, length=lens)

    def _count_errors(self, batch, hypotheses):
        tokenizer = self.hparams.tokenizer
        decoded = (tokenizer.decode(h, skip_special_tokens=True) for h in hypotheses)
        predicted, target = (
            [tokenizer.basic_normalize(text).split() for text in texts]
            for texts in (decoded, batch.text)
        )
        self.wer_metric.append(batch.id, predicted, target)

    def on_stage_start(self, stage, epoch=None):
        """Start the clock and, unless training, the error count."""
        self.stage_start = time.monotonic()
        if stage != sb.Stage.TRAIN:
            self.wer_metric = ErrorRateStats()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Log; after a validation, anneal the learning rate and save."""
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
        elif stage == sb.Stage.VALID:
            self._end_validation(stage_loss, epoch)
        history = self.hparams.history
        history.seconds[PHASES[stage]] += time.monotonic() - self.stage_start

    def _end_validation(self, loss, epoch):
        stats = {"loss": loss, "WER": self.wer_metric.summarize("error_rate")}
        lr, new_lr = self.hparams.lr_annealing(loss)
        update_learning_rate(self.optimizer, new_lr)
        self.hparams.history.records.append({"epoch": epoch, "lr": lr, **stats})
        self.hparams.train_logger.log_stats(
            {"epoch": epoch, "lr": lr}, self.train_stats, stats
        )
        self.checkpointer.save_and_keep_only({"WER": stats["WER"]}, min_keys=["WER"])


def load_model(job: Job) -> AdaptedModel:
    """Whisper with LoRA in its decoder."""
    whisper = Whisper(
        source=job.whisper,
        save_path=str(Path(job.output) / "whisper"),
        freeze_encoder=True,
        language=job.language,
        task="transcribe",
    )
    return AdaptedModel(
        model_to_adapt=whisper,
        adapter_class=LoRA,
        target_layers=LINEARS,
        adapter_kwargs={"rank": job.rank, "alpha": job.rank},
    )


def load_datasets(job: Job, tokenizer) -> list[DynamicItemDataset]:
    """Clips for training, validation and test, in order of duration."""
    normalizer = AudioNormalizer(sample_rate=16000)

    @takes("wav")
    @provides("sig")
    def audio_pipeline(wav):
        return normalizer(*audio_io.load(wav, channels_first=False))

    @takes("text")
    @provides("tokens_bos", "tokens_eos")
    def text_pipeline(text):
        tokens = torch.tensor(tokenizer.encode(text, add_special_tokens=True))
        yield tokens[:-1]
        yield tokens[1:]

    datasets = []
    for split in ("train", "dev", "test"):
        clips = {clip.pop("id"): clip for clip in read_manifest(job, split)}
        data = DynamicItemDataset(clips).filtered_sorted(sort_key="duration")
        data.add_dynamic_item(audio_pipeline)
        data.add_dynamic_item(text_pipeline)
        data.set_output_keys(["id", "sig", "tokens_bos", "tokens_eos", "text"])
        datasets.append(data)
    return datasets


def make_brain(job: Job, whisper: AdaptedModel, history: History) -> ASR:
    """What trains and scores the model, with its checkpoints."""
    lr_annealing = NewBobScheduler(
        job.lr, annealing_factor=0.8, improvement_threshold=0.0025
    )
    epoch_counter = EpochCounter(job.validations)
    return ASR(
        modules={"whisper": whisper},
        opt_class=partial(torch.optim.AdamW, lr=job.lr, weight_decay=0.01),
        hparams={
            "tokenizer": whisper.tokenizer,
            "searcher": S2SWhisperGreedySearcher(
                whisper,
                min_decode_ratio=0.0,
                max_decode_ratio=job.max_tokens / ENCODER_STATES,
            ),
            "lr_annealing": lr_annealing,
            "epoch_counter": epoch_counter,
            "train_logger": FileTrainLogger(str(Path(job.output) / "train_log.txt")),
            "history": history,
        },
        run_opts={"max_grad_norm": 5.0},
        checkpointer=Checkpointer(
            Path(job.output) / "checkpoints",
            {"whisper": whisper, "annealing": lr_annealing, "counter": epoch_counter},
        ),
    )


def main(job: Job) -> None:
    """Do the job and write its result."""
    parts, rest = divmod(job.validations, job.epochs)
    if rest:
        raise ValueError("--validations has to be a multiple of --epochs.")
    # Fails where a job was done before: Brain would resume that one.
    (Path(job.output) / "checkpoints").mkdir(parents=True)
    sb.utils.seed_everything(job.seed)
    history = History()
    with history.phase("load"):
        whisper = load_model(job)
        train, dev, test = load_datasets(job, whisper.tokenizer)
        brain = make_brain(job, whisper, history)
    # Brain tells only this attribute, no sampler of a loader, which epoch it is.
    sampler = brain.train_sampler = EpochPartSampler(range(len(train)), parts, job.seed)
    test_loader = {"batch_size": job.test_batch_size}
    brain.fit(
        brain.hparams.epoch_counter,
        train,
        dev,
        train_loader_kwargs={"batch_size": job.batch_size, "sampler": sampler},
        valid_loader_kwargs=test_loader,
    )
    brain.evaluate(test, min_key="WER", test_loader_kwargs=test_loader)
    write_result(
        job,
        history,
        sum(p.numel() for p in whisper.parameters() if p.requires_grad),
        brain.wer_metric.summarize("error_rate"),
        [record["WER"] for record in history.records],
    )


if __name__ == "__main__":
    main(read_job(__doc__.splitlines()[0]))
