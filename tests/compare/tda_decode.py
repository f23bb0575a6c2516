"""Threshold differential attention, decode: our kernels with and without screens beside softmax decode, one process.

    python3 tests/compare/tda_decode.py libsieve_attention.so [threshold-differential.safetensors]

Beside them: two decode calls of cuDNN softmax attention over the same cache (the price of any two-view softmax attention), and a copy
of device memory. One new row of every sequence, two views, power 2, lambda 0.3. Inputs: random normal, and with the file of a trained
layer (tests/data/real), where head_dim is the layer's, its keys repeated up to the length, unit rows with 20 % noise of their norm;
queries are its last rows; beta is lowered so that the threshold is that of the trained length. All launches of a series are one CUDA
graph; medians of several replays. Rates are bytes of keys (and inverse norms, or images) that the kernel must read, each counted once.
With equal splits, survivors and bits of all screens are compared with those without. With several new rows, decode takes MOST_ROWS rows x
heads a key head, and reads no images beyond MOST_ROWS_OF_IMAGES of them.
"""
import gc
import json
import math
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from sieve import Library

LAUNCHES, REPLAYS = 8, 7
SCREENS = {"exact": 0, "int8": 1, "int4": 2}
MOST_ROWS = 64
MOST_ROWS_OF_IMAGES = 32


def median_us(launch):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        launch()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(LAUNCHES):
            launch()
    times = []
    for i in range(REPLAYS + 1):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if i > 0:
            times.append(start.elapsed_time(end) * 1e3 / LAUNCHES)
    return statistics.median(times)


def random(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def trained(path):
    """Queries and keys of a trained layer, [2, heads, rows, dim]."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = file.read()

    def tensor(name):
        first, last = header[name]["data_offsets"]
        return torch.frombuffer(bytearray(data[first:last]), dtype=torch.bfloat16).view(header[name]["shape"])[0].cuda()

    return torch.stack([tensor("q1"), tensor("q2")]), torch.stack([tensor("k1"), tensor("k2")]), float(header["__metadata__"]["beta"])


def lengthen(real, batch, heads, keys, dim):
    """Rows of the trained layer, repeated with noise."""
    unit = F.normalize(real.float(), dim=-1)
    rows = torch.arange(keys, device="cuda")
    entries = []
    for b in range(batch):
        for h in range(heads):
            part = unit[h % unit.shape[0]][(rows + 131 * b + 17 * h) % unit.shape[1]]
            entries.append((part + torch.randn_like(part) * 0.2 / math.sqrt(dim)).bfloat16())
    return torch.stack(entries).view(batch, heads, keys, dim)


def report(name, us, size, note=""):
    print(f"  {name:30} {us:8.1f} us  {size / us * 1e-6:5.2f} TB/s  {note}", flush=True)


def main():
    library = Library(sys.argv[1])
    layer = trained(sys.argv[2]) if len(sys.argv) > 2 else None
    print(library.native.sieve_build_description().decode(), "|", torch.cuda.get_device_name(), "| torch", torch.__version__,
          "cuDNN", torch.backends.cudnn.version())
    big = torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(big)
    report("copy on the device", median_us(lambda: target.copy_(big)), 2 * big.numel(), "read and written")
    del big, target
    shapes = [(8, 32, 8, 65536, 64), (8, 32, 8, 65536, 128), (1, 32, 8, 131072, 128), (1, 32, 2, 131072, 64), (8, 32, 8, 4096, 128)]
    for batch, heads, key_heads, keys, dim in shapes:
        for kind in ("random", "trained-like") if layer is not None and dim == layer[1].shape[3] else ("random",):
            if kind == "random":
                q = [random(batch, heads, 1, dim) for _ in range(2)]
                k = [random(batch, key_heads, keys, dim) for _ in range(2)]
                beta = 1.0
            else:
                k = [lengthen(layer[1][view], batch, key_heads, keys, dim) for view in range(2)]
                # Queries of a group are late rows of the layer's head.
                q = [lengthen(layer[0][view][:, -64:], batch, key_heads, heads // key_heads, dim).view(batch, heads, 1, dim) for view in range(2)]
                beta = layer[2] * math.sqrt(math.log(layer[1].shape[2]) / math.log(keys))
            v = random(batch, key_heads, keys, dim)
            print(f"\nB{batch} {heads}/{key_heads} heads N{keys} D{dim}, bf16, {kind}, beta {beta:.3f}")

            def softmax():
                with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                    for view in range(2):
                        F.scaled_dot_product_attention(q[view], k[view], v, enable_gqa=True)

            pairs = batch * key_heads * keys
            try:
                report("two cuDNN softmax calls", median_us(softmax), 8 * pairs * dim)
            except RuntimeError as error:
                print("  cuDNN:", str(error).splitlines()[0][:100])
            exact = None
            for name, screen in SCREENS.items():
                cache = library.tda_cache(k[0], k[1], v, screen)
                launch, out, survivors = library.tda_decode(q[0], q[1], cache, beta, 0.3, splits=4, counts=True)
                launch()
                torch.cuda.synchronize()
                result = (out.clone(), survivors[0].clone(), survivors[1].clone())
                if screen == 0:
                    exact = result
                    note = f"survivors {100 * result[1].sum().item() / (heads // key_heads * pairs):.4f} % / " \
                           f"{100 * result[2].sum().item() / (heads // key_heads * pairs):.4f} %"
                else:
                    note = "same survivors and bits at equal splits" if all(torch.equal(a, b) for a, b in zip(result, exact)) else "DIFFERS"
                size = pairs * 2 * (2 * dim + 4 if screen == 0 else 4 * cache.words / 16)
                report(f"ours, {name}", median_us(library.tda_decode(q[0], q[1], cache, beta, 0.3)[0]), size, note)
                report(f"append of all keys, {name}", median_us(cache.summarise), pairs * 4 * dim)
                del cache
            for queries in (2, 4, 8, 16):
                rows = queries * heads // key_heads
                if rows > MOST_ROWS:
                    print(f"  {queries} random rows: not run, {rows} rows x heads a key head are more than the {MOST_ROWS} that decode takes")
                    continue
                more = [random(batch, heads, queries, dim) for _ in range(2)]
                for name, screen in SCREENS.items():
                    cache = library.tda_cache(k[0], k[1], v, screen)
                    images = screen != 0 and rows <= MOST_ROWS_OF_IMAGES
                    size = pairs * 2 * (4 * cache.words / 16 if images else 2 * dim + 4)
                    report(f"ours, {name}, {queries} random rows", median_us(library.tda_decode(*more, cache, 1.0, 0.3)[0]), size,
                           "keys are read, not images" if screen != 0 and not images else "")
            if kind == "random":
                for low in (0.7, 0.5, 0.3, 0.1):  # data that defeats a screen
                    for name, screen in SCREENS.items():
                        cache = library.tda_cache(k[0], k[1], v, screen)
                        size = pairs * 2 * (2 * dim + 4 if screen == 0 else 4 * cache.words / 16)
                        report(f"ours, {name}, beta {low}", median_us(library.tda_decode(q[0], q[1], cache, low, 0.3)[0]), size)
            del q, k, v
            gc.collect()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
