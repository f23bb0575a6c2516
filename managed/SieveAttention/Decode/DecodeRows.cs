using System.Numerics;
using System.Numerics.Tensors;

namespace SieveAttention.Decoding;

/// <summary>The new rows of the query heads that share one key head of one entry, numbered from 0 head by head.</summary>
internal readonly struct DecodeRows<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly int _entry;
    private readonly int _firstHead;
    private readonly int _perHead;
    private readonly int _heads;

    internal DecodeRows(DecodePlan plan, int entry, int keyHead)
    {
        _entry = entry;
        _firstHead = keyHead * plan.Group;
        _perHead = plan.QueryShape.Rows;
        _heads = plan.QueryShape.Heads;
        Count = plan.Group * _perHead;
    }

    internal int Count { get; }

    internal int Head(int row) => _firstHead + (row / _perHead);

    /// <summary>Number of the row among those of its head.</summary>
    internal int Query(int row) => row % _perHead;

    /// <summary>Number of the row in arrays of one value a row, [entries, query heads, rows].</summary>
    internal int Index(int row) => (((_entry * _heads) + Head(row)) * _perHead) + Query(row);

    /// <summary>A row of an array of the shape [entries, query heads, rows, channels].</summary>
    internal Span<T> Of(HostArray<T> array, int row) => array.Row(_entry, Head(row), Query(row));

    /// <summary>target += weight * source. Weight 0 contributes nothing, whatever the source holds.</summary>
    internal static void AddScaled(Span<T> target, T weight, ReadOnlySpan<T> source)
    {
        if (!T.IsZero(weight))
        {
            TensorPrimitives.MultiplyAdd(source, weight, target, target);
        }
    }
}
