namespace SieveAttention;

/// <summary>Which outputs the alignment loss of sparse sparse attention compares.</summary>
public enum AlignmentPlacement
{
    /// <summary>The outputs as they are returned, after the gate, as in the published code.</summary>
    Gated,

    /// <summary>The outputs before norm, scale and gate, as in the paper's algorithm.</summary>
    Ungated,
}
