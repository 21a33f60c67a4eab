"""A second device that computes on the CPU but refuses what CUDA refuses, tensors of two devices in one operation and numpy(), and
float64, which an Apple GPU has not.

Tensors on it say that they are on `second`; their numbers lie in a CPU tensor inside, so results can be compared with the CPU's to the bit.
No GPU is needed. Use:

    with second_device():
        glp.to("second").project(acts.to("second"))
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed.tensor  # noqa: F401 - torch imports it late, and cannot where generators are replaced
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from glp_core.speed.replay import RECORDERS, Recorded

NAME = "second"
_LIBRARY, _FALLBACK = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
CROSSING = {"copy_", "_to_copy", "_copy_from", "index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""Operations that may meet tensors of two devices: copies, and indices on the CPU."""


DECIDING = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal"}
"""Operations whose result the host has to wait for."""
LACKING = {"linalg_lstsq"}
"""Operations that an Apple GPU has not."""
_tape: list[tuple] | None = None
"""What is being recorded."""


class SecondTensor(Tensor):
    """A tensor on the second device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "SecondTensor":
        if inner.dtype == torch.float64 and inner.ndim:  # a number of Python is one without
            raise TypeError("The second device has no float64, as Apple's has none.")
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"SecondTensor({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        with torch.inference_mode(False), torch.no_grad():
            return _run(func, args, kwargs or {})


def _leaves(value) -> Iterator[object]:
    """Yield what stands in nested tuples, lists and dicts: torch's tree functions are slow for so few."""
    if isinstance(value, tuple | list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    else:
        yield value


def _changed(value, kind: type, change: Callable):
    """Return nested tuples, lists and dicts with every `kind` in them changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: _changed(part, kind, change) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_changed(part, kind, change) for part in value))
    return type(value)(_changed(part, kind, change) for part in value) if type(value) in (tuple, list) else value


class SecondGenerator(torch.Generator):
    """A generator of the second device, with the numbers of the CPU's."""

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0)


def _make_generator(device="cpu") -> torch.Generator:
    return SecondGenerator() if _on_second(device) else _CPU_GENERATOR(device)


_CPU_GENERATOR = torch.Generator


def _on_second(device) -> bool:
    return device is not None and torch.device(device).type == NAME


def _run(func, args, kwargs):
    """Run an operation that has at least one tensor of the second device among its arguments."""
    name = func.__name__.split(".")[0]
    if name in LACKING:
        raise NotImplementedError(f"The operator aten::{name} is not currently implemented for the second device.")
    flat = list(_leaves((args, kwargs)))
    seconds = [x for x in flat if isinstance(x, SecondTensor)]
    others = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, SecondTensor) and x.ndim > 0]
    if others:
        fine = name in CROSSING
        if name == "index":
            fine = isinstance(args[0], SecondTensor)
        if "index_put" in name:
            fine = isinstance(args[0], SecondTensor) and isinstance(args[2], SecondTensor)
        if not fine:
            shapes = [tuple(x.shape) for x in others]
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} got tensors of {shapes} on the CPU.")
    if not isinstance(kwargs.get("generator"), SecondGenerator | None):
        raise RuntimeError(f"Expected a 'second' device type for generator but found 'cpu': {name}")
    device = kwargs.get("device")
    stays = _on_second(device) if device is not None else not (name == "copy_" and not isinstance(args[0], SecondTensor))
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if _tape is not None and (name in DECIDING or not stays or (others and name in CROSSING)):
        raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
    outer = {id(x.inner): x for x in seconds}
    args, kwargs = _changed((args, kwargs), SecondTensor, lambda x: x.inner)
    result = func(*args, **kwargs)
    if _tape is not None:
        _tape.append((func, args, kwargs, result))
    if not stays:
        return result
    return _changed(result, Tensor, lambda x: outer.get(id(x)) if id(x) in outer else SecondTensor(x))


class _Mode(TorchFunctionMode):
    """Catch what would make torch look for a real CUDA device: factories and moves."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is Tensor.numpy and isinstance(args[0], SecondTensor):
            raise TypeError("can't convert second:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if func is Tensor.__array__ and isinstance(args[0], SecondTensor):
            raise TypeError("can't convert second:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if func is Tensor.tolist and isinstance(args[0], SecondTensor):
            return args[0].inner.tolist()
        if func is F.scaled_dot_product_attention and isinstance(args[0], SecondTensor):
            plain = _changed((args, kwargs), SecondTensor, lambda x: x.inner)
            result = func(*plain[0], **plain[1])
            if _tape is not None:
                _tape.append((func, *plain, result))
            return SecondTensor(result)
        if func is Tensor.new_tensor and isinstance(args[0], SecondTensor):
            return SecondTensor(args[0].inner.new_tensor(*args[1:], **kwargs))
        if func is Tensor.cuda:
            return _moved(args[0])
        if func is Tensor.to:
            return _to(args, kwargs, func)
        if func in _device_constructors() and _on_second(kwargs.get("device")):
            return _made(func, args, kwargs)
        if isinstance(kwargs.get("generator"), SecondGenerator) and not any(isinstance(x, SecondTensor) for x in args):
            raise RuntimeError("Expected a 'cpu' device type for generator but found 'second'")
        return func(*args, **kwargs)


def _made(func, args, kwargs):
    if not isinstance(kwargs.get("generator"), SecondGenerator | None):
        raise RuntimeError("Expected a 'second' device type for generator but found 'cpu'")
    if args and isinstance(args[0], SecondTensor):
        return args[0].to(kwargs["dtype"]) if kwargs.get("dtype") else args[0]
    needs_grad = kwargs.pop("requires_grad", False)
    made = SecondTensor(func(*args, **{**kwargs, "device": "cpu"}).detach())
    return made.requires_grad_() if needs_grad else made


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(_context, x):
        return SecondTensor(x.detach().clone())

    @staticmethod
    def backward(_context, gradient):
        return gradient.inner


def _moved(x: Tensor) -> Tensor:
    return x if isinstance(x, SecondTensor) else _Move.apply(x)


def _to(args, kwargs, func):
    """Tensor.to with a device, a tensor or a number type."""
    x, rest, options = args[0], list(args[1:]), dict(kwargs)
    device = options.pop("device", None)
    if rest and isinstance(rest[0], Tensor):
        device, options["dtype"] = rest[0].device, rest[0].dtype
        rest = rest[1:]
    elif rest and isinstance(rest[0], str | torch.device | int):
        device = rest.pop(0)
    rest = [value for value in rest if isinstance(value, torch.dtype)]
    if _on_second(device):
        x = _moved(x)
    elif device is not None and isinstance(x, SecondTensor):
        return func(x, torch.device("cpu"), *rest, **options)
    return func(x, *rest, **options) if rest or options else x


class _Backend(_DummyBackendModule):
    """What torch asks a device's module for: random states (there are none) and types for autocast."""

    def get_rng_state(self, _device=None) -> Tensor:
        return torch.zeros(1, dtype=torch.uint8)

    def set_rng_state(self, _state, _device=None) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def _register() -> None:
    """Let torch know a device of that name, before anything is differentiated: views, moves and gradients ask for it."""
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    _FALLBACK.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")  # autocast changes no number type here
    for name in ("empty.memory_format", "empty_strided"):  # torch's own C++ makes tensors with these
        _LIBRARY.impl(name, _empty(getattr(torch.ops.aten, name.split(".")[0])), "PrivateUse1")


def _empty(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def on_second(*args: Any, **options: Any) -> Tensor:
        return SecondTensor(make(*args, **{**options, "device": torch.device("cpu"), "pin_memory": False}))

    return on_second


def record(compute: Callable[[], Tensor], _device: torch.device) -> Recorded:
    """Record a computation as a CUDA graph would be: the same operations on the same memory, whatever Python decided on the way."""
    global _tape
    compute()
    _tape = []
    try:
        output, tape = compute(), _tape
    finally:
        _tape = None

    def replay() -> None:
        for func, args, kwargs, result in tape:
            olds, news = (_leaves(x) for x in (result, func(*args, **kwargs)))
            for old, new in zip(olds, news, strict=True):
                if isinstance(old, Tensor) and new is not old:
                    old.copy_(new)

    return Recorded(replay, output, output.nbytes)


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Let tensors be made on and moved to the second device while the block runs."""
    swap = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        RECORDERS[NAME], torch.Generator = record, _make_generator
        with _Mode():
            yield torch.device(NAME, 0)
    finally:
        del RECORDERS[NAME]
        torch.Generator = _CPU_GENERATOR
        torch.__future__.set_swap_module_params_on_conversion(swap)


_register()
