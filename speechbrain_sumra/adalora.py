"""AdaLoRA: PEFT's, with its rank schedule driven by the training loop."""

import torch
from speechbrain.utils import checkpoints
from speechbrain.utils.logger import get_logger
from torch import nn

from speechbrain_sumra.peft_adapters import PeftAdapters

logger = get_logger(__name__)

IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # of PEFT's RankAllocator


@checkpoints.register_checkpoint_hooks
class AdaLora(PeftAdapters):
    """AdaLoRA (Zhang et al., 2023): rank moves to the layers that need it.

    ``y = W0 x + (alpha / r) P diag(E) Q x``; singular values E of least
    importance are set to zero while training, from ``init_r`` a layer down to
    a mean of ``target_r``.

    Arguments
    ---------
    init_r : int
        Rank of each layer at first.
    target_r : int
        Mean rank of the layers in the end, below ``init_r``.
    tinit, tfinal : float
        Steps before the reduction starts, and steps after it has ended; below
        1, shares of all steps.
    **settings
        Further arguments of ``PeftAdapters`` and of PEFT's ``AdaLoraConfig``.

    Raises
    ------
    MissingExtraError
        If PEFT is not installed.
    ValueError
        If target_r is not below init_r, or PEFT refuses a setting.

    Example
    -------
    >>> method = AdaLora(init_r=4, target_r=2, tinit=0.1, tfinal=0.3)
    >>> model = nn.Sequential(nn.Linear(4, 6))
    >>> method.insert(model, ["0"], method.make_basis(model, ["0"], {}))
    >>> method.start_training(total_steps=100)
    >>> method.config.tinit, method.config.tfinal
    (10, 30)
    """

    has_state = True

    def __init__(
        self,
        init_r: int,
        target_r: int,
        tinit: float = 0.1,
        tfinal: float = 0.3,
        **settings,
    ):
        if target_r >= init_r:
            raise ValueError(
                f"AdaLoRA reduces the rank: target_r ({target_r}) must be below "
                f"init_r ({init_r})."
            )
        self.schedule = {"tinit": tinit, "tfinal": tfinal}
        super().__init__("AdaLoraConfig", init_r=init_r, target_r=target_r, **settings)
        self.settings.update(self.schedule)

    def _make_config(self, layers, **changes):
        # Replaced when the number of steps is known.
        return super()._make_config(layers, total_step=2**31, **changes)

    def start_training(self, total_steps: int) -> None:
        """Set the schedule, now that the number of steps is known.

        Arguments
        ---------
        total_steps : int
            Optimizer steps of the whole training.

        Raises
        ------
        ValueError
            If warm-up and final phase leave no steps between them.
        """
        steps = {
            name: int(value * total_steps) if value < 1 else int(value)
            for name, value in self.schedule.items()
        }
        if sum(steps.values()) >= total_steps - 1:
            raise ValueError(
                f"AdaLoRA's tinit ({steps['tinit']}) and tfinal ({steps['tfinal']}) "
                f"leave none of {total_steps} training steps to reduce the rank "
                "in. Choose smaller ones, or shares below 1."
            )
        self.config.total_step = total_steps
        self.config.tinit, self.config.tfinal = steps["tinit"], steps["tfinal"]
        logger.info(
            "AdaLoRA: rank %d, from step %d to step %d reduced to a mean of %d",
            self.config.init_r,
            steps["tinit"],
            total_steps - steps["tfinal"],
            self.config.target_r,
        )

    def after_step(self, step: int) -> None:
        """Update importances and, where the schedule says so, the ranks.

        Arguments
        ---------
        step : int
            The step, counted from 1.
        """
        self.tuner.update_and_allocate(step)

    def regularizer(self, model: nn.Module) -> torch.Tensor:
        """``orth_reg_weight * mean |M M^T - I|_F`` over all P^T and Q.

        PEFT adds this in the forward of models that return a loss, which this
        one does not.

        Arguments
        ---------
        model : torch.nn.Module
            The model with adapters.

        Returns
        -------
        torch.Tensor
            A scalar.
        """
        departures = []
        for name, parameter in model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                rows = parameter if ".lora_A." in name else parameter.T
                identity = torch.eye(len(rows), device=rows.device, dtype=rows.dtype)
                departures.append(torch.linalg.norm(rows @ rows.T - identity))
        return self.config.orth_reg_weight * torch.stack(departures).mean()

    @checkpoints.mark_as_saver
    def save(self, path):
        """Write what is known of each parameter's importance."""
        allocator = self.tuner.rankallocator
        state = {name: getattr(allocator, name) for name in IMPORTANCE}
        torch.save({**state, "rank_pattern": self.config.rank_pattern}, path)

    @checkpoints.mark_as_loader
    def load(self, path, end_of_epoch=False):
        """Continue from a checkpoint, on whatever device the model is."""
        del end_of_epoch
        device = next(self.tuner.parameters()).device
        state = torch.load(path, weights_only=True, map_location=device)
        for name in IMPORTANCE:
            setattr(self.tuner.rankallocator, name, state[name])
        self.config.rank_pattern = state["rank_pattern"]
