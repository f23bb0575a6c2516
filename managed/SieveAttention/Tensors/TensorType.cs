using System.Diagnostics.CodeAnalysis;

namespace SieveAttention;

/// <summary>Type of the elements of a tensor.</summary>
[SuppressMessage("Naming", "CA1720", Justification = "The members name types.")]
public enum TensorType
{
    /// <summary>IEEE binary64, <see cref="double"/>.</summary>
    Float64,

    /// <summary>IEEE binary32, <see cref="float"/>.</summary>
    Float32,

    /// <summary>IEEE binary16, <see cref="Half"/>.</summary>
    Float16,

    /// <summary>bfloat16, <see cref="SieveAttention.BFloat16"/>.</summary>
    BFloat16,

    /// <summary>Signed 32-bit integer, <see cref="int"/>.</summary>
    Int32,
}
