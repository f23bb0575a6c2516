"""Threshold differential attention, forward: our kernels beside what PyTorch offers, same tensors, one process.

    python3 tests/compare/tda_forward.py libsieve_attention.so [threshold-differential.safetensors]

Rivals: two softmax attention calls of cuDNN (the price of any two-view softmax attention, without the subtraction), and the
formula itself under torch.compile where the score matrix fits. Inputs: random normal with beta 1 (few survivors), 0.6 (every
tile of 64 x 64 has some) and 0.2 (a tenth to a fifth of the pairs), and with the file of a trained layer (tests/data/real) its
rows, repeated up to the length with 20 % noise of their norm, its beta and lambda. Several sets, larger together than the level-2
cache, are used in turn; medians of CUDA events. Work: 6 Tq Tk D flop a head, halved by the causal mask. Launches with images
count the kernel that makes them. Outputs with images are compared bit for bit with those without.
"""
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sieve import Library
from tda_decode import lengthen, trained

RUNS, WARMUP, SETS = 30, 5, 3
SCREENS = {"exact": 0, "int8": 1}


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


def random_set(*shape):
    return [torch.randn(*shape, device="cuda", dtype=torch.bfloat16) for _ in range(5)]


def trained_set(layer, batch, heads, length, dim):
    queries, keys, _ = layer
    parts = [lengthen(part, batch, heads, length, dim) for pair in zip(queries, keys) for part in pair]
    return [*parts, torch.randn(batch, heads, length, dim, device="cuda", dtype=torch.bfloat16)]


def main():
    library = Library(sys.argv[1])
    layer = trained(sys.argv[2]) if len(sys.argv) > 2 else None
    print(library.native.sieve_build_description().decode(), "|", torch.cuda.get_device_name(), "| torch", torch.__version__,
          "cuDNN", torch.backends.cudnn.version())
    small = random_set(1, 2, 512, 64)
    launch, out = library.tda_forward(*small, 0.7, 0.3)
    launch()
    expected = formula(*small, 0.7, 0.3)
    print(f"check against the formula in fp32: largest error {(out.float() - expected).abs().max().item():.2e} of {expected.abs().max().item():.2e}")
    for batch, heads, length, dim in [(1, 16, 16384, 64), (4, 16, 4096, 64), (16, 16, 1024, 64), (1, 16, 16384, 128)]:
        shape = (batch, heads, length, dim)
        work = 6 * length * length * dim / 2 * heads * batch
        print(f"\nB{batch} H{heads} N{length} D{dim}, causal, bf16")

        def report(name, times):
            print(f"  {name:40} {times[0]:8.3f} ms  ({times[1]:.3f}-{times[2]:.3f})  {work / times[0] * 1e-9:6.0f} TFLOP/s", flush=True)

        sets = [random_set(*shape) for _ in range(SETS)]
        series = [("random, beta 1", sets, 1.0), ("random, beta 0.6", sets, 0.6), ("random, beta 0.2", sets, 0.2)]
        if layer is not None and dim == layer[0].shape[-1]:
            series.insert(1, ("trained", [trained_set(layer, *shape) for _ in range(SETS)], layer[2]))
        for name, tensors, beta in series:
            reference = None
            for path, screen in [("hopper", "exact"), ("hopper", "int8"), ("generic", "exact")]:
                try:
                    calls = [library.tda_forward(*s, beta, 0.3, path, SCREENS[screen]) for s in tensors]
                except RuntimeError as error:
                    print(f"  {name}, {path}: {error}")
                    continue
                report(f"{name}, {path}{', int8 images' if screen == 'int8' else ''}", median_ms([call for call, _ in calls]))
                if path == "hopper":
                    output = calls[0][1].clone()
                    reference = output if reference is None else reference
                    if not torch.equal(reference, output):
                        print("    OTHER BITS than without images")

        def cudnn(s):
            def call():
                with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                    F.scaled_dot_product_attention(s[0], s[1], s[4], is_causal=True)
                    F.scaled_dot_product_attention(s[2], s[3], s[4], is_causal=True)
            return call

        report("two cuDNN softmax calls", median_ms([cudnn(s) for s in sets]))
        if length <= 4096:
            compiled = torch.compile(formula)
            report("the formula, torch.compile", median_ms([lambda s=s: compiled(*s, 1.0, 0.3) for s in sets]))


if __name__ == "__main__":
    main()
