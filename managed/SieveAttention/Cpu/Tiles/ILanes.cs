namespace SieveAttention.Cpu.Tiles;

/// <summary>
/// One width of float vectors. Tile code is written once over this interface; the JIT compiles it per width with every call
/// inlined, so the source has no copy per instruction set. <see cref="LaneChoice"/> picks the width.
/// </summary>
/// <typeparam name="TVector">The vector type, e.g. <c>Vector512&lt;float&gt;</c>.</typeparam>
internal unsafe interface ILanes<TVector>
    where TVector : struct
{
    /// <summary>Floats in a vector. At most 64, a divisor of 64.</summary>
    static abstract int Count { get; }

    static abstract TVector Load(float* source);

    static abstract void Store(float* target, TVector value);

    static abstract TVector Broadcast(float value);

    /// <summary>a * b + c with one rounding.</summary>
    static abstract TVector MultiplyAdd(TVector a, TVector b, TVector c);

    static abstract TVector Add(TVector a, TVector b);

    static abstract TVector Subtract(TVector a, TVector b);

    static abstract TVector Multiply(TVector a, TVector b);

    /// <summary>Lanewise maximum; a NaN in <paramref name="a"/> or <paramref name="b"/> gives NaN.</summary>
    static abstract TVector Max(TVector a, TVector b);

    /// <summary>e to the power of each lane; -infinity gives 0.</summary>
    static abstract TVector Exp(TVector value);

    /// <summary>Bit c is set iff a[c] &gt; b[c]; never where one of them is NaN.</summary>
    static abstract ulong GreaterThan(TVector a, TVector b);

    /// <summary>Each lane of <paramref name="value"/> where a &gt; b, else +0.</summary>
    static abstract TVector WhereGreater(TVector a, TVector b, TVector value);

    /// <summary>Sum of all lanes.</summary>
    static abstract float Sum(TVector value);
}
