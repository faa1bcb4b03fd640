"""How a script of the recipe is run: help, and errors that a user can mend."""

import argparse
import logging
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import replace

import speechbrain as sb
from speechbrain.core import RunOptions

from speechbrain_sumra.peft_adapters import MissingExtraError
from speechbrain_sumra.pretrained import ModelNotFoundError
from speechbrain_sumra.training.failures import advice
from speechbrain_sumra.training.hparams import (
    HparamsError,
    merge_overrides,
    setting_names,
)
from speechbrain_sumra.training.stop_request import STOPPED, stop_request

INTERRUPTED = 130  # as shells have it for Ctrl+C
PRECISIONS = ("precision", "eval_precision")


def parse_arguments(argv: list[str]) -> tuple[str, RunOptions, str]:
    """As SpeechBrain's, but options that are settings of the experiment file are these.

    SpeechBrain takes options of its own, such as max_grad_norm, for itself: then what
    depends on them, or keeps what a run was made with, would not know of them. Nor does
    it know the precision "auto".

    Arguments
    ---------
    argv : list of str
        The command line, without the script's name.

    Returns
    -------
    hparams_file : str
    run_opts : RunOptions
    overrides : str
        YAML.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in PRECISIONS:
        parser.add_argument(f"--{name}", choices=["auto", "fp32", "bf16", "fp16"])
    precisions, argv = parser.parse_known_args(argv)
    for argument in argv:
        _check_whole(argument)
    hparams_file, run_opts, overrides = sb.parse_arguments(argv)
    given = run_opts.overridden_args & setting_names(hparams_file)
    values = {name: run_opts[name] for name in given}
    values.update({name: value for name, value in vars(precisions).items() if value})
    left = run_opts.overridden_args - given
    run_opts = replace(run_opts, overridden_args=left)
    return hparams_file, run_opts, merge_overrides(overrides, **values)


def _check_whole(argument: str) -> None:
    """Values are YAML, which takes what follows " #" for a comment."""
    start = argument.partition("=")[2] if argument.startswith("--") else argument
    if " #" in argument and not start.lstrip().startswith(("'", '"')):
        raise HparamsError(
            f"{argument!r} would be read up to ' #', where a comment begins in YAML. "
            "Put the value into quotes of its own: --name \"'a #1'\"."
        )


def run(main: Callable[[list[str]], object], description: str) -> None:
    """Run a script that takes an experiment file and SpeechBrain's arguments.

    It exits with 0 if all went well, 1 after an error that it has named in one
    line, ``STOPPED`` (75) at the request of a scheduler, and 130 after Ctrl+C.

    Arguments
    ---------
    main : callable
        Takes the arguments of the command line.
    description : str
        What --help says before SpeechBrain's own options.
    """
    if len(sys.argv) == 1 or sys.argv[1] in ("-h", "--help"):
        print(description)
        sb.parse_arguments(["--help"])
    stop_request.listen()
    logging.raiseExceptions = False  # a full disk must not fill the screen as well
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print("Interrupted. Start again to go on.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except SystemExit as stop:
        if stop.code == STOPPED:
            print("Stopped as requested. Start again to go on.", file=sys.stderr)
        raise
    except Exception as error:
        # What a user can mend is one line; where it arose is in log.txt, which
        # takes the root logger's messages of all levels.
        mendable = (ValueError, ModelNotFoundError, MissingExtraError)
        what_to_do = advice(error)
        if what_to_do is None and not isinstance(error, mendable):
            raise
        logging.debug("Stopped by:", exc_info=True)
        found = f"{type(error).__name__}: {error}".strip()
        sys.exit(found if what_to_do is None else f"{found}\n{what_to_do}")
    finally:
        # Those of a loader that was still being made: nobody else ends them, and
        # they ignore what multiprocessing would end them with.
        for child in multiprocessing.active_children():
            child.kill()
