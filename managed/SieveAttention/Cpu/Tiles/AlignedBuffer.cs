using System.Buffers;
using System.Runtime.InteropServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>
/// Floats at a fixed address on a cache-line boundary, so that no 64-byte vector load crosses a line. Rented from the shared array pool: repeated
/// calls touch no new memory, and the pool gives it back under memory pressure. Contents start unspecified.
/// </summary>
/// <remarks>Not thread safe; must be disposed exactly where it was made, because its memory is pinned and pooled.</remarks>
internal sealed unsafe class AlignedBuffer : IDisposable
{
    /// <summary>Alignment and padding unit of the CPU path in floats: 64 bytes, a cache line and the widest vector.</summary>
    internal const int Line = 16;

    private readonly float[] _array;
    private GCHandle _pin;

    internal AlignedBuffer(long count)
    {
        if (count > Array.MaxLength - Line)
        {
            throw new NotSupportedException(
                $"A head needs a buffer of {count} floats; the Cpu device takes at most {Array.MaxLength - Line}. Split the sequence into several calls.");
        }

        _array = ArrayPool<float>.Shared.Rent((int)count + Line);
        _pin = GCHandle.Alloc(_array, GCHandleType.Pinned);
        nint address = _pin.AddrOfPinnedObject();
        Data = (float*)((address + 63) & ~(nint)63);
    }

    internal float* Data { get; }

    /// <summary>The smallest multiple of <see cref="Line"/> that is at least <paramref name="count"/>.</summary>
    internal static int Pad(int count) => (count + Line - 1) / Line * Line;

    public void Dispose()
    {
        if (_pin.IsAllocated)
        {
            _pin.Free();
            ArrayPool<float>.Shared.Return(_array);
        }
    }
}
