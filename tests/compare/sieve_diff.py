"""Differential attention of the C interface for Python, on torch tensors; like sieve.py, only for comparisons."""
import ctypes as c

import torch

from sieve import PATHS, Library, Problem, Scalar, Tensor, view


class DiffForward(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("reserved", c.c_int32),
                *[(n, Tensor) for n in ("query1", "key1", "query2", "key2", "value", "output", "lse1", "lse2", "output1", "output2")],
                ("lambda_", Scalar)]


class DiffBackward(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("reserved", c.c_int32),
                *[(n, Tensor) for n in (
                    "query1", "key1", "query2", "key2", "value", "lse1", "lse2", "output1", "output2", "output_gradient", "query1_gradient",
                    "key1_gradient", "query2_gradient", "key2_gradient", "value_gradient", "gate_gradient")],
                ("lambda_", Scalar), ("lambda_gradient", c.c_void_p), ("gain_gradient", c.c_void_p)]


class DiffDecode(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("splits", c.c_int32),
                *[(n, Tensor) for n in ("query1", "key1", "query2", "key2", "value", "output", "lse1", "lse2")],
                ("lambda_", Scalar), ("page_table", c.c_void_p), ("page_table_width", c.c_int64)]


class DiffV2Forward(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("signals", c.c_int32),
                *[(n, Tensor) for n in ("query", "key", "value", "lambda_logit", "output", "lse", "outputs")]]


class DiffV2Backward(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("signals", c.c_int32),
                *[(n, Tensor) for n in ("query", "key", "value", "lambda_logit", "lse", "outputs", "output_gradient", "query_gradient",
                                        "key_gradient", "value_gradient", "lambda_logit_gradient", "gate_gradient")],
                ("gain_gradient", c.c_void_p)]


def problem(eps, scale, path="automatic", bitwise=False):
    """With a norm where eps is not None."""
    return Problem(struct_size=c.sizeof(Problem), causal=1, path=PATHS[path], output_scale=scale, norm=eps is not None, norm_eps=eps or 0.0,
                   repeatability=bitwise)


def empty(like, *shape, dtype=None):
    return torch.empty(*shape, dtype=dtype or like.dtype, device=like.device)


class DiffLibrary(Library):
    """Every call returns a function that launches on the current stream, and what it writes."""

    def prepared(self, name, p, arguments, keep):
        arguments.struct_size = c.sizeof(arguments)
        size = c.c_uint64()
        self.check(getattr(self.native, f"sieve_{name}_workspace")(self.context, c.byref(p), c.byref(arguments), c.byref(size)))
        workspace = torch.empty(max(size.value, 256), dtype=torch.uint8, device="cuda")
        call = getattr(self.native, f"sieve_{name}")

        def launch():
            stream = c.c_void_p(torch.cuda.current_stream().cuda_stream)
            self.check(call(self.context, c.byref(p), c.byref(arguments), c.c_void_p(workspace.data_ptr()), size, stream))

        launch.keep = (workspace, keep)
        return launch

    def diff_forward(self, q1, k1, q2, k2, v, lam, eps=None, scale=1.0, path="automatic", keep=False):
        rows, wide = q1.shape[:3], v.shape[3]
        out = {"output": empty(q1, *rows, wide)}
        if keep:
            for t in ("1", "2"):
                out["lse" + t] = empty(q1, *rows, 1, dtype=torch.float32)
                out["output" + t] = empty(q1, *rows, wide, dtype=torch.float32)
        arguments = DiffForward(query1=view(q1), key1=view(k1), query2=view(q2), key2=view(k2), value=view(v), lambda_=Scalar(None, lam, 0),
                                **{n: view(t) for n, t in out.items()})
        return self.prepared("diff_forward", problem(eps, scale, path), arguments, (q1, k1, q2, k2, v, out)), out

    def diff_backward(self, q1, k1, q2, k2, v, lam, forward, grad, eps=None, scale=1.0, path="automatic", bitwise=False):
        inputs = {"query1": q1, "key1": k1, "query2": q2, "key2": k2, "value": v}
        gradients = {n + "_gradient": torch.empty_like(t) for n, t in inputs.items()}
        sums = empty(q1, 1, dtype=torch.float32)
        results = {n: forward[n] for n in ("lse1", "lse2", "output1", "output2")}
        arguments = DiffBackward(output_gradient=view(grad), lambda_=Scalar(None, lam, 0), lambda_gradient=sums.data_ptr(),
                                 **{n: view(t) for part in (inputs, gradients, results) for n, t in part.items()})
        return self.prepared("diff_backward", problem(eps, scale, path, bitwise), arguments, (inputs, gradients, results, sums, grad)), gradients

    def diff_decode(self, q1, k1, q2, k2, v, lam, eps=None, scale=1.0, path="automatic"):
        out = empty(q1, *q1.shape[:3], v.shape[3])
        arguments = DiffDecode(query1=view(q1), key1=view(k1), query2=view(q2), key2=view(k2), value=view(v), output=view(out),
                               lambda_=Scalar(None, lam, 0))
        return self.prepared("diff_decode", problem(eps, scale, path), arguments, (q1, k1, q2, k2, v, out)), out

    def diff_v2_forward(self, q, k, v, logits, signals=1, path="automatic", keep=False):
        wide = v.shape[3]
        out = {"output": empty(q, q.shape[0], logits.shape[1], q.shape[2], wide)}
        if keep:
            out["lse"] = empty(q, *q.shape[:3], 1, dtype=torch.float32)
            out["outputs"] = empty(q, *q.shape[:3], wide, dtype=torch.float32)
        arguments = DiffV2Forward(signals=signals, query=view(q), key=view(k), value=view(v), lambda_logit=view(logits),
                                  **{n: view(t) for n, t in out.items()})
        return self.prepared("diff_v2_forward", problem(None, 1.0, path), arguments, (q, k, v, logits, out)), out

    def diff_v2_backward(self, q, k, v, logits, forward, grad, path="automatic", signals=1):
        inputs = {"query": q, "key": k, "value": v, "lambda_logit": logits}
        gradients = {n + "_gradient": torch.empty_like(t) for n, t in inputs.items()}
        results = {n: forward[n] for n in ("lse", "outputs")}
        arguments = DiffV2Backward(signals=signals, output_gradient=view(grad),
                                   **{n: view(t) for part in (inputs, gradients, results) for n, t in part.items()})
        return self.prepared("diff_v2_backward", problem(None, 1.0, path), arguments, (inputs, gradients, results, grad)), gradients
