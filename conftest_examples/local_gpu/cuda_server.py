"""Computes on a GPU through the driver alone (libcuda, which comes with it): no toolkit, no framework.

``GET /gpu`` says what the driver says of the first GPU. ``POST /saxpy`` with ``{"a": 2, "x": [...], "y": [...]}``
answers a*x + y, computed by a kernel in single precision.
"""

from __future__ import annotations

import ctypes
import json
import sys
from array import array
from http.server import BaseHTTPRequestHandler
from http.server import HTTPServer

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute in cuda.h
THREADS = 256

# PTX is compiled by the driver for whatever GPU it drives. Each thread computes one element.
SAXPY = b"""
.version 6.3
.target sm_52
.address_size 64
.visible .entry saxpy(.param .u32 count, .param .f32 a, .param .u64 xs, .param .u64 ys) {
    .reg .pred %outside;
    .reg .b32 %index, %block, %size, %thread, %limit;
    .reg .f32 %factor, %x, %y;
    .reg .b64 %from, %to, %offset;
    ld.param.u32 %limit, [count];
    mov.u32 %block, %ctaid.x;
    mov.u32 %size, %ntid.x;
    mov.u32 %thread, %tid.x;
    mad.lo.u32 %index, %block, %size, %thread;
    setp.ge.u32 %outside, %index, %limit;
    @%outside ret;
    mul.wide.u32 %offset, %index, 4;
    ld.param.u64 %from, [xs];
    cvta.to.global.u64 %from, %from;
    add.u64 %from, %from, %offset;
    ld.param.u64 %to, [ys];
    cvta.to.global.u64 %to, %to;
    add.u64 %to, %to, %offset;
    ld.param.f32 %factor, [a];
    ld.global.f32 %x, [%from];
    ld.global.f32 %y, [%to];
    fma.rn.f32 %y, %factor, %x, %y;
    st.global.f32 [%to], %y;
    ret;
}
"""


class Gpu:
    """The first GPU, with the kernel loaded."""

    def __init__(self) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", 0)
        self.device, context, module, self.kernel = ctypes.c_int(), *(ctypes.c_void_p() for _ in range(3))
        self.call("cuDeviceGet", ctypes.byref(self.device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self.device)
        self.call("cuCtxSetCurrent", context)
        self.call("cuModuleLoadData", ctypes.byref(module), SAXPY)
        self.call("cuModuleGetFunction", ctypes.byref(self.kernel), module, b"saxpy")

    def call(self, name: str, *arguments: object) -> None:
        """Calls the driver. Every call returns a code, 0 for success."""
        code = getattr(self.cuda, name)(*arguments)
        if code != 0:
            text = ctypes.c_char_p()
            self.cuda.cuGetErrorString(code, ctypes.byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()} ({code})")

    def properties(self) -> dict[str, object]:
        name, memory, major, minor = ctypes.create_string_buffer(100), ctypes.c_size_t(), ctypes.c_int(), ctypes.c_int()
        self.call("cuDeviceGetName", name, len(name), self.device)
        self.call("cuDeviceTotalMem_v2", ctypes.byref(memory), self.device)
        self.call("cuDeviceGetAttribute", ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, self.device)
        self.call("cuDeviceGetAttribute", ctypes.byref(minor), COMPUTE_CAPABILITY_MINOR, self.device)
        return {
            "name": name.value.decode(),
            "memory_bytes": memory.value,
            "compute_capability": f"{major.value}.{minor.value}",
        }

    def saxpy(self, a: float, xs: array[float], ys: array[float]) -> array[float]:
        size = len(xs) * xs.itemsize
        on_gpu = [ctypes.c_uint64(), ctypes.c_uint64()]
        try:
            for pointer, values in zip(on_gpu, (xs, ys), strict=True):
                self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
                self.call("cuMemcpyHtoD_v2", pointer, address(values), ctypes.c_size_t(size))
            arguments = [ctypes.c_uint32(len(xs)), ctypes.c_float(a), *on_gpu]
            pointers = (ctypes.c_void_p * 4)(*(ctypes.addressof(argument) for argument in arguments))
            blocks = (len(xs) + THREADS - 1) // THREADS
            self.call("cuLaunchKernel", self.kernel, blocks, 1, 1, THREADS, 1, 1, 0, None, pointers, None)
            result = array("f", bytes(size))
            self.call("cuMemcpyDtoH_v2", address(result), on_gpu[1], ctypes.c_size_t(size))
            return result
        finally:
            for pointer in on_gpu:
                if pointer.value:
                    self.call("cuMemFree_v2", pointer)


def address(values: array[float]) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.buffer_info()[0])


class Handler(BaseHTTPRequestHandler):
    gpu: Gpu

    def do_GET(self) -> None:
        if self.path == "/gpu":
            self.reply(200, self.gpu.properties())
        else:
            self.reply(404, {"error": f"no such path: {self.path}"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        result = self.gpu.saxpy(asked["a"], array("f", asked["x"]), array("f", asked["y"]))
        self.reply(200, {"result": result.tolist()})

    def reply(self, status: int, content: object) -> None:
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def main() -> None:
    Handler.gpu = Gpu()
    print("serving", Handler.gpu.properties(), flush=True)
    # One thread: a CUDA context is current in the thread that made it so.
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
