"""Adapt Whisper the stock Transformers way: Seq2SeqTrainer and PEFT's LoRA.

As the public guides to fine-tuning Whisper do it: log-mel features of 30 s
computed once beforehand, a collator that pads, and validation by generating.
What differs from the guides:

- LoRA is on the ten linears of each decoder layer only, with alpha equal to the
  rank and no dropout. Nothing in the encoder is trained and no gradient goes
  through it: the least work that stock parts allow.
- All is float32, on the CPU.
- Validations are so many, evenly spread, the last at the end; the test is that
  of the checkpoint of the lowest validation WER.
- WER is computed after the multilingual normaliser of Whisper's tokenizer.
"""

from functools import partial

import jiwer
import numpy as np
import torch
from job import Job, read_job, read_manifest, write_result
from peft import LoraConfig, PeftModel, get_peft_model
from tqdm import tqdm
from transformers import (
    EvalPrediction,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
    set_seed,
)

from speechbrain_sumra.data import IGNORED, read_audio
from speechbrain_sumra.training.history import History

LINEARS = r".*decoder\.layers.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"


def load_model(job: Job) -> PeftModel:
    """Whisper with LoRA in its decoder, set to decode greedily."""
    model = WhisperForConditionalGeneration.from_pretrained(
        job.whisper, dtype=torch.float32
    )
    model.config.use_cache = False  # of no use to training
    # Not by its update(): that ignores a language and task it does not have yet.
    generation = model.generation_config
    generation.language = job.language
    generation.task = "transcribe"
    generation.forced_decoder_ids = None
    generation.num_beams = 1
    generation.use_cache = True
    generation.max_new_tokens = job.max_tokens
    lora = LoraConfig(
        r=job.rank, lora_alpha=job.rank, lora_dropout=0.0, target_modules=LINEARS
    )
    return get_peft_model(model, lora)


def load_clips(job: Job, split: str, processor: WhisperProcessor) -> list[dict]:
    """Features and labels of all clips of a split, in memory."""
    return [
        {
            "input_features": processor.feature_extractor(
                read_audio(clip["wav"]).numpy(), sampling_rate=16000
            ).input_features[0],
            "labels": processor.tokenizer(clip["text"]).input_ids,
        }
        for clip in tqdm(read_manifest(job, split), desc=split)
    ]


def collate(processor: WhisperProcessor, clips: list[dict]) -> dict[str, torch.Tensor]:
    """A padded batch of clips, without the start token: the model puts it there."""
    batch = processor.feature_extractor.pad(
        [{"input_features": clip["input_features"]} for clip in clips],
        return_tensors="pt",
    )
    labels = processor.tokenizer.pad(
        [{"input_ids": clip["labels"][1:]} for clip in clips], return_tensors="pt"
    )
    # Clips end with the token that pads, so only the mask tells which is which.
    padding = labels.attention_mask == 0
    batch["labels"] = labels.input_ids.masked_fill(padding, IGNORED)
    return batch


def error_rate(tokenizer: WhisperTokenizer, tokens: EvalPrediction) -> dict[str, float]:
    """The "wer" of generated tokens, in percent."""

    def texts(ids):
        ids = np.where(ids == IGNORED, tokenizer.pad_token_id, ids)
        decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [tokenizer.basic_normalize(text) for text in decoded]

    wer = jiwer.wer(texts(tokens.label_ids), texts(tokens.predictions))
    return {"wer": 100 * wer}


class EvenValidations(TrainerCallback):
    """Logs, validates and saves so many times, the last time at the end.

    The trainer's own ``eval_steps``, a whole number, does not always divide them.

    Arguments
    ---------
    number : int
        Of validations.
    """

    def __init__(self, number: int):
        self.number = number

    def on_step_end(self, args, state, control, **kwargs):
        """Ask for a validation if one is due."""
        due = state.global_step * self.number % state.max_steps < self.number
        control.should_log = control.should_evaluate = control.should_save = due


class TimedTrainer(Seq2SeqTrainer):
    """A trainer whose validations are a phase of their own.

    Arguments
    ---------
    history : History
        Where the time goes.
    **kwargs
        Arguments of the parent class.
    """

    def __init__(self, history: History, **kwargs):
        super().__init__(**kwargs)
        self.history = history

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """The parent's, timed."""
        with self.history.phase("validate"):
            return super().evaluate(*args, **kwargs)


def main(job: Job) -> None:
    """Do the job and write its result."""
    set_seed(job.seed)
    history = History()
    with history.phase("load"):
        processor = WhisperProcessor.from_pretrained(
            job.whisper, language=job.language, task="transcribe"
        )
        model = load_model(job)
        clips = {s: load_clips(job, s, processor) for s in ("train", "dev", "test")}
    settings = Seq2SeqTrainingArguments(
        output_dir=f"{job.output}/checkpoints",
        num_train_epochs=job.epochs,
        per_device_train_batch_size=job.batch_size,
        per_device_eval_batch_size=job.test_batch_size,
        learning_rate=job.lr,
        lr_scheduler_type="linear",
        warmup_steps=50,
        weight_decay=0.01,
        max_grad_norm=5.0,
        eval_strategy="steps",
        save_strategy="steps",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="wer",
        greater_is_better=False,
        predict_with_generate=True,
        # PEFT's wrapper hides from the trainer what the model's inputs are.
        remove_unused_columns=False,
        label_names=["labels"],
        use_cpu=True,
        report_to="none",
        seed=job.seed,
    )
    trainer = TimedTrainer(
        history,
        model=model,
        args=settings,
        train_dataset=clips["train"],
        eval_dataset=clips["dev"],
        data_collator=partial(collate, processor),
        compute_metrics=partial(error_rate, processor.tokenizer),
        callbacks=[EvenValidations(job.validations)],
    )
    with history.phase("train"):
        trainer.train()
    history.seconds["train"] -= history.seconds["validate"]
    with history.phase("test"):
        test_wer = trainer.predict(clips["test"]).metrics["test_wer"]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    records = trainer.state.log_history
    wers = [record["eval_wer"] for record in records if "eval_wer" in record]
    write_result(job, history, trained, test_wer, wers)


if __name__ == "__main__":
    main(read_job(__doc__.splitlines()[0]))
