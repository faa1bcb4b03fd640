"""What the commands of ``sumra`` share."""

import argparse


class UsageError(ValueError):
    """Arguments that do not belong together."""


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


def places(args: argparse.Namespace) -> dict:
    """The folders, as ``Bank`` and ``load_adapted`` take them."""
    return {
        "pretrained_folder": args.pretrained_folder,
        "basis_folder": args.basis_folder,
    }
