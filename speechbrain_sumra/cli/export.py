"""``sumra export``, ``sumra merge`` and ``sumra push``: adapters for other software."""

import argparse

from speechbrain_sumra.cli.commands import add_command, add_places, places
from speechbrain_sumra.restore import load_adapted

TARGETS = ("huggingface", "peft", "ctranslate2")


def add_commands(subparsers) -> None:
    """Adds the commands of this module."""
    parser = add_command(
        subparsers,
        "merge",
        export,
        """\
Whisper with the adapter merged into it, as a Hugging Face folder

The folder is an ordinary Whisper for transformers. Same as sumra export --to
huggingface.""",
        "sumra merge hsb.safetensors whisper-hsb",
    )
    _add_export(parser)
    parser.set_defaults(to="huggingface")

    parser = add_command(
        subparsers,
        "export",
        export,
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
    parser.add_argument("--to", choices=TARGETS, required=True, help="the format")
    _add_export(parser)

    parser = add_command(
        subparsers,
        "push",
        push,
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
    add_places(parser)


def export(args: argparse.Namespace) -> int:
    """Writes the folder and prints its name."""
    from speechbrain_sumra import export as exports

    model, metadata = load_adapted(args.adapter, args.whisper, **places(args))
    write = getattr(exports, f"export_{args.to}")
    print(write(model, args.folder, args.as_language, metadata=metadata))
    return 0


def push(args: argparse.Namespace) -> int:
    """Uploads and prints the address."""
    from speechbrain_sumra.export import push

    try:
        print(push(args.path, args.repo_id, private=args.private))
    except (ValueError, OSError):
        raise
    except Exception as error:  # each version of the hub's client has other ones
        raise OSError(f"the hub cannot be reached: {error}") from error
    return 0
