using System.Buffers;
using System.Runtime.InteropServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>
/// Hands out floats at fixed addresses on cache-line boundaries, so that no 64-byte vector load crosses a line, and takes all of them
/// back at once when it is disposed. Blocks come from the shared array pool: repeated calls touch no new memory, and the pool frees it
/// under memory pressure.
/// </summary>
/// <remarks>
/// A few large blocks, because the pool keeps few arrays of a size; a buffer each for keys, values and every tile made it allocate anew
/// in every call (9 ms instead of 3 ms of packing in a forward pass of 24 ms). Native memory was slower still: freed pages go back to the
/// system and return as page faults. Not thread safe.
/// </remarks>
/// <param name="blockFloats">Smallest block to rent.</param>
internal sealed unsafe class FloatArena(int blockFloats) : IDisposable
{
    /// <summary>Alignment and padding unit of the CPU path in floats: 64 bytes, a cache line and the widest vector.</summary>
    internal const int Line = 16;

    /// <summary>Block for what all threads read.</summary>
    internal const int Large = 1 << 20;

    /// <summary>Block for the scratch of a thread.</summary>
    internal const int Small = 1 << 17;

    private readonly List<(float[] Array, GCHandle Pin)> _blocks = [];
    private float* _next;
    private long _left;

    /// <summary>Memory of <paramref name="count"/> floats with unspecified contents, valid until the arena is disposed.</summary>
    internal float* Take(long count)
    {
        long padded = (count + Line - 1) / Line * Line;
        if (padded > _left)
        {
            AddBlock(padded);
        }

        float* taken = _next;
        _next += padded;
        _left -= padded;
        return taken;
    }

    /// <summary>The smallest multiple of <see cref="Line"/> that is at least <paramref name="count"/>.</summary>
    internal static int Pad(int count) => (count + Line - 1) / Line * Line;

    public void Dispose()
    {
        foreach ((float[] array, GCHandle pin) in _blocks)
        {
            pin.Free();
            ArrayPool<float>.Shared.Return(array);
        }

        _blocks.Clear();
        _left = 0;
    }

    private void AddBlock(long least)
    {
        if (least > Array.MaxLength - Line)
        {
            throw new NotSupportedException(
                $"A head needs a buffer of {least} floats; the Cpu device takes at most {Array.MaxLength - Line}. " +
                "Split the sequence into several calls.");
        }

        float[] array = ArrayPool<float>.Shared.Rent((int)Math.Max(least + Line, blockFloats));
        GCHandle pin = GCHandle.Alloc(array, GCHandleType.Pinned);
        _blocks.Add((array, pin));
        nint start = pin.AddrOfPinnedObject();
        _next = (float*)((start + 63) & ~(nint)63);
        _left = array.Length - (((nint)_next - start) / sizeof(float));
        _left -= _left % Line;
    }
}
