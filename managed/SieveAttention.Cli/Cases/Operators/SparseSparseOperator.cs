using System.Numerics;

namespace SieveAttention.Cli.Cases.Operators;

/// <summary>Reads cases of sparse sparse attention, <c>op = ssa</c>.</summary>
internal sealed class SparseSparseOperator : CaseOperator
{
    /// <inheritdoc/>
    public override string Name => SparseSparseCase.OperatorName;

    /// <inheritdoc/>
    public override AttentionCase Read(string file, CaseMetadata metadata, CaseTensors tensors)
    {
        SparseSparseOptions options = new()
        {
            BlockSize = (int)metadata.RequiredInteger("block_size", 1, int.MaxValue),
            BlockCount = (int)metadata.RequiredInteger("block_count", 1, int.MaxValue),
            Selection = metadata.Choice("selection", "exact", "exact", "released") == "exact"
                ? BlockSelectionRule.Exact
                : BlockSelectionRule.Released,
            Stream = metadata.Choice("stream", "sparse", "sparse", "full", "both") switch
            {
                "sparse" => SparseSparseMode.Sparse,
                "full" => SparseSparseMode.Full,
                _ => SparseSparseMode.Both,
            },
            Alignment = metadata.Choice("alignment", "gated", "gated", "ungated") == "gated"
                ? AlignmentPlacement.Gated
                : AlignmentPlacement.Ungated,
            AlignmentWeight = metadata.NumberAtLeast("alignment_weight", 0, 0),
            Scores = CommonParts.ReadScale(metadata),
            Mask = CommonParts.ReadMask(metadata),
        };
        CheckSelection(metadata, options);
        CheckMask(metadata, options.Mask);
        (AttentionProblem problem, CaseInputs inputs) = ReadTensors(file, tensors, options);
        CheckRows(metadata, tensors, problem);
        return new SparseSparseCase(file, problem, inputs, options);
    }

    private static (AttentionProblem Problem, CaseInputs Inputs) ReadTensors(
        string file, CaseTensors tensors, SparseSparseOptions options)
    {
        if (options.Stream != SparseSparseMode.Both)
        {
            return SingleViewCase.Read(file, tensors, options.Mask);
        }
        (AttentionProblem problem, CaseInputs inputs) = SingleViewCase.Read(file, tensors, options.Mask, gradient: null);
        int[] outputShape = [problem.Batch, problem.QueryHeads, problem.Queries, problem.ValueDim];
        inputs.AddGradient(tensors.Optional(SparseSparseCase.SparseGradient, outputShape));
        inputs.AddGradient(tensors.Optional(SparseSparseCase.FullGradient, outputShape));
        return (problem, inputs);
    }

    /// <summary>The published rule works on chunks of block_size candidates, of which it keeps halves.</summary>
    private static void CheckSelection(CaseMetadata metadata, SparseSparseOptions options)
    {
        if (options.Selection == BlockSelectionRule.Exact)
        {
            return;
        }
        if (options.BlockSize < 2 || !BitOperations.IsPow2(options.BlockSize))
        {
            throw metadata.Refuse("block_size", $"'{options.BlockSize}'", "a power of two >= 2 with selection = released");
        }
        if (options.BlockCount > options.BlockSize)
        {
            throw metadata.Refuse(
                "block_count", $"'{options.BlockCount}'", $"1 to {options.BlockSize}, the block_size, with selection = released");
        }
    }

    private static void CheckMask(CaseMetadata metadata, AttentionMask mask)
    {
        if (!mask.Causal)
        {
            throw metadata.Refuse("causal", "'false'", "true: this operator is causal");
        }
        if (mask.Window is { } window)
        {
            throw metadata.Refuse("window", $"'{window}'", "none: this operator has no window");
        }
    }

    /// <summary>Every query row lies inside the keys.</summary>
    private static void CheckRows(CaseMetadata metadata, CaseTensors tensors, AttentionProblem problem)
    {
        if (problem.Queries > problem.Keys)
        {
            throw tensors.Refuse("q", $"{problem.Queries} rows", $"at most {problem.Keys}, the rows of tensor 'k'");
        }
        if (problem.QueryOffset < 0 || problem.QueryOffset + problem.Queries > problem.Keys)
        {
            throw metadata.Refuse(
                "query_offset", $"'{problem.QueryOffset}'", $"0 to {problem.Keys - problem.Queries}: every query row lies inside the keys");
        }
    }
}
