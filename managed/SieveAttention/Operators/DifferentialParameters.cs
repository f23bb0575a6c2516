using System.Numerics;

namespace SieveAttention;

/// <summary>Parameters of differential attention as the host implementations take them.</summary>
/// <param name="Lambda">Weight of the second view, one for each query head.</param>
/// <param name="Epilogue">Norm and output scale.</param>
internal sealed record DifferentialParameters(double[] Lambda, EpilogueParameters Epilogue);

/// <summary>The tensors of one call of differential attention as the host implementations take them.</summary>
/// <param name="Query1">[batch, query heads, queries, head_dim].</param>
/// <param name="Key1">[batch, key heads, keys, head_dim].</param>
/// <param name="Query2">Second view, of the shape of the first.</param>
/// <param name="Key2">Second view, of the shape of the first.</param>
/// <param name="Value">[batch, key heads, keys, value_dim].</param>
/// <param name="NormGain">[value_dim]; null = ones.</param>
/// <param name="Gate">Logits, [batch, query heads, queries, 1]; null = no gate.</param>
internal sealed record DifferentialArrays<T>(
    HostArray<T> Query1, HostArray<T> Key1, HostArray<T> Query2, HostArray<T> Key2, HostArray<T> Value, T[]? NormGain, HostArray<T>? Gate)
    where T : unmanaged, IFloatingPointIeee754<T>;

/// <summary>What the host implementations return from the forward pass.</summary>
/// <param name="Output">[batch, query heads, queries, value_dim], after the epilogue.</param>
/// <param name="LogSumExp1">Of view 1, [batch, query heads, queries].</param>
/// <param name="LogSumExp2">Of view 2.</param>
internal sealed record DifferentialForward<T>(HostArray<T> Output, T[] LogSumExp1, T[] LogSumExp2)
    where T : unmanaged, IFloatingPointIeee754<T>;

/// <summary>What the host implementations return from the backward pass; absent inputs have no gradient.</summary>
/// <param name="Query1">Gradient of the first query view, of its shape.</param>
/// <param name="Key1">Gradient of the first key view.</param>
/// <param name="Query2">Gradient of the second query view.</param>
/// <param name="Key2">Gradient of the second key view.</param>
/// <param name="Value">Gradient of the values.</param>
/// <param name="NormGain">Gradient of the gain, [value_dim].</param>
/// <param name="Gate">Gradient of the gate logits, [batch, query heads, queries, 1].</param>
/// <param name="Lambda">Gradient of lambda, one for each query head.</param>
internal sealed record DifferentialBackward<T>(
    HostArray<T> Query1,
    HostArray<T> Key1,
    HostArray<T> Query2,
    HostArray<T> Key2,
    HostArray<T> Value,
    T[]? NormGain,
    HostArray<T>? Gate,
    double[] Lambda)
    where T : unmanaged, IFloatingPointIeee754<T>;
