"""``sumra transcribe`` and ``sumra demo``."""

import argparse
import json
import sys
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

import torch

from speechbrain_sumra.cli.commands import UsageError, places
from speechbrain_sumra.files import write_text
from speechbrain_sumra.inference import Transcriber, Transcription
from speechbrain_sumra.subtitles import to_srt, to_vtt

STDIN = "-"


def to_text(result: Transcription) -> str:
    """One line.

    Example
    -------
    >>> to_text(Transcription("a.mp3", "hsb"))
    '\\n'
    """
    return _line(result.text) + "\n"


def to_json(result: Transcription) -> str:
    """One line with all there is.

    Example
    -------
    >>> print(to_json(Transcription("a.mp3", "hsb")), end="")
    {"source": "a.mp3", "locale": "hsb", "segments": [], "error": null, "text": ""}
    """
    return (
        json.dumps({**asdict(result), "text": result.text}, ensure_ascii=False) + "\n"
    )


FORMATS = {
    "text": ("txt", to_text),
    "json": ("json", to_json),
    "srt": ("srt", lambda result: to_srt(result.segments)),
    "vtt": ("vtt", lambda result: to_vtt(result.segments)),
}


def transcribe(args: argparse.Namespace) -> int:
    """Writes a result for each file; 1 if one of them failed."""
    locales = _locales(args)
    files = _output_files(args)
    sources = [sys.stdin.buffer if name == STDIN else name for name in args.files]
    several = len(args.files) > 1 and args.format == "text"
    failed = False
    stdout = sys.stdout
    # Nothing that a library prints gets between the results.
    with redirect_stdout(sys.stderr):
        # Others in the same folder need not be of any use.
        results = load_transcriber(args, args.locale).stream_files(
            sources, locales, sys.stderr.isatty(), args.batch_size
        )
        for result, file in zip(results, files, strict=True):
            if result.error is not None:
                failed = True
                print(f"sumra transcribe: {_line(result.error)}", file=sys.stderr)
            # Only JSON says that it is not all.
            if result.error is None or args.format == "json":
                text = FORMATS[args.format][1](result)
                if file is not None:
                    write_text(file, text)
                else:
                    name = f"{result.source}\t" if several else ""
                    print(name + text, end="", file=stdout, flush=True)
    return int(failed)


def demo(args: argparse.Namespace) -> int:
    """Shows the page until it is interrupted."""
    try:
        from speechbrain_sumra.demo import serve
    except ImportError as error:
        raise ImportError(
            f"the page needs Gradio: pip install 'speechbrain-sumra[serve]' ({error})"
        ) from error
    serve(load_transcriber(args), host=args.host, port=args.port)
    return 0


def load_transcriber(
    args: argparse.Namespace, locales: list[str] | None = None
) -> Transcriber:
    """The transcriber that ``--adapter``, ``--whisper`` and the like describe.

    Of all languages that there are, or of some.
    """
    unadapted = getattr(args, "unadapted", False)
    if not args.adapter and not unadapted:
        raise UsageError("name an adapter file or folder with --adapter")
    whisper = args.whisper
    if not args.adapter:
        whisper = whisper or "openai/whisper-base"
    return Transcriber.from_adapters(
        args.adapter,
        whisper,
        locales,
        device=_device(args.device),
        precision=args.precision,
        max_tokens=args.max_tokens,
        stop_repetition=not args.keep_repetition,
        **places(args),
    )


def _locales(args: argparse.Namespace) -> str | list[str | None] | None:
    """The language of each file, as ``Transcriber`` takes it."""
    given = args.locale or []
    if args.unadapted:
        if given:
            raise UsageError("--unadapted and --locale exclude each other")
        return [None] * len(args.files)
    if len(given) > 1:
        if len(given) != len(args.files):
            raise UsageError(
                f"--locale is given {len(given)} times for {len(args.files)} files: "
                "give it once for all, or once for each"
            )
        return given
    return given[0] if given else None


def _output_files(args: argparse.Namespace) -> list[Path | None]:
    """Where each result goes; None is stdout."""
    if args.files.count(STDIN) > 1:
        raise UsageError("- (stdin) can be read only once")
    if args.output is None:
        if len(args.files) > 1 and args.format in ("srt", "vtt"):
            raise UsageError(
                f"--format {args.format} of several files needs --output FOLDER"
            )
        return [None] * len(args.files)
    ending = FORMATS[args.format][0]
    stems = ["stdin" if name == STDIN else Path(name).stem for name in args.files]
    stem, number = Counter(stems).most_common(1)[0]
    if number > 1:
        raise UsageError(f"{number} inputs would write {stem}.{ending}: rename them")
    return [Path(args.output, f"{stem}.{ending}") for stem in stems]


def _device(name: str | None) -> str:
    """The device, if this machine has it."""
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: {_line(error)}") from error
    return name


def _line(message) -> str:
    return " ".join(str(message).split())
