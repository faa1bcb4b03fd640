"""What the commands of ``sumra`` take.

Nothing that is slow to import is needed here, so ``--help`` is quick: a command is
named by module and function, and imported when it is run.
"""

import argparse

from speechbrain_sumra.files.cache_folder import cache_folder


def add_commands(subparsers) -> None:
    """Add a parser for each command.

    Arguments
    ---------
    subparsers
        What ``ArgumentParser.add_subparsers`` gives. The parsed arguments have ``run``,
        module and function of the command.
    """
    _add_transcription(subparsers)
    _add_files(subparsers)
    _add_exports(subparsers)


def _add_transcription(subparsers) -> None:
    parser = _add_command(
        subparsers,
        "transcribe",
        "transcribe.transcribe",
        """\
speech to text, each file in its own language

Transcribes files of any length: wav, mp3, flac, ogg, or - for the bytes of a file on
stdin. Long ones are cut in pauses. A file that cannot be read is named on stderr, and
the others are transcribed.

--locale is needed if there are several adapters: once for all files, or once for each,
in their order.""",
        """\
sumra transcribe --adapter hsb.safetensors a.mp3 b.wav
sumra transcribe --adapter adapters --locale hsb a.mp3 --locale eo b.mp3
sumra transcribe --adapter adapters --locale hsb --format srt --output subtitles *.mp3
ffmpeg -i film.mkv -f wav - | sumra transcribe --adapter hsb.safetensors -""",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="audio, or - for stdin"
    )
    _add_model(parser)
    parser.add_argument(
        "--locale",
        action="append",
        metavar="LOCALE",
        help="the language of all files, or, given again, of each",
    )
    parser.add_argument(
        "--unadapted",
        action="store_true",
        help="use Whisper without any adapter; --whisper, or else openai/whisper-base",
    )
    parser.add_argument(
        "--format",
        choices=("text", "json", "srt", "vtt"),
        default="text",
        help="one line of text (default), one line of JSON, SubRip or WebVTT a file",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="write a file for each input there, not to stdout",
    )
    parser.add_argument(
        "--batch_size",
        type=_positive,
        metavar="N",
        default=16,
        help="segments decoded at a time (default: %(default)s)",
    )

    parser = _add_command(
        subparsers,
        "demo",
        "transcribe.demo",
        """\
a page in the browser: choose a language, give speech, read the text

Needs Gradio: pip install 'speechbrain-sumra[serve]'. Listens on this machine only,
unless --host says otherwise.""",
        "sumra demo --adapter adapters --port 8000",
    )
    _add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=_port, default=7860, help="default: %(default)s")


def _add_model(parser: argparse.ArgumentParser) -> None:
    _add_adapters(parser, required=False)
    _add_places(parser)
    parser.add_argument(
        "--device", help="cpu, cuda, ... (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="auto (default) is bf16 where the hardware is fast in it, else fp32",
    )
    parser.add_argument(
        "--max_tokens",
        type=_positive,
        metavar="N",
        default=150,
        help="longest text of a segment, in tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--keep_repetition",
        action="store_true",
        help="do not end a text that says a phrase over and over",
    )


def _add_files(subparsers) -> None:
    parser = _add_command(
        subparsers,
        "inspect",
        "adapters.inspect",
        """\
what an adapter file says of itself

Prints its language, method and settings, the base model it belongs to, its test WER,
and what its bytes are spent on.""",
        "sumra inspect hsb.safetensors",
    )
    parser.add_argument("file", metavar="FILE", help="an adapter file")

    parser = _add_command(
        subparsers,
        "list",
        "adapters.list_adapters",
        """\
a table of the adapter files in a folder

Looks through all folders in it; files that are no adapters are passed over.""",
        "sumra list runs",
    )
    parser.add_argument("folder", metavar="FOLDER", help="where to look")

    parser = _add_command(
        subparsers,
        "mix",
        "adapters.mix",
        """\
a weighted sum of languages, as a new adapter file

The adapters must have one A in common: the same base model, rank and strategy.""",
        "sumra mix hsb=0.5 pl=0.5 --adapter adapters mixed.safetensors",
    )
    parser.add_argument(
        "weights", nargs="+", metavar="LOCALE=WEIGHT", help="a language and its share"
    )
    parser.add_argument("out", metavar="OUT", help="the adapter file to write")
    _add_adapters(parser, required=True)
    _add_places(parser)


def _add_exports(subparsers) -> None:
    parser = _add_command(
        subparsers,
        "merge",
        "export.export",
        """\
Whisper with the adapter merged into it, as a Hugging Face folder

The folder is an ordinary Whisper for transformers. Same as sumra export --to
huggingface.""",
        "sumra merge hsb.safetensors whisper-hsb",
    )
    _add_export(parser)
    parser.set_defaults(to="huggingface")

    parser = _add_command(
        subparsers,
        "export",
        "export.export",
        """\
an adapter as other software reads it

  huggingface  a merged Whisper for transformers
  peft         an adapter for PEFT, where the method is a LoRA in another form
  ctranslate2  a merged Whisper for faster-whisper

peft and ctranslate2 need pip install 'speechbrain-sumra[export]'.""",
        """\
sumra export --to ctranslate2 hsb.safetensors whisper-hsb-ct2
sumra export --to huggingface --as_language pl hsb.safetensors whisper-hsb""",
    )
    parser.add_argument(
        "--to",
        choices=("huggingface", "peft", "ctranslate2"),
        required=True,
        help="the format",
    )
    _add_export(parser)

    parser = _add_command(
        subparsers,
        "push",
        "export.push",
        """\
upload an adapter file or an exported folder to the Hugging Face hub

Log in first (hf auth login), or set HF_TOKEN.""",
        "sumra push hsb.safetensors my-name/whisper-base-hsb",
    )
    parser.add_argument("path", metavar="PATH", help="a file or folder")
    parser.add_argument("repo_id", metavar="REPO_ID", help="OWNER/NAME on the hub")
    parser.add_argument(
        "--private",
        action="store_true",
        help="if the repository is new, keep it private",
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", metavar="ADAPTER", help="an adapter file")
    parser.add_argument(
        "folder", metavar="FOLDER", help="a folder that is new or empty"
    )
    parser.add_argument(
        "--as_language",
        metavar="CODE",
        help="the one of Whisper's languages that a new language token is called by",
    )
    _add_places(parser)


def _add_command(
    subparsers, name: str, run: str, description: str, example: str
) -> argparse.ArgumentParser:
    """A parser for a command.

    Arguments
    ---------
    subparsers
        Where to add it.
    name : str
        The command.
    run : str
        Module and function, which takes the parsed arguments and returns the exit
        status.
    description : str
        What it does; the first line stands alone in the list of commands.
    example : str
        Command lines.
    """
    lines = "\n".join(f"  {line}" for line in example.strip().splitlines())
    parser = subparsers.add_parser(
        name,
        help=description.strip().splitlines()[0],
        description=description.strip(),
        epilog=f"Example:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def _add_adapters(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        required=required,
        metavar="FILE_OR_FOLDER",
        help="an adapter file or a folder that holds some; may be given again",
    )


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Options that say where base models and bases are."""
    cache = cache_folder()
    parser.add_argument(
        "--whisper",
        metavar="MODEL",
        help="the base model: a name on the Hugging Face hub, or a folder (default: "
        "the one that the adapter names)",
    )
    parser.add_argument(
        "--pretrained_folder",
        metavar="FOLDER",
        default=cache,
        help="where converted base models are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--basis_folder",
        metavar="FOLDER",
        default=cache / "basis",
        help="where bases are kept; one that is missing is computed "
        "(default: %(default)s)",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port, 1 to 65535, got {text}")
    return port
