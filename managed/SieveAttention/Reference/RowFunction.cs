namespace SieveAttention.Reference;

/// <summary>
/// The weights of one row from the scores of its visible keys: a normaliser, or what stands in its place. One subclass each.
/// Rows come one after the other and always with at least one visible key. A subclass keeps the values of its rows that are
/// outputs (thresholds, counts) and sums the gradients of its own parameters.
/// </summary>
internal abstract class RowFunction
{
    /// <summary>Computes the weights.</summary>
    /// <param name="place">The row; spans hold its visible keys only, in their order.</param>
    /// <param name="s">Scores.</param>
    /// <param name="w">Receives the weights.</param>
    internal abstract void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w);

    /// <summary>Computes the gradient of the scores and adds to the gradients of the parameters.</summary>
    /// <param name="place">The row.</param>
    /// <param name="s">Scores.</param>
    /// <param name="w">Weights that <see cref="Forward"/> gave for them.</param>
    /// <param name="dw">Gradient of the weights.</param>
    /// <param name="ds">Receives the gradient of the scores.</param>
    internal abstract void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds);
}
