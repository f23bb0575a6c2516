using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace SieveAttention;

/// <summary>Moves elements between strided tensors of any floating-point type and dense arrays, one row at a time.</summary>
internal static class ElementConversion
{
    /// <summary>Widens (or narrows, from double to float) a strided tensor into a dense array.</summary>
    internal static void Gather<TSource, T>(ReadOnlySpan<TSource> source, TensorStrides strides, TensorShape shape, Span<T> target)
        where TSource : unmanaged
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if (strides.IsContiguous(shape))
        {
            Convert(source[..target.Length], target);
            return;
        }

        TSource[] scratch = strides.Channels == 1 ? [] : new TSource[shape.Channels];
        int written = 0;
        foreach (long offset in new RowOffsets(shape, strides))
        {
            ReadOnlySpan<TSource> row = strides.Channels == 1
                ? source.Slice((int)offset, shape.Channels)
                : GatherRow(source, offset, strides.Channels, scratch);
            Convert(row, target.Slice(written, shape.Channels));
            written += shape.Channels;
        }
    }

    /// <summary>Rounds a dense array into a strided tensor; elements between its rows are left alone.</summary>
    internal static void Scatter<T, TTarget>(ReadOnlySpan<T> source, TensorShape shape, Span<TTarget> target, TensorStrides strides)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TTarget : unmanaged
    {
        if (strides.IsContiguous(shape))
        {
            Convert(source, target[..source.Length]);
            return;
        }

        TTarget[] scratch = new TTarget[shape.Channels];
        int read = 0;
        foreach (long offset in new RowOffsets(shape, strides))
        {
            Convert(source.Slice(read, shape.Channels), scratch.AsSpan());
            read += shape.Channels;
            for (int c = 0; c < scratch.Length; c++)
            {
                target[(int)(offset + (c * strides.Channels))] = scratch[c];
            }
        }
    }

    /// <summary>Copies elements of one type between two strided tensors of the same shape.</summary>
    internal static void Copy<T>(ReadOnlySpan<T> source, TensorStrides from, TensorShape shape, Span<T> target, TensorStrides to)
        where T : unmanaged
    {
        if (from.IsContiguous(shape) && to.IsContiguous(shape))
        {
            source[..(int)shape.Count].CopyTo(target);
            return;
        }

        RowOffsets targets = new(shape, to);
        foreach (long offset in new RowOffsets(shape, from))
        {
            targets.MoveNext();
            for (int c = 0; c < shape.Channels; c++)
            {
                target[(int)(targets.Current + (c * to.Channels))] = source[(int)(offset + (c * from.Channels))];
            }
        }
    }

    private static ReadOnlySpan<T> GatherRow<T>(ReadOnlySpan<T> source, long offset, long stride, T[] scratch)
    {
        for (int c = 0; c < scratch.Length; c++)
        {
            scratch[c] = source[(int)(offset + (c * stride))];
        }

        return scratch;
    }

    /// <summary>Converts each element with one rounding at most.</summary>
    private static void Convert<TSource, TTarget>(ReadOnlySpan<TSource> source, Span<TTarget> target)
        where TSource : unmanaged
        where TTarget : unmanaged
    {
        if (typeof(TSource) == typeof(BFloat16))
        {
            FromBFloat16(MemoryMarshal.Cast<TSource, BFloat16>(source), target);
        }
        else if (typeof(TTarget) == typeof(BFloat16))
        {
            ToBFloat16(source, MemoryMarshal.Cast<TTarget, BFloat16>(target));
        }
        else if (typeof(TSource) == typeof(double))
        {
            FromNumber(MemoryMarshal.Cast<TSource, double>(source), target);
        }
        else if (typeof(TSource) == typeof(float))
        {
            FromNumber(MemoryMarshal.Cast<TSource, float>(source), target);
        }
        else
        {
            FromNumber(MemoryMarshal.Cast<TSource, Half>(source), target);
        }
    }

    private static void FromNumber<TSource, TTarget>(ReadOnlySpan<TSource> source, Span<TTarget> target)
        where TSource : unmanaged, INumberBase<TSource>
        where TTarget : unmanaged
    {
        if (typeof(TTarget) == typeof(double))
        {
            TensorPrimitives.ConvertTruncating(source, MemoryMarshal.Cast<TTarget, double>(target));
        }
        else if (typeof(TTarget) == typeof(float))
        {
            TensorPrimitives.ConvertTruncating(source, MemoryMarshal.Cast<TTarget, float>(target));
        }
        else
        {
            TensorPrimitives.ConvertTruncating(source, MemoryMarshal.Cast<TTarget, Half>(target));
        }
    }

    private static void FromBFloat16<TTarget>(ReadOnlySpan<BFloat16> source, Span<TTarget> target)
        where TTarget : unmanaged
    {
        if (typeof(TTarget) == typeof(double))
        {
            Span<double> wide = MemoryMarshal.Cast<TTarget, double>(target);
            for (int i = 0; i < source.Length; i++)
            {
                wide[i] = source[i];
            }
        }
        else
        {
            Span<float> wide = MemoryMarshal.Cast<TTarget, float>(target);
            for (int i = 0; i < source.Length; i++)
            {
                wide[i] = source[i];
            }
        }
    }

    private static void ToBFloat16<TSource>(ReadOnlySpan<TSource> source, Span<BFloat16> target)
        where TSource : unmanaged
    {
        if (typeof(TSource) == typeof(double))
        {
            ReadOnlySpan<double> wide = MemoryMarshal.Cast<TSource, double>(source);
            for (int i = 0; i < wide.Length; i++)
            {
                target[i] = (BFloat16)wide[i];
            }
        }
        else
        {
            ReadOnlySpan<float> wide = MemoryMarshal.Cast<TSource, float>(source);
            for (int i = 0; i < wide.Length; i++)
            {
                target[i] = (BFloat16)wide[i];
            }
        }
    }

    /// <summary>Offsets of the rows of a tensor in row-major order.</summary>
    private struct RowOffsets(TensorShape shape, TensorStrides strides)
    {
        private int _batch;
        private int _head;
        private int _row = -1;

        public readonly long Current => strides.Offset(_batch, _head, _row);

        public readonly RowOffsets GetEnumerator() => this;

        public bool MoveNext()
        {
            if (++_row == shape.Rows)
            {
                _row = 0;
                if (++_head == shape.Heads)
                {
                    _head = 0;
                    _batch++;
                }
            }

            return _batch < shape.Batch;
        }
    }
}
