"""The benchmark's table and plot, made of its JSON."""

from pathlib import Path

from matplotlib.figure import Figure

NAMES = {
    "speechbrain": "SpeechBrain, LoRA",
    "transformers": "Transformers + PEFT, LoRA",
    "ours-lora-cold": "ours, LoRA, cold",
    "ours-lora-warm": "ours, LoRA, warm",
    "ours-sumra-cold": "ours, SumRA, cold",
    "ours-sumra-warm": "ours, SumRA, warm",
}
TARGETS = {
    "cold": "at least 4",
    "warm": "at least 8",
    "memory": "at most 0.7",
    "wer_difference": "at most 0.5",
    "basis": "at least 3",
    "decode": "at least 1",
    "adapter_overhead": "at most 0.1",
}
# The phases of ours and of the stock ways have different names.
PHASES = {
    "prepare": ("load", "build", "prepare", "initialise"),
    "train": ("train",),
    "validate": ("validate",),
    "test": ("test", "test_after"),
}


def phases(median: dict) -> dict[str, float]:
    """Seconds of each phase of a run, and the rest: starting Python, saving.

    Example
    -------
    >>> phases({"wall_seconds": 10.0, "seconds": {"load": 2.0, "train": 5.0}})
    {'prepare': 2.0, 'train': 5.0, 'validate': 0, 'test': 0, 'rest': 3.0}
    """
    seconds = median["seconds"]
    found = {
        phase: sum(seconds.get(name, 0) for name in names)
        for phase, names in PHASES.items()
    }
    return {**found, "rest": max(0, median["wall_seconds"] - sum(found.values()))}


def table(result: dict) -> str:
    """Markdown: a row a contender, and the ratios beside their targets."""
    load = result["workload"]
    facts = result["machine"]
    lines = [
        f"whisper-base, {load['locale']}, {load['train_hours']} h of training data or "
        f"all there is, rank {load['rank']}, batches of {load['batch_size']}, "
        f"{load['epochs']} epoch(s), {load['epochs'] * load['validations_per_epoch']} "
        f"validations; {facts['cores']} cores ({facts['processor']}), torch "
        f"{facts['torch']}; medians of "
        f"{sum(run['contender'] == 'speechbrain' for run in result['runs'])} runs.",
        "",
        "| | prepare | train | validate | test | whole, s | memory, GB | trained, M "
        "| test WER, % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, median in result["medians"].items():
        of_phase = phases(median)
        cells = [f"{of_phase[phase]:.0f}" for phase in PHASES]
        cells += [
            f"{median['wall_seconds']:.0f}",
            f"{median['peak_memory_bytes'] / 1e9:.2f}",
            f"{median['trained_parameters'] / 1e6:.2f}",
            f"{median['test_wer']:.1f}",
        ]
        lines.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
    lines += ["", "| ratio | measured | target |", "|---|---|---|"]
    for name, value in result["ratios"].items():
        lines.append(f"| `{name}` | {value} | {TARGETS[name]} |")
    return "\n".join(lines) + "\n"


def draw(result: dict, path: Path) -> None:
    """Bars of wall time by phase, a contender each."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    medians = result["medians"]
    labels = [NAMES[name] for name in medians]
    left = [0.0] * len(labels)
    for phase in (*PHASES, "rest"):
        widths = [phases(median)[phase] / 60 for median in medians.values()]
        axes.barh(labels, widths, left=left, label=phase)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("minutes, from start to test WER")
    axes.legend(fontsize="small")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)
