"""The README of an exported model on the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from speechbrain_sumra.pretrained import split_revision

LIBRARIES = {
    "huggingface": "transformers",
    "peft": "peft",
    "ctranslate2": "ctranslate2",
    "adapter": "speechbrain-sumra",
}
TASK = "automatic-speech-recognition"
LOADING = {
    "huggingface": """\
from transformers import pipeline

recognizer = pipeline("automatic-speech-recognition", "{repo_id}")
print(recognizer("speech.wav")["text"])
""",
    "peft": """\
from peft import PeftModel
from transformers import WhisperForConditionalGeneration, WhisperProcessor

base = WhisperForConditionalGeneration.from_pretrained({base_model})
model = PeftModel.from_pretrained(base, "{repo_id}")
processor = WhisperProcessor.from_pretrained({base_model})
features = processor(speech, sampling_rate=16000, return_tensors="pt").input_features
tokens = model.generate(features{language}, task="transcribe")
print(processor.batch_decode(tokens, skip_special_tokens=True)[0])
""",
    "ctranslate2": """\
from faster_whisper import WhisperModel

model = WhisperModel("{repo_id}")
segments, _ = model.transcribe("speech.wav"{language})
print(" ".join(segment.text for segment in segments))
""",
    "adapter": """\
from huggingface_hub import hf_hub_download
from speechbrain_sumra.inference import Transcriber

file = hf_hub_download("{repo_id}", "{file}")
print(Transcriber.from_adapters(file).transcribe_file("speech.wav"{locale}))
""",
}


def model_card(facts: dict, repo_id: str) -> str:
    """Markdown with the hub's front matter.

    Arguments
    ---------
    facts : dict
        What ``read_record`` returned, or for an adapter file ``facts_of`` its
        metadata, "format": "adapter" and its "file" name.
    repo_id : str
        Where it will be.

    Example
    -------
    >>> facts = {"format": "peft", "base_model": "openai/whisper-base"}
    >>> for line in model_card(facts, "me/hsb").splitlines()[:4]:
    ...     print(line)
    ---
    base_model: openai/whisper-base
    library_name: peft
    pipeline_tag: automatic-speech-recognition
    """
    code = facts.get("language")
    language = "" if code is None else f', language="{code}"'
    locale = facts.get("locale")
    loading = LOADING[facts["format"]].format(
        repo_id=repo_id,
        base_model=_base_arguments(facts.get("base_model", "the base model")),
        file=facts.get("file"),
        language=language,
        locale=f', "{locale}"' if locale else "",
    )
    lines = [f"# {_title(facts)}", "", _description(facts)]
    if code is not None and code != _hub_language(facts):
        lines += [
            "",
            f'Whisper has no token for this language; here `"{code}"` stands for it, '
            "and always has to be named.",
        ]
    lines += ["", "```python", loading.rstrip(), "```", ""]
    return f"---\n{_front_matter(facts, repo_id)}\n---\n\n" + "\n".join(lines)


def _front_matter(facts: dict, repo_id: str) -> str:
    results = None
    if "test_wer" in facts:
        results = [
            EvalResult(
                task_type=TASK,
                dataset_type="common_voice",
                # It need not be a release of Common Voice: a corpus of that layout.
                dataset_name=f"test set ({facts['locale']}) in Common Voice's layout",
                metric_type="wer",
                metric_name="WER, %",
                metric_value=round(facts["test_wer"], 2),
            )
        ]
    base_model, _ = split_revision(facts.get("base_model", ""))
    tags = ["whisper", "speechbrain-sumra", str(facts.get("method", "")).lower()]
    data = ModelCardData(
        base_model=base_model if _is_on_hub(base_model) else None,
        language=_hub_language(facts),
        library_name=LIBRARIES[facts["format"]],
        pipeline_tag=TASK,
        tags=[tag for tag in tags if tag] + ["lora"] * (facts["format"] == "peft"),
        model_name=repo_id.split("/")[-1] if results else None,
        eval_results=results,
    )
    return data.to_yaml()


def _base_arguments(source: str) -> str:
    """What ``from_pretrained`` takes for a base model."""
    name, revision = split_revision(source)
    return f'"{name}"' + (f', revision="{revision}"' if revision else "")


def _title(facts: dict) -> str:
    whisper = Path(split_revision(facts.get("base_model", "Whisper"))[0]).name
    locale = facts.get("locale") or facts.get("language")
    return f"{whisper}, adapted to {locale}" if locale else f"{whisper}, adapted"


def _description(facts: dict) -> str:
    how = "Fine-tuned"
    if "method" in facts:
        rank = f" at rank {facts['rank']}" if "rank" in facts else ""
        how = f"Adapted with {facts['method']}{rank}"
    text = f"{how}, from {facts.get('base_model', 'Whisper')}, with speechbrain-sumra."
    if "test_wer" in facts:
        text += f" WER on the test set of the run: {facts['test_wer']:.2f} %."
    return text


def _hub_language(facts: dict) -> str | None:
    """The hub takes two or three letters, without a region."""
    language = facts.get("locale") or facts.get("language")
    return language.split("-")[0].lower() if language else None


def _is_on_hub(name: str) -> bool:
    """Whether a base model may be named on the hub: a folder may not."""
    if not name or Path(name).exists():
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
