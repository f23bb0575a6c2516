"""Softmax attention, backward: our kernels beside PyTorch's, same tensors, one process.

    python3 tests/compare/softmax_backward.py libsieve_attention.so

Rivals: cuDNN and FlashAttention-2 as the backward of scaled_dot_product_attention. Their own forward saves what they need; ours
gets the output of FlashAttention-2's and its log-sum-exp. Random normal inputs; several sets, larger together than the level-2
cache, are used in turn; medians of CUDA events. Work: 10 Tq Tk D flop a head, halved by the causal mask.
"""
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sieve import Library
from softmax_forward import median_ms

SETS = 3

# batch, query heads, key heads, length, head_dim, causal
SHAPES = [
    (1, 16, 16, 16384, 128, True), (4, 16, 16, 4096, 128, True), (16, 16, 16, 1024, 128, True), (1, 16, 16, 16384, 128, False),
    (1, 32, 32, 16384, 64, True), (4, 32, 32, 4096, 64, True), (16, 32, 32, 1024, 64, True), (1, 32, 32, 16384, 64, False),
    (1, 64, 8, 8192, 128, True),
]


def rival(backend, q, k, v, grad, causal):
    inputs = [t.detach().requires_grad_() for t in (q, k, v)]
    with sdpa_kernel(backend):
        out = F.scaled_dot_product_attention(*inputs, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])
    return lambda: torch.autograd.grad(out, inputs, grad, retain_graph=True)


def main():
    library = Library(sys.argv[1])
    print(library.native.sieve_build_description().decode(), "|", torch.cuda.get_device_name(), "| torch", torch.__version__,
          "cuDNN", torch.backends.cudnn.version())
    for batch, heads, key_heads, length, dim, causal in SHAPES:
        sets = []
        for _ in range(SETS):
            q, k, v, grad = [torch.randn(batch, h, length, dim, device="cuda", dtype=torch.bfloat16)
                             for h in (heads, key_heads, key_heads, heads)]
            wide = [t.repeat_interleave(heads // key_heads, 1) for t in (k, v)]
            out, lse = torch.ops.aten._scaled_dot_product_flash_attention(q, *wide, 0.0, causal)[:2]
            sets.append((q, k, v, out, lse.float().contiguous()[..., None], grad))
        work = 10 * length * length * dim * heads * batch / (2 if causal else 1)
        rows, found = [], {}

        def measure(name, make):
            try:
                rows.append((name, median_ms(make())))
            except Exception as error:  # one that cannot run this shape says so and leaves the others alone
                rows.append((name, str(error).split("\n")[0][:100]))

        def ours(path, bitwise):
            pairs = [library.softmax_backward(*s, causal, path, bitwise) for s in sets]
            found[path + (" bitwise" if bitwise else "")] = pairs[0][1]
            return [launch for launch, _ in pairs]

        for path in ("hopper", "generic"):
            for bitwise in (False, True):
                measure(f"ours, {path}{', bitwise' if bitwise else ''}", lambda: ours(path, bitwise))
        for name, backend in (("cuDNN", SDPBackend.CUDNN_ATTENTION), ("FlashAttention-2", SDPBackend.FLASH_ATTENTION)):
            measure(name, lambda: [rival(backend, s[0], s[1], s[2], s[5], causal) for s in sets])
        expected = rival(SDPBackend.FLASH_ATTENTION, sets[0][0], sets[0][1], sets[0][2], sets[0][5], causal)()
        apart = ", ".join(name + " " + "/".join(f"{(a.float() - e.float()).abs().max().item():.1e}" for a, e in zip(g, expected))
                          for name, g in found.items())
        print(f"\nB{batch} H{heads}/{key_heads} N{length} D{dim} {'causal' if causal else 'full'}, bf16; dq/dk/dv apart from FlashAttention-2: {apart}")
        for name, result in rows:
            if isinstance(result, str):
                print(f"  {name:24} {result}")
            else:
                print(f"  {name:24} {result[0]:8.3f} ms  ({result[1]:.3f}-{result[2]:.3f})  {work / result[0] * 1e-9:6.0f} TFLOP/s")
        del sets, found, expected


if __name__ == "__main__":
    main()
