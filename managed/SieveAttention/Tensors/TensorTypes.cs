namespace SieveAttention;

/// <summary>What is known about each <see cref="TensorType"/>.</summary>
internal static class TensorTypes
{
    /// <summary>Bytes of one element.</summary>
    internal static int Size(TensorType type) => type switch
    {
        TensorType.Float64 => sizeof(double),
        TensorType.Float32 or TensorType.Int32 => sizeof(float),
        TensorType.Float16 or TensorType.BFloat16 => sizeof(ushort),
        _ => throw Undefined(type),
    };

    /// <summary>Name in messages.</summary>
    internal static string Name(TensorType type) => type switch
    {
        TensorType.Float64 => "Float64",
        TensorType.Float32 => "Float32",
        TensorType.Float16 => "Float16",
        TensorType.BFloat16 => "BFloat16",
        TensorType.Int32 => "Int32",
        _ => throw Undefined(type),
    };

    internal static bool IsFloat(TensorType type) => type != TensorType.Int32;

    /// <summary>The type whose elements are <typeparamref name="T"/>.</summary>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not an element type.</exception>
    internal static TensorType Of<T>()
        where T : unmanaged
    {
        if (typeof(T) == typeof(double))
        {
            return TensorType.Float64;
        }

        if (typeof(T) == typeof(float))
        {
            return TensorType.Float32;
        }

        if (typeof(T) == typeof(Half))
        {
            return TensorType.Float16;
        }

        if (typeof(T) == typeof(BFloat16))
        {
            return TensorType.BFloat16;
        }

        return typeof(T) == typeof(int)
            ? TensorType.Int32
            : throw new NotSupportedException(
                $"{typeof(T)} is not an element type of a tensor; use double, float, Half, BFloat16 or int.");
    }

    private static ArgumentOutOfRangeException Undefined(TensorType type) =>
        new(nameof(type), type, "The tensor type is not defined; use Float64, Float32, Float16, BFloat16 or Int32.");
}
