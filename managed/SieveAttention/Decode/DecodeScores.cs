using System.Numerics;
using System.Numerics.Tensors;

namespace SieveAttention.Decoding;

/// <summary>Scores s = scale g (q . k) - slope (position - key) of the new rows with cached keys of one view.</summary>
internal sealed class DecodeScores<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly DecodePlan _plan;
    private readonly int _view;
    private readonly ScoreTerms<T>[] _terms;

    internal DecodeScores(DecodePlan plan, int view, ScoreOptions scores, AttentionTensor? rowFactors, HostArray<T> query)
    {
        _plan = plan;
        _view = view;
        Query = query;
        _terms = new ScoreTerms<T>[plan.Problems.Length];
        for (int entry = 0; entry < _terms.Length; entry++)
        {
            // Row factors depend on positions, which differ between sequences.
            using AttentionTensor? factors = rowFactors?.Slice(0, entry, 1);
            _terms[entry] = scores.ToTerms<T>(plan.Problems[entry], factors);
        }
    }

    /// <summary>[entries, query heads, rows, head_dim].</summary>
    internal HostArray<T> Query { get; }

    /// <summary>What a row's products with keys are multiplied by.</summary>
    internal T Factor(int entry, DecodeRows<T> rows, int row) => Scale(entry) * RowFactor(entry, rows, row);

    /// <summary>The factor of all products.</summary>
    internal T Scale(int entry) => _terms[entry].Scale;

    /// <summary>The row factor of a row.</summary>
    internal T RowFactor(int entry, DecodeRows<T> rows, int row) => _terms[entry].Factor(0, rows.Head(row), rows.Query(row));

    /// <summary>What is added to a scaled product.</summary>
    internal T Bias(int entry, DecodeRows<T> rows, int row, int key) =>
        _terms[entry].Bias(_plan.Problems[entry], rows.Head(row), rows.Query(row), key);

    /// <summary>Keys of a run in the cache.</summary>
    internal ReadOnlySpan<T> Keys(int entry, int keyHead, int first, int count, Span<T> scratch) =>
        _plan.Cache.Keys(_view, _plan.Sequences[entry], keyHead, first, count, scratch);

    /// <summary>Scores of a row with keys <paramref name="first"/> on.</summary>
    internal void Compute(int entry, DecodeRows<T> rows, int row, int first, ReadOnlySpan<T> keys, Span<T> s)
    {
        ReadOnlySpan<T> q = rows.Of(Query, row);
        T factor = Factor(entry, rows, row);
        for (int n = 0; n < s.Length; n++)
        {
            s[n] = (factor * TensorPrimitives.Dot(q, keys.Slice(n * q.Length, q.Length))) + Bias(entry, rows, row, first + n);
        }
    }
}
