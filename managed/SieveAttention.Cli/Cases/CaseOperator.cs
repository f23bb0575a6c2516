using SieveAttention.Cli.Cases.Operators;

namespace SieveAttention.Cli.Cases;

/// <summary>
/// What the tool knows about an operator: how its part of a case file is read. The rest is in the <see cref="AttentionCase"/>
/// that reading gives. Adding an operator is one class here and one there, and a line in the table below.
/// </summary>
internal abstract class CaseOperator
{
    private static readonly CaseOperator[] s_operators =
    [
        new SoftmaxOperator(),
        new ThresholdDifferentialOperator(),
        new DifferentialOperator(),
        new GroupedDifferentialOperator(),
        new SparseSparseOperator(),
        new EntmaxOperator(),
        new SupportBasisOperator(),
    ];

    /// <summary>All names that the case format gives to operators, also those that this version does not run.</summary>
    private static readonly string[] s_names = ["softmax", "tda", "diff", "diff_v2", "ssa", "entmax", "support_basis"];

    /// <summary>The value of the key <c>op</c>.</summary>
    public abstract string Name { get; }

    /// <summary>Finds the operator that a case names.</summary>
    /// <exception cref="CaseException">The case names none, an unknown one, or one that this version does not run.</exception>
    public static CaseOperator Find(string file, CaseMetadata metadata)
    {
        string name = metadata.Choice("op", null, s_names);
        string available = string.Join(", ", s_operators.Select(candidate => candidate.Name));
        return Array.Find(s_operators, candidate => candidate.Name == name)
            ?? throw new CaseException(
                $"{Text.OneLine(file)}: metadata 'op': operator '{name}' is not available in this version; available: {available}");
    }

    /// <summary>Reads the metadata and tensors of the operator, common ones included.</summary>
    /// <exception cref="CaseException">Something is missing, misshapen or out of range.</exception>
    public abstract AttentionCase Read(string file, CaseMetadata metadata, CaseTensors tensors);
}
