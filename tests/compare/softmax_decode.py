"""Softmax attention, decode: our kernels beside what PyTorch offers, same tensors, one process.

    python3 tests/compare/softmax_decode.py libsieve_attention.so

Rivals: scaled_dot_product_attention on cuDNN with grouped heads, and on flash attention with the group as query rows (its split
over keys). One new row unless said. Random normal inputs; several sets, larger together than the level-2 cache, are used in turn.
All launches of a series are one CUDA graph, so no time of the host is counted; the median of several replays. Rates are bytes of
the cache, each counted once.
"""
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sieve import Library

LAUNCHES, REPLAYS = 12, 7


def median_us(launches):
    """Median, least and most microseconds of a launch."""
    stream = torch.cuda.Stream()
    # Inputs are still being made on the present stream, and memory that it has freed but not left yet is handed out again.
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        launches[0]()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(LAUNCHES):
            launches[i % len(launches)]()
    times = []
    for i in range(REPLAYS + 1):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if i > 0:
            times.append(start.elapsed_time(end) * 1e3 / LAUNCHES)
    return statistics.median(times), min(times), max(times)


def cudnn(q, k, v):
    def call():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v, enable_gqa=q.shape[1] != k.shape[1])
    return call


def flash(q, k, v):
    """The heads of a group as rows of one head: flash attention then reads a key once."""
    rows = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])

    def call():
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(rows, k, v)
    return call


def paged(tensor, size, order):
    """The pages of a contiguous cache, shuffled."""
    batch, heads, keys, dim = tensor.shape
    pages = tensor.view(batch, heads, keys // size, size, dim).permute(0, 2, 1, 3, 4).reshape(-1, heads, size, dim)
    shuffled = torch.empty_like(pages)
    shuffled[order.long()] = pages
    return shuffled


def random(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def measure(rows, name, make):
    try:
        rows.append((name, median_us(make())))
    except RuntimeError as error:
        rows.append((name, str(error).splitlines()[0][:100]))


def main():
    library = Library(sys.argv[1])
    print(library.native.sieve_build_description().decode(), "|", torch.cuda.get_device_name(), "| torch", torch.__version__,
          "cuDNN", torch.backends.cudnn.version())
    big = torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(big)
    copy = median_us([lambda: target.copy_(big)])[0]
    print(f"copy of 2 GiB on the device: {2 * big.numel() / copy * 1e-6:.2f} TB/s read and written")
    del big, target
    q, k, v = random(2, 32, 1, 128), random(2, 8, 5000, 128), random(2, 8, 5000, 128)
    launch, out = library.softmax_decode(q, k, v)
    launch()
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), enable_gqa=True)
    print(f"check against fp32: largest error {(out.float() - expected).abs().max().item():.2e} of {expected.abs().max().item():.2e}")
    shapes = [(8, 32, 8, 65536, 128), (8, 32, 32, 65536, 128), (1, 32, 8, 131072, 128), (1, 32, 2, 131072, 64), (8, 32, 8, 65536, 64),
              (8, 32, 8, 4096, 128), (1, 32, 8, 8192, 128)]
    for batch, heads, key_heads, keys, dim in shapes:
        size = 2 * batch * key_heads * keys * dim * 2
        sets = [(random(batch, heads, 1, dim), random(batch, key_heads, keys, dim), random(batch, key_heads, keys, dim))
                for _ in range(max(1, min(8, (1 << 30) // size)))]
        rows = []
        measure(rows, "cuDNN", lambda: [cudnn(*s) for s in sets])
        measure(rows, "flash, group as rows", lambda: [flash(*s) for s in sets])
        for path in ("hopper", "generic"):
            measure(rows, f"ours, {path}", lambda: [library.softmax_decode(*s, path=path)[0] for s in sets])
        if size < 3 << 30:
            for page in (16, 64, 128):
                order = torch.randperm(batch * keys // page, device="cuda", dtype=torch.int32)
                table = order.view(batch, keys // page)
                pages = [(s[0], paged(s[1], page, order), paged(s[2], page, order)) for s in sets]
                measure(rows, f"ours, pages of {page}", lambda: [library.softmax_decode(*s, page_table=table)[0] for s in pages])
                del pages
            for queries in (2, 4, 8):
                more = [(random(batch, heads, queries, dim), s[1], s[2]) for s in sets]
                measure(rows, f"ours, {queries} new rows", lambda: [library.softmax_decode(*s)[0] for s in more])
        print(f"\nB{batch} {heads}/{key_heads} heads N{keys} D{dim}, bf16, {size / 1e6:.0f} MB")
        for name, result in rows:
            if isinstance(result, str):
                print(f"  {name:24} {result}")
            else:
                print(f"  {name:24} {result[0]:8.1f} us  ({result[1]:.1f}-{result[2]:.1f})  {size / result[0] * 1e-6:5.2f} TB/s")
        del sets
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
