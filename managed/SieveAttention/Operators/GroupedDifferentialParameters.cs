using System.Numerics;

namespace SieveAttention;

/// <summary>
/// Parameters of grouped differential attention as the host implementations take them, and the order of its heads: query heads come in
/// groups, first the signal heads, last their noise head; output heads are the signal heads in the same order.
/// </summary>
/// <param name="Signals">Signal heads of a group.</param>
/// <param name="Epilogue">Norm and output scale.</param>
internal sealed record GroupedDifferentialParameters(int Signals, EpilogueParameters Epilogue)
{
    /// <summary>The query head whose output an output head starts from.</summary>
    internal int SignalHead(int outputHead) => outputHead + (outputHead / Signals);

    /// <summary>The query head whose output is subtracted.</summary>
    internal int NoiseHead(int outputHead) => (outputHead / Signals * (Signals + 1)) + Signals;

    /// <summary>
    /// The problem as the output has it: one head for each signal head. For shapes only; key heads do not follow from it.
    /// </summary>
    internal AttentionProblem OutputProblem(in AttentionProblem problem) =>
        problem with { QueryHeads = problem.QueryHeads / (Signals + 1) * Signals };
}

/// <summary>The tensors of one call of grouped differential attention as the host implementations take them.</summary>
/// <param name="Query">[batch, query heads, queries, head_dim].</param>
/// <param name="Key">[batch, key heads, keys, head_dim].</param>
/// <param name="Value">[batch, key heads, keys, value_dim].</param>
/// <param name="LambdaLogit">[batch, output heads, queries, 1].</param>
/// <param name="NormGain">[value_dim]; null = ones.</param>
/// <param name="Gate">Logits, [batch, output heads, queries, 1]; null = no gate.</param>
internal sealed record GroupedDifferentialArrays<T>(
    HostArray<T> Query, HostArray<T> Key, HostArray<T> Value, HostArray<T> LambdaLogit, T[]? NormGain, HostArray<T>? Gate)
    where T : unmanaged, IFloatingPointIeee754<T>;

/// <summary>What the host implementations return from the forward pass.</summary>
/// <param name="Output">[batch, output heads, queries, value_dim], after the epilogue.</param>
/// <param name="LogSumExp">Of signal and noise heads, [batch, query heads, queries].</param>
internal sealed record GroupedDifferentialForward<T>(HostArray<T> Output, T[] LogSumExp)
    where T : unmanaged, IFloatingPointIeee754<T>;

/// <summary>What the host implementations return from the backward pass; absent inputs have no gradient.</summary>
/// <param name="Query">Gradient of the queries, of their shape.</param>
/// <param name="Key">Gradient of the keys.</param>
/// <param name="Value">Gradient of the values.</param>
/// <param name="LambdaLogit">Gradient of the logits of lambda, [batch, output heads, queries, 1].</param>
/// <param name="NormGain">Gradient of the gain, [value_dim].</param>
/// <param name="Gate">Gradient of the gate logits, [batch, output heads, queries, 1].</param>
internal sealed record GroupedDifferentialBackward<T>(
    HostArray<T> Query, HostArray<T> Key, HostArray<T> Value, HostArray<T> LambdaLogit, T[]? NormGain, HostArray<T>? Gate)
    where T : unmanaged, IFloatingPointIeee754<T>;
