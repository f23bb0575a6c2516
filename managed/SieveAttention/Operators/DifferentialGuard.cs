namespace SieveAttention;

/// <summary>Checks that both differential operators share.</summary>
internal static class DifferentialGuard
{
    /// <summary>The definition of these operators has no row factor: both views or heads would need one of their own.</summary>
    internal static void Scores(ScoreOptions scores)
    {
        if (scores.RowFactor.Kind != RowFactorKind.None)
        {
            throw Guard.OutOfRange(nameof(scores.RowFactor), scores.RowFactor.Kind, "None; differential attention has no row factor");
        }
    }
}
