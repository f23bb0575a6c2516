"""Softmax attention, forward: our kernels beside PyTorch's, same tensors, one process.

    python3 tests/compare/softmax_forward.py libsieve_attention.so [--quick]

Rivals: cuDNN and FlashAttention-2 as scaled_dot_product_attention calls them, and FlexAttention compiled. Random normal inputs;
several sets, larger together than the level-2 cache, are used in turn; medians of CUDA events, the host runs ahead of the
device. Work: 4 Tq Tk D flop a head, halved by the causal mask.
"""
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sieve import Library

RUNS, WARMUP, SETS = 20, 4, 3

# batch, query heads, key heads, length, head_dim, causal
SHAPES = [
    (1, 16, 16, 16384, 128, True), (4, 16, 16, 4096, 128, True), (16, 16, 16, 1024, 128, True), (1, 16, 16, 32768, 128, True),
    (1, 32, 32, 16384, 64, True), (4, 32, 32, 4096, 64, True), (16, 32, 32, 1024, 64, True),
    (1, 16, 16, 16384, 128, False), (16, 16, 16, 1024, 128, False), (1, 32, 32, 16384, 64, False),
    (1, 64, 8, 8192, 128, True), (1, 64, 8, 8192, 128, False), (1, 8, 8, 16384, 256, True), (1, 32, 32, 16384, 96, True),
]


def median_ms(launches):
    events = []
    for i in range(WARMUP + RUNS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        launches[i % len(launches)]()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    times = [start.elapsed_time(end) for start, end in events[WARMUP:]]
    return statistics.median(times), min(times), max(times)


def rival(backend, s, causal, grouped):
    def call():
        with sdpa_kernel(backend):
            F.scaled_dot_product_attention(*s, is_causal=causal, enable_gqa=grouped)
    return call


def flex(sets, causal, grouped):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention
    compiled = torch.compile(flex_attention)
    length = sets[0][0].shape[2]
    mask = create_block_mask(lambda b, h, q, k: q >= k, None, None, length, length) if causal else None
    return [lambda s=s: compiled(*s, block_mask=mask, enable_gqa=grouped) for s in sets]


def main():
    quick = "--quick" in sys.argv
    library = Library(sys.argv[1])
    print(library.native.sieve_build_description().decode(), "|", torch.cuda.get_device_name(), "| torch", torch.__version__,
          "cuDNN", torch.backends.cudnn.version())
    for batch, heads, key_heads, length, dim, causal in SHAPES:
        sets = [[torch.randn(batch, h, length, dim, device="cuda", dtype=torch.bfloat16) for h in (heads, key_heads, key_heads)]
                for _ in range(SETS)]
        work = 4 * length * length * dim * heads * batch / (2 if causal else 1)
        grouped = heads != key_heads
        rows = []

        def measure(name, make):
            try:
                rows.append((name, median_ms(make())))
            except Exception as error:  # a rival that cannot run this shape says so and leaves the others alone
                rows.append((name, str(error).split("\n")[0][:100]))

        outputs = {}

        def ours(path):
            pairs = [library.softmax_forward(*s, causal, path) for s in sets]
            outputs[path] = pairs[0][1]
            return [launch for launch, _ in pairs]

        measure("ours, hopper", lambda: ours("hopper"))
        measure("ours, generic", lambda: ours("generic"))
        measure("cuDNN", lambda: [rival(SDPBackend.CUDNN_ATTENTION, s, causal, grouped) for s in sets])
        measure("FlashAttention-2", lambda: [rival(SDPBackend.FLASH_ATTENTION, s, causal, grouped) for s in sets])
        if not quick:
            measure("FlexAttention, compiled", lambda: flex(sets, causal, grouped))
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            expected = F.scaled_dot_product_attention(*sets[0], is_causal=causal, enable_gqa=grouped).float()
        apart = ", ".join(f"{path} {(out.float() - expected).abs().max().item():.1e}" for path, out in outputs.items())
        print(f"\nB{batch} H{heads}/{key_heads} N{length} D{dim} {'causal' if causal else 'full'}, bf16; apart from FlashAttention-2: {apart}")
        for name, result in rows:
            if isinstance(result, str):
                print(f"  {name:24} {result}")
            else:
                print(f"  {name:24} {result[0]:8.3f} ms  ({result[1]:.3f}-{result[2]:.3f})  {work / result[0] * 1e-9:6.0f} TFLOP/s")
        del sets, outputs, expected


if __name__ == "__main__":
    main()
