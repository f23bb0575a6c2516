using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>
/// Random sequences of different lengths, to be computed at once and step by step: each sequence has a prompt (none for the
/// shortest) and then <see cref="Steps"/> steps of <see cref="Rows"/> rows.
/// </summary>
internal sealed record DecodeFeed
{
    private Arrays? _arrays;

    public int Rows { get; init; } = 1;

    public int Steps { get; init; } = 21;

    /// <summary>Rows before the first step, for each sequence.</summary>
    public int[] Prompts { get; init; } = [0, 17, 70];

    public int QueryHeads { get; init; } = 4;

    public int KeyHeads { get; init; } = 2;

    public int HeadDim { get; init; } = 12;

    public int ValueDim { get; init; } = 10;

    /// <summary>Factor of queries and keys.</summary>
    public double Spread { get; init; } = 1;

    public int Length(int sequence) => Prompts[sequence] + (Steps * Rows);

    /// <summary>A cache that is just large enough, of one of the forms that every operator is tested with.</summary>
    public KeyValueCache Cache(bool paged, int views, TensorType type = TensorType.Float64)
    {
        KeyValueCacheLayout layout = new(Prompts.Length, KeyHeads, HeadDim, ValueDim) { Views = views, Type = type };
        const int PageSize = 7;
        int pages = Enumerable.Range(0, Prompts.Length).Sum(s => (Length(s) + PageSize - 1) / PageSize);
        return paged
            ? KeyValueCache.Paged(layout, PageSize, pages)
            : KeyValueCache.Contiguous(layout, Enumerable.Range(0, Prompts.Length).Max(Length));
    }

    /// <summary>A tensor of one sequence, [1, heads, length, channels], as random values that belong to the name.</summary>
    public AttentionTensor Whole(string name, int sequence, int heads, int channels) =>
        Values.Tensor(Array(name, heads, channels)[sequence]);

    public AttentionTensor Query(int sequence, string name = "q") => Whole(name, sequence, QueryHeads, HeadDim);

    public AttentionTensor Key(int sequence, string name = "k") => Whole(name, sequence, KeyHeads, HeadDim);

    public AttentionTensor Value(int sequence) => Whole("v", sequence, KeyHeads, ValueDim);

    /// <summary>The rows of one step of all sequences, [sequences, heads, rows, channels].</summary>
    public AttentionTensor Step(string name, int step, int heads, int channels)
    {
        HostArray<double> rows = new(new TensorShape(Prompts.Length, heads, Rows, channels));
        for (int s = 0; s < Prompts.Length; s++)
        {
            for (int h = 0; h < heads; h++)
            {
                for (int i = 0; i < Rows; i++)
                {
                    Array(name, heads, channels)[s].Row(0, h, Prompts[s] + (step * Rows) + i).CopyTo(rows.Row(s, h, i));
                }
            }
        }

        return Values.Tensor(rows);
    }

    public AttentionTensor StepQuery(int step, string name = "q") => Step(name, step, QueryHeads, HeadDim);

    /// <summary>
    /// Appends the prompts, then step after step, and hands each step's decoded tensor to a comparison with the rows of the prefill.
    /// </summary>
    public void Run(
        KeyValueCache cache, Func<KeyValueCache, int, AttentionTensor> decode, Func<int, AttentionTensor> prefill, double tolerance)
    {
        double[][] expected = Enumerable.Range(0, Prompts.Length).Select(s => Values.Doubles(prefill(s))).ToArray();
        AppendPrompts(cache);
        for (int step = 0; step < Steps; step++)
        {
            AppendStep(cache, step);
            AttentionTensor rows = decode(cache, step);
            Compare(HostArray<double>.Read(rows), expected, step, tolerance);
        }
    }

    public void AppendPrompts(KeyValueCache cache)
    {
        for (int s = 0; s < Prompts.Length; s++)
        {
            if (Prompts[s] > 0)
            {
                cache.Append(
                    s,
                    Key(s).Slice(2, 0, Prompts[s]),
                    Value(s).Slice(2, 0, Prompts[s]),
                    cache.Layout.Views == 2 ? Key(s, "k2").Slice(2, 0, Prompts[s]) : null);
            }
        }
    }

    public void AppendStep(KeyValueCache cache, int step) => cache.Append(
        Step("k", step, KeyHeads, HeadDim),
        Step("v", step, KeyHeads, ValueDim),
        cache.Layout.Views == 2 ? Step("k2", step, KeyHeads, HeadDim) : null);

    public override string ToString() => $"{Prompts.Length} sequences, {Steps} steps of {Rows}, {QueryHeads} heads on {KeyHeads}";

    private void Compare(HostArray<double> rows, double[][] expected, int step, double tolerance)
    {
        for (int s = 0; s < Prompts.Length; s++)
        {
            double scale = Math.Max(expected[s].Where(double.IsFinite).Select(Math.Abs).DefaultIfEmpty(0).Max(), 1e-30);
            for (int h = 0; h < rows.Shape.Heads; h++)
            {
                for (int i = 0; i < Rows; i++)
                {
                    int row = Prompts[s] + (step * Rows) + i;
                    double[] whole = expected[s].AsSpan(((h * Length(s)) + row) * rows.Shape.Channels, rows.Shape.Channels).ToArray();
                    Assert.That(
                        Deviation.Of(rows.Row(s, h, i), whole).Max,
                        Is.LessThanOrEqualTo(tolerance * scale),
                        $"sequence {s}, head {h}, row {row}");
                }
            }
        }
    }

    private HostArray<double>[] Array(string name, int heads, int channels)
    {
        if (_arrays is null || !_arrays.BelongTo(this))
        {
            _arrays = new Arrays(this);
        }

        if (!_arrays.TryGetValue(name, out HostArray<double>[]? arrays))
        {
            int seed = name.Aggregate(17, (sum, letter) => (31 * sum) + letter);
            arrays = Enumerable.Range(0, Prompts.Length)
                .Select(s => Values.NormalArray(new Random(seed + s), new TensorShape(1, heads, Length(s), channels))).ToArray();
            foreach (HostArray<double> array in arrays)
            {
                for (int n = 0; n < array.Data.Length && name[0] is 'q' or 'k'; n++)
                {
                    array.Data[n] *= Spread;
                }
            }

            _arrays.Add(name, arrays);
        }

        return arrays;
    }

    /// <summary>The sequences by name. A copy made by `with` has other sizes: it inherits the field, but not the arrays.</summary>
    private sealed class Arrays(DecodeFeed owner) : Dictionary<string, HostArray<double>[]>
    {
        public bool BelongTo(DecodeFeed feed) => ReferenceEquals(owner, feed);
    }
}
