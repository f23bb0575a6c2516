namespace SieveAttention;

/// <summary>The operators for which a device can be asked whether it runs them.</summary>
public enum AttentionOperation
{
    /// <summary>Softmax attention.</summary>
    Softmax = 0,

    /// <summary>Threshold differential attention.</summary>
    ThresholdDifferential = 1,

    /// <summary>Differential attention, version 1.</summary>
    Differential = 2,

    /// <summary>Differential attention, version 2 and grouped.</summary>
    GroupedDifferential = 3,

    /// <summary>Sparse sparse attention.</summary>
    SparseSparse = 4,

    /// <summary>Alpha-entmax attention.</summary>
    Entmax = 5,

    /// <summary>Support-basis attention.</summary>
    SupportBasis = 6,
}

/// <summary>What an operator is asked to compute.</summary>
public enum AttentionDirection
{
    /// <summary>Outputs from inputs.</summary>
    Forward = 0,

    /// <summary>Gradients of the inputs and parameters.</summary>
    Backward = 1,

    /// <summary>Outputs of a few new rows against a key/value cache.</summary>
    Decode = 2,
}
