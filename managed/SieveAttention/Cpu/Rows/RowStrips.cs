using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Scratch of one thread for attention with a row function: strips of the query tile's rows against all key tiles that it sees. A strip
/// holds whole rows because the weights of a row depend on all of its scores.
/// </summary>
internal sealed unsafe class RowStrips
{
    private readonly AttentionProblem _problem;
    private readonly RowFunction _function;
    private readonly TileSchedule _schedule;
    private readonly ScoredQueries _queries;
    private readonly TileWeights _products;
    private readonly nint _stride;
    private readonly float* _weights;
    private readonly float* _scores;
    private readonly float* _gradients;
    private readonly float* _scratch;

    internal RowStrips(
        AttentionProblem problem, ScoreTerms<float> terms, RowFunction function, TileSchedule schedule, FloatArena arena, bool backward)
    {
        _problem = problem;
        _function = function;
        _schedule = schedule;
        _queries = new ScoredQueries(problem, terms, arena);
        _products = new TileWeights(arena);
        Sum = new PaddedRows(arena, QueryTile.MaxRows, problem.ValueDim);
        QuerySums = new PaddedRows(arena, QueryTile.MaxRows, problem.HeadDim);
        OutputGradient = new PaddedRows(arena, QueryTile.MaxRows, problem.ValueDim);
        // One line more: whole vectors reach beyond the last key, and rows whose distance is a power of two would share cache sets.
        _stride = (Longest(schedule) * ColumnPanels.TileRows) + FloatArena.Line;
        _weights = arena.Take(QueryTile.MaxRows * _stride);
        _scores = backward && !function.WeightsSuffice ? arena.Take(QueryTile.MaxRows * _stride) : null;
        _gradients = backward ? arena.Take(QueryTile.MaxRows * _stride) : null;
        _scratch = arena.Take(_stride);
    }

    /// <summary>Sum of weighted values of each row.</summary>
    internal PaddedRows Sum { get; }

    /// <summary>Gradient of the rows of <see cref="Sum"/>.</summary>
    private PaddedRows OutputGradient { get; }

    /// <summary>Sum over j of ds_ij k_j of each row.</summary>
    private PaddedRows QuerySums { get; }

    /// <summary>Computes the weights of a query tile and the sums of values weighted by them.</summary>
    internal void Attend<TLanes, TVector>(in QueryTile tile, HostArray<float> q, ColumnPanels keys, HeadValues values)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        Weigh<TLanes, TVector>(tile, q, keys);
        Sum.Clear(tile.Rows);
        for (int keyTile = tile.FirstKeyTile; keyTile < tile.EndKeyTile; keyTile++)
        {
            if (_products.Find<TLanes, TVector>(At(_weights, tile, keyTile), _stride, tile.Rows, _schedule.KeysInTile(keyTile)) > 0)
            {
                _products.AddRows<TLanes, TVector>(values.Rows, keyTile * ColumnPanels.TileRows, values.IsFinite(keyTile), Sum);
            }
        }
    }

    /// <summary>Adds the gradients of a query tile to <paramref name="sums"/> and writes those of its queries.</summary>
    internal void Differentiate<TLanes, TVector>(
        in QueryTile tile, HostArray<float> q, HostArray<float> dx, HeadValues keys, HeadValues values, KeyValueSums sums,
        HostArray<float> dq, HostArray<float>? drowFactor)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        Weigh<TLanes, TVector>(tile, q, keys.Columns!);
        bool finite = Load(tile, dx);
        for (int keyTile = tile.FirstKeyTile; keyTile < tile.EndKeyTile; keyTile++)
        {
            int firstSum = (keyTile * ColumnPanels.TileRows) - sums.Keys.First;
            int count = _schedule.KeysInTile(keyTile);
            int nonzero = _products.Find<TLanes, TVector>(At(_weights, tile, keyTile), _stride, tile.Rows, count);
            if (nonzero > 0)
            {
                _products.AddColumns<TLanes, TVector>(OutputGradient, finite, sums.Value, firstSum);
            }

            if (nonzero > 0 || !_function.WeightsSuffice)
            {
                TileProduct<TLanes, TVector>.Multiply(
                    OutputGradient.Left(0), values.Columns!.Tile(keyTile), tile.Rows, OutputGradient.Channels, count,
                    At(_gradients, tile, keyTile), _stride, accumulate: false);
            }
        }

        DifferentiateRows<TLanes, TVector>(tile);
        QuerySums.Clear(tile.Rows);
        for (int keyTile = tile.FirstKeyTile; keyTile < tile.EndKeyTile; keyTile++)
        {
            int firstKey = keyTile * ColumnPanels.TileRows;
            if (_products.Find<TLanes, TVector>(At(_gradients, tile, keyTile), _stride, tile.Rows, _schedule.KeysInTile(keyTile)) > 0)
            {
                _products.AddRows<TLanes, TVector>(keys.Rows, firstKey, keys.IsFinite(keyTile), QuerySums);
                _products.AddColumns<TLanes, TVector>(_queries.Rows, _queries.Finite, sums.Key, firstKey - sums.Keys.First);
            }
        }

        _queries.Finish(q, tile, QuerySums, dq, drowFactor);
    }

    private static int Longest(TileSchedule schedule)
    {
        int longest = 0;
        for (int tile = 0; tile < schedule.TilesPerHead; tile++)
        {
            QueryTile rows = schedule.Tile(0, 0, tile);
            longest = Math.Max(longest, rows.EndKeyTile - rows.FirstKeyTile);
        }

        return longest;
    }

    private static float* At(float* strip, in QueryTile tile, int keyTile) =>
        strip + ((keyTile - tile.FirstKeyTile) * ColumnPanels.TileRows);

    /// <summary>Fills the strip of weights; 0 where a row does not see a key.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Weigh<TLanes, TVector>(in QueryTile tile, HostArray<float> q, ColumnPanels keys)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        _queries.Load(q, tile);
        for (int keyTile = tile.FirstKeyTile; keyTile < tile.EndKeyTile; keyTile++)
        {
            _queries.Score<TLanes, TVector>(tile, keys, keyTile, _schedule.KeysInTile(keyTile), At(_weights, tile, keyTile), _stride);
        }

        for (int row = 0; row < tile.Rows; row++)
        {
            RowPlace place = Place(tile, row);
            float* line = Line(_weights, tile, row, place);
            if (place.Visible.Count > 0)
            {
                Follow(line, place, float.NegativeInfinity);
                if (_scores is not null)
                {
                    new Span<float>(line, FloatArena.Pad(place.Visible.Count)).CopyTo(
                        new Span<float>(Line(_scores, tile, row, place), FloatArena.Pad(place.Visible.Count)));
                }

                _function.Forward<TLanes, TVector>(place, line, _scratch);
            }

            ClearMasked(_weights, tile, row, place);
        }
    }

    /// <summary>Gradients of weights to those of scores; 0 where a row does not see a key.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void DifferentiateRows<TLanes, TVector>(in QueryTile tile)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            RowPlace place = Place(tile, row);
            if (place.Visible.Count > 0)
            {
                float* line = Line(_gradients, tile, row, place);
                Follow(line, place, 0);
                float* scores = _scores is null ? null : Line(_scores, tile, row, place);
                _function.Backward<TLanes, TVector>(place, scores, Line(_weights, tile, row, place), line, _scratch);
            }

            ClearMasked(_gradients, tile, row, place);
        }
    }

    private bool Load(in QueryTile tile, HostArray<float> dx)
    {
        bool finite = true;
        for (int row = 0; row < tile.Rows; row++)
        {
            dx.Row(tile.Batch, tile.Head, tile.First + row).CopyTo(OutputGradient.Span(row));
            OutputGradient.ClearPadding(row);
            finite &= RowMath.IsFinite(OutputGradient.Span(row));
        }

        return finite;
    }

    private RowPlace Place(in QueryTile tile, int row) => new(tile.Batch, tile.Head, tile.First + row, _problem.Visible(tile.First + row));

    /// <summary>The first visible key of a row in a strip.</summary>
    private float* Line(float* strip, in QueryTile tile, int row, in RowPlace place) =>
        strip + (row * _stride) + (place.Visible.Count == 0 ? 0 : place.Visible.First - (tile.FirstKeyTile * ColumnPanels.TileRows));

    /// <summary>Writes what follows the visible keys up to a whole vector of any width.</summary>
    private static void Follow(float* line, in RowPlace place, float value) =>
        new Span<float>(line + place.Visible.Count, FloatArena.Pad(place.Visible.Count) - place.Visible.Count).Fill(value);

    private void ClearMasked(float* strip, in QueryTile tile, int row, in RowPlace place)
    {
        Span<float> whole = new(strip + (row * _stride), (int)_stride);
        int first = (int)(Line(strip, tile, row, place) - (strip + (row * _stride)));
        whole[..first].Clear();
        whole[(first + place.Visible.Count)..].Clear();
    }
}
