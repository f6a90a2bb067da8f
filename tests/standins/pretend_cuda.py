"""A GPU that only pretends: tensors that compute on the CPU, say they live on "cuda", and are as strict as if they did.

    with pretend_cuda() as gpu:
        vit = load_vit("small", device="cuda")
        feats = vit.extract(images.to("cuda"))          # the CPU's numbers
        with gpu.watching() as waits:
            step()
        waits.total, waits.by_name                      # how often, and in what, the CPU had to wait for the "GPU"

What it finds without a GPU: a CPU tensor mixed into an operation (refused with torch's own words; as in torch, tensors of
one number and indices may come from the CPU), a CPU generator for a draw on the GPU, ``.numpy()`` on a GPU tensor, an
unnoticed ``device=`` that is missing, and host synchronisations: the points where the program must wait until the GPU has
done everything asked of it, because a number, or the size of a result, is needed to go on.

What it cannot find: kernels that a GPU lacks or that round otherwise, memory that runs out, speed.

How: a wrapper subclass holds the CPU tensor and answers ``device`` with cuda:0. To torch's C++ core it is a CPU tensor,
so that the autograd engine asks no driver, and autocast is the CPU's, in half precision. Operations arrive in
``__torch_dispatch__``, also those of autograd's backward pass, are checked, and run on what is held. What C++ answers
without an operation (``.to``, ``.cpu``, ``.numpy``, ``.tolist`` …) is caught in ``__torch_function__``.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import traceback
from collections import Counter
from dataclasses import dataclass, field
from unittest import mock

import torch
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
aten = torch.ops.aten

# Operations after which the CPU waits for the GPU: it needs a number, or the size of what comes out.
WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique", "_unique2", "unique_dim", "unique_consecutive",
    "bincount", "equal", "linalg_eigh", "_linalg_eigh", "_linalg_solve_ex", "linalg_inv_ex", "linalg_cholesky_ex",
    "_linalg_svd", "linalg_lstsq", "coalesce", "_coalesce", "to_sparse", "_to_sparse", "_to_sparse_csr", "_to_sparse_csc",
    "nanmedian", "histc", "multinomial",
}  # fmt: skip
ANYWHERE = {"copy_", "_to_copy", "set_", "lift_fresh"}  # may read one device and write another
INDEXED = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}  # indices may be on the CPU


@dataclass
class Waits:
    """Host synchronisations that were seen: by name of the operation, and by the line of the package that asked."""

    by_name: Counter = field(default_factory=Counter)
    by_line: Counter = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return sum(self.by_name.values())

    def note(self, name: str) -> None:
        self.by_name[name] += 1
        for frame in reversed(traceback.extract_stack(limit=40)):
            if "/fit3d_lite/" in frame.filename:
                self.by_line[f"{frame.filename.rsplit('/', 1)[1]}:{frame.lineno} {frame.line}"] += 1
                return


_watchers: list[Waits] = []


def _wait(name: str) -> None:
    for waits in _watchers:
        waits.note(name)


class Nothing(contextlib.ContextDecorator):
    """A context, and a decorator, that changes nothing."""

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


class OnCuda(torch.Tensor):
    """A tensor of the pretended device; ``held`` is the CPU tensor that it really is."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        strided = held.layout == torch.strided
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, dtype=held.dtype, device=CPU, dispatch_layout=not strided,
            strides=held.stride() if strided else None, storage_offset=held.storage_offset() if strided else None,
        )  # fmt: skip

    def __init__(self, held: torch.Tensor):
        self.held = held

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    layout = property(lambda self: self.held.layout)
    is_sparse = property(lambda self: self.held.is_sparse)
    is_sparse_csr = property(lambda self: self.held.is_sparse_csr)

    def get_device(self) -> int:
        return 0

    def __repr__(self, **_):
        _wait("repr")
        return f"{self.held.detach()!r} on cuda:0"

    def __format__(self, spec):
        return self.item().__format__(spec) if self.ndim == 0 else repr(self).__format__(spec)

    def __deepcopy__(self, memo):
        copied = OnCuda(self.held.detach().clone()).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        return memo.setdefault(id(self), copied)

    def __reduce_ex__(self, protocol):  # torch.save: a checkpoint of CUDA tensors, which map_location brings to the CPU
        _wait("save")
        plain = self.held.detach().clone()
        return (torch.nn.Parameter(plain) if isinstance(self, torch.nn.Parameter) else plain).__reduce_ex__(protocol)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        special = METHODS.get(function)
        if special is not None:
            return special(*args, **kwargs)
        before, _asked[0] = _asked[0], kwargs.get("device") is not None
        try:
            with torch._C.DisableTorchFunctionSubclass():
                return function(*args, **kwargs)
        finally:
            _asked[0] = before

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


def run(operation, args, kwargs):
    """Check where the tensors live, run on the CPU, and say where the results live."""
    name = operation._schema.name.removeprefix("aten::")
    if name == "prim::layout" or operation is torch.ops.prim.layout.default:
        return args[0].held.layout
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    ours = [x for x in tensors if isinstance(x, OnCuda)]
    asked = kwargs.get("device")
    if ours and asked is not None and not _asked[0]:
        # The core fills in the device that it believes in. Moves that are meant never come this way: see _to.
        kwargs, asked = {k: v for k, v in kwargs.items() if k != "device"}, None
    target = torch.device(asked) if asked is not None else (CUDA if ours else CPU)
    if name not in ANYWHERE:
        _check_places(name, args, tensors, ours, asked)
    if name == "copy_" and ours:  # what is written stays where it is
        target = CUDA if isinstance(args[0], OnCuda) else CPU
        if target == CPU:
            _wait("copy to the CPU")
    elif ours and name == "repeat_interleave" and kwargs.get("output_size") is None:
        _wait(name)
    elif ours and name in INDEXED and any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]):
        _wait(f"{name} by a mask")
    elif ours and name in WAITING:
        _wait(name)
    generator = kwargs.get("generator")
    if target.type == "cuda" and generator is not None and torch.device(generator.device).type != "cuda":
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if asked is not None:
        kwargs = {**kwargs, "device": CPU}
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
    # Zeros that the core makes for itself, for gradients that nobody sent, may be used on either device.
    homeless = not ours and not _asked[0] and all(getattr(x, "homeless", False) for x in tensors)
    known = {id(x.held): x for x in ours} | {id(x): x for x in tensors if not isinstance(x, OnCuda)}
    out = operation(*tree_map(_held, args), **tree_map(_held, kwargs))

    def named(x):
        if not isinstance(x, torch.Tensor):
            return x
        if id(x) in known:
            return known[id(x)]
        if target.type == "cuda":
            return OnCuda(x)
        if homeless:
            x.homeless = True
        return x

    return tree_map(named, out)


_asked = [False]  # whether the program, and not torch's core, has asked for the factory that runs


def _held(x):
    return x.held if isinstance(x, OnCuda) else x


def _check_places(name, args, tensors, ours, asked) -> None:
    if not ours:
        return
    strangers = [x for x in tensors if not isinstance(x, OnCuda) and x.ndim > 0 and not hasattr(x, "homeless")]
    if name in INDEXED:
        if not isinstance(args[0], OnCuda) and not hasattr(args[0], "homeless"):
            raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor (cpu) [{name}]")
        allowed = {id(x) for x in args[1] if x is not None}
        strangers = [x for x in strangers if id(x) not in allowed]
    if strangers:
        shapes = ", ".join(str(list(x.shape)) for x in strangers)
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
            f"({name}: {shapes} on the cpu)"
        )
    first = next((x for x in args if isinstance(x, torch.Tensor)), None)
    if strangers and first is not None and not isinstance(first, OnCuda) and operation_writes(name):
        raise RuntimeError(f"Expected all tensors to be on the same device, cpu is written from cuda:0 ({name})")


def operation_writes(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def upload(tensor: torch.Tensor) -> torch.Tensor:
    """A plain CPU tensor to the pretended GPU, differentiably."""
    return tensor if isinstance(tensor, OnCuda) else _Move.apply(tensor, True)


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, up):
        ctx.up = up
        if up:
            return OnCuda(x.detach().clone())
        _wait("copy to the CPU")
        return x.held.detach().clone()

    @staticmethod
    def backward(ctx, grad):
        return _Move.apply(grad, not ctx.up), None


def _to(self, *args, **kwargs):
    """``Tensor.to`` in all its forms."""
    place, rest = kwargs.pop("device", None), []
    other = kwargs.pop("other", None)
    for x in args:
        if isinstance(x, torch.Tensor):
            other = x
        elif isinstance(x, torch.dtype):
            rest.append(x)
        elif x is not None and not isinstance(x, bool):  # bools are non_blocking and copy
            place = x
    if other is not None:
        place, rest = other.device, [other.dtype, *rest]
    place = self.device if place is None else torch.device(place)
    out = self
    if place.type != self.device.type:
        out = _Move.apply(self, place.type == "cuda")
    if not rest and not kwargs:
        return out
    with torch._C.DisableTorchFunctionSubclass(), torch._C.DisableTorchFunction():
        return torch.Tensor.to(out, *rest, **kwargs)


def _cpu(self, *_, **__):
    return _to(self, "cpu")


def _cuda(self, *_, **__):
    return _to(self, "cuda")


def _numpy(self, *_, **__):
    if not isinstance(self, OnCuda):
        with torch._C.DisableTorchFunction():
            return torch.Tensor.numpy(self, *_, **__)
    raise TypeError(
        "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
    )


def _array(self, *_, **__):
    return _numpy(self)


def _tolist(self):
    _wait("tolist")
    return self.held.detach().tolist()


def _new_tensor(self, data, **options):
    if isinstance(self, OnCuda):
        made = torch.tensor(_held(data), dtype=options.get("dtype") or self.dtype)
        return made if "device" in options and torch.device(options["device"]).type == "cpu" else OnCuda(made)
    with torch._C.DisableTorchFunction():
        return torch.Tensor.new_tensor(self, data, **options)


def _type_as(self, other):
    return _to(self, other)


def _is_pinned(self, *_):
    return False


def _data_ptr(self):
    return self.held.data_ptr() if isinstance(self, OnCuda) else torch.Tensor.data_ptr(self)


T = torch.Tensor
METHODS = {
    T.to: _to, T.cpu: _cpu, T.cuda: _cuda, T.numpy: _numpy, T.__array__: _array, T.tolist: _tolist,
    T.new_tensor: _new_tensor, T.type_as: _type_as, T.is_pinned: _is_pinned, T.data_ptr: _data_ptr,
}  # fmt: skip


GRADIENT = {"gradient": "grad_tensors"}
FACTORIES = {
    torch.zeros, torch.ones, torch.empty, torch.full, torch.arange, torch.eye, torch.linspace, torch.rand, torch.randn,
    torch.randint, torch.randperm, torch.tensor, torch.as_tensor, torch.scalar_tensor,
}  # fmt: skip


class Calls(TorchFunctionMode):
    """``torch.tensor(…, device="cuda")`` and ``.to("cuda")`` of plain tensors: C++ would ask the driver."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (T.to, T.cuda):
            return METHODS[function](*args, **kwargs)
        if function in (torch.tensor, torch.as_tensor, torch.asarray):
            place = kwargs.pop("device", None)
            data = args[0] if args else kwargs["data"]
            if isinstance(data, OnCuda) and function is not torch.tensor:
                return _to(data, place, kwargs.get("dtype"))
            if isinstance(data, OnCuda):
                made = data.detach().clone()
                return _to(made, place, kwargs.get("dtype"))
            args = tree_map(_number, args)
            made = function(*args, **kwargs)
            return made if place is None else _to(made, place)
        if function is T.backward:  # functions written in Python have their backward called inside
            with self:
                return torch.autograd.backward(*args, **{GRADIENT.get(k, k): v for k, v in kwargs.items()})
        before, _asked[0] = _asked[0], function in FACTORIES or kwargs.get("device") is not None
        try:
            return function(*args, **kwargs)
        finally:
            _asked[0] = before


def _number(x):
    return x.item() if isinstance(x, OnCuda) else x


class Dispatch(TorchDispatchMode):
    """Factories that are asked for "cuda", and everything else of plain tensors as ever."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


_real_autocast = torch.autocast


def _autocast(device_type, dtype=None, enabled=True, cache_enabled=None):
    dtype = dtype or (torch.float16 if device_type == "cuda" else None)
    return _real_autocast("cpu", dtype, enabled, cache_enabled)


def _module_to(module, *args, **kwargs):
    """``Module.to(tensor)``: C++ would take the device that it believes in."""
    if args and isinstance(args[0], torch.Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    return _real_module_to(module, *args, **kwargs)


_real_module_to = torch.nn.Module.to
_real_grouping = clip_grad._group_tensors_by_device_and_dtype


def _grouping(lists, **options):
    """Groups of tensors by device, for clipping; the device is the one they say."""
    groups = _real_grouping(lists, **options).items()
    return {(found[0][0].device, dtype): (found, places) for (_, dtype), (found, places) in groups}


def _at_once(pool, function, *args, **kwargs):
    """``ThreadPoolExecutor.submit`` in the calling thread: torch's modes are each thread's own."""
    future = concurrent.futures.Future()
    try:
        future.set_result(function(*args, **kwargs))
    except BaseException as error:
        future.set_exception(error)
    return future


class Device:
    """What :func:`pretend_cuda` gives."""

    name = "pretended GPU"

    @contextlib.contextmanager
    def watching(self):
        """The :class:`Waits` of what happens inside."""
        waits = Waits()
        _watchers.append(waits)
        try:
            yield waits
        finally:
            _watchers.remove(waits)


@contextlib.contextmanager
def pretend_cuda(capability: tuple[int, int] = (7, 5), memory: int = 15 * 10**9):
    """Inside, torch has one GPU; by default as a T4 introduces itself: compute capability 7.5, 15 GB."""
    cuda, states = torch.cuda, torch.get_rng_state
    stand_in = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0, "is_initialized": lambda: True,
        "get_device_capability": lambda *_: capability, "get_device_name": lambda *_: Device.name,
        "mem_get_info": lambda *_: (memory * 9 // 10, memory), "empty_cache": lambda: None, "synchronize": lambda *_: None,
        "max_memory_allocated": lambda *_: 0, "memory_allocated": lambda *_: 0, "reset_peak_memory_stats": lambda *_: None,
        "max_memory_reserved": lambda *_: 0, "set_per_process_memory_fraction": lambda *_: None,
        "_lazy_init": lambda: None, "_exchange_device": lambda *_: 0, "_maybe_exchange_device": lambda *_: 0,
        "set_device": lambda *_: None, "is_bf16_supported": lambda *_: True,  # as torch says of a T4, wrongly
        "get_rng_state": lambda *_: states(), "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "manual_seed": lambda *_: None, "manual_seed_all": lambda *_: None, "_is_in_bad_fork": lambda: False,
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        for name, answer in stand_in.items():
            stack.enter_context(mock.patch.object(cuda, name, answer))
        stack.enter_context(mock.patch.object(torch, "autocast", _autocast))
        stack.enter_context(mock.patch.object(torch.nn.Module, "to", _module_to))
        stack.enter_context(mock.patch.object(clip_grad, "_group_tensors_by_device_and_dtype", _grouping))
        stack.enter_context(
            mock.patch.object(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else Nothing())
        )
        stack.enter_context(mock.patch.object(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True))
        stack.enter_context(
            mock.patch.object(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda _: None)
        )
        stack.enter_context(mock.patch.object(concurrent.futures.ThreadPoolExecutor, "submit", _at_once))
        stack.enter_context(Calls())
        stack.enter_context(Dispatch())
        yield Device()
