"""How a script of the recipe is run: help, and errors that a user can mend."""

import logging
import sys
from collections.abc import Callable

import speechbrain as sb

from speechbrain_sumra.peft_adapters import MissingExtraError
from speechbrain_sumra.pretrained import ModelNotFoundError


def run(main: Callable[[list[str]], object], description: str) -> None:
    """Run a script that takes an experiment file and SpeechBrain's arguments.

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
    try:
        main(sys.argv[1:])
    except (ValueError, ModelNotFoundError, MissingExtraError) as error:
        # What a user can mend is one line; where it arose is in log.txt, which
        # takes the root logger's messages of all levels.
        logging.debug("Stopped by:", exc_info=True)
        sys.exit(f"{type(error).__name__}: {error}")
