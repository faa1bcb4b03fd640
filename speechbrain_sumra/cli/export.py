"""``sumra export``, ``sumra merge`` and ``sumra push``: adapters for other software."""

import argparse

from speechbrain_sumra.cli.commands import places
from speechbrain_sumra.restore import load_adapted


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
