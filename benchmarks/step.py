"""One training step: what adapters cost, and how near it comes to the machine."""

import statistics
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from speechbrain_sumra import SumRA
from speechbrain_sumra.adapted import DECODER_NORMS, AdaptedWhisper, trained_tensors
from speechbrain_sumra.precision import (
    choose_precision,
    keep_frozen_linears_in,
    precision_dtype,
)
from speechbrain_sumra.training.memory import limit_kernel_cache
from speechbrain_sumra.whisper import Whisper

BATCH, FRAMES, TOKENS = 4, 550, 32  # clips of 7 s and their margin
LARGEST_BLOCK = 25 << 20  # bytes; logits of 240 targets in bfloat16
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def measure_steps(whisper: str, work: Path, rank: int = 32, repeats: int = 30) -> dict:
    """Training steps with and without adapters, interleaved.

    Without adapters the decoder's norms are trained alone, so the same forward and
    backward pass is there. Model operations (those of matrix products, counted in
    the step itself) a second are compared with what products of 1024 x 1024 matrices
    reach on the same machine, precision and threads.

    Arguments
    ---------
    whisper : str
        Hugging Face folder of the base model.
    work : Path
        For conversions and the basis.
    rank : int
        Of the adapters.
    repeats : int
        Steps of each kind.

    Returns
    -------
    dict
        By precision: median "seconds" of each kind of step, "adapter_overhead" (their
        ratio, minus one), "gigaflops" of a step, "gigaflops_per_second",
        "matmul_peak" and "share_of_peak".
    """
    limit_kernel_cache()
    return {
        name: _measure(whisper, work, rank, repeats, name)
        for name in dict.fromkeys(("fp32", choose_precision("auto", DEVICE)))
    }


def _measure(whisper, work, rank, repeats, precision):
    dtype = precision_dtype(precision)
    torch.manual_seed(0)
    frozen = _model(whisper, work, None, {}, DECODER_NORMS)
    adapted = _model(whisper, work, SumRA, {"rank": rank}, [])
    steps = {"frozen": _step(frozen, dtype), "adapted": _step(adapted, dtype)}
    with FlopCounterMode(display=False) as counter:
        steps["adapted"]()
    # The allocator gives back what is much more than the largest block it has seen, and
    # a training has larger ones: without this, page faults would be measured as well.
    torch.zeros(LARGEST_BLOCK, dtype=torch.uint8)
    seconds = {name: [] for name in steps}
    for _ in tqdm(range(repeats), desc=f"Steps, {precision}"):
        for name, step in steps.items():
            seconds[name].append(_timed(step))
    median = {name: statistics.median(values[2:]) for name, values in seconds.items()}
    gigaflops = counter.get_total_flops() / 1e9
    peak = matmul_peak(dtype)
    rate = gigaflops / median["adapted"]
    return {
        "seconds": {name: round(value, 4) for name, value in median.items()},
        "adapter_overhead": round(median["adapted"] / median["frozen"] - 1, 4),
        "gigaflops": round(gigaflops, 2),
        "gigaflops_per_second": round(rate, 1),
        "matmul_peak": round(peak, 1),
        "share_of_peak": round(rate / peak, 3),
    }


def _model(whisper, work, adapter, settings, unfrozen):
    base = Whisper(whisper, str(work), language="polish", encoder_context="clip")
    return AdaptedWhisper(
        base, adapter, settings, work / "basis", unfrozen_layers=unfrozen
    ).to(DEVICE)


def _step(model, dtype):
    """A function that makes one training step on random states."""
    if dtype != torch.float32:
        keep_frozen_linears_in(model.model.decoder, dtype)
    parameters = list(trained_tensors(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)  # as the recipe's
    states = torch.randn(BATCH, FRAMES, model.config.d_model, device=DEVICE)
    lengths = torch.tensor([FRAMES - 40 * row for row in range(BATCH)], device=DEVICE)
    tokens = torch.randint(0, 50000, (BATCH, TOKENS), device=DEVICE)
    positions = torch.ones_like(tokens, dtype=torch.bool)
    positions[:, :3] = False

    def step():
        with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
            loss = model(
                None,
                tokens,
                encoder_states=states,
                state_lengths=lengths,
                positions=positions,
                targets=tokens[positions],
            )[1]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _timed(function) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def matmul_peak(dtype: torch.dtype, size: int = 1024, repeats: int = 30) -> float:
    """Giga-operations a second of products of two square matrices, at best."""
    left, right = torch.randn(2, size, size, device=DEVICE).to(dtype)
    best = min(_timed(lambda: left @ right) for _ in range(repeats))
    return 2 * size**3 / best / 1e9
