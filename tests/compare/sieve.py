"""The C interface for Python: ctypes structures of native/include/sieve/attention.h, on torch tensors.

Only for comparisons on a GPU machine; the package's users call the managed library.
"""
import ctypes as c

import torch


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("sizes", c.c_int64 * 4), ("strides", c.c_int64 * 4), ("dtype", c.c_int32), ("reserved", c.c_int32)]


class Scalar(c.Structure):
    _fields_ = [("device", c.c_void_p), ("value", c.c_float), ("head_stride", c.c_int32)]


class Problem(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("causal", c.c_int32), ("query_alignment", c.c_int32), ("path", c.c_int32),
        ("query_offset", c.c_int64), ("window", c.c_int64),
        ("query_starts", c.c_void_p), ("key_starts", c.c_void_p), ("key_lengths", c.c_void_p),
        ("sequence_count", c.c_int32), ("longest_query", c.c_int32), ("scale", c.c_float), ("row_factor", c.c_int32),
        ("row_first", Scalar), ("row_second", Scalar), ("row_factors", Tensor), ("alibi_slopes", c.c_void_p),
        ("norm", c.c_int32), ("norm_eps", c.c_float), ("norm_gain", c.c_void_p), ("output_scale", c.c_float),
        ("repeatability", c.c_int32), ("gate", Tensor),
    ]


class TdaForward(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("screen", c.c_int32),
        ("query1", Tensor), ("key1", Tensor), ("query2", Tensor), ("key2", Tensor), ("value", Tensor), ("output", Tensor),
        ("survivors1", Tensor), ("survivors2", Tensor), ("beta", Scalar), ("lambda_", Scalar), ("kappa", c.c_float), ("power", c.c_float),
        ("survivor_tiles", Tensor),
    ]


class TdaBackward(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("screen", c.c_int32),
        ("query1", Tensor), ("key1", Tensor), ("query2", Tensor), ("key2", Tensor), ("value", Tensor), ("output_gradient", Tensor),
        ("survivor_tiles", Tensor), ("query1_gradient", Tensor), ("key1_gradient", Tensor), ("query2_gradient", Tensor),
        ("key2_gradient", Tensor), ("value_gradient", Tensor), ("gate_gradient", Tensor), ("norm_gain_gradient", c.c_void_p),
        ("beta_gradient", c.c_void_p), ("kappa_gradient", c.c_void_p), ("lambda_gradient", c.c_void_p),
        ("beta", Scalar), ("lambda_", Scalar), ("kappa", c.c_float), ("power", c.c_float),
    ]


class TdaCache(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("screen", c.c_int32), ("key1", Tensor), ("key2", Tensor), ("value", Tensor),
        ("inverse_norms1", Tensor), ("inverse_norms2", Tensor), ("images1", Tensor), ("images2", Tensor),
        ("page_table", c.c_void_p), ("page_table_width", c.c_int64),
    ]


class TdaAppend(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("batch", c.c_int32), ("cache", c.POINTER(TdaCache)), ("rows", c.c_int64), ("key_lengths", c.c_void_p),
        ("new_key1", Tensor), ("new_key2", Tensor), ("new_value", Tensor),
    ]


class TdaDecode(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("splits", c.c_int32), ("query1", Tensor), ("query2", Tensor), ("cache", c.POINTER(TdaCache)),
        ("output", Tensor), ("survivors1", Tensor), ("survivors2", Tensor), ("beta", Scalar), ("lambda_", Scalar),
        ("kappa", c.c_float), ("power", c.c_float),
    ]


class SoftmaxForward(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("reserved", c.c_int32),
                ("query", Tensor), ("key", Tensor), ("value", Tensor), ("output", Tensor), ("lse", Tensor)]


class SoftmaxDecode(c.Structure):
    _fields_ = [
        ("struct_size", c.c_uint32), ("splits", c.c_int32), ("query", Tensor), ("key", Tensor), ("value", Tensor), ("output", Tensor),
        ("lse", Tensor), ("page_table", c.c_void_p), ("page_table_width", c.c_int64),
    ]


class SoftmaxBackward(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("reserved", c.c_int32),
                ("query", Tensor), ("key", Tensor), ("value", Tensor), ("output", Tensor), ("lse", Tensor), ("output_gradient", Tensor),
                ("query_gradient", Tensor), ("key_gradient", Tensor), ("value_gradient", Tensor),
                ("row_factor_gradient", Tensor), ("gate_gradient", Tensor),
                ("row_first_gradient", c.c_void_p), ("row_second_gradient", c.c_void_p)]


class ContextOptions(c.Structure):
    _fields_ = [("struct_size", c.c_uint32), ("device", c.c_int32), ("log_level", c.c_int32), ("reserved", c.c_int32),
                ("log", c.c_void_p), ("log_user_data", c.c_void_p)]


DTYPES = {torch.float16: 1, torch.bfloat16: 2, torch.float32: 3, torch.int32: 4}
PATHS = {"automatic": 0, "generic": 1, "hopper": 2}


def view(t):
    return Tensor(t.data_ptr(), (c.c_int64 * 4)(*t.shape), (c.c_int64 * 4)(*t.stride()), DTYPES[t.dtype], 0)


class Library:
    def __init__(self, path):
        self.native = c.CDLL(path)
        self.native.sieve_last_message.restype = c.c_char_p
        self.native.sieve_build_description.restype = c.c_char_p
        self.context = c.c_void_p()
        options = ContextOptions(c.sizeof(ContextOptions), 0, 5, 0, None, None)
        self.check(self.native.sieve_context_create(c.byref(options), c.byref(self.context)))

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.native.sieve_last_message().decode())

    def tda_forward(self, q1, k1, q2, k2, v, beta, lam, path="automatic", screen=0, tiles=None):
        """Returns a function that launches on the current stream, and its output tensor; fills `tiles` where they are given."""
        out = torch.empty(*q1.shape[:3], v.shape[3], dtype=q1.dtype, device=q1.device)
        problem = Problem(struct_size=c.sizeof(Problem), causal=1, path=PATHS[path], output_scale=1.0)
        arguments = TdaForward(struct_size=c.sizeof(TdaForward), screen=screen, query1=view(q1), key1=view(k1), query2=view(q2), key2=view(k2),
                               value=view(v), output=view(out), beta=Scalar(None, beta, 0), lambda_=Scalar(None, lam, 0), kappa=1.0, power=2.0)
        if tiles is not None:
            arguments.survivor_tiles = view(tiles)
        size = c.c_uint64()
        self.check(self.native.sieve_tda_forward_workspace(self.context, c.byref(problem), c.byref(arguments), c.byref(size)))
        workspace = torch.empty(size.value, dtype=torch.uint8, device=q1.device)

        def launch():
            stream = c.c_void_p(torch.cuda.current_stream().cuda_stream)
            self.check(self.native.sieve_tda_forward(self.context, c.byref(problem), c.byref(arguments), c.c_void_p(workspace.data_ptr()),
                                                     size, stream))

        launch.keep = (workspace, out, q1, k1, q2, k2, v, tiles)
        return launch, out

    def tda_backward(self, q1, k1, q2, k2, v, grad, beta, lam, path="automatic", tiles=None, screen=0):
        """Returns a function that launches on the current stream, the gradients of the inputs, and those of beta and lambda a head."""
        gradients = [torch.empty_like(t) for t in (q1, k1, q2, k2, v)]
        parameters = torch.empty(2, q1.shape[1], dtype=torch.float32, device=q1.device)
        problem = Problem(struct_size=c.sizeof(Problem), causal=1, path=PATHS[path], output_scale=1.0)
        arguments = TdaBackward(struct_size=c.sizeof(TdaBackward), screen=screen, query1=view(q1), key1=view(k1), query2=view(q2), key2=view(k2),
                                value=view(v), output_gradient=view(grad), query1_gradient=view(gradients[0]),
                                key1_gradient=view(gradients[1]), query2_gradient=view(gradients[2]), key2_gradient=view(gradients[3]),
                                value_gradient=view(gradients[4]), beta_gradient=parameters[0].data_ptr(),
                                lambda_gradient=parameters[1].data_ptr(), beta=Scalar(None, beta, 0), lambda_=Scalar(None, lam, 0),
                                kappa=1.0, power=2.0)
        if tiles is not None:
            arguments.survivor_tiles = view(tiles)
        size = c.c_uint64()
        self.check(self.native.sieve_tda_backward_workspace(self.context, c.byref(problem), c.byref(arguments), c.byref(size)))
        workspace = torch.empty(size.value, dtype=torch.uint8, device=q1.device)

        def launch():
            stream = c.c_void_p(torch.cuda.current_stream().cuda_stream)
            self.check(self.native.sieve_tda_backward(self.context, c.byref(problem), c.byref(arguments), c.c_void_p(workspace.data_ptr()),
                                                      size, stream))

        launch.keep = (workspace, q1, k1, q2, k2, v, grad, tiles, gradients, parameters)
        return launch, gradients, parameters

    def tda_cache(self, k1, k2, v, screen=0):
        """A contiguous cache over tensors that are there; its `summarise` writes inverse norms and images, and has run once."""
        batch, heads, keys, dim = k1.shape
        cache = TdaCache(struct_size=c.sizeof(TdaCache), screen=screen, key1=view(k1), key2=view(k2), value=view(v))
        norms = [torch.empty(batch, heads, keys, 1, dtype=torch.float32, device=k1.device) for _ in range(2)]
        cache.inverse_norms1, cache.inverse_norms2 = view(norms[0]), view(norms[1])
        cache.words = (4 if screen == 1 else 2) * (64 if dim <= 64 else 128) + 16
        images = []
        if screen != 0:
            images = [torch.empty(batch, heads, (keys + 15) // 16, cache.words, dtype=torch.int32, device=k1.device) for _ in range(2)]
            cache.images1, cache.images2 = view(images[0]), view(images[1])
        cache.keep = (k1, k2, v, norms, images)
        arguments = TdaAppend(struct_size=c.sizeof(TdaAppend), batch=batch, cache=c.pointer(cache), rows=keys)

        def summarise():
            stream = c.c_void_p(torch.cuda.current_stream().cuda_stream)
            self.check(self.native.sieve_tda_append(self.context, c.byref(arguments), stream))

        cache.summarise = summarise
        summarise()
        return cache

    def tda_decode(self, q1, q2, cache, beta, lam, splits=0, counts=False):
        """Decode of the rows q at the end of a cache; returns a launch function, its output and the tensors of survivors."""
        out = torch.empty_like(q1)
        survivors = [torch.empty(*q1.shape[:3], 1, dtype=torch.int32, device=q1.device) for _ in range(2)] if counts else []
        problem = Problem(struct_size=c.sizeof(Problem), causal=1, output_scale=1.0)
        arguments = TdaDecode(struct_size=c.sizeof(TdaDecode), splits=splits, query1=view(q1), query2=view(q2), cache=c.pointer(cache),
                              output=view(out), beta=Scalar(None, beta, 0), lambda_=Scalar(None, lam, 0), kappa=1.0, power=2.0)
        if counts:
            arguments.survivors1, arguments.survivors2 = view(survivors[0]), view(survivors[1])
        size = c.c_uint64()
        self.check(self.native.sieve_tda_decode_workspace(self.context, c.byref(problem), c.byref(arguments), c.byref(size)))
        workspace = torch.empty(size.value, dtype=torch.uint8, device=q1.device)

        def launch():
            stream = c.c_void_p(torch.cuda.current_stream().cuda_stream)
            self.check(self.native.sieve_tda_decode(self.context, c.byref(problem), c.byref(arguments), c.c_void_p(workspace.data_ptr()),
                                                    size, stream))

        launch.keep = (workspace, out, q1, q2, cache, survivors)
        return launch, out, survivors

    def softmax_forward(self, q, k, v, causal=True, path="automatic"):
        """Returns a function that launches on the current stream, and its output tensor."""
        out = torch.empty(*q.shape[:3], v.shape[3], dtype=q.dtype, device=q.device)
        lse = torch.empty(*q.shape[:3], 1, dtype=torch.float32, device=q.device)
        problem = Problem(struct_size=c.sizeof(Problem), causal=causal, path=PATHS[path], output_scale=1.0)
        arguments = SoftmaxForward(struct_size=c.sizeof(SoftmaxForward), query=view(q), key=view(k), value=view(v), output=view(out), lse=view(lse))
        size = c.c_uint64()
        self.check(self.native.sieve_softmax_forward_workspace(self.context, c.byref(problem), c.byref(arguments), c.byref(size)))
        workspace = torch.empty(size.value, dtype=torch.uint8, device=q.device)

        def launch():
            stream = c.c_void_p(torch.cuda.current_stream().cuda_stream)
            self.check(self.native.sieve_softmax_forward(self.context, c.byref(problem), c.byref(arguments), c.c_void_p(workspace.data_ptr()),
                                                         size, stream))

        launch.keep = (workspace, out, q, k, v, lse)
        return launch, out

    def softmax_decode(self, q, k, v, lengths=None, page_table=None, splits=0, path="automatic"):
        """Decode of the rows q at the end of a cache, contiguous or paged; returns a launch function and its output tensor."""
        out = torch.empty(*q.shape[:3], v.shape[3], dtype=q.dtype, device=q.device)
        problem = Problem(struct_size=c.sizeof(Problem), causal=1, path=PATHS[path], output_scale=1.0,
                          key_lengths=None if lengths is None else lengths.data_ptr())
        arguments = SoftmaxDecode(struct_size=c.sizeof(SoftmaxDecode), splits=splits, query=view(q), key=view(k), value=view(v), output=view(out))
        if page_table is not None:
            arguments.page_table, arguments.page_table_width = page_table.data_ptr(), page_table.shape[1]
        size = c.c_uint64()
        self.check(self.native.sieve_softmax_decode_workspace(self.context, c.byref(problem), c.byref(arguments), c.byref(size)))
        workspace = torch.empty(max(size.value, 256), dtype=torch.uint8, device=q.device)

        def launch():
            stream = c.c_void_p(torch.cuda.current_stream().cuda_stream)
            self.check(self.native.sieve_softmax_decode(self.context, c.byref(problem), c.byref(arguments), c.c_void_p(workspace.data_ptr()),
                                                        size, stream))

        launch.keep = (workspace, out, q, k, v, lengths, page_table)
        return launch, out

    def softmax_backward(self, q, k, v, out, lse, grad, causal=True, path="automatic", bitwise=False):
        """Returns a function that launches on the current stream, and the gradients of q, k and v."""
        gradients = [torch.empty_like(t) for t in (q, k, v)]
        problem = Problem(struct_size=c.sizeof(Problem), causal=causal, path=PATHS[path], output_scale=1.0, repeatability=bitwise)
        arguments = SoftmaxBackward(struct_size=c.sizeof(SoftmaxBackward), query=view(q), key=view(k), value=view(v), output=view(out),
                                    lse=view(lse), output_gradient=view(grad), query_gradient=view(gradients[0]),
                                    key_gradient=view(gradients[1]), value_gradient=view(gradients[2]))
        size = c.c_uint64()
        self.check(self.native.sieve_softmax_backward_workspace(self.context, c.byref(problem), c.byref(arguments), c.byref(size)))
        workspace = torch.empty(size.value, dtype=torch.uint8, device=q.device)

        def launch():
            stream = c.c_void_p(torch.cuda.current_stream().cuda_stream)
            self.check(self.native.sieve_softmax_backward(self.context, c.byref(problem), c.byref(arguments), c.c_void_p(workspace.data_ptr()),
                                                          size, stream))

        launch.keep = (workspace, q, k, v, out, lse, grad)
        return launch, gradients
