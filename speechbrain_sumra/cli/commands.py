"""What the commands of ``sumra`` share."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from speechbrain_sumra.pretrained import CACHE_VARIABLE


class UsageError(ValueError):
    """Arguments that do not belong together."""


def add_command(
    subparsers, name: str, run: Callable, description: str, example: str
) -> argparse.ArgumentParser:
    """A parser for a command.

    Arguments
    ---------
    subparsers
        Where to add it.
    name : str
        The command.
    run : callable
        Takes the parsed arguments and returns the exit status.
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


def printable(text: str) -> str:
    """Text from a file, without what would change the terminal or the direction.

    Example
    -------
    >>> print(printable("Ĉu \x1b[2J\u202e?"))
    Ĉu \\x1b[2J\\u202e?
    """
    return "".join(
        sign
        if sign.isprintable() or sign == "\n"
        else sign.encode("unicode_escape").decode("ascii")
        for sign in text
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Options that say where base models and bases are."""
    cache = os.environ.get(CACHE_VARIABLE) or "~/.cache/speechbrain_sumra"
    cache = Path(cache).expanduser()
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


def places(args: argparse.Namespace) -> dict:
    """The folders, as ``Bank`` and ``load_adapted`` take them."""
    return {
        "pretrained_folder": args.pretrained_folder,
        "basis_folder": args.basis_folder,
    }
