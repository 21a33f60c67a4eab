"""Which device computes, in which number type, on which machine: names as people write them, turned into a torch device.

Knows torch's backends; knows nothing of models.
"""

import os
import platform
import re
from pathlib import Path

import torch

from glp_core.errors import GlpError

VARIABLE = "GLP_EXPLORER_DEVICE"
"""Environment variable: the device of the dashboard, and of commands that are given no --device."""
NAMES = "auto, cpu, cuda, cuda:N or mps"

LOCAL_RANK = "LOCAL_RANK"
"""Environment variable in which torchrun tells a process its number on its machine."""
LOCAL_SIZE = "LOCAL_WORLD_SIZE"
"""Environment variable in which it tells how many there are."""


def choose_device(name: str | None = None) -> torch.device:
    """Return the device of that name; None stands for $GLP_EXPLORER_DEVICE, auto when it is not set.

    Where torchrun started several processes on a machine, each takes a card of its own: the one of its number there.

    Args:
        name: auto (an accelerator that is there, else the CPU), cpu, cuda, cuda:N or mps.
    Raises:
        GlpError: a name of another form, a device that is not there, or one card for several processes.
    """
    name = (name or os.environ.get(VARIABLE) or "auto").strip().lower()
    if name == "auto":
        name = _accelerator() or "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,4})?", name):
        raise GlpError(f"The device is {name!r}, wanted {NAMES}.")
    if name.startswith("cuda"):
        return _cuda(name)
    if name == "mps" and not torch.backends.mps.is_available():
        raise GlpError("The device mps is not available here: it needs an Apple GPU. Use cpu or auto.")
    return torch.device(name)


def device_at(where: torch.device | str) -> torch.device:
    """Return the device that a caller of the library names, as `choose_device` reads it; others that torch knows stay."""
    try:
        known = torch.device(where)
    except RuntimeError:  # such as auto
        return choose_device(str(where))
    return choose_device(where) if isinstance(where, str) and known.type in ("cpu", "cuda", "mps") else known


def _accelerator() -> str | None:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def _cuda(name: str) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        build = "" if torch.backends.cuda.is_built() else f" (torch {torch.__version__} is built without CUDA)"
        raise GlpError(f"The device {name} is not available here: torch sees no CUDA device{build}. Use cpu or auto.")
    own, together = os.environ.get(LOCAL_RANK, ""), int(os.environ.get(LOCAL_SIZE) or 1)
    index = int(name.partition(":")[2] or own or 0)
    if together > 1 and index != int(own or 0):
        raise GlpError(
            f"The device is {name} for all {together} processes that torchrun started on this machine, wanted a card for each. "
            "Use --device cuda: each takes its own."
        )
    if index >= count and ":" not in name:
        raise GlpError(
            f"This is process {index + 1} of those that torchrun started on this machine, and torch sees {count} CUDA devices; "
            f"wanted one for each. Use --nproc-per-node {count} at most."
        )
    if index >= count:
        raise GlpError(f"The device {name} is not available: torch sees {count} CUDA devices, cuda:0 to cuda:{count - 1}.")
    return torch.device("cuda", index)


def native_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """Return bfloat16 where the device multiplies it natively, float32 elsewhere.

    Never float16: it cannot hold the massive activations of some models, nor the prior's largest hidden values.
    """
    device = torch.device(device)
    if device.type == "cuda":
        native = torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        able = torch.cpu.get_capabilities()
        native = bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def doubled(values: torch.Tensor) -> torch.Tensor:
    """Return values in float64, on their device where it has that type, as CPUs and CUDA's do, else on the CPU."""
    return (values if values.device.type in ("cpu", "cuda") else values.cpu()).double()


def named_dtype(name: str, device: torch.device | str = "cpu") -> torch.dtype:
    """Return the number type of that name; for auto, the device's native one."""
    return native_dtype(device) if name == "auto" else getattr(torch, name)


def batch_size(device: torch.device | str, *, cpu: int, accelerator: int) -> int:
    """Return how much one batch holds: little on a CPU, whose caches it has to fit, much on an accelerator, which waits otherwise."""
    return cpu if torch.device(device).type == "cpu" else accelerator


def device_title(device: torch.device | str) -> str:
    """Return a device's name to show: CPU, Apple GPU, or the card's own name and its number."""
    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(device)} (cuda:{device.index or 0})"
    return {"cpu": "CPU", "mps": "Apple GPU (mps)"}.get(device.type, str(device))


def machine(device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> dict[str, str | int | None]:
    """Describe this machine, and the device that computed, as far as they decide speed.

    Args:
        dtype: number type that was computed in; None: the device's native one.
    """
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device_title(device),
        "dtype": str(dtype or native_dtype(device)).removeprefix("torch."),
        "system": f"{platform.system()} {platform.machine()}",
        "accelerator": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
