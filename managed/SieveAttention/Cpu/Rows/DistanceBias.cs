using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// A learned bias of scores by the distance d = i + offset - j of query and key, and its gradient. Used by all threads at once.
/// </summary>
/// <remarks>
/// Gradients are summed apart for every query tile, whose rows one thread computes in their order, and then over the tiles in theirs: they
/// do not depend on the number of threads. That is one number for each distance, head and 64 rows.
/// </remarks>
internal sealed unsafe class DistanceBias
{
    private readonly AttentionProblem _problem;
    private readonly HostArray<float> _bias;
    private readonly int _tiles;
    private readonly int[] _lastRow;
    private readonly Lazy<double[]> _sums;

    /// <param name="problem">The problem.</param>
    /// <param name="bias">Of the distances from 0, [1, query heads, 1, distances]; 0 beyond.</param>
    internal DistanceBias(in AttentionProblem problem, HostArray<float> bias)
    {
        _problem = problem;
        _bias = bias;
        _tiles = (problem.Queries + QueryTile.MaxRows - 1) / QueryTile.MaxRows;
        _lastRow = new int[problem.Batch * problem.QueryHeads * _tiles];
        _sums = new Lazy<double[]>(() => new double[(long)_lastRow.Length * bias.Shape.Channels]);
    }

    /// <summary>Adds the bias to the scores of a row's visible keys.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void AddTo(in RowPlace place, float* scores)
    {
        ReadOnlySpan<float> bias = _bias.Row(0, place.Head, 0);
        (int first, int end, long position) = Near(place);
        for (int n = first; n < end; n++)
        {
            scores[n] += bias[(int)(position - n)];
        }
    }

    /// <summary>Takes in the score gradients of a row. The first row of a tile starts its sums anew.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Differentiate(in RowPlace place, float* gradients)
    {
        int tile = (((place.Batch * _problem.QueryHeads) + place.Head) * _tiles) + (place.Row / QueryTile.MaxRows);
        Span<double> sums = _sums.Value.AsSpan(tile * _bias.Shape.Channels, _bias.Shape.Channels);
        if (place.Row <= _lastRow[tile])
        {
            sums.Clear();
        }

        _lastRow[tile] = place.Row;
        (int first, int end, long position) = Near(place);
        for (int n = first; n < end; n++)
        {
            sums[(int)(position - n)] += gradients[n];
        }
    }

    /// <summary>db, of the shape of the bias.</summary>
    internal HostArray<float> Gradient()
    {
        int distances = _bias.Shape.Channels;
        double[] total = new double[_bias.Data.Length];
        for (int tile = 0; tile < _lastRow.Length && _sums.IsValueCreated; tile++)
        {
            int head = tile / _tiles % _problem.QueryHeads;
            for (int d = 0; d < distances; d++)
            {
                total[(head * distances) + d] += _sums.Value[(tile * distances) + d];
            }
        }

        HostArray<float> gradient = new(_bias.Shape);
        for (int n = 0; n < total.Length; n++)
        {
            gradient.Data[n] = (float)total[n];
        }

        return gradient;
    }

    /// <summary>The visible keys at distances that have a bias, counted from the first visible one; distance = position - number.</summary>
    private (int First, int End, long Position) Near(in RowPlace place)
    {
        long position = place.Row + _problem.QueryOffset - place.Visible.First;
        int first = (int)Math.Clamp(position - _bias.Shape.Channels + 1, 0, place.Visible.Count);
        int end = (int)Math.Clamp(position + 1, first, place.Visible.Count);
        return (first, end, position);
    }
}
