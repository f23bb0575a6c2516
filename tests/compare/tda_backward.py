"""Threshold differential attention, backward: our kernels beside what PyTorch offers, same tensors, one process.

    python3 tests/compare/tda_backward.py libsieve_attention.so [threshold-differential.safetensors]

Rivals: the backward of two softmax attention calls of cuDNN (the price of any two-view softmax attention, without the
subtraction), and the derivative of the formula itself under torch.compile where the score matrix fits. Random normal inputs,
and with the file of a trained layer its heads, whose rows are repeated with noise to the length. Several sets, larger together than the
level-2 cache, are used in turn; medians of CUDA events. Work: 16 Tq Tk D flop a head, halved by the causal mask, whatever is
skipped. "with the bitmap" has the survivor bitmap of the forward call, "alone" looks for survivors itself.
"""
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sieve import Library
from tda_decode import trained
from tda_forward import formula, median_ms, random_set, trained_set

SETS = 3


def with_gradient(tensors):
    return [*tensors, torch.randn_like(tensors[4])]


def derivative(function, inputs, grad):
    leaves = [t.detach().requires_grad_() for t in inputs]
    out = function(*leaves)
    return lambda: torch.autograd.grad(out, leaves, grad.to(out.dtype), retain_graph=True)


def cudnn(q1, k1, q2, k2, v, grad):
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        calls = [derivative(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), inputs, grad)
                 for inputs in ((q1, k1, v), (q2, k2, v))]
    return lambda: [call() for call in calls]


def bitmap(library, s, beta):
    batch, heads, length, _ = s[0].shape
    tiles = torch.empty(batch, heads, (length + 63) // 64, (length + 1023) // 1024, dtype=torch.int32, device="cuda")
    library.tda_forward(*s[:5], beta, 0.3, tiles=tiles)[0]()
    return tiles


def main():
    library = Library(sys.argv[1])
    print(library.native.sieve_build_description().decode(), "|", torch.cuda.get_device_name(), "| torch", torch.__version__,
          "cuDNN", torch.backends.cudnn.version())
    small = with_gradient(random_set(1, 2, 512, 64))
    launch, gradients, _ = library.tda_backward(*small, 0.7, 0.3)
    launch()
    expected = derivative(lambda *t: formula(*t, 0.7, 0.3), [t.float() for t in small[:5]], small[5])()
    print("check against autograd of the formula in fp32, error / largest: " + ", ".join(
        f"{name} {(g.float() - e).abs().max().item() / e.abs().max().item():.1e}"
        for name, g, e in zip(("dq1", "dk1", "dq2", "dk2", "dv"), gradients, expected)))
    layer = trained(sys.argv[2]) if len(sys.argv) > 2 else None
    shapes = [(1, 16, 16384, 64), (4, 16, 4096, 64), (16, 16, 1024, 64), (1, 16, 16384, 128)]
    cases = [("random", random_set, 1.0, shape) for shape in shapes] + [("random, beta 0.2", random_set, 0.2, shapes[0])]
    if layer is not None:
        cases.append(("trained-like", lambda *shape: trained_set(layer, *shape), layer[2], shapes[0]))
    for kind, make, beta, shape in cases:
        batch, heads, length, dim = shape
        sets = [with_gradient(make(*shape)) for _ in range(SETS)]
        tiles = [bitmap(library, s, beta) for s in sets]
        work = 16 * length * length * dim / 2 * heads * batch
        rows = [
            ("ours, with the bitmap", median_ms([library.tda_backward(*s, beta, 0.3, tiles=t)[0] for s, t in zip(sets, tiles)])),
            ("ours, alone", median_ms([library.tda_backward(*s, beta, 0.3)[0] for s in sets])),
            ("ours, alone, 8-bit screen", median_ms([library.tda_backward(*s, beta, 0.3, screen=1)[0] for s in sets])),
            ("ours, alone, all generic", median_ms([library.tda_backward(*s, beta, 0.3, "generic")[0] for s in sets])),
            ("two cuDNN softmax calls", median_ms([cudnn(*s) for s in sets])),
        ]
        if length <= 1024:
            compiled = torch.compile(formula)
            rows.append(("the formula, torch.compile", median_ms([derivative(lambda *t: compiled(*t, beta, 0.3), s[:5], s[5]) for s in sets])))
        print(f"\nB{batch} H{heads} N{length} D{dim}, causal, bf16, {kind}")
        for name, result in rows:
            print(f"  {name:32} {result[0]:8.3f} ms  ({result[1]:.3f}-{result[2]:.3f})  {work / result[0] * 1e-9:6.0f} TFLOP/s")
        del sets, tiles


if __name__ == "__main__":
    main()
