"""A device that is not "cpu", for tests: tensors on it say so, and compute on the CPU.

Inside `with OtherDevice() as gpu:` there is a device `DEVICE`. Operations on its tensors compute real numbers, and fail
as they would on a card where tensors of two devices meet, or where the host looks at memory that it cannot
see (`.numpy()`). `gpu.waits` lists the operations for which the host waits for the device, or may have to: copies from
or to memory that is not locked (`pin_memory`, `gpu.lock`) among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
NAME = "pretend"
backend_registration._setup_privateuseone_for_python_backend(NAME)
DEVICE = torch.device(NAME, 0)

# What has another size or value than the host can know makes it wait for the device.
_WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.unique_dim.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
_TO = {aten.to.device, aten.to.dtype, aten.to.dtype_layout, aten.to.other}
# These may read or write both memories, or take indices from the host.
_MIX = {aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default, aten.index_put.default}


class DeviceTensor(Tensor):
    """On "pretend:0" by all that can be asked; `numbers` holds its numbers."""

    numbers: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> DeviceTensor:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.numbers = inner
        return made  # type: ignore[no-any-return]

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["numbers"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], context: None, size: Any, stride: Any) -> DeviceTensor:
        del context, size, stride
        return DeviceTensor(parts["numbers"])

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.data.__set__:  # type: ignore[attr-defined]
            own, new = args
            fresh = DeviceTensor(new.detach().numbers)
            if isinstance(own, torch.nn.Parameter):
                fresh = torch.nn.Parameter(fresh, own.requires_grad)
            torch.utils.swap_tensors(own, fresh)
            return None
        if func is Tensor.numpy:
            raise TypeError("can't convert pretend:0 device type tensor to numpy")
        if func in (Tensor.tolist, Tensor.__float__, Tensor.__int__, Tensor.__bool__):
            args = (args[0].cpu(), *args[1:])
        with torch._C.DisableTorchFunctionSubclass():  # results keep their class: some are in host memory
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a tensor on pretend:0 outside of `with OtherDevice()`")


class OtherDevice(TorchDispatchMode):
    """While it is entered, there is one GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        """Operations for which the host waited for the device."""
        self.uploads: list[int] = []
        """Bytes of every copy from the host's memory."""
        self.downloads: list[int] = []
        self._locked: list[Tensor] = []
        self._functions = _Constructors(self.lock)

    def __enter__(self) -> OtherDevice:
        self._generator, torch.Generator = torch.Generator, DeviceGenerator  # type: ignore[misc]
        self._functions.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._functions.__exit__(*error)
        torch.Generator = self._generator  # type: ignore[misc]

    def lock(self, x: Tensor) -> Tensor:
        """The device reads and writes this host memory by itself."""
        self._locked.append(x)  # kept: nothing else gets this memory
        return x

    def _is_locked(self, x: Tensor) -> bool:
        return any(0 <= x.data_ptr() - one.data_ptr() < one.nbytes for one in self._locked)

    @contextmanager
    def counting(self) -> Iterator[OtherDevice]:
        """Counts from zero inside."""
        self.waits, self.uploads, self.downloads = [], [], []
        yield self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _TO:  # comes apart by itself only where there may be gradients
            return self._to(types, func._schema, args, kwargs)
        wanted = kwargs.get("device")
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        there = [x for x in tensors if isinstance(x, DeviceTensor)]
        if not there and (wanted is None or torch.device(wanted).type != NAME):
            return func(*args, **kwargs)
        self._check(func, args, tensors, there)
        self._count(func, args, kwargs, there)
        goes_home = bool(there) and wanted is not None and torch.device(wanted).type == "cpu"
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)
        if func is aten._to_copy.default:
            kwargs.pop("non_blocking", None)
        inner_args, inner_kwargs = tree_map(_inside, (args, kwargs))
        out = _FUSED_CELLS.get(func, func)(*inner_args, **inner_kwargs)
        if goes_home:
            return out
        if func is aten.copy_.default and not isinstance(args[0], DeviceTensor):
            return args[0]
        if func is aten.is_pinned.default:
            return False
        wrapped = tree_map(lambda x: DeviceTensor(x) if isinstance(x, Tensor) else x, out)
        return return_and_correct_aliasing(func, args, kwargs, wrapped) if there else wrapped

    def _to(self, types: Any, schema: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        given = {argument.name: value for argument, value in zip(schema.arguments, args, strict=False)} | kwargs
        x, like = given["self"], given.get("other")
        device = torch.device(given.get("device") or (x if like is None else like).device)
        dtype = given.get("dtype") or (x if like is None else like).dtype
        if (device.type, dtype) == (x.device.type, x.dtype) and not given.get("copy"):
            return x  # type: ignore[no-any-return]
        how = {"dtype": dtype, "device": device, "non_blocking": given.get("non_blocking", False)}
        return self.__torch_dispatch__(aten._to_copy.default, types, (x,), how)  # type: ignore[no-any-return]

    def _check(self, func: Any, args: Any, tensors: Sequence[Tensor], there: Sequence[Tensor]) -> None:
        here = [x for x in tensors if not isinstance(x, DeviceTensor) and x.dim() > 0]
        if not there or not here:
            return
        indexing = func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)
        if func not in _MIX or (indexing and not isinstance(args[0], DeviceTensor)):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found pretend:0 and cpu")

    def _count(self, func: Any, args: Any, kwargs: Any, there: Sequence[Tensor]) -> None:
        if func in _WAITS and there:
            self.waits.append(str(func))
        if func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default):
            if any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]):
                self.waits.append(f"{func} with a mask")
            # Indices in host memory are uploaded, and that waits.
            self.waits += [f"{func} with indices of the host" for x in args[1] if _on_host(x)]
        if func is aten._to_copy.default and kwargs.get("device") is not None:
            to_host = torch.device(kwargs["device"]).type == "cpu"
            self._count_copy(args[0], None if to_host else args[0], to_host=to_host, kwargs=kwargs)
        if func is aten.copy_.default:
            target, source = args[:2]
            if isinstance(target, DeviceTensor) != isinstance(source, DeviceTensor):
                non_blocking = len(args) > 2 and args[2]
                to_host = not isinstance(target, DeviceTensor)
                host = target if to_host else source
                self._count_copy(source, host, to_host=to_host, kwargs={"non_blocking": non_blocking, **kwargs})

    def _count_copy(self, source: Tensor, host: Tensor | None, *, to_host: bool, kwargs: Any) -> None:
        """`host`: what is read or written there; None where memory is made for it."""
        if to_host == (not isinstance(source, DeviceTensor)):
            return
        (self.downloads if to_host else self.uploads).append(source.numel() * source.element_size())
        if source.numel() and not (kwargs.get("non_blocking") and host is not None and self._is_locked(host)):
            self.waits.append("a copy to the host" if to_host else "a copy from the host")


def _gru_cell(given: Tensor, recurrent: Tensor, hidden: Tensor, bias: Tensor, recurrent_bias: Tensor) -> Any:
    r_in, z_in, n_in = (given + bias).chunk(3, 1)
    r_rec, z_rec, n_rec = (recurrent + recurrent_bias).chunk(3, 1)
    r, z = (r_in + r_rec).sigmoid(), (z_in + z_rec).sigmoid()
    n = (n_in + r * n_rec).tanh()
    return n + z * (hidden - n), torch.cat([r, z, n, hidden, n_rec], 1)


def _gru_cell_backward(grad: Tensor, kept: Tensor, has_bias: bool) -> Any:
    assert has_bias
    r, z, n, hidden, n_rec = kept.chunk(5, 1)
    at_n = grad * (1 - z) * (1 - n * n)
    at_z = grad * (hidden - n) * z * (1 - z)
    at_r = at_n * n_rec * r * (1 - r)
    given, recurrent = torch.cat([at_r, at_z, at_n], 1), torch.cat([at_r, at_z, at_n * r], 1)
    return given, recurrent, grad * z, given.sum(0), recurrent.sum(0)


def _lstm_cell(given: Tensor, recurrent: Tensor, cell: Tensor, bias: Tensor, recurrent_bias: Tensor) -> Any:
    i, f, g, o = (given + recurrent + bias + recurrent_bias).chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    new = f * cell + i * g
    return o * new.tanh(), new, torch.cat([i, f, g, o], 1)


def _lstm_cell_backward(
    grad: Tensor | None, grad_cell: Tensor | None, cell: Tensor, new: Tensor, kept: Tensor, has_bias: bool
) -> Any:
    assert has_bias
    i, f, g, o = kept.chunk(4, 1)
    grad = torch.zeros_like(new) if grad is None else grad
    at_cell = grad * o * (1 - new.tanh() ** 2) + (0.0 if grad_cell is None else grad_cell)
    gates = [at_cell * g * i * (1 - i), at_cell * cell * f * (1 - f), at_cell * i * (1 - g * g)]
    all_gates = torch.cat([*gates, grad * new.tanh() * o * (1 - o)], 1)
    return all_gates, at_cell * f, all_gates.sum(0)


# torch takes these on devices other than the CPU, which has no kernels for them.
_FUSED_CELLS = {
    aten._thnn_fused_gru_cell.default: _gru_cell,
    aten._thnn_fused_gru_cell_backward.default: _gru_cell_backward,
    aten._thnn_fused_lstm_cell.default: _lstm_cell,
    aten._thnn_fused_lstm_cell_backward_impl.default: _lstm_cell_backward,
}


def _on_host(x: Tensor | None) -> bool:
    return x is not None and not isinstance(x, DeviceTensor)


def _inside(x: Any) -> Any:
    return x.numbers if isinstance(x, DeviceTensor) else x


class _Constructors(TorchFunctionMode):
    """What does not come through the dispatcher."""

    def __init__(self, lock: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._lock = lock

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device") is not None and torch.device(kwargs["device"]).type == NAME:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is Tensor.pin_memory:
            return self._lock(args[0].clone())
        locked = kwargs.pop("pin_memory", False)
        made = func(*args, **kwargs)
        return self._lock(made) if locked else made


_GENERATOR = torch.Generator


class DeviceGenerator(torch.Generator):
    """A generator of the device: it draws on the CPU, and its state has the 16 bytes of CUDA's."""

    def __new__(cls, device: Any = "cpu") -> Any:
        kind = torch.device(device).type
        return super().__new__(cls if kind == NAME else _GENERATOR, device="cpu")

    def get_state(self) -> Tensor:
        return torch.tensor([self.initial_seed(), 0], dtype=torch.int64).view(torch.uint8)

    def set_state(self, new_state: Tensor) -> torch.Generator:
        if new_state.numel() != 16:
            raise RuntimeError(f"RNG state is wrong size: {new_state.numel()}")
        return self.manual_seed(int(new_state.view(torch.int64)[0]))
