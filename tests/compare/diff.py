"""Differential attention, both versions: our kernels beside compositions of library calls, same tensors, one process.

    python3 tests/compare/diff.py libsieve_attention.so

Rivals: first version, forward: two cuDNN calls (or FlashAttention-2 where cuDNN refuses the dims), then subtraction, RMSNorm
and scale under torch.compile; backward: autograd through that composition. Second version: one cuDNN call over all heads and the
compiled subtraction. Decode: the flash-decoding of scaled_dot_product_attention, the same compiled rows. Random normal inputs; several sets
are used in turn; medians of CUDA events. Work of the first version: forward 2 (2 D + 2 Dv), backward 2 (6 D + 2 Dv) -
the fused count of 10 units at Dv = 2 D - flop a pair, halved by the causal mask.
"""
import sys
import warnings

import torch
import torch._functorch.config
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sieve_diff import DiffLibrary
from softmax_forward import median_ms

warnings.filterwarnings("ignore")  # a backend says in many lines what its exception says in one
torch._functorch.config.donated_buffer = False  # the backward passes of one graph run again and again
EPS, SCALE, LAMBDA = 1e-5, 0.2, 0.3
SETS = 2


@torch.compile
def subtract_norm(a, b, lam):
    x = a.float() - lam * b.float()
    return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * SCALE).to(a.dtype)


@torch.compile
def subtract_sigmoid(o, logits):
    pairs = o.unflatten(1, (-1, 2))
    return (pairs[:, :, 0].float() - torch.sigmoid(logits) * pairs[:, :, 1].float()).to(o.dtype)


def attention(backend, q, k, v, causal=True):
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


def halves(backend, q, k, v):
    """For dims that a library refuses: the value halves apart."""
    return torch.cat([attention(backend, q, k, part.contiguous()) for part in v.chunk(2, -1)], -1)


BACKENDS = (("cuDNN", SDPBackend.CUDNN_ATTENTION), ("FlashAttention-2", SDPBackend.FLASH_ATTENTION))


def random(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def report(title, rows, work):
    print("\n" + title)
    for name, result in rows:
        if isinstance(result, str):
            print(f"  {name:44} {result}")
        else:
            rate = f"{work / result[0] * 1e-9:6.0f} TFLOP/s" if work > 0 else ""
            print(f"  {name:44} {result[0]:8.3f} ms  ({result[1]:.3f}-{result[2]:.3f})  {rate}")


def measured(rows, name, make):
    try:
        rows.append((name, median_ms(make())))
    except Exception as error:  # one that cannot run this shape says so and leaves the others alone
        rows.append((name, str(error).split("\n")[0][:100]))


def first_version(library, batch, heads, length, dim, wide):
    sets = [[random(batch, heads, length, dim) for _ in range(4)] + [random(batch, heads, length, wide) for _ in range(2)] for _ in range(SETS)]
    rows, pairs = [], length * length / 2 * heads * batch
    results = [library.diff_forward(*s[:5], LAMBDA, EPS, SCALE, keep=True) for s in sets]
    for path in ("hopper", "generic"):
        measured(rows, f"ours, {path}", lambda: [library.diff_forward(*s[:5], LAMBDA, EPS, SCALE, path)[0] for s in sets])
    measured(rows, "ours, results for backward kept", lambda: [r[0] for r in results])
    for name, backend in BACKENDS:
        for how, call in (("", attention), (", value halves", halves)):
            measured(rows, f"{name} x 2{how} + compiled rows",
                     lambda: [lambda s=s: subtract_norm(call(backend, s[0], s[1], s[4]), call(backend, s[2], s[3], s[4]), LAMBDA) for s in sets])
    results[0][0]()
    expected = subtract_norm(halves(SDPBackend.FLASH_ATTENTION, sets[0][0], sets[0][1], sets[0][4]),
                             halves(SDPBackend.FLASH_ATTENTION, sets[0][2], sets[0][3], sets[0][4]), LAMBDA)
    apart = (results[0][1]["output"].float() - expected.float()).abs().max().item()
    report(f"diff forward B{batch} H{heads} N{length} D{dim}/{wide} causal, bf16; apart from FlashAttention-2 {apart:.1e}", rows, pairs * 4 * (dim + wide))

    rows = []
    for launch, _ in results:
        launch()
    for path in ("hopper", "generic"):
        for bitwise in (False, True):
            measured(rows, f"ours, {path}{', bitwise' if bitwise else ''}",
                     lambda: [library.diff_backward(*s[:5], LAMBDA, r[1], s[5], EPS, SCALE, path, bitwise)[0] for s, r in zip(sets, results)])

    def rival(backend, call, s):
        inputs = [t.detach().requires_grad_() for t in s[:5]]
        out = subtract_norm(call(backend, inputs[0], inputs[1], inputs[4]), call(backend, inputs[2], inputs[3], inputs[4]), LAMBDA)
        return lambda: torch.autograd.grad(out, inputs, s[5], retain_graph=True)

    for name, backend in BACKENDS:
        for how, call in (("", attention), (", value halves", halves)):
            measured(rows, f"autograd, {name} x 2{how}", lambda: [rival(backend, call, s) for s in sets])
    report(f"diff backward B{batch} H{heads} N{length} D{dim}/{wide} causal, bf16", rows, pairs * 4 * (3 * dim + wide))


def second_version(library, batch, heads, key_heads, length, dim):
    sets = [[random(batch, h, length, dim) for h in (heads, key_heads, key_heads)] +
            [torch.randn(batch, heads // 2, length, 1, device="cuda"), random(batch, heads // 2, length, dim)] for _ in range(SETS)]
    rows, pairs = [], length * length / 2 * heads * batch
    results = [library.diff_v2_forward(*s[:4], keep=True) for s in sets]
    for path in ("hopper", "generic"):
        measured(rows, f"ours, {path}", lambda: [library.diff_v2_forward(*s[:4], path=path)[0] for s in sets])
    measured(rows, "ours, results for backward kept", lambda: [r[0] for r in results])
    for name, backend in BACKENDS:
        measured(rows, f"{name} + compiled rows", lambda: [lambda s=s: subtract_sigmoid(attention(backend, *s[:3]), s[3]) for s in sets])
    results[0][0]()
    expected = subtract_sigmoid(attention(SDPBackend.FLASH_ATTENTION, *sets[0][:3]), sets[0][3])
    apart = (results[0][1]["output"].float() - expected.float()).abs().max().item()
    report(f"diff_v2 forward B{batch} H{heads}/{key_heads} N{length} D{dim} causal, bf16; apart from FlashAttention-2 {apart:.1e}", rows, pairs * 4 * dim)

    rows = []
    for launch, _ in results:
        launch()
    for path in ("hopper", "generic"):
        measured(rows, f"ours, {path}", lambda: [library.diff_v2_backward(*s[:4], r[1], s[4], path)[0] for s, r in zip(sets, results)])

    def rival(backend, s):
        inputs = [t.detach().requires_grad_() for t in s[:4]]
        out = subtract_sigmoid(attention(backend, *inputs[:3]), inputs[3])
        return lambda: torch.autograd.grad(out, inputs, s[4], retain_graph=True)

    for name, backend in BACKENDS:
        measured(rows, f"autograd, {name}", lambda: [rival(backend, s) for s in sets])
    report(f"diff_v2 backward B{batch} H{heads}/{key_heads} N{length} D{dim} causal, bf16", rows, pairs * 10 * dim)


def decode(library, batch, heads, key_heads, keys, dim, wide):
    q1, q2 = [random(batch, heads, 1, dim) for _ in range(2)]
    both, v = [random(batch, key_heads, keys, d) for d in (2 * dim, wide)]
    k1, k2 = both[..., :dim], both[..., dim:]  # side by side
    source, target = [torch.empty(1 << 30, dtype=torch.uint8, device="cuda") for _ in range(2)]
    copy = 2 * (1 << 30) / median_ms([lambda: target.copy_(source)])[0]
    rows = []
    measured(rows, "ours, keys side by side", lambda: [library.diff_decode(q1, k1, q2, k2, v, LAMBDA, EPS, SCALE)[0]])
    k1, k2 = k1.contiguous(), k2.contiguous()
    measured(rows, "ours, keys apart", lambda: [library.diff_decode(q1, k1, q2, k2, v, LAMBDA, EPS, SCALE)[0]])
    for name, backend in BACKENDS:
        measured(rows, f"{name} x 2 + compiled rows", lambda: [lambda: subtract_norm(
            attention(backend, q1, k1, v, False), attention(backend, q2, k2, v, False), LAMBDA)])
    report(f"diff decode B{batch} H{heads}/{key_heads} N{keys} D{dim}/{wide}, bf16", rows, 0)
    if not isinstance(rows[0][1], str):
        moved = 2 * batch * key_heads * keys * (2 * dim + wide)
        print(f"  keys and values once: {moved / rows[0][1][0] / copy * 100:.0f} % of the bandwidth of a copy ({copy * 1e-6:.0f} GB/s)")


def main():
    library = DiffLibrary(sys.argv[1])
    print(library.native.sieve_build_description().decode(), "|", torch.cuda.get_device_name(), "| torch", torch.__version__,
          "cuDNN", torch.backends.cudnn.version())
    first_version(library, 1, 16, 16384, 64, 128)
    first_version(library, 4, 16, 4096, 64, 128)
    first_version(library, 16, 16, 1024, 64, 128)
    second_version(library, 1, 32, 8, 16384, 128)
    second_version(library, 4, 32, 8, 4096, 128)
    decode(library, 8, 16, 4, 65536, 64, 128)


if __name__ == "__main__":
    main()
