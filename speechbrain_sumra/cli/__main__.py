"""``python -m speechbrain_sumra.cli``: the command ``sumra``."""

import sys

from speechbrain_sumra.cli import main

if __name__ == "__main__":
    sys.exit(main())
