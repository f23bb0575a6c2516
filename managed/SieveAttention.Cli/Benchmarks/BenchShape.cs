using System.Globalization;

namespace SieveAttention.Cli.Benchmarks;

/// <summary>Sizes and mask of a measured problem; query rows stand at the end of the keys.</summary>
internal sealed record BenchShape(
    int Batch, int QueryHeads, int KeyHeads, int Queries, int Keys, int HeadDim, int ValueDim, bool Causal = true, int? Window = null)
{
    /// <summary>Which keys a row sees.</summary>
    public AttentionMask Mask => new() { Causal = Causal, Window = Window };

    /// <summary>[batch, query heads, queries, head_dim].</summary>
    public TensorShape Query => new(Batch, QueryHeads, Queries, HeadDim);

    /// <summary>[batch, key heads, keys, head_dim].</summary>
    public TensorShape Key => new(Batch, KeyHeads, Keys, HeadDim);

    /// <summary>[batch, key heads, keys, value_dim].</summary>
    public TensorShape Value => new(Batch, KeyHeads, Keys, ValueDim);

    /// <summary>[batch, query heads, queries, value_dim].</summary>
    public TensorShape Output => new(Batch, QueryHeads, Queries, ValueDim);

    /// <summary>[batch, query heads, queries, 1].</summary>
    public TensorShape Rows => new(Batch, QueryHeads, Queries, 1);

    /// <summary>Pairs of a query row and a key that it sees, over all heads.</summary>
    public double VisiblePairs
    {
        get
        {
            AttentionProblem problem = new(
                Batch, QueryHeads, KeyHeads, Queries, Keys, HeadDim, ValueDim, Causal, (long)Keys - Queries, Window ?? 0);
            double pairs = 0;
            for (int row = 0; row < Queries; row++)
            {
                pairs += Math.Max(0, problem.Visible(row).Count);
            }
            return pairs * Batch * QueryHeads;
        }
    }

    /// <summary>Writes the sizes as "B1 H32/8 N4096 D128 causal".</summary>
    public override string ToString()
    {
        string heads = QueryHeads == KeyHeads ? $"H{QueryHeads}" : $"H{QueryHeads}/{KeyHeads}";
        string rows = Queries == Keys ? $"N{Keys}" : $"Tq{Queries} Tk{Keys}";
        string channels = HeadDim == ValueDim ? $"D{HeadDim}" : $"D{HeadDim} Dv{ValueDim}";
        string window = Window is { } keys ? string.Create(CultureInfo.InvariantCulture, $" window {keys}") : "";
        return $"B{Batch} {heads} {rows} {channels} {(Causal ? "causal" : "full")}{window}";
    }
}
