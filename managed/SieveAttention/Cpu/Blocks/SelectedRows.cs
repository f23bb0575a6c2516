using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// Scratch of one thread for the rows of a group tile with their selected keys: what forward and backward pass share. The heads of a query
/// row are computed together, because they share its selection.
/// </summary>
internal sealed unsafe class SelectedRows
{
    private readonly AttentionProblem _problem;
    private readonly float _scale;

    internal SelectedRows(
        in AttentionProblem problem, SparseSparseParameters parameters, GroupSchedule schedule, FloatArena arena, int width)
    {
        _problem = problem;
        _scale = (float)parameters.Scale;
        Queries = new PaddedRows(arena, schedule.MaxRows, problem.HeadDim);
        Columns = new SelectedColumns(arena, width);
        Scores = new Strip(arena, schedule.Group);
    }

    /// <summary>Queries of the tile times the scale.</summary>
    internal PaddedRows Queries { get; }

    /// <summary>Selected keys of the query row at hand.</summary>
    internal SelectedColumns Columns { get; }

    /// <summary>Scores of its heads, -infinity where a lane is not selected; later what the caller makes of them.</summary>
    internal Strip Scores { get; }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Begin(in GroupTile tile, HostArray<float> q)
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            RowMath.Scale(q.Row(tile.Batch, tile.Head(row), tile.QueryRow(row)), _scale, Queries.Span(row));
            Queries.ClearPadding(row);
        }
    }

    /// <summary>Computes the scores of query row <paramref name="n"/> of the tile.</summary>
    /// <returns>Whether it has any selected key.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal bool Score<TLanes, TVector>(in GroupTile tile, int n, BlockHead head, BlockLists blocks)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        Columns.Set(blocks, tile.Batch, tile.KeyHead, tile.First + n);
        if (Columns.Count == 0)
        {
            return false;
        }

        Scores.Resize(Columns.StripLength);
        ScatteredProduct<TLanes, TVector>.Multiply(
            Queries.Left(n * tile.Group),
            tile.Group,
            Columns.Addresses(head.Keys),
            Columns.Count,
            TLanes.Count,
            _problem.HeadDim,
            Scores.Data,
            Scores.Stride);
        for (int h = 0; h < tile.Group; h++)
        {
            Columns.Mask(Scores.Row(h), float.NegativeInfinity);
        }

        return true;
    }
}
