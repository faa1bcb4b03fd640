"""How a script of the recipe is run: help, and errors that a user can mend."""

import logging
import multiprocessing
import sys
from collections.abc import Callable

import speechbrain as sb

from speechbrain_sumra.peft_adapters import MissingExtraError
from speechbrain_sumra.pretrained import ModelNotFoundError
from speechbrain_sumra.training.failures import advice
from speechbrain_sumra.training.stop_request import STOPPED, stop_request

INTERRUPTED = 130  # as shells have it for Ctrl+C


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
