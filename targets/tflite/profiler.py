"""LiteRT's profiler, which its Python package leaves out: the C interface of the wheel's library, by ctypes.

The wheel has no headers, so what is used is declared here. LiteRT does not promise that it stays like this: after an
upgrade, tests/targets/tflite/test_profiler.py tells.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wdp_edge.errors import SetupError

OPERATOR, DELEGATED_OPERATOR = 1 << 1, 1 << 3  # kinds of events: of the file, and inside a delegate
_CPU = 1
_HINT = "Install the version that wdp-edge asks for: pip install 'wdp-edge[tflite]'"


@dataclass(frozen=True)
class Event:
    """Something that LiteRT timed. us: whole microseconds."""

    name: str
    kind: int
    us: int


class _Event(ctypes.Structure):
    """ProfiledEventData as LiteRT's C++ side has it; its C header leaves a word out of both memory fields."""

    _fields_ = (
        ("tag", c_char_p),
        ("kind", c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_int64 * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", c_int),
    )


class _RankedType(ctypes.Structure):
    _fields_ = (
        ("element", c_int),
        ("rank", ctypes.c_uint32),
        ("sizes", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


_destructor = ctypes.CFUNCTYPE(None, c_void_p)
_keep = _destructor(lambda data: None)  # Python frees the texts
_new = POINTER(c_void_p)
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "CreateEnvironment": (c_int, c_void_p, _new),
    "CreateModelFromFile": (c_void_p, c_char_p, _new),
    "CreateOptions": (_new,),
    "SetOptionsHardwareAccelerators": (c_void_p, c_int),
    "CreateOpaqueOptions": (c_char_p, c_void_p, _destructor, _new),
    "AddOpaqueOptions": (c_void_p, c_void_p),
    "CreateCompiledModel": (c_void_p, c_void_p, c_void_p, _new),
    "GetModelSubgraph": (c_void_p, c_size_t, _new),
    "GetSubgraphInput": (c_void_p, c_size_t, _new),
    "GetSubgraphOutput": (c_void_p, c_size_t, _new),
    "GetRankedTensorType": (c_void_p, POINTER(_RankedType)),
    "GetCompiledModelInputBufferRequirements": (c_void_p, c_size_t, c_size_t, _new),
    "GetCompiledModelOutputBufferRequirements": (c_void_p, c_size_t, c_size_t, _new),
    "CreateManagedTensorBufferFromRequirements": (c_void_p, POINTER(_RankedType), c_void_p, _new),
    "ClearTensorBuffer": (c_void_p,),
    "RunCompiledModel": (c_void_p, c_size_t, c_size_t, _new, c_size_t, _new),
    "CompiledModelGetProfiler": (c_void_p, _new),
    "StartProfiler": (c_void_p,),
    "StopProfiler": (c_void_p,),
    "GetNumProfilerEvents": (c_void_p, POINTER(c_int)),
    "GetProfilerEvents": (c_void_p, c_int, POINTER(_Event)),
    **{f"Destroy{kind}": (c_void_p,) for kind in ("Environment", "Model", "Options", "CompiledModel", "TensorBuffer")},
}


class _LiteRt:
    """The functions above. stack: destroys what is made.

    Raises SetupError where the package is not installed or lacks one of them.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._texts: list[Any] = []  # LiteRT reads them until the options are destroyed
        spec = find_spec("ai_edge_litert")
        folders = (spec and spec.submodule_search_locations) or ()
        path = next((path for folder in folders for path in Path(folder).glob("libLiteRt.*")), None)
        if path is None:
            raise SetupError("Timing the operators of a .tflite needs ai-edge-litert.", _HINT)
        try:
            library = ctypes.CDLL(str(path))
            self._functions = {name: getattr(library, f"LiteRt{name}") for name in _FUNCTIONS}
        except (OSError, AttributeError) as error:
            raise SetupError(f"{path.name} cannot be used: {error}.", _HINT) from error
        for name, function in self._functions.items():
            function.argtypes = _FUNCTIONS[name]

    def call(self, name: str, *arguments: Any) -> None:
        if status := self._functions[name](*arguments):
            raise SetupError(f"LiteRT cannot profile the file ({name} gave {status}).", _HINT)

    def get(self, name: str, *arguments: Any) -> c_void_p:
        """Something that lives as long as what it belongs to."""
        found = c_void_p()
        self.call(name, *arguments, byref(found))
        return found

    def add_text(self, options: c_void_p, name: bytes, text: str) -> None:
        self._texts.append(ctypes.create_string_buffer(text.encode()))
        self.call("AddOpaqueOptions", options, self.get("CreateOpaqueOptions", name, self._texts[-1], _keep))

    def make(self, kind: str, name: str, *arguments: Any) -> c_void_p:
        made = self.get(name, *arguments)
        destroy = self._functions[f"Destroy{kind}"]
        destroy.restype = None
        self._stack.callback(destroy, made)
        return made


@contextlib.contextmanager
def profiled(path: Path, threads: int) -> Iterator[Callable[[], list[Event]]]:
    """A function that runs the file once, on zeros, and gives what was timed meanwhile, in order.

    path: of a sound .tflite with one input and one output.
    Raises SetupError where the package is not installed or its interface is another one.
    """
    with contextlib.ExitStack() as stack:
        lib = _LiteRt(stack)
        environment = lib.make("Environment", "CreateEnvironment", 0, None)
        model = lib.make("Model", "CreateModelFromFile", environment, os.fsencode(path))
        options = _options(lib, threads)
        compiled = lib.make("CompiledModel", "CreateCompiledModel", environment, model, options)
        entry, result = (_buffer(lib, environment, model, compiled, end) for end in ("Input", "Output"))
        lib.call("ClearTensorBuffer", entry)
        profiler = lib.get("CompiledModelGetProfiler", compiled)

        def run() -> list[Event]:
            lib.call("StartProfiler", profiler)  # forgets the run before
            lib.call("RunCompiledModel", compiled, 0, 1, byref(entry), 1, byref(result))
            lib.call("StopProfiler", profiler)
            count = c_int()
            lib.call("GetNumProfilerEvents", profiler, byref(count))
            room = (_Event * (2 * count.value))()  # enough for larger ones too
            lib.call("GetProfilerEvents", profiler, count, room)
            return read_events(bytes(room), count.value)

        yield run


def _options(lib: _LiteRt, threads: int) -> c_void_p:
    options = lib.make("Options", "CreateOptions")
    lib.call("SetOptionsHardwareAccelerators", options, _CPU)
    lib.add_text(options, b"xnnpack", f"num_threads = {threads}\n")
    lib.add_text(options, b"runtime_options_string", "enable_profiling = true\n")
    return options


def _buffer(lib: _LiteRt, environment: c_void_p, model: c_void_p, compiled: c_void_p, end: str) -> c_void_p:
    """end: "Input" or "Output"."""
    tensor = lib.get(f"GetSubgraph{end}", lib.get("GetModelSubgraph", model, 0), 0)
    kind = _RankedType()
    lib.call("GetRankedTensorType", tensor, byref(kind))
    needs = lib.get(f"GetCompiledModel{end}BufferRequirements", compiled, 0, 0)
    return lib.make("TensorBuffer", "CreateManagedTensorBufferFromRequirements", environment, byref(kind), needs)


def read_events(data: bytes, count: int) -> list[Event]:
    """data: where LiteRT wrote `count` events, zeros behind them.

    Raises SetupError when they have another size than expected: nothing in them would be what it seems.
    """
    size = ctypes.sizeof(_Event)
    if not (count - 1) * size < len(data.rstrip(b"\0")) <= count * size:
        raise SetupError("This version of LiteRT reports the times of operators in another form.", _HINT)
    return [
        Event(e.tag.decode(errors="replace"), e.kind, e.elapsed_us) for e in (_Event * count).from_buffer_copy(data)
    ]
