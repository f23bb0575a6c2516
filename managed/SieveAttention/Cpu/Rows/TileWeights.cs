using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Products of the weights (or gradients) of one query tile and one key tile with rows: whole where many weights are not zero, row by row
/// where few are or where a product with 0 could give NaN. Both ways give the same bits.
/// </summary>
internal sealed unsafe class TileWeights(FloatArena arena)
{
    /// <summary>
    /// Share of weights that are not zero above which whole products are cheaper; the same as that of thresholded attention, whose
    /// measurements it follows (ThresholdTuning.DenseSurvivors).
    /// </summary>
    private const double Dense = 0.125;

    private readonly WeightList _list = new(arena);
    private readonly ulong[] _nonzero = new ulong[QueryTile.MaxRows];
    private float* _weights;
    private nint _stride;
    private int _rows;
    private int _columns;
    private int _count;

    /// <summary>Looks at a tile of weights.</summary>
    /// <param name="weights">Its first weight; must stay as it is until the last product.</param>
    /// <param name="stride">Weights from one row to the next.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns, at least 1; what stands beyond up to a whole vector is read and ignored.</param>
    /// <returns>Number of weights that are not zero.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal int Find<TLanes, TVector>(float* weights, nint stride, int rows, int columns)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        _weights = weights;
        _stride = stride;
        _rows = rows;
        _columns = columns;
        _count = 0;
        ulong valid = ulong.MaxValue >> (64 - columns);
        for (int row = 0; row < rows; row++)
        {
            float* line = weights + (row * stride);
            ulong bits = 0;
            for (int c = 0; c < columns; c += TLanes.Count)
            {
                TVector weight = TLanes.Load(line + c);
                bits |= (TLanes.NotAtMost(weight, default) | TLanes.NotAtMost(default, weight)) << c;
            }

            _nonzero[row] = bits & valid;
            _count += BitOperations.PopCount(bits & valid);
        }

        return _count;
    }

    /// <summary>target_i += sum over j of w_ij b_j, with b from row <paramref name="first"/> on.</summary>
    internal void AddRows<TLanes, TVector>(PaddedRows b, int first, bool finite, PaddedRows target)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        if (finite && _count > Dense * _rows * _columns)
        {
            TileProduct<TLanes, TVector>.Multiply(
                new LeftFactor(_weights, _stride), b.Right<TLanes, TVector>(first), _rows, _columns, target.Channels,
                target.Row(0), target.Stride, accumulate: true);
            return;
        }

        for (int row = 0; row < _rows; row++)
        {
            if (_nonzero[row] == 0)
            {
                continue;
            }

            _list.Clear();
            for (ulong bits = _nonzero[row]; bits != 0; bits &= bits - 1)
            {
                int column = BitOperations.TrailingZeroCount(bits);
                _list.Add(column, _weights[(row * _stride) + column]);
            }

            SparseProduct<TLanes, TVector>.Gather(_list, b.Row(first), b.Stride, b.Channels, target.Row(row));
        }
    }

    /// <summary>target_j += sum over i of w_ij a_i, with the target from row <paramref name="first"/> on.</summary>
    internal void AddColumns<TLanes, TVector>(PaddedRows a, bool finite, PaddedRows target, int first)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        if (finite && _count > Dense * _rows * _columns)
        {
            TileProduct<TLanes, TVector>.Multiply(
                new LeftFactor(_weights, _stride).Transposed, a.Right<TLanes, TVector>(0), _columns, _rows, target.Channels,
                target.Row(first), target.Stride, accumulate: true);
            return;
        }

        for (int row = 0; row < _rows; row++)
        {
            for (ulong bits = _nonzero[row]; bits != 0; bits &= bits - 1)
            {
                int column = BitOperations.TrailingZeroCount(bits);
                SparseProduct<TLanes, TVector>.AddScaled(
                    _weights[(row * _stride) + column], a.Row(row), a.Channels, target.Row(first + column));
            }
        }
    }
}
