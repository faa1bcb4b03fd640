"""The history survives a checkpoint and can be looked at."""

from speechbrain.utils.checkpoints import Checkpointer

from speechbrain_sumra.training.history import History


def filled():
    history = History()
    for epoch in (0.5, 1.0):
        history.records.append(
            {
                "epoch": epoch,
                "lr": 1e-3,
                "train_loss": 2.0,
                "valid_loss": 2.5,
                "WER": 80.0,
                "CER": 30.0,
            }
        )
    history.seconds["train"] += 3.5
    return history


def test_a_checkpoint_keeps_it(tmp_path):
    history = filled()
    Checkpointer(tmp_path, {"history": history}).save_checkpoint()
    resumed = History()
    resumed.seconds.update({"build": 2, "train": 1.5})
    Checkpointer(tmp_path, {"history": resumed}).recover_if_possible()
    assert resumed.records == history.records
    resumed.seconds["train"] += 1
    assert resumed.seconds == {"build": 2, "train": 6}


def test_plot_is_a_png(tmp_path):
    filled().plot(tmp_path / "training.png")
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")
