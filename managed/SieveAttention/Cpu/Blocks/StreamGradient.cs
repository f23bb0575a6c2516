using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The gradient of one stream's output at the rows of a group tile: dO, Delta = dO . o and the logarithm of the sum of weights.
/// </summary>
internal sealed class StreamGradient
{
    private readonly AttentionProblem _problem;
    private readonly SparseSparseOutput<float> _stream;
    private readonly HostArray<float> _dOutput;

    internal StreamGradient(
        in AttentionProblem problem, SparseSparseOutput<float> stream, HostArray<float> dOutput, FloatArena arena, int maxRows)
    {
        _problem = problem;
        _stream = stream;
        _dOutput = dOutput;
        Rows = new PaddedRows(arena, maxRows, problem.ValueDim);
        Delta = new float[maxRows];
        LogSumExp = new float[maxRows];
    }

    /// <summary>dO.</summary>
    internal PaddedRows Rows { get; }

    internal float[] Delta { get; }

    internal float[] LogSumExp { get; }

    /// <summary>Whether dO has neither NaN nor infinity.</summary>
    internal bool Finite { get; private set; }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Begin(in GroupTile tile)
    {
        Finite = true;
        for (int row = 0; row < tile.Rows; row++)
        {
            (int head, int queryRow) = (tile.Head(row), tile.QueryRow(row));
            ReadOnlySpan<float> d = _dOutput.Row(tile.Batch, head, queryRow);
            ReadOnlySpan<float> o = _stream.Output.Row(tile.Batch, head, queryRow);
            d.CopyTo(Rows.Span(row));
            Rows.ClearPadding(row);
            Delta[row] = RowMath.Chain(d, o);
            float lse = _stream.LogSumExp[(((tile.Batch * _problem.QueryHeads) + head) * _problem.Queries) + queryRow];
            // A row without keys has no weights to compute; -infinity would make them NaN.
            LogSumExp[row] = float.IsNegativeInfinity(lse) ? 0 : lse;
            Finite &= RowMath.IsFinite(d);
        }
    }

    /// <summary>
    /// Turns scores into weights w = exp(s - L) and products dw into score gradients ds = w (dw - Delta), both in place; a weight of 0 has
    /// the gradient 0, whatever its product is.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal unsafe void Differentiate<TLanes, TVector>(int row, float* scores, float* products, int length)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector lse = TLanes.Broadcast(LogSumExp[row]);
        TVector delta = TLanes.Broadcast(Delta[row]);
        for (int c = 0; c < length; c += TLanes.Count)
        {
            TVector weight = LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(TLanes.Load(scores + c), lse));
            TVector gradient = TLanes.Multiply(weight, TLanes.Subtract(TLanes.Load(products + c), delta));
            TLanes.Store(scores + c, weight);
            TLanes.Store(products + c, TLanes.WhereNotAtMost(weight, default, gradient));
        }
    }
}
