"""The command ``sumra``: transcribe, and work with adapter files."""

import argparse
import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence

from speechbrain_sumra import __version__
from speechbrain_sumra.cli.arguments import add_commands
from speechbrain_sumra.cli.commands import UsageError, printable

DESCRIPTION = """\
Whisper in new languages: a small adapter file for each.

Results go to stdout, messages to stderr. The exit status is 0 if all went well, 1 if
something failed, and 2 if the command cannot be understood."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Arguments
    ---------
    argv : sequence of str
        The command and its arguments. Default: those of the process.

    Returns
    -------
    int
        The exit status. Wrong usage and ``--help`` raise SystemExit, as argparse does.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser, commands = _parsers()
    name = argv[0] if argv else "--help"
    if name not in commands:
        parser.parse_args([name])
    command = commands[name]
    # Options may stand between files, each --locale before its own.
    args = command.parse_intermixed_args(argv[1:])
    from speechbrain_sumra.bank import UnknownLocaleError  # after --help: it is slow

    _set_up_messages(args.verbose)
    try:
        status = _function(args.run)(args)
        sys.stdout.flush()
        return status
    except (UsageError, UnknownLocaleError) as error:
        command.error(str(error))
    except BrokenPipeError:
        # Whoever read stdout has seen enough; Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, ImportError) as error:
        if args.verbose:
            traceback.print_exc()
        print(f"{command.prog}: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of ``sumra`` itself, and that of each command."""
    parser = argparse.ArgumentParser(
        prog="sumra",
        description=DESCRIPTION,
        epilog="sumra COMMAND --help says more about a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sumra {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    add_commands(subparsers)
    for command in subparsers.choices.values():
        command.add_argument(
            "--verbose", action="store_true", help="show all messages and tracebacks"
        )
    return parser, subparsers.choices


def _function(name: str) -> Callable[[argparse.Namespace], int]:
    """What runs a command, by its module and function."""
    module, function = name.split(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), function)


def _set_up_messages(verbose: bool) -> None:
    """Our own warnings, on stderr; SpeechBrain and transformers say a lot more."""
    handler = logging.StreamHandler()
    if not verbose:
        handler.setLevel(logging.WARNING)
        handler.addFilter(lambda record: not record.name.startswith("speechbrain."))
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[handler])
    if not verbose:
        import transformers

        warnings.simplefilter("ignore")
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
