"""Where what was converted or computed once is kept, unless a folder is named."""

import os
from pathlib import Path

CACHE_VARIABLE = "SPEECHBRAIN_SUMRA_CACHE"


def cache_folder() -> Path:
    """The folder that ``SPEECHBRAIN_SUMRA_CACHE`` names, or one in the home folder.

    Example
    -------
    >>> getfixture("monkeypatch").setenv(CACHE_VARIABLE, "~/whisper")
    >>> cache_folder() == Path.home() / "whisper"
    True
    """
    return Path(
        os.environ.get(CACHE_VARIABLE) or "~/.cache/speechbrain_sumra"
    ).expanduser()
