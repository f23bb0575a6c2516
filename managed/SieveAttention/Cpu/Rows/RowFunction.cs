using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// The weights of one row from the scores of its visible keys, in float32: a normaliser, or what stands in its place. One subclass each,
/// used by all threads at once, but never by two for the same row. A subclass keeps the values of its rows that are outputs and the
/// gradients of its parameters, one place a row, and adds them up in the order of the rows when asked: they do not depend on the threads.
/// </summary>
/// <remarks>
/// A buffer holds the row's visible keys, at least one, at any address, and then floats up to the next multiple of the vector width, which
/// may be read and written as well. What stands there beforehand is said below, what stands there afterwards does not matter.
/// </remarks>
internal abstract unsafe class RowFunction
{
    /// <summary>
    /// Whether weights alone are enough to differentiate, and a weight of 0 has a score gradient of 0. Tiles whose weights are all 0 then
    /// cost no product in the backward pass either.
    /// </summary>
    internal abstract bool WeightsSuffice { get; }

    /// <summary>Turns scores into weights.</summary>
    /// <param name="place">The row.</param>
    /// <param name="row">Scores, followed by -infinity; receives the weights.</param>
    /// <param name="scratch">A buffer of the same length.</param>
    internal abstract void Forward<TLanes, TVector>(in RowPlace place, float* row, float* scratch)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct;

    /// <summary>Turns gradients of weights into gradients of scores.</summary>
    /// <param name="place">The row.</param>
    /// <param name="scores">Scores, followed by -infinity, to be overwritten at will; null where <see cref="WeightsSuffice"/>.</param>
    /// <param name="weights">Weights that <see cref="Forward"/> gave for them, followed by 0.</param>
    /// <param name="gradients">
    /// Gradients of weights, followed by 0; receives those of scores. Where <see cref="WeightsSuffice"/>, anything may stand where the
    /// weight is 0, NaN as well.
    /// </param>
    /// <param name="scratch">A buffer of the same length.</param>
    internal abstract void Backward<TLanes, TVector>(
        in RowPlace place, float* scores, float* weights, float* gradients, float* scratch)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct;
}
