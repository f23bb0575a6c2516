using System.Numerics;

namespace SieveAttention;

/// <summary>Parameters of threshold differential attention as the host implementations take them.</summary>
/// <param name="Beta">Steepness of the threshold, one for each query head.</param>
/// <param name="Kappa">Visible keys up to which the threshold stays 0.</param>
/// <param name="Lambda">Weight of the second view, one for each query head.</param>
/// <param name="Power">Exponent of the exceedance.</param>
/// <param name="Epilogue">Norm and output scale.</param>
internal sealed record ThresholdDifferentialParameters(
    double[] Beta, double Kappa, double[] Lambda, double Power, EpilogueParameters Epilogue);

/// <summary>What the host implementations return from the forward pass.</summary>
/// <param name="Output">[batch, query heads, queries, value_dim].</param>
/// <param name="Survivors1">Keys above the threshold in view 1, [batch, query heads, queries].</param>
/// <param name="Survivors2">The same for view 2; null without it.</param>
internal sealed record ThresholdDifferentialForward<T>(HostArray<T> Output, int[] Survivors1, int[]? Survivors2)
    where T : unmanaged, IFloatingPointIeee754<T>;

/// <summary>What the host implementations return from the backward pass; absent inputs have no gradient.</summary>
/// <param name="Query1">Gradient of the first query view, of its shape.</param>
/// <param name="Key1">Gradient of the first key view.</param>
/// <param name="Query2">Gradient of the second query view.</param>
/// <param name="Key2">Gradient of the second key view.</param>
/// <param name="Value">Gradient of the values.</param>
/// <param name="NormGain">Gradient of the gain, [value_dim].</param>
/// <param name="Gate">Gradient of the gate logits, [batch, query heads, queries, 1].</param>
/// <param name="Beta">Gradient of beta, one for each query head.</param>
/// <param name="Kappa">Gradient of kappa.</param>
/// <param name="Lambda">Gradient of lambda, one for each query head; 0 without a second view.</param>
internal sealed record ThresholdDifferentialBackward<T>(
    HostArray<T> Query1,
    HostArray<T> Key1,
    HostArray<T>? Query2,
    HostArray<T>? Key2,
    HostArray<T> Value,
    T[]? NormGain,
    HostArray<T>? Gate,
    double[] Beta,
    double Kappa,
    double[] Lambda)
    where T : unmanaged, IFloatingPointIeee754<T>;
