"""Threshold differential attention, forward: our kernels beside what PyTorch offers, same tensors, one process.

    python3 tests/compare/tda_forward.py libsieve_attention.so

Rivals: two softmax attention calls of cuDNN (the price of any two-view softmax attention, without the subtraction), and the
formula itself under torch.compile where the score matrix fits. Random normal inputs; several sets, larger together than the
level-2 cache, are used in turn; medians of CUDA events. Work: 6 Tq Tk D flop a head, halved by the causal mask.
"""
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sieve import Library

RUNS, WARMUP, SETS = 30, 5, 4


def median_ms(launches):
    times = []
    for i in range(WARMUP + RUNS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        launches[i % len(launches)]()
        end.record()
        end.synchronize()
        if i >= WARMUP:
            times.append(start.elapsed_time(end))
    return statistics.median(times), min(times), max(times)


def formula(q1, k1, q2, k2, v, beta, lam):
    n = torch.arange(1, q1.shape[2] + 1, device=q1.device, dtype=torch.float32)
    tau = beta * torch.sqrt(2 * torch.log(n) / q1.shape[3])[:, None]
    mask = torch.ones(q1.shape[2], k1.shape[2], dtype=torch.bool, device=q1.device).tril()

    def weights(q, k):
        s = F.normalize(q.float(), dim=-1) @ F.normalize(k.float(), dim=-1).transpose(-1, -2)
        return torch.where(mask, (s - tau).clamp(min=0) ** 2, 0)

    return (weights(q1, k1) - lam * weights(q2, k2)) @ v.float()


def main():
    library = Library(sys.argv[1])
    print(library.native.sieve_build_description().decode(), "|", torch.cuda.get_device_name(), "| torch", torch.__version__,
          "cuDNN", torch.backends.cudnn.version())
    small = [torch.randn(1, 2, 512, 64, device="cuda", dtype=torch.bfloat16) for _ in range(5)]
    launch, out = library.tda_forward(*small, 0.7, 0.3)
    launch()
    expected = formula(*small, 0.7, 0.3)
    print(f"check against the formula in fp32: largest error {(out.float() - expected).abs().max().item():.2e} of {expected.abs().max().item():.2e}")
    for batch, heads, length, dim in [(1, 16, 16384, 64), (4, 16, 4096, 64), (16, 16, 1024, 64), (1, 16, 16384, 128)]:
        sets = [[torch.randn(batch, heads, length, dim, device="cuda", dtype=torch.bfloat16) for _ in range(5)] for _ in range(SETS)]
        work = 6 * length * length * dim / 2 * heads * batch
        rows = []
        for path in ("hopper", "generic"):
            for beta in (1.0, 0.2):
                try:
                    launches = [library.tda_forward(*s, beta, 0.3, path)[0] for s in sets]
                except RuntimeError as error:
                    rows.append((f"ours, {path}", str(error)))
                    continue
                rows.append((f"ours, {path}, beta {beta}", median_ms(launches)))

        def cudnn(s):
            def call():
                with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                    F.scaled_dot_product_attention(s[0], s[1], s[4], is_causal=True)
                    F.scaled_dot_product_attention(s[2], s[3], s[4], is_causal=True)
            return call

        rows.append(("two cuDNN softmax calls", median_ms([cudnn(s) for s in sets])))
        if length <= 4096:
            compiled = torch.compile(formula)
            rows.append(("the formula, torch.compile", median_ms([lambda s=s: compiled(*s, 1.0, 0.3) for s in sets])))
        print(f"\nB{batch} H{heads} N{length} D{dim}, causal, bf16")
        for name, result in rows:
            if isinstance(result, str):
                print(f"  {name:32} {result}")
            else:
                print(f"  {name:32} {result[0]:8.3f} ms  ({result[1]:.3f}-{result[2]:.3f})  {work / result[0] * 1e-9:6.0f} TFLOP/s")


if __name__ == "__main__":
    main()
