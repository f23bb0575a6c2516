namespace SieveAttention.Cli.Pictures;

/// <summary>The attention weights of one head, row by row; safe to ask from several threads.</summary>
internal interface IWeightSource
{
    /// <summary>Query rows.</summary>
    int Queries { get; }

    /// <summary>Key rows.</summary>
    int Keys { get; }

    /// <summary>Position of query row 0 among the keys.</summary>
    long QueryOffset { get; }

    /// <summary>Names of the counts that each row has, such as <c>view 1</c>; none for operators without survivors.</summary>
    IReadOnlyList<string> CountNames { get; }

    /// <summary>Computes a row.</summary>
    /// <param name="query">The row.</param>
    /// <param name="weights">Receives a weight for each key; 0 where the key is not visible.</param>
    /// <param name="counts">Receives the counts of the row, in the order of <see cref="CountNames"/>.</param>
    /// <returns>First and end of the visible keys.</returns>
    (int First, int End) Row(int query, Span<double> weights, Span<int> counts);
}
