namespace SieveAttention;

/// <summary>Which row of the problem a row function works on, and the keys that it sees.</summary>
internal readonly record struct RowPlace(int Batch, int Head, int Row, KeyRange Visible)
{
    /// <summary>Number of the row in arrays of one value a row, [batch, query heads, queries].</summary>
    internal int Index(in AttentionProblem problem) => (((Batch * problem.QueryHeads) + Head) * problem.Queries) + Row;
}
