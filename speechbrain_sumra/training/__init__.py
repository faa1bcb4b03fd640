"""The training loop, and what a run keeps and leaves behind."""
