"""The state that a checkpoint would restore, held against what this run has.

Lightning and torch take over whatever is there: a tensor of another shape makes a fused optimizer
write past its end, and an unknown name replaces a method. Here a state is refused before they get
it, or brought into the form that they expect; one of our own comes out as it was.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.optim import Optimizer

MAX_COUNT = 2**53  # of epochs, steps and batches
MAX_ERRORS = 100  # that are drawn; a fit keeps 40


def check_progress(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """The parts that Lightning restores first: of the loops and the callbacks.

    Raises:
        ValueError: One of them is not what this run would have saved.
    """
    loops = checkpoint.get("loops", {})
    if not isinstance(loops, dict):
        raise ValueError("loops without names")
    for name in ("fit_loop", "validate_loop", "test_loop", "predict_loop"):
        if name in loops:
            _check_counts(loops[name], getattr(trainer, name).state_dict(), f"loops.{name}")
    precision = type(trainer.precision_plugin).__qualname__  # the scale of 16-bit gradients
    if precision in checkpoint:
        own = trainer.precision_plugin.state_dict()
        _check_alike(checkpoint[precision], own, precision, fresh=True)
    checkpoint.pop("native_amp_scaling_state", None)  # its name before Lightning 1.5
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    saved = checkpoint["callbacks"]
    if not isinstance(saved, dict):
        raise ValueError("callbacks without names")
    for callback in callbacks:
        if state := saved.get(callback.state_key):
            _check_callback(state, callback, fresh=trainer.state.fn == "fit")


def check_training(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """The parts that go on from there: of the optimizers and their schedules.

    Raises:
        ValueError: One of them is not what this run would have saved.
    """
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    parts: list[tuple[str, list[Any], Callable[[Any, Any], Any]]] = [
        ("optimizer_states", trainer.optimizers, _optimizer_state),
        ("lr_schedulers", schedules, _schedule_state),
    ]
    for name, own, fitted in parts:
        saved = checkpoint.get(name)
        if name == "lr_schedulers" and not own:  # StochasticWeightAveraging restores its own
            saved = []
        if not isinstance(saved, list) or len(saved) != len(own):
            raise ValueError(f"no {name}, or too many")
        checkpoint[name] = [fitted(*pair) for pair in zip(saved, own, strict=True)]


def _optimizer_state(saved: Any, optimizer: Optimizer) -> dict[str, Any]:
    """The same in the form that this optimizer's has after a step."""
    twin = copy.deepcopy(optimizer)
    for group in twin.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    twin.step(lambda: 0.0)
    own = twin.state_dict()
    if not isinstance(saved, dict) or not isinstance(saved.get("state"), dict):
        raise ValueError("an optimizer state without its parts")
    state = {
        number: _fitted(entry, own["state"].get(number), f"optimizer_states.state.{number}")
        for number, entry in saved["state"].items()
    }
    groups = saved.get("param_groups")
    if not isinstance(groups, list) or len(groups) != len(own["param_groups"]):
        raise ValueError("optimizer_states with other groups of parameters")
    merged = []
    for group, own_group in zip(groups, optimizer.state_dict()["param_groups"], strict=True):
        if not isinstance(group, dict) or group.get("params") != own_group["params"]:
            raise ValueError("optimizer_states with other parameters")
        # Switches, such as `fused`, are this run's; numbers, such as the rate, go on.
        merged.append(
            {
                name: value
                if name == "params" or value is None or isinstance(value, bool | str)
                else _fitted(group.get(name, value), value, f"optimizer_states.{name}")
                for name, value in own_group.items()
            }
        )
    return {"state": state, "param_groups": merged}


def _schedule_state(saved: Any, schedule: Any) -> dict[str, Any]:
    """The same under the names that this schedule's has; others would replace its methods."""
    own = schedule.state_dict()
    if not isinstance(saved, dict):
        raise ValueError("lr_schedulers without names")
    state = {
        name: _fitted(saved.get(name, value), value, f"lr_schedulers.{name}")
        for name, value in own.items()
    }
    # A schedule of another length is the fit's to refuse, which knows why.
    if state.get("total_steps", 0) == own.get("total_steps"):
        if state.get("_schedule_phases") != own.get("_schedule_phases"):
            raise ValueError("lr_schedulers with other phases")
        if own["total_steps"] and not 0 <= state["last_epoch"] <= own["total_steps"]:
            raise ValueError("lr_schedulers past its end")
    return state


def _check_counts(saved: Any, own: Any, where: str) -> None:
    """Progress: nested names that are all known, with counts and switches."""
    if isinstance(own, Mapping):
        if not isinstance(saved, dict) or not saved.keys() <= own.keys():
            raise ValueError(f"{where} is of another kind")
        for name, value in saved.items():
            _check_counts(value, own[name], f"{where}.{name}")
    elif type(saved) is not type(own) or not 0 <= saved <= MAX_COUNT:
        raise ValueError(f"{where} is no count")


def _check_callback(saved: Any, callback: Callback, fresh: bool) -> None:
    own, where = callback.state_dict(), f"callbacks.{type(callback).__name__}"
    if not isinstance(saved, dict):
        raise ValueError(f"{where} is no dict")
    for name, value in saved.items():
        _check_alike(value, own.get(name), f"{where}.{name}", fresh)
    if isinstance(callback, ModelCheckpoint):
        models, worst = saved.get("best_k_models", {}), saved.get("kth_best_model_path", "")
        paths = [worst, *(saved.get(name, "") for name in ("best_model_path", "last_model_path"))]
        if not all(isinstance(path, str) for path in (*models, *paths)):
            raise ValueError(f"{where} names no path")
        if models and (worst not in models or not all(map(_is_score, models.values()))):
            raise ValueError(f"{where}.best_k_models has no score of the worst")
        scores = [saved.get("best_model_score"), saved.get("current_score")]
        if not all(score is None or _is_score(score) for score in scores):
            raise ValueError(f"{where} has scores that are none")
    elif type(callback).__name__ == "Pictures":
        _check_pictures(saved.get("best"), f"{where}.best")
    elif type(callback).__name__ == "EpochLines":
        accuracy = saved.get("best_val_acc")  # older versions saved none
        if accuracy is not None and not (_is_number(accuracy) and 0 <= accuracy <= 1):
            raise ValueError(f"{where}.best_val_acc is no accuracy")
    elif type(callback).__name__ == "Threads":
        threads = saved.get("threads")
        if not (type(threads) is int and 0 < threads <= MAX_COUNT):
            raise ValueError(f"{where}.threads is no number of threads")
    elif type(callback).__name__ == "StopAtAccuracy":
        accuracies = saved.get("recent", [])  # older versions saved none
        if not all(isinstance(value, float) and 0 <= value <= 1 for value in accuracies):
            raise ValueError(f"{where}.recent holds no accuracies")
        epoch = saved.get("reached_epoch")
        if epoch is not None and not (type(epoch) is int and 0 < epoch <= MAX_COUNT):
            raise ValueError(f"{where}.reached_epoch is no epoch")


def _check_pictures(best: Any, where: str) -> None:
    if not isinstance(best, dict):
        raise ValueError(f"{where} is no dict")
    confusion: Any = best.get("confusion")
    errors = best.get("errors")
    if confusion is None and not errors:
        return  # nothing was validated yet
    if not isinstance(errors, list) or len(errors) > MAX_ERRORS:
        raise ValueError(f"{where}.errors is no short list")
    counts = isinstance(confusion, Tensor) and confusion.dtype == torch.int64
    if not counts or confusion.shape != (10, 10) or not (confusion >= 0).all():
        raise ValueError(f"{where}.confusion is no 10 x 10 counts")
    for error in errors:
        image, *digits = error if isinstance(error, list | tuple) else [None]
        fits = isinstance(image, Tensor) and image.shape == (28, 28) and image.is_floating_point()
        if not fits or len(digits) != 2 or not all(digit in range(10) for digit in digits):
            raise ValueError(f"{where}.errors is no list of images and digits")


def _check_alike(saved: Any, own: Any, where: str, fresh: bool) -> None:
    """Of one kind. Our own None is like any; theirs is, once ours is no longer as it began."""
    fits = True
    if saved is None and not fresh:
        pass
    elif isinstance(own, dict):
        fits = isinstance(saved, dict) and (saved.keys() >= own.keys() or not fresh)
        for name in saved.keys() & own.keys() if fits else ():
            _check_alike(saved[name], own[name], f"{where}.{name}", fresh)
    elif isinstance(own, Tensor) and isinstance(saved, Tensor):
        fits = saved.shape == own.shape
    elif isinstance(own, list | tuple):
        fits = isinstance(saved, list | tuple)
    elif isinstance(own, bool | str):
        fits = type(saved) is type(own)
    elif isinstance(own, int | float):
        fits = _is_number(saved) and (abs(saved) <= MAX_COUNT or saved == own)
    if not fits:
        raise ValueError(f"{where} is of another kind")


def _fitted(saved: Any, own: Any, where: str) -> Any:
    """The saved values in the types, names, shapes and layout of our own."""
    if isinstance(own, Tensor):
        if not isinstance(saved, Tensor) or saved.shape != own.shape:
            raise ValueError(f"{where} is of another shape")
        if saved.is_floating_point() != own.is_floating_point() or not saved.isfinite().all():
            raise ValueError(f"{where} holds no such numbers")
        return torch.empty_like(own, device=saved.device).copy_(saved)  # as `own` lies in memory
    if isinstance(own, dict):
        if not isinstance(saved, dict) or saved.keys() != own.keys():
            raise ValueError(f"{where} has other names")
        fitted = {name: _fitted(saved[name], own[name], f"{where}.{name}") for name in own}
        return type(own)(fitted)
    if isinstance(own, list | tuple):
        if type(saved) is not type(own) or len(saved) != len(own):
            raise ValueError(f"{where} is of another length")
        return type(own)(_fitted(*pair, where) for pair in zip(saved, own, strict=True))
    if isinstance(own, int | float) and not isinstance(own, bool):
        if not _is_number(saved) or not (abs(saved) <= MAX_COUNT or saved == own):
            raise ValueError(f"{where} is no such number")
    elif type(saved) is not type(own) or (isinstance(own, str) and saved != own):
        raise ValueError(f"{where} is of another kind")
    return saved


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_score(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point()
